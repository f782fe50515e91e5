// npm start: gets the locked packages, then starts the whole house and, for a newcomer, the first lambda.
// Plain JavaScript with nothing but Node: it runs before anything is installed.
import { fileURLToPath } from 'node:url'
import { npmPackages } from './npm-packages.mjs'

const root = fileURLToPath(new URL('..', import.meta.url))
const say = (/** @type {string} */ line) => process.stdout.write(`  ${line}\n`)

try {
  await npmPackages({ root, say })
  const { register } = await import('tsx/esm/api')
  register()
  const { laptop } = await import('../services/laptop.ts')
  await laptop({ env: process.env, root, say })
} catch (error) {
  process.stderr.write(`\n${/** @type {Error} */ (error).message}\n`)
  process.exit(1)
}
