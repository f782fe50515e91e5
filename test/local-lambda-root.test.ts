// Lambdas with Dockerfile commands, on this machine: kaniko makes a root of the image, and the lambda runs in it.
import { createHash, randomUUID } from 'node:crypto'
import { readdir, readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { gzipSync } from 'node:zlib'
import type { Build } from '../shared/builds.ts'
import { localBuilds, localImage } from '../shared/local/builds.ts'
import { processes } from '../shared/local/processes.ts'
import { localStored } from '../shared/local/stored.ts'
import { localWorkloads } from '../shared/local/workloads.ts'
import { silentLog } from '../shared/log.ts'
import { contextName } from '../shared/objects.ts'
import type { Workloads } from '../shared/workloads.ts'
import { buildWith, failureOf, quiet, unpacked } from './contract/builds.ts'
import { runs, watched, workload } from './contract/workloads.ts'
import { tarOf } from './stand/base-image.ts'
import { executorInWords, kanikoWorld, probes, refusedByTheSystem as refused, shellImage, type KanikoWorld } from './stand/local-kaniko.ts'

interface Here {
  world: KanikoWorld
  folder: string
  builds: ReturnType<typeof localBuilds>
  workloads: Workloads
  stored: ReturnType<typeof localStored>
  /** A context as the packager makes them, with these commands. */
  build(commands: string[]): Promise<Build>
  close(): Promise<void>
}

async function here(): Promise<Here> {
  const world = await kanikoWorld()
  const folder = join(world.folder, 'local')
  const archives = new Map<string, Buffer>()
  const none = { key: async () => 'a'.repeat(64), has: async () => false, make: async () => { throw new Error('no environment is made here') }, stands: () => false, remove: async () => undefined, sweep: async () => undefined, close: async () => undefined }
  const builds = localBuilds({ folder, objects: { get: async (name) => archives.get(name) ?? null }, environments: none, kaniko: world.kaniko, log: silentLog })
  const workloads = localWorkloads({
    folder, processes: processes(join(folder, 'processes')), log: silentLog, inherited: { PATH: process.env['PATH'], SECRET: 'kiln\'s own' }, readyTimeoutMs: 20_000,
    logs: { writer: () => ({ line: () => undefined, flush: async () => undefined }) },
  })
  const program = await readFile(await probes())
  const from = await shellImage(world)
  return {
    world, folder, builds, workloads, stored: localStored({ folder, environments: none, inUse: builds.inUse, runtimeRequirements: async () => '' }),
    async build(commands) {
      const programs = ['/bin/sh', '/bin/env', '/bin/python3'].map((path) => `COPY program ${path}`)
      const dockerfile = [`FROM ${from}`, ...programs, 'COPY run.py /lambda/run.py', 'COPY run.py /opt/other', ...commands, ''].join('\n')
      const bytes = gzipSync(await tarOf([{ name: 'Dockerfile', content: dockerfile }, { name: 'run.py', content: `# ${randomUUID()}\n` }, { name: 'program', content: program, mode: 0o755 }]), { level: 1 })
      const digest = createHash('sha256').update(bytes).digest('hex')
      archives.set(contextName(digest), bytes)
      return { ...buildWith(unpacked(digest)), commands }
    },
    async close() {
      await Promise.all([workloads.close(), builds.close()])
      await world.close()
    },
  }
}

const test = suite<{ on: Here }>(`lambdas in roots of their own, with ${executorInWords}`)
test.before(async (context) => { context.on = await here() })
test.after(({ on }) => on.close())

if (refused) {
  test(`cannot run here: ${refused}`, async ({ on }) => {
    assert.is((await on.builds.run(await on.build(['RUN probe write /opt/made a tool']), quiet)).built, false)
  })
} else {
  test('what the commands made is there, and nothing of the image can be changed, nor anything of the machine be seen', async ({ on }) => {
    const build = await on.build(['RUN probe write /opt/made a tool'])
    const end = await on.builds.run(build, quiet)
    assert.ok(end.built, JSON.stringify(end))
    assert.equal(await on.builds.find(build), { image: end.image })
    const watch = await watched(on.workloads)
    const wish = workload(end.image, { env: { COLOUR: 'red' } }, { userConfig: { a: 1 } })
    await on.workloads.apply(wish)
    const { endpoints } = await watch.until(runs(1))
    const found = (await (await fetch(endpoints[0]!)).json()) as Record<string, unknown>
    assert.equal([found['args'], found['cwd'], found['config'], found['made']], [['run.py'], '/lambda', '{"a":1}', 'a tool\n'])
    assert.equal([found['colour'], found['home'], found['pid'], found['hostIsThere'], found['capabilities']], ['red', '/tmp', 1, false, '0000000000000000'])
    const readOnly = (path: string): string => `open ${path}: read-only file system`
    assert.equal(found['written'], { '/lambda/x': readOnly('/lambda/x'), '/opt/made': readOnly('/opt/made'), '/kaniko/x': readOnly('/kaniko/x'), '/tmp/x': 'written' })
    // Neither credentials nor the context of the build.
    assert.equal(found['kaniko'], ['old', 'user_config.json'])
    await on.workloads.remove(wish.id)
    assert.equal((await readdir(join(on.folder, 'kaniko'))).filter((name) => name.startsWith('.root-')), [])
  })

  test('a command that fails is the user\'s, and nothing of the root stays', async ({ on }) => {
    const build = await on.build(['RUN probe fail'])
    assert.equal([failureOf(await on.builds.run(build, quiet)).failure.reason, await localImage(on.folder, build.context.digest)], ['CommandFailed', null])
    assert.equal(await on.world.left(), [])
  })

  test('two pods of it run beside each other, each with a /tmp of its own; one that is killed comes back', async ({ on }) => {
    const end = await on.builds.run(await on.build(['RUN probe write /opt/made two']), quiet)
    assert.ok(end.built)
    const watch = await watched(on.workloads)
    const wish = workload(end.image, { pod_count: 2 })
    await on.workloads.apply(wish)
    const { endpoints } = await watch.until((o) => o.endpoints.length === 2)
    for (const endpoint of endpoints) assert.is(((await (await fetch(endpoint)).json()) as { made: string }).made, 'two\n')
    await on.workloads.remove(wish.id)
    await watch.until((o) => o.id === wish.id && o.shows === 'terminated')
  })

  test('its root is for nobody else to look into, counts as part of the image, and goes with it', async ({ on }) => {
    const build = await on.build(['RUN probe write /opt/made three'])
    const end = await on.builds.run(build, quiet)
    assert.ok(end.built)
    const { digest } = build.context
    assert.is((await stat(join(on.folder, 'roots'))).mode & 0o777, 0o700)
    const image = (await on.stored.list([])).find(({ key }) => key === digest)!
    assert.equal([image.kind, image.uses], ['image', null])
    const parts = (await on.stored.parts(image))!
    assert.ok(parts.find(({ name }) => name === `roots/${digest}`)!.bytes > 1_000_000)
    assert.equal(await on.stored.remove([image]), [])
    assert.equal([await localImage(on.folder, digest), (await readdir(join(on.folder, 'roots'))).includes(digest)], [null, false])
    assert.equal(await on.builds.find(build), { image: null, quick: false })
  })
}
test.run()
