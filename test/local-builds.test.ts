// Builds on this machine: the contract of builds, and what environments and folders are to it alone.
import { spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { gzipSync } from 'node:zlib'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import type { Builds } from '../shared/builds.ts'
import { localBuilds, localImage } from '../shared/local/builds.ts'
import { environments, type Environments, type Inputs } from '../shared/local/environments.ts'
import { processes } from '../shared/local/processes.ts'
import { silentLog } from '../shared/log.ts'
import { contextName } from '../shared/objects.ts'
import { contextMade } from './stand/contexts.ts'
import { buildOf, buildsContract, caller, contextArchive, failureOf, gate, imageOf, plainFiles, quiet, unpacked, type BuildsUnderTest } from './contract/builds.ts'

const python = process.env['KILN_TEST_PYTHON'] || 'python3'
const uv = process.env['KILN_TEST_UV'] || 'uv'
const given = Object.fromEntries(Object.entries(process.env).flatMap(([name, value]) => (value === undefined ? [] : [[name, value]])))

interface Local extends BuildsUnderTest {
  folder: string
  environments: Environments
  put(name: string, archive: Buffer): Promise<void>
  /** A second kiln on the same folder. */
  again(options?: { env?: Record<string, string>; uv?: string }): { builds: Builds; environments: Environments }
}

async function local(): Promise<Local> {
  const folder = await mkdtemp(join(tmpdir(), 'kiln-builds-'))
  await mkdir(join(folder, 'contexts'))
  const put = (name: string, archive: Buffer): Promise<void> => writeFile(join(folder, name), archive)
  const objects = { get: (name: string) => readFile(join(folder, name)).catch(() => null) }
  const opened: Builds[] = []
  const again: Local['again'] = ({ env = {}, uv: otherUv = uv } = {}) => {
    const made = environments({
      folder: join(folder, 'environments'), python, uv: otherUv, processes: processes(join(folder, 'processes')),
      uvEnvironment: { env: { ...given, UV_HTTP_RETRIES: '0', ...env }, args: [] },
    })
    const builds = localBuilds({ folder, objects, environments: made, kaniko: { bake: async () => { throw new Error('no root is made here') } }, log: silentLog })
    opened.push(builds)
    return { builds, environments: made }
  }
  return {
    ...again(), folder, again, host: '127.0.0.1',
    put,
    async context(files) {
      const { archives, packaged } = await contextMade(files)
      for (const [name, archive] of archives) await put(name, archive)
      return packaged
    },
    async close() {
      await Promise.all(opened.map((builds) => builds.close()))
      await rm(folder, { recursive: true, force: true })
    },
  }
}

buildsContract('builds, on this machine', local)

const test = suite<{ on: Local }>('local builds')
test.before.each(async (context) => { context.on = await local() })
test.after.each(({ on }) => on.close())

const inputs = (more: Partial<Inputs> = {}): Inputs => ({ codeFolder: '/', codeDigest: 'a', runtimeRequirements: 'sanic==1', requirements: 'six\n', ...more })

test('an environment\'s key does not change with comments, blank lines and line ends', async ({ on: { environments } }) => {
  const key = await environments.key(inputs())
  assert.is(await environments.key(inputs({ requirements: '# why\r\n\r\nsix  # because\r\n', codeDigest: 'b' })), key)
})

test('an environment\'s key changes with the requirements, the runtime\'s requirements and the index', async ({ on }) => {
  const other = on.again({ env: { UV_DEFAULT_INDEX: 'https://index.invalid/simple' } })
  const keys = await Promise.all([
    on.environments.key(inputs()), on.environments.key(inputs({ requirements: 'idna' })), on.environments.key(inputs({ runtimeRequirements: 'sanic==2' })),
    on.environments.key(inputs({ runtimeRequirements: 'sanic==1six', requirements: '' })), other.environments.key(inputs()),
  ])
  assert.is(new Set(keys).size, keys.length)
})

for (const line of ['-r more.txt', '-c limits.txt', './package', '-e .', 'package.whl', 'six @ file:six.whl', '--find-links wheels']) {
  test(`an environment's key changes with the code when requirements.txt says ${line}`, async ({ on: { environments } }) => {
    const keys = await Promise.all(['a', 'b'].map((codeDigest) => environments.key(inputs({ requirements: line, codeDigest }))))
    assert.is.not(keys[0], keys[1])
  })
}

test('lambdas with equal requirements share one environment', async ({ on }) => {
  const images = await Promise.all([1, 2].map(async () => {
    const packaged = await on.context(plainFiles())
    await on.builds.run(buildOf(packaged), quiet)
    return localImage(on.folder, packaged.context.digest)
  }))
  assert.ok(images[0])
  assert.is(images[0].environment, images[1]?.environment)
  assert.is.not(images[0].code, images[1]?.code)
  assert.equal((await readdir(images[0].code)).sort(), ['lambda_main.py', 'luna_lambda_tools', 'note.txt'])
})

test('the log says whether an environment is made or reused', async ({ on }) => {
  const said: string[] = []
  for (let build = 0; build < 2; build++) {
    await on.builds.run(buildOf(await on.context(plainFiles())), { ...quiet, line: (text) => said.push(text) })
  }
  assert.match(said.join('\n'), /making, with no requirements\n(.*\n)*.*: made\n.*: reused/)
})

test('two kilns on one folder make an environment once, and the log of the second says that it waits', async ({ on }) => {
  const calls = await caller(on.host)
  const context = await on.context({ ...plainFiles(), ...calls.files })
  const first = on.builds.run(buildOf(context), quiet)
  const call = await calls.called(first)
  const said: string[] = []
  const waits = gate()
  const second = on.again().builds.run(buildOf(context), { ...quiet, line: (text) => { said.push(text); waits.open() } })
  await waits.opened
  call.write('.')
  assert.equal(await second, await first)
  assert.is(calls.calls(), 1)
  assert.match(said[0]!, /waits for another build of the same environment/)
  await calls.close()
})

test('a kiln killed in the middle of making leaves nothing that is found, and the next one takes over', async ({ on }) => {
  const calls = await caller(on.host)
  const context = await on.context({ ...plainFiles(), ...calls.files })
  const other = otherKiln()
  other.stdin.end(JSON.stringify({ folder: on.folder, python, uv, context: context.context }))
  const killed = await calls.called(once(other, 'exit').then(([code]) => { throw new Error(`it ended with ${code}`) }))
  const hungUp = once(killed, 'close')
  other.kill('SIGKILL')
  await once(other, 'exit')
  assert.is(await imageOf(on.builds, buildOf(context)), null)
  assert.is(await processes(join(on.folder, 'processes')).reap(), 1)
  await hungUp
  const end = on.builds.run(buildOf(context), quiet)
  ;(await calls.called(end)).write('.')
  assert.ok((await end).built, JSON.stringify(await end))
  await on.again().builds.close()
  assert.equal((await readdir(join(on.folder, 'environments'))).filter((name) => name.startsWith('.')), [])
  await calls.close()
})

test('an environment is removed with the last image that needs it', async ({ on }) => {
  const calls = await caller(on.host)
  const files = { ...plainFiles(), ...calls.files }
  const contexts = [await on.context(files), await on.context({ ...files, 'more.txt': '', 'requirements.txt': '\n' })]
  const own = on.builds.run(buildOf(contexts[0]!), quiet)
  ;(await calls.called(own)).write('.')
  for (const context of contexts) assert.ok((await on.builds.run(buildOf(context), quiet)).built)
  assert.is((await readdir(join(on.folder, 'environments'))).length, 2)
  await on.builds.remove({ id: 'any', namespaces: [] }, new Set(contexts.map(({ context }) => context.digest)), new Set())
  assert.is((await readdir(join(on.folder, 'environments'))).length, 1, 'the one with the runtime alone stays')
  assert.equal([await readdir(join(on.folder, 'code')), await readdir(join(on.folder, 'images'))], [[], []])
  await calls.close()
})

test('an image that another lambda is made of too stays', async ({ on }) => {
  const build = buildOf(await on.context(plainFiles()))
  assert.ok((await on.builds.run(build, quiet)).built)
  await on.builds.remove({ id: build.id, namespaces: [] }, new Set([build.context.digest]), new Set([build.context.digest]))
  assert.ok(await imageOf(on.builds, build))
})

test('closing ends what runs', async ({ on }) => {
  const calls = await caller(on.host)
  const end = on.builds.run(buildOf(await on.context({ ...plainFiles(), ...calls.files })), quiet)
  const hungUp = once(await calls.called(end), 'close')
  await on.builds.close()
  await hungUp
  await calls.close()
})

/** A kiln in its own process, that builds what its stdin says. */
function otherKiln() {
  const at = (path: string): string => JSON.stringify(fileURLToPath(new URL(path, import.meta.url)))
  const script = `
    import { readFile } from 'node:fs/promises'
    import { localBuilds } from ${at('../shared/local/builds.ts')}
    import { environments } from ${at('../shared/local/environments.ts')}
    import { processes } from ${at('../shared/local/processes.ts')}
    import { silentLog } from ${at('../shared/log.ts')}
    let text = ''
    for await (const chunk of process.stdin) text += chunk
    const { folder, python, uv, context } = JSON.parse(text)
    const made = environments({ folder: folder + '/environments', python, uv, uvEnvironment: { env: process.env, args: [] }, processes: processes(folder + '/processes') })
    const builds = localBuilds({ folder, objects: { get: () => readFile(folder + '/' + context.name) }, environments: made, kaniko: { bake: async () => { throw new Error('no root is made here') } }, log: silentLog })
    await builds.run({ id: 'x', account: 'default', version: 1, context, commands: [], timeoutMs: 60_000 }, { line() {}, signal: new AbortController().signal })
  `
  return spawn(process.execPath, ['--import', 'tsx', '--input-type=module', '-e', script], { stdio: ['pipe', 'inherit', 'inherit'], env: given })
}

test('an index that cannot be reached is the world\'s trouble, worth another try', async ({ on }) => {
  const { builds } = on.again({ env: { UV_DEFAULT_INDEX: 'http://127.0.0.1:1/simple', UV_OFFLINE: '0' } })
  const { again, failure } = failureOf(await builds.run(buildOf(await on.context({ ...plainFiles(), 'requirements.txt': `kiln-${Date.now()}\n` })), quiet))
  assert.equal([again, failure.cause, failure.reason], [true, 'registry', 'PackageIndexUnreachable'])
})

test('uv that cannot be started is the operator\'s trouble, worth another try', async ({ on }) => {
  const { builds } = on.again({ uv: '/there/is/no/uv' })
  const { again, failure } = failureOf(await builds.run(buildOf(await on.context(plainFiles())), quiet))
  assert.equal([again, failure.cause], [true, 'infrastructure'])
  assert.match(failure.message, /no\/uv/)
})

test('a context of other bytes than its digest says is refused', async ({ on }) => {
  const { archive, digest, packaged } = await contextArchive(plainFiles())
  for (const bytes of [archive.subarray(0, 60), (await contextArchive(plainFiles())).archive]) {
    await on.put(contextName(digest), bytes)
    const { failure } = failureOf(await on.builds.run(buildOf(packaged), quiet))
    assert.is(failure.reason, 'ContextUnusable')
    assert.match(failure.message, /digest.*PUT/)
  }
})

test('a context that cannot be unpacked is refused and leaves nothing', async ({ on }) => {
  const { archive } = await contextArchive(plainFiles())
  for (const bytes of [archive.subarray(0, 60), Buffer.from('no gzip'), gzipSync(Buffer.alloc(512, 1))]) {
    const digest = createHash('sha256').update(bytes).digest('hex')
    await on.put(contextName(digest), bytes)
    const { failure } = failureOf(await on.builds.run(buildOf(unpacked(digest)), quiet))
    assert.is(failure.reason, 'ContextUnusable')
    assert.match(failure.message, /unpacked.*PUT/)
  }
  assert.equal(await readdir(join(on.folder, 'code')), [])
})

test('a build is quick when its environment is there, and only then', async ({ on }) => {
  const first = buildOf(await on.context(plainFiles()))
  assert.equal(await on.builds.find(first), { image: null, quick: false })
  assert.ok((await on.builds.run(first, quiet)).built)
  assert.equal(await on.builds.find(buildOf(await on.context(plainFiles()))), { image: null, quick: true })
  assert.equal(await on.builds.find(buildOf(await on.context({ ...plainFiles(), 'requirements.txt': 'six\n' }))), { image: null, quick: false })
  assert.equal(await on.builds.find(buildOf(unpacked('0'.repeat(64)))), { image: null, quick: false })
})

for (const name of ['../climbs', 'lambda/../../climbs', '/climbs', 'lambda/a\\b']) {
  test(`a context with ${name} is refused`, async ({ on }) => {
    const { archive, digest, packaged } = await contextArchive({ [name]: 'x' })
    await on.put(contextName(digest), archive)
    assert.match(failureOf(await on.builds.run(buildOf(packaged), quiet)).failure.message, /outside/)
    assert.equal(await readdir(join(on.folder, 'code')), [])
  })
}

test.run()
