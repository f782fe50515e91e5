// deployer: the platform and the records are brought into agreement, at the start and after what others do to the platform.
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { keepInAgreement, resync } from '../services/deployer/observe.ts'
import { Refusal, Unavailable } from '../shared/trouble.ts'
import type { Workload } from '../shared/workloads.ts'
import { gate } from './stand/await.ts'
import { first } from './stand/caller.ts'
import { deployerStand, type DeployerStand } from './stand/deployer.ts'
import { state, write } from './stand/lives.ts'
import type { StandPorts } from './stand/ports.ts'

const test = suite('deployer: agreement')
let on: DeployerStand
let ports: StandPorts

test.before.each(async () => {
  on = await deployerStand()
  ports = on.ports
})
test.after.each(() => on.close())

test('at start, what should run is applied and what nobody wants is removed', async () => {
  const [stays, lost, old] = [await on.running(), await on.running(), await on.running()]
  const off = await on.running()
  const { wanted } = ports.workloads
  await Promise.all(on.hearings.splice(0).map((hearing) => hearing.stop()))
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
  const record = await on.running()
  ports.workloads.wanted.delete(record.id)
  const [before] = (await ports.bus.history(record.id, 0, 100)).slice(-1)
  await on.observeAgain()
  await resync(ports, on.observing)
  const after: string[] = []
  await first(ports, record.id, before!.seq, ({ fact: name }) => after.push(name) > 0 && name === 'workload.running')
  assert.equal(after, ['workload.waiting', 'workload.running'])
})

test('at start, a version that the platform shows no more is said to wait, though a newer one runs', async () => {
  const record = await on.running()
  await state(ports, { ...record, version: 7 }, 'workload.running', { reason: 'Running', message: 'It runs.', pods: [], endpoints: ['http://127.0.0.1:9'] })
  await on.told(record, 'workload.running', 7)
  await on.observeAgain()
  await resync(ports, on.observing)
  const said = (await ports.bus.history(record.id, 0, 100)).filter(({ fact: name }) => name === 'workload.waiting')
  assert.equal(said.map(({ version }) => version), [7])
})

test('what somebody deletes from the platform is applied again', async () => {
  const record = await on.running()
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
  const record = await on.running()
  const { list } = ports.workloads
  ports.workloads.wanted.set('stranger', { ...ports.workloads.wanted.get(record.id)!, id: 'stranger' })
  let asked = 0
  ports.workloads.list = async () => { if (++asked === 1) throw new Unavailable('no platform'); return list() }
  const removed = gate()
  const remove = ports.workloads.remove
  ports.workloads.remove = async (id) => { await remove(id); removed.open() }
  const agreeing = await keepInAgreement(ports, on.observing, { everyMs: 60_000, againMs: 1 })
  await removed.promise
  agreeing.close()
  assert.equal([asked, ports.workloads.wanted.has('stranger'), ports.workloads.wanted.has(record.id)], [2, false, true])
})

test('a lambda that the platform refuses holds up neither the others nor what is to be said of it', async () => {
  const [refused, lost] = [await on.running(), await on.running()]
  const { apply } = ports.workloads
  ports.workloads.apply = async (workload) => {
    if (workload.id === refused.id) throw new Refusal(422, null, 'The cluster has no namespace moon.')
    return apply(workload)
  }
  for (const { id } of [refused, lost]) ports.workloads.wanted.delete(id)
  ports.workloads.wanted.set('stranger', { ...workloadOfNobody })
  assert.equal(await resync(ports, null), { applied: 1, removed: 1 })
  ports.workloads.show({ id: refused.id, shows: 'terminated', reason: 'Deleted', message: 'Somebody deleted it.' })
  ports.workloads.show({ id: refused.id, shows: 'pending', reason: 'Later', message: 'What comes after it.' })
  assert.is((await on.told(refused, 'workload.pending')).fact, 'workload.pending')
})

test.run()
