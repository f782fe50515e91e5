// Stored images, on this machine's disk; and those of the stand-in that tests of services use.
import { link, mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises'
import { randomUUID } from 'node:crypto'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { localBuilds } from '../shared/local/builds.ts'
import { environments, type Environments } from '../shared/local/environments.ts'
import { writeImage } from '../shared/local/images.ts'
import { processes } from '../shared/local/processes.ts'
import { localStored } from '../shared/local/stored.ts'
import { silentLog } from '../shared/log.ts'
import type { InUse } from '../shared/local/in-use.ts'
import { buildOf, caller, quiet } from './contract/builds.ts'
import { contextFor, listed, storedContract, type StoredUnderTest } from './contract/stored.ts'
import { gate } from './stand/await.ts'
import { contextMade } from './stand/contexts.ts'
import { standEnvironment, standImage, standStored } from './stand/stored.ts'

const python = process.env['KILN_TEST_PYTHON'] || 'python3'
const uv = process.env['KILN_TEST_UV'] || 'uv'
const given = Object.fromEntries(Object.entries(process.env).flatMap(([name, value]) => (value === undefined ? [] : [[name, value]])))
const runtime = '# what serves\nsanic==1\n'

interface Place extends StoredUnderTest {
  folder: string
  environments: Environments
  inUse: InUse
  builds: ReturnType<typeof localBuilds>
  archives: Map<string, Buffer>
  path(...names: string[]): string
}

async function place(): Promise<Place> {
  const folder = await mkdtemp(join(tmpdir(), 'kiln-stored-'))
  const path = (...names: string[]): string => join(folder, ...names)
  const file = async (size: number, ...names: string[]): Promise<void> => {
    await mkdir(path(...names.slice(0, -1)), { recursive: true })
    await writeFile(path(...names), Buffer.alloc(size))
  }
  const made = environments({ folder: path('environments'), python, uv, uvEnvironment: { env: given, args: [] }, processes: processes(path('processes')) })
  const archives = new Map<string, Buffer>()
  const builds = localBuilds({ folder, objects: { get: async (name) => archives.get(name) ?? null }, environments: made, kaniko: { bake: async () => { throw new Error('no root is made here') } }, log: silentLog })
  const ground = contextFor()
  return {
    folder, path, environments: made, builds, archives, inUse: builds.inUse,
    stored: localStored({ folder, environments: made, inUse: builds.inUse, runtimeRequirements: async () => runtime }),
    async image(_lambda, context, codeBytes) {
      await file(5_000, 'environments', ground, 'lib', 'ground.py')
      await file(codeBytes, 'code', context, 'lambda', 'lambda_main.py')
      return (await writeImage(folder, { environment: ground, context, variables: null })).digest
    },
    environment: (key, bytes) => file(bytes, 'environments', key, 'lib', 'package.py'),
    async close() {
      await builds.close()
      await rm(folder, { recursive: true })
    },
  }
}

storedContract('stored images, on this machine', place)

storedContract('stored images, in the stand-in', async () => {
  const stored = standStored()
  return {
    stored, close: async () => undefined,
    async image(lambda, context, bytes) {
      stored.hold(standImage(lambda, context), [{ name: 'ground', bytes: 5_000 }, { name: `code ${context}`, bytes }], `sha256:${context}`)
      return `sha256:${context}`
    },
    environment: async (key, bytes) => stored.hold(standEnvironment(key), [{ name: `environment ${key}`, bytes }]),
  }
})

const test = suite<{ on: Place }>('stored images, on this machine: ')
test.before.each(async (context) => { context.on = await place() })
test.after.each(({ on }) => on.close())

const inputs = (requirements: string | null) => ({ codeFolder: '/', codeDigest: '', runtimeRequirements: runtime, requirements })

test('code without a note and a note without code are images too: nobody else would remove them', async ({ on }) => {
  const [code, note] = [contextFor(), contextFor()]
  await mkdir(on.path('code', code), { recursive: true })
  await writeImage(on.folder, { environment: contextFor(), context: note, variables: null })
  const found = await listed(on.stored, [], [code, note])
  assert.equal(found.map(({ kind, name }) => [kind, name]), [['image', `local/images/${code}`], ['image', `local/images/${note}`]])
  assert.equal(await on.stored.remove(found), [])
  assert.equal([await readdir(on.path('code')), await readdir(on.path('images'))], [[], []])
})

test('what is no image is left alone', async ({ on }) => {
  await mkdir(on.path('code', '.unpacking-1-2'), { recursive: true })
  await mkdir(on.path('environments', '.making-1-2'), { recursive: true })
  await mkdir(on.path('environments', 'notes'), { recursive: true })
  assert.equal(await on.stored.list([]), [])
})

test('an environment stays while the note of an image names it, and goes together with the image', async ({ on }) => {
  const [context, key] = [contextFor(), contextFor()]
  await on.environment(key, 10)
  await writeImage(on.folder, { environment: key, context, variables: null })
  const [image, environment] = await listed(on.stored, [], [context, key])
  assert.is(image!.uses, key)
  assert.equal(await on.stored.remove([environment!]), [{ name: environment!.name, why: 'An image that stays lies on it.', remedy: null }])
  assert.ok(await on.environments.has(key))
  assert.equal(await on.stored.remove([environment!, image!]), [])
  assert.not.ok(await on.environments.has(key))
})

test('the environment with the runtime alone is no garbage, also after a restart and whatever its comments say', async ({ on }) => {
  const [own, other] = [await on.environments.key(inputs('\n')), await on.environments.key(inputs('six\n'))]
  for (const key of [own, other]) await on.environment(key, 10)
  assert.equal((await on.stored.list([])).map(({ key }) => key), [other])
})

test('nor is one that a build of this process without requirements stands on, and it stays when it is to go', async ({ on }) => {
  const key = contextFor()
  await on.environment(key, 10)
  const [environment] = await on.stored.list([])
  assert.is(await on.environments.make(key, inputs(null), quiet), null)
  assert.equal(await on.stored.list([]), [])
  assert.equal((await on.stored.remove([environment!])).map(({ name }) => name), [environment!.name])
  assert.ok(await on.environments.has(key))
})

test('what is being built stays: its code and its environment', async ({ on }) => {
  const calls = await caller('127.0.0.1')
  const { archives, packaged } = await contextMade({ 'lambda_main.py': `# ${randomUUID()}\n`, ...calls.files })
  for (const [name, archive] of archives) on.archives.set(name, archive)
  const end = on.builds.run(buildOf(packaged), quiet)
  const call = await calls.called(end)
  const [code] = await listed(on.stored, [], [packaged.context.digest])
  const why = 'A build needs it at this moment.'
  assert.equal(await on.stored.remove([code!]), [{ name: code!.name, why, remedy: null }])
  call.write('.')
  const built = await end
  assert.ok(built.built, JSON.stringify(built))
  assert.equal((await on.builds.find(buildOf(packaged))), { image: built.image })
  await calls.close()
})

test('an environment that a build is about to use stays', async ({ on }) => {
  const key = contextFor()
  await on.environment(key, 10)
  const [environment] = await on.stored.list([])
  const mark = on.inUse.begin(contextFor())
  mark.use(key)
  assert.is((await on.stored.remove([environment!]))[0]?.why, 'A build needs it at this moment.')
  mark.end()
  await on.inUse.removed()
  assert.equal(await on.stored.remove([environment!]), [])
})

test('for a removal that runs when a build ends, what that made is in use; for the next it is not', async ({ on }) => {
  const context = contextFor()
  const mark = on.inUse.begin(context)
  const [begun, ended] = [gate(), gate()]
  const removal = on.inUse.removing(async () => {
    begun.open()
    await ended.promise
    return on.inUse.has(context)
  })
  await begun.promise
  mark.end()
  ended.open()
  assert.is(await removal, true)
  assert.is(await on.inUse.removing(async () => on.inUse.has(context)), false)
})

test('a file that has a second name elsewhere frees nothing', async ({ on }) => {
  const key = contextFor()
  await on.environment(key, 1_000)
  await writeFile(on.path('cached'), Buffer.alloc(7_000))
  await link(on.path('cached'), on.path('environments', key, 'lib', 'linked.py'))
  const [environment] = await on.stored.list([])
  assert.equal(await on.stored.parts(environment!), [{ name: `environments/${key}`, bytes: 1_000 }])
})

test.run()
