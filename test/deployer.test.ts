// deployer: the platform runs what the record wants, and what it shows is said once.
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import type { Hearing } from '../shared/bus.ts'
import type { FactName, Heard } from '../shared/events.ts'
import type { LambdaRecord } from '../shared/records.ts'
import { startDeployer } from '../services/deployer/index.ts'
import { keepInAgreement, resync, startObserver, type Observing } from '../services/deployer/observe.ts'
import { startProjection } from '../services/status-api/index.ts'
import { Refusal, Unavailable } from '../shared/trouble.ts'
import type { Workload } from '../shared/workloads.ts'
import { fact, gate } from './stand/await.ts'
import { first, folded } from './stand/caller.ts'
import { digestFor, recordFor, state, versionFor, write } from './stand/lives.ts'
import { testNats, type TestNats } from './stand/nats.ts'
import { imageOf } from './stand/platform.ts'
import { standPorts, type StandPorts } from './stand/ports.ts'

const test = suite('deployer')
let nats: TestNats
let ports: StandPorts
let hearings: Hearing[]
let observing: Observing

test.before.each(async () => {
  nats = await testNats()
  ports = await standPorts(nats.url)
  observing = await startObserver(ports)
  hearings = [await startProjection(ports), await startDeployer(ports)]
})
test.after.each(async () => {
  await Promise.all(hearings.map((hearing) => hearing.stop()))
  await observing.close()
  await ports.close()
  await nats.close()
})

const image = (word: string) => imageOf({ context: { name: word, digest: digestFor(word) } })
const built = (record: LambdaRecord, word: string): Promise<void> =>
  state(ports, record, 'image.built', { image: image(word), context: digestFor(word), reused: false, seconds: 1 })

async function told(record: Pick<LambdaRecord, 'id'>, name: FactName, version?: number): Promise<Heard> {
  const heard = await fact(ports, record.id, name, version)
  await folded(ports, record.id, heard.seq)
  return heard
}

/** Both facts of a start; which comes first is the platform's business. */
async function running(more: Partial<LambdaRecord> = {}, word = 'image 1'): Promise<LambdaRecord> {
  const record = await write(ports, recordFor(more))
  await built(record, word)
  await told(record, 'workload.applied', record.version)
  await told(record, 'workload.running', record.version)
  return record
}

const next = (record: LambdaRecord, more: Partial<LambdaRecord> = {}): LambdaRecord =>
  ({ ...record, version: record.version + 1, versions: [...record.versions, versionFor(record.version + 1, digestFor('next'))], ...more })

const appliedTo = (id: string): Array<[number, number]> => ports.workloads.applied.filter((w) => w.id === id).map((w) => [w.version, w.epoch])
const factsOf = async (id: string): Promise<string[]> => (await ports.bus.history(id, 0, 1_000)).map((f) => f.fact)

test('a built image is applied once, with all that the record says', async () => {
  const parameters = { user_config: { a: 1 }, deploy_parameters: { pod_count: 3, env: { A: 'b' } } }
  const record = await running({ versions: [versionFor(1, digestFor('a'), parameters)] })
  const { deploy, userConfig, ...rest } = ports.workloads.wanted.get(record.id)!
  assert.equal(rest, { id: record.id, account: 'default', version: 1, epoch: 0, image: image('image 1') })
  assert.equal([userConfig, deploy.pod_count, deploy.env], [{ a: 1 }, 3, { A: 'b' }])
  assert.equal((await fact(ports, record.id, 'workload.applied')).data, { image: image('image 1'), pod_count: 3 })
  assert.equal(appliedTo(record.id), [[1, 0]])
})

test('an accepted version that needs no build is applied, one that needs it is not', async () => {
  const record = await running()
  const second = await write(ports, next(record))
  await state(ports, second, 'lambda.accepted', { archive: { digest: 'x', bytes: 1 }, name: 'x', image: null })
  const third = await write(ports, next(second))
  await state(ports, third, 'lambda.accepted', { archive: { digest: 'x', bytes: 1 }, name: 'x', image: image('image 1') })
  await told(record, 'workload.applied', 3)
  assert.equal(appliedTo(record.id), [[1, 0], [3, 0]])
})

test('an image of a version that is no longer the newest is not applied', async () => {
  const record = await running()
  const second = await write(ports, next(record))
  const third = await write(ports, next(second))
  await built(second, 'image 2')
  await built(third, 'image 3')
  await told(record, 'workload.applied', 3)
  assert.not.ok(appliedTo(record.id).some(([version]) => version === 2))
})

