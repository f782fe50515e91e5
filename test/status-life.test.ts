// status-api: image status and lambda status over a whole life, as the platform shows one thing after the other.
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import type { Pod } from '../shared/workloads.ts'
import type { BuildEnd } from '../shared/builds.ts'
import { caller, first, folded, ownZip, seen, type Caller } from './stand/caller.ts'
import { fact, gate } from './stand/await.ts'
import { state } from './stand/lives.ts'
import { imageOf } from './stand/platform.ts'
import { site, type Site } from './stand/site.ts'

const test = suite('status-api follows a life')
let house: Site
let user: Caller

test.before(async () => {
  house = await site({ buildConcurrency: 1 })
  user = caller(house.address)
})
test.after(() => house.close())
test.after.each(() => house.ports.builds.decide(async (build) => ({ built: true, image: imageOf(build) })))

const image = async (id: string): Promise<any> => (await user.get(`/lambdas/${id}/image/status`)).body
const status = async (id: string): Promise<any> => (await user.get(`/lambdas/${id}/status`)).body

test('an image is pending with its place, in progress, then completed; the lambda waits all the while', async () => {
  const [first, second] = [gate<BuildEnd>(), gate<BuildEnd>()]
  const gates = [first, second]
  house.ports.builds.decide(() => gates.shift()!.promise)
  const ids = []
  for (const word of ['queue 1', 'queue 2', 'queue 3']) {
    const { body } = await user.create({}, ownZip(word))
    ids.push(body.lambda_id)
    await seen(house, body.lambda_id, 'image.queued')
  }
  const [a, b, c] = ids as [string, string, string]
  await seen(house, a, 'image.started')
  assert.equal(await Promise.all(ids.map(async (id) => (await image(id)).status)), ['in_progress', 'pending', 'pending'])
  assert.equal(await Promise.all(ids.map(async (id) => (await image(id)).queue_position)), [undefined, 1, 2])
  assert.equal(await Promise.all(ids.map(async (id) => (await status(id)).status)), ['waiting', 'waiting', 'waiting'])
  assert.is((await user.get(`/lambdas/${c}`)).body.queue_position, 2)
  assert.match((await image(c)).message, '2')

  first.open({ built: true, image: { reference: 'ref-a', digest: 'sha256:a' } })
  await seen(house, a, 'image.built')
  await seen(house, b, 'image.started')
  const done = await image(a)
  assert.equal([done.status, done.reference, done.digest, done.queue_position], ['completed', 'ref-a', 'sha256:a', undefined])
  assert.equal([(await image(b)).status, (await image(c)).queue_position], ['in_progress', 1])

  await user.ask('DELETE', `/lambdas/${c}`)
  second.open({ built: false, again: false, failure: { cause: 'user', reason: 'BadDockerfile', message: 'Mend line 3.' } })
  await seen(house, b, 'image.failed')
  const failed = await image(b)
  assert.equal([failed.status, failed.state, failed.reason, failed.message, failed.failure.stage], ['error', 'failed', 'BadDockerfile', 'Mend line 3.', 'builder-watcher'])
  assert.is((await status(b)).status, 'terminated')
})

test('a place in the queue is one among those that wait for a builder; what is made at once is none of them', async () => {
  const { builds } = house.ports
  const [long, quick] = [gate<BuildEnd>(), gate<BuildEnd>()]
  builds.decide((build) => (builds.quick.has(build.context.digest) ? quick.promise : long.promise))
  const create = async (word: string): Promise<string> => (await user.create({}, ownZip(word))).body.lambda_id
  const building = await create('place 1')
  await seen(house, building, 'image.started')
  const { find } = builds
  builds.find = async (build) => { builds.quick.add(build.context.digest); return find(build) }
  const atOnce = [await create('place 2'), await create('place 3')]
  for (const id of atOnce) await seen(house, id, 'image.started')
  builds.find = find
  const waits = await create('place 4')
  await seen(house, waits, 'image.queued')
  const shown = await Promise.all([building, ...atOnce, waits].map(async (id) => (await user.get(`/lambdas/${id}`)).body))
  assert.equal(shown.map(({ state, queue_position, image: { status: said } }) => [state, queue_position, said]), [
    ['building', undefined, 'in_progress'], ['building', undefined, 'in_progress'], ['building', undefined, 'in_progress'], ['queued', 1, 'pending'],
  ])
  assert.equal([(await image(waits)).message, (await image(waits)).queue_position], ['It waits for a builder at place 1.', 1])
  for (const { open } of [long, quick]) open({ built: true, image: { reference: 'ref', digest: 'sha256:r' } })
  await seen(house, waits, 'image.built')
  assert.is((await image(waits)).queue_position, undefined)
})

