// Builds, on Kubernetes, as environment and code: who makes an environment, who waits for it, and that code alone needs no pod.
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import type { Build, BuildWatch, ImageBuilder, Packaged } from '../shared/builds.ts'
import type { ImageRegistry } from '../shared/kubernetes/builds.ts'
import { Unavailable } from '../shared/trouble.ts'
import { buildWith, caller, failureOf, gate, imageOf, plainFiles, quiet } from './contract/builds.ts'
import { buildsStand, type OnCluster } from './stand/builds-on-cluster.ts'

const stand = await buildsStand()
const { under } = stand
const layered = suite<{ on: OnCluster }>('builds, on Kubernetes, by an environment and a layer')
layered.before.each(async (context) => { context.on = await stand.make() })
layered.after.each(({ on }) => on.close())
layered.after(() => stand.close())

const auto = (packaged: Packaged): Build => buildWith(packaged, undefined, 'auto')
/** Watches that keep what they are told. */
const told = (): BuildWatch & { lines: string[]; joined: Promise<void> } => {
  const lines: string[] = []
  const joined = gate()
  return { ...quiet, lines, joined: joined.opened, line: (text) => { lines.push(text); if (/waits for another build/.test(text)) joined.open() } }
}

layered('code alone needs no pod', async ({ on }) => {
  const build = auto(await on.context(plainFiles()))
  assert.equal(await on.builds.find(build), { image: null, quick: true })
  // The cluster would not take a pod.
  const end = await on.again({ kanikoImage: 'NotAnImage' }).run(build, quiet)
  assert.ok(end.built, JSON.stringify(end))
  assert.is(end.image.reference, `${under.config().registry}/lambda-${build.id}@${end.image.digest}`)
  assert.equal(await on.builds.find(build), { image: end.image })
})

layered('an environment is made once for all who want it at that moment, in two kilns, and their logs show whose it is', async ({ on }) => {
  const calls = await caller(on.host)
  const environment = calls.files
  const [first, ...others] = [auto(await on.context({ ...plainFiles(), ...environment })), auto(await on.context({ ...plainFiles(), ...environment })), auto(await on.context({ ...plainFiles(), ...environment }))]
  // The package lies in the archive: only equal archives have equal environments.
  const wanted = others.map((build) => ({ ...first!, id: build.id }))
  assert.equal(await on.builds.find(first!), { image: null, quick: false })
  const making = on.builds.run(first!, quiet)
  const call = await calls.called(making)
  const [here, elsewhere] = [told(), told()]
  const waiting = [on.builds.run(wanted[0]!, here), on.again().run(wanted[1]!, elsewhere)]
  await Promise.all([here.joined, elsewhere.joined])
  call.write('.')
  for (const end of await Promise.all([making, ...waiting])) assert.ok(end.built, JSON.stringify(end))
  assert.is(calls.calls(), 1)
  for (const { lines } of [here, elsewhere]) assert.match(lines.join('\n'), `waits for another build of the same environment (lambda ${first!.id}, pod kaniko-lambda-${first!.id})`)
  await calls.close()
})

layered('the next version on the same environment is one layer', async ({ on }) => {
  const requirements = { 'requirements.txt': '# nothing but a comment\n' }
  const command = [`ENV MADE_FOR=${plainFiles()['note.txt']}`]
  const first = auto(await on.context({ ...plainFiles(), ...requirements }, command))
  assert.ok((await on.builds.run(first, quiet)).built)
  const next = { ...first, version: 2, ...await on.context({ ...plainFiles(), ...requirements }, command) }
  assert.is(next.foundation.environment!.key, first.foundation.environment!.key)
  assert.equal(await on.builds.find(next), { image: null, quick: true })
  const watch = told()
  assert.ok((await on.again({ kanikoImage: 'NotAnImage' }).run(next, watch)).built)
  assert.match(watch.lines[0]!, /Environment .*: reused/)
})

layered('who waits for an environment goes on when the lambda whose pod makes it changes its mind', async ({ on }) => {
  const calls = await caller(on.host)
  const owner = auto(await on.context({ ...plainFiles(), ...calls.files }))
  const cancel = new AbortController()
  const cancelled = on.builds.run(owner, { ...quiet, signal: cancel.signal })
  await calls.called(cancelled)
  const [here, elsewhere] = [told(), told()]
  const staying = [on.builds.run({ ...owner, id: buildWith(owner).id }, here), on.again().run({ ...owner, id: buildWith(owner).id }, elsewhere)]
  await Promise.all([here.joined, elsewhere.joined])
  cancel.abort()
  assert.is(failureOf(await cancelled).failure.cause, 'cancelled')
  // Its pod makes way for its next version; those who waited make the environment anew, in the name of one of them.
  assert.ok((await on.builds.run({ ...owner, version: 2, builder: 'kaniko' as ImageBuilder, ...await on.context(plainFiles()) }, quiet)).built)
  ;(await calls.called(staying[0]!)).write('.')
  for (const end of await Promise.all(staying)) assert.ok(end.built, JSON.stringify(end))
  assert.is(calls.calls(), 2)
  await calls.close()
})

layered('an environment that an earlier kiln began is adopted', async ({ on }) => {
  const calls = await caller(on.host)
  const build = auto(await on.context({ ...plainFiles(), ...calls.files }))
  const earlier = on.again()
  const began = earlier.run(build, quiet)
  const call = await calls.called(began)
  await earlier.close()
  assert.is(failureOf(await began).failure.reason, 'BuilderStopped')
  const watch = told()
  const end = on.builds.run({ ...build, id: buildWith(build).id }, watch)
  await watch.joined
  call.write('.')
  assert.ok((await end).built)
  assert.is(calls.calls(), 1)
  assert.is(await on.pod(build.id), null)
  await calls.close()
})

layered('a registry that is away in the middle is tried again', async ({ on }) => {
  const away: ImageRegistry = { ...under.registry, putCode: async () => { throw new Unavailable('the registry does not answer') } }
  const build = auto(await on.context(plainFiles()))
  const { again, failure } = failureOf(await on.again({}, away).run(build, quiet))
  assert.equal([again, failure.cause, failure.reason], [true, 'registry', 'RegistryUnavailable'])
  assert.equal(await imageOf(on.builds, build), null)
})

layered.run()
