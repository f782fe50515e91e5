// What tests and benchmarks need on this machine, got as `npm start` gets it and kept in .kiln for the next run.
import { delimiter, dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { npmPackages } from './npm-packages.mjs'
import { natsServer } from './nats-server.mjs'
import { uvEnvironment } from './pip-config.mjs'
import { python } from './python.mjs'

export const root = fileURLToPath(new URL('..', import.meta.url))
const dataDir = join(root, '.kiln')
export const say = (/** @type {string} */ line) => process.stdout.write(`${line}\n`)

/** The environment for tests: with the programs that they need, found or got. @param {Record<string, string | undefined>} env */
export async function prepare(env) {
  await npmPackages({ root, say })
  const nats = await natsServer({ dataDir, say, env })
  const found = await python({ dataDir, root, say, env })
  const { register } = await import('tsx/esm/api')
  const unregister = register()
  const { testPython } = await import('../test/stand/python.ts')
  const interpreter = await testPython({ dataDir, root, ...found, uvEnvironment: await uvEnvironment(found.python, env), env, say })
  await unregister()
  return {
    ...env, KILN_TEST_NATS: nats, KILN_TEST_PYTHON: interpreter, KILN_TEST_UV: found.uv, KILN_PYTHON: found.python,
    PATH: [env['PATH'], dirname(found.uv), dirname(nats)].filter(Boolean).join(delimiter),
  }
}