test('disabled: it is removed; enabled: it is applied again, in a later turn of the switch', async () => {
  const record = await running()
  const off = await write(ports, { ...record, alive: false, epoch: 1 })
  await state(ports, off, 'lambda.disabled', {}, { nth: '1' })
  await told(record, 'workload.terminated')
  assert.not.ok(ports.workloads.wanted.has(record.id))
  const on = await write(ports, { ...off, alive: true, epoch: 2 })
  await state(ports, on, 'lambda.enabled', { image: image('image 1') }, { nth: '2' })
  await first(ports, record.id, 0, (heard) => heard.fact === 'workload.applied' && heard.epoch === 2)
  assert.equal(appliedTo(record.id), [[1, 0], [1, 2]])
})

test('deleted: it is removed, and an image that comes late is not applied', async () => {
  const record = await running()
  const gone = await write(ports, { ...record, deleted: true, alive: false })
  await state(ports, gone, 'lambda.deleted', {})
  await told(record, 'workload.terminated')
  await state(ports, gone, 'image.built', { image: image('late'), context: 'late', reused: false, seconds: 1 }, { nth: 'late' })
  await running()
  assert.not.ok(ports.workloads.wanted.has(record.id))
  assert.equal(appliedTo(record.id), [[1, 0]])
})

test('a rollout that is cancelled goes back to the version before', async () => {
  const record = await running()
  const second = await write(ports, next(record))
  await built(second, 'image 2')
  await told(record, 'workload.applied', 2)
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
  await built(record, 'image 1')
  await told(record, 'workload.applied')
  workloads.apply = apply
  const cancelled = await write(ports, { ...record, cancelled: [1] })
  await state(ports, cancelled, 'lambda.cancelled', {})
  await told(record, 'workload.terminated')
  assert.not.ok(workloads.wanted.has(record.id))
})

test('a rollout that fails is said with its cause, and the version that serves is still shown', async () => {
  const record = await running()
  const second = await write(ports, next(record))
  const apply = ports.workloads.apply
  ports.workloads.apply = async (workload) => { ports.workloads.applied.push(workload) }
  await built(second, 'image 2')
  await told(record, 'workload.applied', 2)
  ports.workloads.apply = apply
  ports.workloads.show({ id: record.id, version: 2, shows: 'failed', cause: 'user', reason: 'NotReady', message: 'No.', log: ['line'] })
  const failed = await told(record, 'workload.failed', 2)
  assert.equal(failed.data, { stage: 'deployer', cause: 'user', reason: 'NotReady', message: 'No.', log: ['line'] })
  const life = (await ports.statuses.get(record.id))!.value
  assert.equal([life.versions[1]!.sight!.endpoints.length, life.versions[2]!.state], [1, 'failed'])
  assert.is(ports.workloads.wanted.get(record.id)!.version, 1)
})

test('the same observation is said once, another one again', async () => {
  const record = await running()
  const { workloads } = ports
  for (let i = 0; i < 3; i++) workloads.show({ id: record.id, shows: 'waiting', reason: 'CrashLoopBackOff', message: 'It crashed.' })
  for (let i = 0; i < 3; i++) workloads.show({ id: record.id, shows: 'waiting', reason: 'CrashLoopBackOff', message: 'It crashed again.' })
  workloads.show({ id: record.id, shows: 'pending', reason: 'NoGpu', message: 'There is no GPU.' })
  await told(record, 'workload.pending')
  assert.equal((await factsOf(record.id)).filter((f) => f === 'workload.waiting').length, 2)
})

test('observations of one lambda are said in the order they came', async () => {
  const record = await running()
  for (let i = 0; i < 50; i++) ports.workloads.show({ id: record.id, shows: i % 2 ? 'waiting' : 'running', reason: 'R', message: `sight ${i}` })
  ports.workloads.show({ id: record.id, shows: 'pending', reason: 'R', message: 'last' })
  await told(record, 'workload.pending')
  const messages = (await ports.bus.history(record.id, 0, 1_000)).map((f) => (f.data as { message?: string }).message).filter((m) => m?.startsWith('sight'))
  assert.equal(messages, Array.from({ length: 50 }, (_, i) => `sight ${i}`))
})

