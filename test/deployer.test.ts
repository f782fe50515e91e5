// deployer: the platform runs what the record wants, and what it shows is said once.
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import type { LambdaRecord } from '../shared/records.ts'
import { Refusal, Unavailable } from '../shared/trouble.ts'
import { fact } from './stand/await.ts'
import { first } from './stand/caller.ts'
import { deployerStand, imageFor, type DeployerStand } from './stand/deployer.ts'
import { digestFor, recordFor, state, versionFor, write } from './stand/lives.ts'
import type { StandPorts } from './stand/ports.ts'

const test = suite('deployer')
let on: DeployerStand
let ports: StandPorts

test.before.each(async () => {
  on = await deployerStand()
  ports = on.ports
})
test.after.each(() => on.close())

const next = (record: LambdaRecord, more: Partial<LambdaRecord> = {}): LambdaRecord =>
  ({ ...record, version: record.version + 1, versions: [...record.versions, versionFor(record.version + 1, digestFor('next'))], ...more })

const appliedTo = (id: string): Array<[number, number]> => ports.workloads.applied.filter((w) => w.id === id).map((w) => [w.version, w.epoch])
const factsOf = async (id: string): Promise<string[]> => (await ports.bus.history(id, 0, 1_000)).map((f) => f.fact)

test('a built image is applied once, with all that the record says', async () => {
  const parameters = { user_config: { a: 1 }, deploy_parameters: { pod_count: 3, env: { A: 'b' } } }
  const record = await on.running({ versions: [versionFor(1, digestFor('a'), parameters)] })
  const { deploy, userConfig, ...rest } = ports.workloads.wanted.get(record.id)!
  assert.equal(rest, { id: record.id, account: 'default', version: 1, epoch: 0, image: imageFor('image 1') })
  assert.equal([userConfig, deploy.pod_count, deploy.env], [{ a: 1 }, 3, { A: 'b' }])
  assert.equal((await fact(ports, record.id, 'workload.applied')).data, { image: imageFor('image 1'), pod_count: 3 })
  assert.equal(appliedTo(record.id), [[1, 0]])
})

test('an accepted version that needs no build is applied, one that needs it is not', async () => {
  const record = await on.running()
  const second = await write(ports, next(record))
  await state(ports, second, 'lambda.accepted', { archive: { digest: 'x', bytes: 1 }, name: 'x', image: null })
  const third = await write(ports, next(second))
  await state(ports, third, 'lambda.accepted', { archive: { digest: 'x', bytes: 1 }, name: 'x', image: imageFor('image 1') })
  await on.told(record, 'workload.applied', 3)
  assert.equal(appliedTo(record.id), [[1, 0], [3, 0]])
})

test('an image of a version that is no longer the newest is not applied', async () => {
  const record = await on.running()
  const second = await write(ports, next(record))
  const third = await write(ports, next(second))
  await on.built(second, 'image 2')
  await on.built(third, 'image 3')
  await on.told(record, 'workload.applied', 3)
  assert.not.ok(appliedTo(record.id).some(([version]) => version === 2))
})

test('disabled: it is removed; enabled: it is applied again, in a later turn of the switch', async () => {
  const record = await on.running()
  const off = await write(ports, { ...record, alive: false, epoch: 1 })
  await state(ports, off, 'lambda.disabled', {}, { nth: '1' })
  await on.told(record, 'workload.terminated')
  assert.not.ok(ports.workloads.wanted.has(record.id))
  const enabled = await write(ports, { ...off, alive: true, epoch: 2 })
  await state(ports, enabled, 'lambda.enabled', { image: imageFor('image 1') }, { nth: '2' })
  await first(ports, record.id, 0, (heard) => heard.fact === 'workload.applied' && heard.epoch === 2)
  assert.equal(appliedTo(record.id), [[1, 0], [1, 2]])
})

test('deleted: it is removed, and an image that comes late is not applied', async () => {
  const record = await on.running()
  const gone = await write(ports, { ...record, deleted: true, alive: false })
  await state(ports, gone, 'lambda.deleted', {})
  await on.told(record, 'workload.terminated')
  await state(ports, gone, 'image.built', { image: imageFor('late'), context: 'late', reused: false, seconds: 1 }, { nth: 'late' })
  await on.running()
  assert.not.ok(ports.workloads.wanted.has(record.id))
  assert.equal(appliedTo(record.id), [[1, 0]])
})

