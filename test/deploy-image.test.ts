// The two images: what their Dockerfiles copy is there, and what is compiled for the image runs without TypeScript. Builds no image.
import { execFile, execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { cpSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { isAtLeast } from '../deploy/programs.mjs'
import { OLDEST_PYTHON } from '../deploy/python.mjs'
import { runtimeLabel } from '../shared/bases.ts'
import { readRuntime } from '../services/packager/context.ts'
import { containersOf, kilns, podOf } from './stand/manifests.ts'

const root = fileURLToPath(new URL('..', import.meta.url))
const text = (name: string): string => readFileSync(join(root, name), 'utf8')
const tracked = execFileSync('git', ['ls-files', '--cached', '--others', '--exclude-standard'], { cwd: root, encoding: 'utf8' }).split('\n').filter((name) => name && existsSync(join(root, name)))

interface Image {
  /** Instructions, each on one line. */
  lines: string[]
  /** What is copied from the checkout. */
  copied: string[]
  /** What of the checkout reaches the build. */
  context: string[]
}

function imageIn(dockerfile: string): Image {
  const lines = text(dockerfile).split('\n').filter((line) => !line.startsWith('#')).join('\n').replaceAll(/\\\n\s*/g, '').split('\n').filter(Boolean)
  const copied = lines.filter((line) => line.startsWith('COPY ') && !line.includes('--from=')).flatMap((line) => line.split(' ').slice(1, -1))
  const rules = text(`${dockerfile}.dockerignore`).split('\n').filter((line) => line && !line.startsWith('#'))
    .map((line) => ({ keeps: line.startsWith('!'), matches: matcher(line.replace(/^!/, '')) }))
  return { lines, copied, context: tracked.filter((name) => rules.findLast(({ matches }) => matches.test(name))?.keeps ?? true) }
}
/** As Docker reads .dockerignore: `*` within one name, `**` over folders, a folder with all that is in it. */
const matcher = (pattern: string): RegExp =>
  new RegExp(`^${pattern.replaceAll('.', '\\.').replaceAll('**/', '<any>').replaceAll('*', '[^/]*').replaceAll('<any>', '(.*/)?')}(/|$)`)
const isIn = (context: string[], path: string): boolean => context.some((name) => name === path || name.startsWith(`${path}/`))
const argument = (image: Image, name: string): string | undefined => image.lines.find((line) => line.startsWith(`ARG ${name}=`))?.split('=')[1]

const kiln = imageIn('deploy/Dockerfile')
const base = imageIn('deploy/base-image/Dockerfile')
const test = suite('images')

test('the base image says which runtime it holds', () => {
  const held = createHash('sha256').update(readFileSync(join(root, 'services/packager/runtime/requirements.txt'))).digest('hex')
  assert.ok(base.lines.includes(`LABEL ${runtimeLabel}=${held}`), `LABEL ${runtimeLabel}=${held} is missing in deploy/base-image/Dockerfile`)
})

test('what is copied is there, and nothing else of the checkout reaches the build', () => {
  for (const { copied, context } of [kiln, base]) {
    assert.ok(copied.length > 0)
    assert.equal(copied.filter((path) => !isIn(context, path)), [])
    assert.equal(context.filter((name) => !copied.some((path) => name === path || name.startsWith(`${path}/`))), [])
    assert.equal(context.filter((name) => /^(test|examples|node_modules|\.)|\.md$/.test(name)), [])
  }
})
test('lambdas are checked by the Python that they run on; both images stand on versions that kiln takes', () => {
  const image = argument(kiln, 'PYTHON_IMAGE')!
  assert.is(argument(base, 'PYTHON_IMAGE'), image)
  assert.ok(isAtLeast(/:([\d.]+)/.exec(image)![1]!, OLDEST_PYTHON))
  assert.ok(isAtLeast(`${/:(\d+)/.exec(argument(kiln, 'NODE_IMAGE')!)![1]}.99.99`, JSON.parse(text('package.json')).engines.node.replace('>=', '')))
})
test('user, port and folder of the image are those of the pods', () => {
  const last = kiln.lines.slice(kiln.lines.findLastIndex((line) => line.startsWith('FROM ')))
  const env = Object.fromEntries(last.filter((line) => line.startsWith('ENV ')).flatMap((line) => line.split(' ').slice(1)).map((pair) => pair.split('=')))
  assert.equal([env.HOST, env.DATA_DIR, env.RUNTIME_PYTHON], ['0.0.0.0', '/tmp/kiln', '/opt/runtime/bin/python'])
  const user = last.find((line) => line.startsWith('USER '))!.slice(5)
  for (const workload of kilns) {
    const { runAsUser, runAsGroup } = podOf(workload).securityContext!
    assert.is(`${runAsUser}:${runAsGroup}`, user)
    assert.equal(containersOf(workload).map(({ command, ports }) => [command, ports?.map(({ containerPort }) => String(containerPort))]), [[undefined, [env.PORT]]])
  }
  assert.equal(JSON.parse(last.find((line) => line.startsWith('ENTRYPOINT '))!.slice(11)), ['node', 'dist/services/main.js'])
})
test('what the Dockerfile compiles runs without TypeScript, and finds its files', async () => {
  const home = mkdtempSync(join(tmpdir(), 'kiln-image-'))
  try {
    for (const name of kiln.context) cpSync(join(root, name), join(home, name))
    symlinkSync(join(root, 'node_modules'), join(home, 'node_modules'))
    const steps = kiln.lines.filter((line) => /^RUN (node_modules|node )/.test(line)).map((line) => line.slice(4))
    assert.is(steps.length, 2)
    for (const step of steps) execFileSync('sh', ['-c', step], { cwd: home, encoding: 'utf8' })
    rmSync(join(home, 'services'), { recursive: true })
    rmSync(join(home, 'shared'), { recursive: true })
    const answer = await promisify(execFile)(process.execPath, ['dist/services/main.js', 'nothing'], { cwd: home }).catch((error: { stderr: string }) => error)
    assert.match(answer.stderr, 'There is no service nothing; there are all, gateway, ingest,')
    const compiled = readdirSync(join(home, 'dist'), { recursive: true, encoding: 'utf8' }).filter((name) => /\.m?js$/.test(name))
    const imported = compiled.flatMap((name) => [...readFileSync(join(home, 'dist', name), 'utf8').matchAll(/(?:from|import)\s*\(?\s*['"](\.[^'"]+)['"]/g)].map((match) => join(dirname(name), match[1]!)))
    assert.equal(imported.filter((name) => !compiled.includes(name)), [])
    assert.equal((await readRuntime(join(home, 'dist/services/packager/runtime'))).digest, (await readRuntime(join(root, 'services/packager/runtime'))).digest)
    const beside = tracked.filter((name) => name.startsWith('services/') && !/\.(ts|md)$/.test(name))
    assert.ok(beside.includes('services/ingest/check.py'))
    assert.equal(beside.filter((name) => !existsSync(join(home, 'dist', name))), [])
  } finally {
    rmSync(home, { recursive: true })
  }
})
test.run()