test('the base image is shown with what it is made on, and with what its name stands for now', async () => {
  const [old, newer] = ['registry.example/base@sha256:old', 'registry.example/base@sha256:new']
  const baseOf = (reference: string) => ({ base: { reference, platform: 'linux/amd64', runtime: null, triggers: false } })
  house.ports.bases.decide(async () => baseOf(old))
  const { body: { lambda_id: id } } = await user.create({ base_image: 'registry.example/base:1' }, ownZip('on a base'))
  const record = (await house.ports.records.get(id))!.value
  await seen(house, id, 'workload.running')
  await seen(house, id, 'workload.applied')
  await user.change(id, { parameters: { user_config: { a: 1 } } })
  await seen(house, id, 'workload.running', 2)
  const base = { name: 'registry.example/base:1', reference: old, newer: null as string | null }
  const shown = async (): Promise<unknown[]> => {
    const { body } = await user.get(`/lambdas/${id}`)
    return [body.image.base, ...body.versions.map((v: any) => v.base), (await image(id)).base]
  }
  assert.equal(await shown(), [base, base, base, base])
  const before = await status(id)
  await state(house.ports, record, 'image.outdated', { base: base.name, reference: old, newer })
  await seen(house, id, 'image.outdated')
  assert.equal(await shown(), Array(4).fill({ ...base, newer }))
  assert.equal(await status(id), before)
  house.ports.bases.decide(async () => baseOf(newer))
  await user.ask('PUT', `/lambdas/${id}`, { json: { rebase: true } })
  await seen(house, id, 'workload.running', 3)
  assert.equal(await shown(), [{ ...base, reference: newer }, { ...base, newer }, { ...base, newer }, { ...base, reference: newer }, { ...base, reference: newer }])
  house.ports.bases.decide(async () => ({ base: null }))
})

test('the lambda status is what the platform shows, pod by pod', async () => {
  const { body: { lambda_id: id } } = await user.create({}, ownZip('shows'))
  await fact(house.ports, id, 'workload.running')
  await fact(house.ports, id, 'workload.applied')
  const pod = (part: Partial<Pod>): Pod => ({ name: 'pod-1', state: 'running', ready: true, restarts: 0, reason: null, message: null, exitCode: null, signal: null, startedAt: null, ...part })
  const cases = [
    { shows: 'running', pods: [pod({})], expected: 'running' },
    { shows: 'pending', pods: [pod({ state: 'pending', ready: false, reason: 'Unschedulable' })], expected: 'pending' },
    { shows: 'waiting', pods: [pod({ state: 'waiting', ready: false, restarts: 3, reason: 'CrashLoopBackOff', exitCode: 1 })], expected: 'waiting' },
    { shows: 'terminated', pods: [pod({ state: 'terminated', ready: false, signal: 'SIGKILL' })], expected: 'terminated' },
    { shows: 'running', pods: [pod({}), pod({ name: 'pod-2' })], expected: 'running' },
  ] as const
  let from = 0
  for (const [i, { shows, pods, expected }] of cases.entries()) {
    const message = `sight ${i}`
    house.ports.workloads.show({ id, shows, reason: `Reason${i}`, message, pods: [...pods] })
    from = (await first(house.ports, id, from, (heard) => (heard.data as { message?: string }).message === message)).seq
    await folded(house.ports, id, from)
    const answer = await status(id)
    assert.equal([answer.status, answer.state, answer.reason, answer.message], [expected, shows, `Reason${i}`, message])
    assert.equal(answer.pods, pods.map((one) => ({ ...one, version: 1 })))
    assert.is(answer.serving_version, shows === 'running' ? 1 : null)
  }
})

test('a disabled lambda is not found as a running thing, a deleted one is unknown', async () => {
  const { body: { lambda_id: id } } = await user.create({}, ownZip('off'))
  await seen(house, id, 'workload.running')
  await user.post(`/lambdas/${id}/disable`)
  const off = await status(id)
  assert.equal([off.status, off.state, off.alive], ['not_found', 'disabled', false])
  assert.is((await image(id)).status, 'completed')
  await user.ask('DELETE', `/lambdas/${id}`)
  assert.is((await user.get(`/lambdas/${id}/status`)).status, 404)
  assert.is((await user.get(`/lambdas/${id}/image/status`)).status, 404)
})

test('a rollout that fails is said, and the version before goes on serving', async () => {
  const { body: { lambda_id: id } } = await user.create({}, ownZip('rollout 1'))
  await seen(house, id, 'workload.running', 1)
  await seen(house, id, 'workload.applied', 1)
  const { workloads } = house.ports
  const apply = workloads.apply
  workloads.apply = async (workload) => { workloads.applied.push(workload) }
  await user.change(id, { archive: ownZip('rollout 2') })
  await seen(house, id, 'workload.applied', 2)
  workloads.apply = apply
  assert.equal([(await status(id)).state, (await status(id)).serving_version], ['deploying', 1])
  workloads.show({ id, version: 2, shows: 'failed', cause: 'user', reason: 'NotReady', message: 'It did not get ready.', log: ['Traceback'] })
  await seen(house, id, 'workload.failed', 2)
  const { body } = await user.get(`/lambdas/${id}`)
  assert.equal([body.status, body.version, body.serving_version, body.state, body.reason], ['running', 2, 1, 'failed', 'NotReady'])
  assert.equal([body.failure.stage, body.failure.log, body.image.status], ['deployer', ['Traceback'], 'completed'])
})

test.run()
