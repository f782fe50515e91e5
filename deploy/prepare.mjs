// What tests and benchmarks need on this machine, got as `npm start` gets it and kept in .kiln for the next run.
import { delimiter, dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { goPrograms } from './go-programs.mjs'
import { npmPackages } from './npm-packages.mjs'
import { natsServer } from './nats-server.mjs'
import { uvEnvironment } from './pip-config.mjs'
import { python } from './python.mjs'

export const root = fileURLToPath(new URL('..', import.meta.url))
const dataDir = join(root, '.kiln')
export const say = (/** @type {string} */ line) => process.stdout.write(`${line}\n`)

/**
 * The environment for tests: with the programs that they need, found or got. Benchmarks need no `servers`.
 * @param {Record<string, string | undefined>} env @param {{ servers?: boolean }} [wish]
 */
export async function prepare(env, { servers = false } = {}) {
  const snake = python({ dataDir, root, say, env })
  const [built, rest] = await Promise.all([servers ? goPrograms({ dataDir, say, env, python: () => snake }) : {}, prepareTheRest(env, snake)])
  return { ...env, ...built, ...rest }
}

/** @param {Record<string, string | undefined>} env @param {ReturnType<typeof python>} snake */
async function prepareTheRest(env, snake) {
  await npmPackages({ root, say })
  const nats = await natsServer({ dataDir, say, env })
  const found = await snake
  const { register } = await import('tsx/esm/api')
  const unregister = register()
  const { testPython } = await import('../test/stand/python.ts')
  const interpreter = await testPython({ dataDir, root, ...found, uvEnvironment: await uvEnvironment(found.python, env), env, say })
  await unregister()
  return {
    KILN_TEST_NATS: nats, KILN_TEST_PYTHON: interpreter, KILN_TEST_UV: found.uv, KILN_PYTHON: found.python,
    PATH: [env['PATH'], dirname(found.uv), dirname(nats)].filter(Boolean).join(delimiter),
  }
}
