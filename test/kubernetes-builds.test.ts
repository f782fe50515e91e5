// Builds, on Kubernetes: the contract of every platform, and what only this one promises. On a real cluster when KUBECONFIG names one.
import { once } from 'node:events'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { kilnStops, type Build, type BuildWatch, type Packaged } from '../shared/builds.ts'
import type { ImageRegistry } from '../shared/kubernetes/builds.ts'
import { buildName, path } from '../shared/kubernetes/names.ts'
import type { PodResource } from '../shared/kubernetes/resources.ts'
import { watchPod } from '../shared/kubernetes/watched-pod.ts'
import { silentLog } from '../shared/log.ts'
import { Unavailable } from '../shared/trouble.ts'
import { buildsContract, buildWith, caller, failureOf, gate, plainFiles, quiet } from './contract/builds.ts'
import { buildsStand, type OnCluster } from './stand/builds-on-cluster.ts'
import { baseWith, contextMade } from './stand/contexts.ts'

const stand = await buildsStand()
const { under } = stand
const onCluster = stand.make

for (const builder of ['auto', 'kaniko'] as const) buildsContract(`builds, on Kubernetes, by ${builder}`, onCluster, builder)

// ---
const test = suite<{ on: OnCluster }>('builds, on Kubernetes, by one pod of kaniko')
test.before.each(async (context) => { context.on = await onCluster() })
test.after.each(({ on }) => on.close())
test.after(() => stand.close())

const buildOf = (packaged: Packaged, timeoutMs?: number): Build => buildWith(packaged, timeoutMs, 'kaniko')

test('the image is found by its tag, run by its digest, and its pod is gone', async ({ on }) => {
  const build = buildOf(await on.context(plainFiles()))
  const end = await on.builds.run(build, quiet)
  assert.ok(end.built, JSON.stringify(end))
  const repository = `${under.config().registry}/lambda-${build.id}`
  assert.is(end.image.reference, `${repository}@${end.image.digest}`)
  assert.is(await under.registry.digest(`${repository}:${build.context.digest}`), end.image.digest)
  assert.is(await on.pod(build.id), null)
})

test('the pod says whose it is, and stays until its log is kept', async ({ on }) => {
  const build = buildOf(await on.context(plainFiles()))
  let seen: PodResource | null = null
  await on.builds.run(build, { ...quiet, kept: async () => { seen = await on.pod(build.id) } })
  const { name, labels, annotations } = seen!.metadata
  assert.is(name, `kaniko-lambda-${build.id}`)
  assert.equal([labels!['kiln/lambda-id'], labels!['kiln/account'], labels!['kiln/version'], annotations!['kiln/context']], [build.id, 'default', '1', build.context.digest])
})

test('what an earlier kiln began is adopted, with its whole log, and built once', async ({ on }) => {
  const calls = await caller(on.host)
  const build = buildOf(await on.context({ ...plainFiles(), ...calls.files }))
  const earlier = on.again()
  const began = earlier.run(build, quiet)
  const call = await calls.called(began)
  await earlier.close()
  assert.is(failureOf(await began).failure.reason, 'BuilderStopped')
  const lines: string[] = []
  const adopted = gate()
  const end = on.builds.run(build, { ...quiet, line: (text) => { lines.push(text); adopted.open() } })
  await adopted.opened
  call.write('.')
  assert.ok((await end).built)
  assert.is(calls.calls(), 1)
  assert.match(lines.join('\n'), 'WORKDIR /lambda')
  await calls.close()
})

test('a kiln that stops lets the build go on', async ({ on }) => {
  const calls = await caller(on.host)
  const build = buildOf(await on.context({ ...plainFiles(), ...calls.files }))
  const stop = new AbortController()
  const began = on.builds.run(build, { ...quiet, signal: stop.signal })
  const call = await calls.called(began)
  stop.abort(kilnStops)
  assert.is(failureOf(await began).again, true)
  const end = on.again().run(build, quiet)
  call.write('.')
  assert.ok((await end).built)
  await calls.close()
})

test('a build that ended while no kiln looked is read, not built again', async ({ on }) => {
  const calls = await caller(on.host)
  const build = buildOf(await on.context({ ...plainFiles(), ...calls.files }))
  const earlier = on.again()
  const began = earlier.run(build, quiet)
  const call = await calls.called(began)
  await earlier.close()
  await began
  call.end()
  await shows(on, build.id, (pod) => pod.status?.phase === 'Failed')
  const { failure } = failureOf(await on.builds.run(build, quiet))
  assert.is(failure.cause, 'dependency')
  assert.is(calls.calls(), 1)
  await calls.close()
})

/** The pod's next sight that is so, by a watch of the test's own. */
async function shows(on: OnCluster, id: string, is: (pod: PodResource) => boolean): Promise<void> {
  const watched = watchPod(on.client, { namespace: 'default', name: buildName(id) }, silentLog)
  await watched.until(({ pod }) => pod !== null && is(pod))
  watched.close()
}