test('at start, what should run is applied and what nobody wants is removed', async () => {
  const [stays, lost, old] = [await running(), await running(), await running()]
  const off = await running()
  const { wanted } = ports.workloads
  await Promise.all(hearings.splice(0).map((hearing) => hearing.stop()))
  wanted.delete(lost.id)
  wanted.set(old.id, { ...wanted.get(old.id)!, epoch: -1 })
  await write(ports, { ...off, alive: false, epoch: 1 })
  wanted.set('stranger', { ...wanted.get(stays.id)!, id: 'stranger' })
  assert.equal(await resync(ports, null), { applied: 2, removed: 2 })
  assert.equal(new Set(wanted.keys()), new Set([stays.id, lost.id, old.id]))
  assert.is(wanted.get(old.id)!.epoch, 0)
  assert.equal(await resync(ports, null), { applied: 0, removed: 0 })
})

test('at start, what served before and is gone is said to wait, before anything is applied', async () => {
  const record = await running()
  ports.workloads.wanted.delete(record.id)
  const [before] = (await ports.bus.history(record.id, 0, 100)).slice(-1)
  await observing.close()
  observing = await startObserver(ports)
  await resync(ports, observing)
  const after: string[] = []
  await first(ports, record.id, before!.seq, ({ fact: name }) => after.push(name) > 0 && name === 'workload.running')
  assert.equal(after, ['workload.waiting', 'workload.running'])
})

test('at start, a version that the platform shows no more is said to wait, though a newer one runs', async () => {
  const record = await running()
  await state(ports, { ...record, version: 7 }, 'workload.running', { reason: 'Running', message: 'It runs.', pods: [], endpoints: ['http://127.0.0.1:9'] })
  await told(record, 'workload.running', 7)
  await observing.close()
  observing = await startObserver(ports)
  await resync(ports, observing)
  const said = (await ports.bus.history(record.id, 0, 100)).filter(({ fact: name }) => name === 'workload.waiting')
  assert.equal(said.map(({ version }) => version), [7])
})

test('what somebody deletes from the platform is applied again', async () => {
  const record = await running()
  const [before] = (await ports.bus.history(record.id, 0, 100)).slice(-1)
  ports.workloads.wanted.delete(record.id)
  ports.workloads.show({ id: record.id, shows: 'terminated', reason: 'Deleted', message: 'Somebody deleted it.' })
  const after: string[] = []
  await first(ports, record.id, before!.seq, ({ fact: name }) => after.push(name) > 0 && name === 'workload.running')
  assert.equal(after, ['workload.terminated', 'workload.running'])
  assert.ok(ports.workloads.wanted.has(record.id))
})

const workloadOfNobody = { id: 'stranger', account: 'default', version: 1, epoch: 0 } as Workload

test('when kiln knows of no lambda at all, it removes none', async () => {
  const { wanted } = ports.workloads
  wanted.set('stranger', workloadOfNobody)
  assert.equal(await resync(ports, null), { applied: 0, removed: 0 })
  assert.ok(wanted.has('stranger'))
})

test('a resync that cannot read removes nothing, and is done again', async () => {
  const record = await running()
  const { list } = ports.workloads
  ports.workloads.wanted.set('stranger', { ...ports.workloads.wanted.get(record.id)!, id: 'stranger' })
  let asked = 0
  ports.workloads.list = async () => { if (++asked === 1) throw new Unavailable('no platform'); return list() }
  const removed = gate()
  const remove = ports.workloads.remove
  ports.workloads.remove = async (id) => { await remove(id); removed.open() }
  const agreeing = await keepInAgreement(ports, observing, { everyMs: 60_000, againMs: 1 })
  await removed.promise
  agreeing.close()
  assert.equal([asked, ports.workloads.wanted.has('stranger'), ports.workloads.wanted.has(record.id)], [2, false, true])
})

test('what the platform refuses for the user\'s own words fails at once', async () => {
  ports.workloads.apply = async () => { throw new Refusal(422, null, 'The cluster has no namespace moon.') }
  const record = await write(ports, recordFor())
  await built(record, 'x')
  const failed = await fact(ports, record.id, 'workload.failed')
  assert.equal([failed.data.cause, failed.data.message], ['user', 'The cluster has no namespace moon.'])
})

test('a platform that does not answer is tried again', async () => {
  const apply = ports.workloads.apply
  ports.workloads.apply = async () => { ports.workloads.apply = apply; throw new Unavailable('no platform') }
  await running()
})

test.run()
