// The house rules that a machine can hold.
import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { dirname, join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { settings } from '../shared/config.ts'

const root = fileURLToPath(new URL('..', import.meta.url))
/** What git tracks or would track: nothing generated, nothing installed. */
const files = execFileSync('git', ['ls-files', '--cached', '--others', '--exclude-standard'], { cwd: root, encoding: 'utf8' }).split('\n').filter(Boolean)
const source = files.filter((name) => /\.(ts|mjs|py)$/.test(name))
const product = source.filter((name) => /^(services|shared)\//.test(name))
const text = (name: string): string => readFileSync(join(root, name), 'utf8')

const imports = (name: string): string[] => [...text(name).matchAll(/(?:from|import)\s*\(?\s*'([^']+)'/g)].map((match) => match[1]!)
/** Imported files as paths from the root. */
const imported = (name: string): string[] => imports(name).filter((i) => i.startsWith('.')).map((i) => relative(root, join(root, dirname(name), i)))

const house = suite('the house')

house('the top level is what the design says', () => {
  const allowed = ['package.json', 'package-lock.json', 'tsconfig.json', 'nats.conf', 'services', 'shared', 'deploy', 'test', 'examples', 'README.md', 'LICENSE', 'CHANGELOG.md']
  const found = new Set(files.map((name) => name.split('/')[0]!).filter((name) => !name.startsWith('.')))
  assert.equal([...found].filter((name) => !allowed.includes(name)), [])
})

/** A dependency has one room. */
const rooms: Record<string, RegExp> = {
  'nats': /^shared\/nats\//, 'adm-zip': /^shared\/zip\.ts$/, 'undici': /^(services\/gateway\/(proxy|exchange)\.ts|shared\/local\/health\.ts|shared\/kubernetes\/client\.ts|shared\/oci\/[a-z-]+\.ts)$/,
  '@kubernetes/client-node': /^shared\/kubernetes\/client\.ts$/, '@aws-sdk/client-s3': /^shared\/s3\//, 'prom-client': /^shared\/metrics\.ts$/,
  'tar-stream': /^(services\/(packager\/pack|ingest\/build-archive)|shared\/local\/code)\.ts$/, 'zod': /^(shared\/(build-)?parameters|services\/gateway\/openapi)\.ts$/,
}
for (const [name, room] of Object.entries(rooms)) {
  house(`${name} is imported in its room only`, () => {
    const users = product.filter((file) => imports(file).includes(name))
    assert.ok(users.length > 0, 'nobody uses it')
    assert.equal(users.filter((file) => !room.test(file)), [])
  })
}
house('every dependency has a room or a numbered decision', () => {
  const decisions = text('shared/README.md') + Object.keys(rooms).join(' ')
  const lacking = Object.keys(JSON.parse(text('package.json')).dependencies).filter((name) => !decisions.includes(name) && !['hono', '@hono/node-server'].includes(name))
  assert.equal(lacking, [])
})
house('nobody but services/houses.ts and main.ts joins services; a service knows no other', () => {
  const joints = ['services/houses.ts', 'services/main.ts', 'services/laptop.ts', 'services/health.ts', 'services/first-lambda.ts']
  const strays = product.filter((file) => file.startsWith('services/') && !joints.includes(file)).flatMap((file) => {
    const own = file.split('/')[1]
    return imported(file).filter((i) => i.startsWith('services/') && i.split('/')[1] !== own).map((i) => `${file} -> ${i}`)
  })
  assert.equal(strays, [])
})
house('shared knows no service, and only wire.ts knows adapters', () => {
  const strays = product.filter((file) => file.startsWith('shared/')).flatMap((file) => imported(file)
    .filter((i) => i.startsWith('services/') || (/^shared\/(nats|local|s3|kubernetes|oci)\//.test(i) && file !== 'shared/wire.ts' && dirname(file) !== dirname(i)))
    .filter((i) => !(file === 'shared/nats/server.ts' && i === 'shared/local/processes.ts')).map((i) => `${file} -> ${i}`))
  assert.equal(strays, [])
})
house('services know ports, not adapters', () => {
  const strays = product.filter((file) => file.startsWith('services/') && file !== 'services/main.ts')
    .flatMap((file) => imported(file).filter((i) => /^shared\/(nats|local|s3|kubernetes|oci)\//.test(i)).map((i) => `${file} -> ${i}`))
  assert.equal(strays, [])
})
house('only shared/nats acks', () => {
  assert.equal(product.filter((file) => !file.startsWith('shared/nats/') && /\.(ack|nak|term)\(|message\.working\(/.test(text(file))), [])
})
house('the environment is read in one place', () => {
  const readers = product.filter((file) => /process\.env/.test(text(file)))
  assert.equal(readers, ['services/main.ts'])
  const pythonReaders = product.filter((file) => file.endsWith('.py') && /os\.environ|getenv/.test(text(file)))
  assert.ok(pythonReaders.length <= 1, pythonReaders.join(' '))
})
house('no file is beyond 250 lines without a reason in it', () => {
  const long = source.filter((file) => text(file).split('\n').length > 251 && !/Longer than 250 lines: /.test(text(file)))
  assert.equal(long, [])
})
house('no names of the forbidden kind', () => {
  assert.equal(files.filter((name) => /(^|\/)(utils?|common|types|constants|helpers?|misc)(\.|\/|$)|manager|impl\b/i.test(name)), [])
  assert.equal(product.filter((file) => /^(export )?(class|interface|type) (I[A-Z][a-z]|\w*(Manager|Helper|Impl)\b)/m.test(text(file))), [])
})
house('every TypeScript file begins with a line that says what it is', () => {
  assert.equal(product.filter((file) => file.endsWith('.ts') && !text(file).startsWith('// ')), [])
})
house('no test sleeps, is skipped or kept alone', () => {
  const tests = source.filter((file) => file.startsWith('test/') && file !== 'test/house.test.ts')
  assert.equal(tests.filter((file) => /\.only\(|(?<!asyncio\.)\bsleep\(/.test(text(file))), [])
})
house('README lists every setting with its default', () => {
  const readme = text('README.md')
  const lacking = settings.filter((s) => !readme.includes(`| \`${s.name}\` | ${s.default === null ? '–' : `\`${s.default}\``} | ${s.means} |`))
  assert.equal(lacking.map((s) => s.name), [])
})
house('the changelog names the version', () => {
  assert.ok(text('CHANGELOG.md').includes(JSON.parse(text('package.json')).version))
})
house.run()