test('the pod of another version makes way', async ({ on }) => {
  const calls = await caller(on.host)
  const old = buildOf(await on.context({ ...plainFiles(), ...calls.files }))
  const earlier = on.again()
  const began = earlier.run(old, quiet)
  const hungUp = once(await calls.called(began), 'close')
  await earlier.close()
  await began
  const end = await on.builds.run({ ...old, version: 2, ...await on.context(plainFiles()) }, quiet)
  assert.ok(end.built, JSON.stringify(end))
  await hungUp
  await calls.close()
})

test('a build that nobody wants any more is ended', async ({ on }) => {
  const calls = await caller(on.host)
  const build = buildOf(await on.context({ ...plainFiles(), ...calls.files }))
  const earlier = on.again()
  const began = earlier.run(build, quiet)
  await calls.called(began)
  await earlier.close()
  await on.builds.abandon({ ...build, version: 2 })
  assert.ok(await on.pod(build.id))
  await on.builds.abandon(build)
  assert.is(await on.pod(build.id), null)
  await calls.close()
})

test('a pod that somebody deletes is worth another try', async ({ on }) => {
  const calls = await caller(on.host)
  const build = buildOf(await on.context({ ...plainFiles(), ...calls.files }))
  const end = on.builds.run(build, quiet)
  await calls.called(end)
  await on.client.remove(path.pods('default', buildName(build.id)))
  const { again, failure } = failureOf(await end)
  assert.equal([again, failure.cause, failure.reason], [true, 'infrastructure', 'BuildPodDeleted'])
  await calls.close()
})

test('a failing command is the user\'s, with its last lines', async ({ on }) => {
  const { again, failure } = failureOf(await on.builds.run(buildOf(await on.context(plainFiles(), ['RUN echo looking && ls /nowhere'])), quiet))
  assert.equal([again, failure.cause, failure.reason], [false, 'user', 'CommandFailed'])
  assert.match(failure.message, 'ls /nowhere')
  assert.match(failure.log!.join('\n'), /looking[\s\S]*nowhere/)
})

test('a base image that is not there is the user\'s', async ({ on }) => {
  const { archives, packaged } = await contextMade(plainFiles(), { base: baseWith(`${under.config().registry}/no-such-base:does-not-exist`) })
  for (const [name, archive] of archives) await under.objects.put(name, archive)
  const { again, failure } = failureOf(await on.builds.run(buildOf(packaged), quiet))
  assert.equal([again, failure.cause, failure.reason], [false, 'user', 'BaseImageMissing'])
})

test('a registry that does not take the image is the registry\'s trouble', async ({ on }) => {
  const blind: ImageRegistry = { ...under.registry, digest: async () => null }
  const { again, failure } = failureOf(await on.again({ registry: '127.0.0.1:9' }, blind).run(buildOf(await on.context(plainFiles())), quiet))
  assert.equal([again, failure.cause, failure.reason], [true, 'registry', 'RegistryUnreachable'])
})

test('a registry that cannot be asked is no reason to build', async ({ on }) => {
  const away: ImageRegistry = { ...under.registry, digest: async () => { throw new Unavailable('the registry does not answer') } }
  const build = buildOf(await on.context(plainFiles()))
  const { again, failure } = failureOf(await on.again({}, away).run(build, quiet))
  assert.equal([again, failure.cause, failure.reason], [true, 'registry', 'RegistryUnavailable'])
  assert.is(await on.pod(build.id), null)
})

test('where no node will have it, it waits in the scheduler\'s own words, and is given back in the end', async ({ on }) => {
  const waits: Array<Parameters<BuildWatch['waits']>[0]> = []
  const builds = on.again({ scheduleTimeoutMs: 2_000 })
  const end = await builds.run({ ...buildOf(await on.context(plainFiles())), selector: { zone: 'moon' } }, { ...quiet, waits: (why) => waits.push(why) })
  assert.is(waits[0]?.reason, 'Unschedulable')
  assert.match(waits[0]!.message, /0\/1 nodes are available/)
  const { again, failure } = failureOf(end)
  assert.equal([again, failure.reason], [true, 'Unschedulable'])
})

test('a secret that is missing is named while the build waits for it', async ({ on }) => {
  const waits: Array<Parameters<BuildWatch['waits']>[0]> = []
  const builds = on.again({ s3Secret: 'nobody-made-this', scheduleTimeoutMs: 4_000 })
  const { failure } = failureOf(await builds.run(buildOf(await on.context(plainFiles())), { ...quiet, waits: (why) => waits.push(why) }))
  assert.is(waits[0]?.reason, 'CreateContainerConfigError')
  assert.match(failure.message, 'nobody-made-this')
})

test('credentials of a registry that are missing show in an event only, and are told', async ({ on }) => {
  const builds = on.again({ registrySecret: 'no-such-credentials', scheduleTimeoutMs: 6_000 })
  const { failure } = failureOf(await builds.run(buildOf(await on.context(plainFiles())), quiet))
  assert.is(failure.reason, 'FailedMount')
  assert.match(failure.message, 'no-such-credentials')
})

test('a build that takes too long is ended by its deadline', async ({ on }) => {
  const calls = await caller(on.host)
  const end = on.builds.run(buildOf(await on.context({ ...plainFiles(), ...calls.files }), 8_000), quiet)
  const { again, failure } = failureOf(await end)
  assert.equal([again, failure.cause, failure.reason], [false, 'timeout', 'BuildTimeout'])
  await calls.close()
})

test.run()