test('a rollout that is cancelled goes back to the version before', async () => {
  const record = await on.running()
  const second = await write(ports, next(record))
  await on.built(second, 'image 2')
  await on.told(record, 'workload.applied', 2)
  const back = await write(ports, { ...second, cancelled: [2] })
  await state(ports, back, 'lambda.cancelled', {})
  await first(ports, record.id, 0, ({ fact: name, version }) => name === 'workload.terminated' && version === 2)
  assert.is(ports.workloads.wanted.get(record.id)!.version, 1)
  assert.equal(appliedTo(record.id), [[1, 0], [2, 0], [1, 0]])
})

test('what is cancelled before anything of it served is removed', async () => {
  const { workloads } = ports
  const apply = workloads.apply
  workloads.apply = async (workload) => { workloads.wanted.set(workload.id, workload) }
  const record = await write(ports, recordFor())
  await on.built(record, 'image 1')
  await on.told(record, 'workload.applied')
  workloads.apply = apply
  const cancelled = await write(ports, { ...record, cancelled: [1] })
  await state(ports, cancelled, 'lambda.cancelled', {})
  await on.told(record, 'workload.terminated')
  assert.not.ok(workloads.wanted.has(record.id))
})

test('a rollout that fails is said with its cause, and the version that serves is still shown', async () => {
  const record = await on.running()
  const second = await write(ports, next(record))
  const apply = ports.workloads.apply
  ports.workloads.apply = async (workload) => { ports.workloads.applied.push(workload) }
  await on.built(second, 'image 2')
  await on.told(record, 'workload.applied', 2)
  ports.workloads.apply = apply
  ports.workloads.show({ id: record.id, version: 2, shows: 'failed', cause: 'user', reason: 'NotReady', message: 'No.', log: ['line'] })
  const failed = await on.told(record, 'workload.failed', 2)
  assert.equal(failed.data, { stage: 'deployer', cause: 'user', reason: 'NotReady', message: 'No.', log: ['line'] })
  const life = (await ports.statuses.get(record.id))!.value
  assert.equal([life.versions[1]!.sight!.endpoints.length, life.versions[2]!.state], [1, 'failed'])
  assert.is(ports.workloads.wanted.get(record.id)!.version, 1)
})

test('the same observation is said once, another one again', async () => {
  const record = await on.running()
  const { workloads } = ports
  for (let i = 0; i < 3; i++) workloads.show({ id: record.id, shows: 'waiting', reason: 'CrashLoopBackOff', message: 'It crashed.' })
  for (let i = 0; i < 3; i++) workloads.show({ id: record.id, shows: 'waiting', reason: 'CrashLoopBackOff', message: 'It crashed again.' })
  workloads.show({ id: record.id, shows: 'pending', reason: 'NoGpu', message: 'There is no GPU.' })
  await on.told(record, 'workload.pending')
  assert.equal((await factsOf(record.id)).filter((f) => f === 'workload.waiting').length, 2)
})

test('observations of one lambda are said in the order they came', async () => {
  const record = await on.running()
  for (let i = 0; i < 50; i++) ports.workloads.show({ id: record.id, shows: i % 2 ? 'waiting' : 'running', reason: 'R', message: `sight ${i}` })
  ports.workloads.show({ id: record.id, shows: 'pending', reason: 'R', message: 'last' })
  await on.told(record, 'workload.pending')
  const messages = (await ports.bus.history(record.id, 0, 1_000)).map((f) => (f.data as { message?: string }).message).filter((m) => m?.startsWith('sight'))
  assert.equal(messages, Array.from({ length: 50 }, (_, i) => `sight ${i}`))
})

test('what the platform refuses for the user\'s own words fails at once', async () => {
  ports.workloads.apply = async () => { throw new Refusal(422, null, 'The cluster has no namespace moon.') }
  const record = await write(ports, recordFor())
  await on.built(record, 'x')
  const failed = await fact(ports, record.id, 'workload.failed')
  assert.equal([failed.data.cause, failed.data.message], ['user', 'The cluster has no namespace moon.'])
})

test('a platform that does not answer is tried again', async () => {
  const apply = ports.workloads.apply
  ports.workloads.apply = async () => { ports.workloads.apply = apply; throw new Unavailable('no platform') }
  await on.running()
})

test.run()
