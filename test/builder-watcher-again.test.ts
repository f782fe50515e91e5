// builder-watcher: what is tried again, by the same replica or by another.
import { once } from 'node:events'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { kilnStops, type BuildEnd } from '../shared/builds.ts'
import type { Hearing } from '../shared/bus.ts'
import type { LambdaRecord } from '../shared/records.ts'
import { build, startBuilderWatcher } from '../services/builder-watcher/index.ts'
import { startProjection } from '../services/status-api/index.ts'
import { fact, gate } from './stand/await.ts'
import { packaged, recordFor, state, write } from './stand/lives.ts'
import { testNats, type TestNats } from './stand/nats.ts'
import { imageOf } from './stand/platform.ts'
import { standPorts, type StandPorts } from './stand/ports.ts'

const test = suite('builder-watcher tries again')
let nats: TestNats
let ports: StandPorts
let hearings: Hearing[] = []

test.before.each(async () => {
  nats = await testNats()
  ports = await standPorts(nats.url)
})
test.after.each(async () => {
  ports.builds.decide(async (build) => ({ built: true, image: imageOf(build) }))
  await Promise.all(hearings.map((hearing) => hearing.stop()))
  hearings = []
  await ports.close()
  await nats.close()
})

async function start(concurrency = 2, on = ports): Promise<Hearing> {
  const hearing = await startBuilderWatcher(on, { concurrency, perAccount: 100, timeoutMs: 60_000, builder: 'auto', namespace: 'default' })
  hearings.push(hearing)
  return hearing
}

async function wanted(word: string, more: Partial<LambdaRecord> = {}): Promise<LambdaRecord> {
  const record = await write(ports, recordFor(more))
  await state(ports, record, 'context.packaged', packaged(word))
  return record
}

test('the world\'s trouble is tried again, and then it is built', async () => {
  hearings.push(await startProjection(ports))
  await start()
  let tries = 0
  ports.builds.decide(async (build) => (++tries === 1 ? { built: false, again: true, failure: { cause: 'registry', reason: 'Down', message: 'Down.' } } : { built: true, image: imageOf(build) }))
  const record = await wanted('world')
  await fact(ports, record.id, 'image.built')
  assert.is(ports.builds.ran.length, 2)
  assert.equal((await ports.bus.history(record.id, 0, 10)).map((f) => f.fact), ['context.packaged', 'image.queued', 'image.started', 'image.pending', 'image.started', 'image.built'])
  const { reason, message } = (await fact(ports, record.id, 'image.pending')).data
  assert.equal([reason, message], ['Down', 'Down.'], 'why it is tried again is told')
  const entries = await ports.logs.read({ account: 'default', id: record.id, version: 1, kind: 'build' })
  assert.equal(entries.map((e) => e.run), [0, 1])
})

test('the build of a replica that died is taken over by another', async () => {
  const dead = gate<BuildEnd>()
  const dying = await standPorts(nats.url, { builds: { ...ports.builds, run: () => dead.promise }, workloads: ports.workloads })
  await startBuilderWatcher(dying, { concurrency: 2, perAccount: 100, timeoutMs: 60_000, builder: 'auto', namespace: 'default' })
  const record = await wanted('orphan')
  await fact(ports, record.id, 'image.started')
  await dying.close()
  await start()
  await fact(ports, record.id, 'image.built')
  assert.is(ports.builds.ran.length, 1)
  dead.open({ built: false, again: false, failure: { cause: 'cancelled', reason: 'Dead', message: 'Dead.' } })
})

test('a build that waits for a place says so in the platform\'s words, and that it goes on', async () => {
  await start()
  ports.builds.decide(async (build, { waits }) => {
    waits({ reason: 'Unschedulable', message: '0/1 nodes are available.' })
    waits(null)
    return { built: true, image: imageOf(build) }
  })
  const record = await wanted('patient')
  await fact(ports, record.id, 'image.built')
  const told = (await ports.bus.history(record.id, 0, 100)).filter((one) => one.fact.startsWith('image.'))
  assert.equal(told.map((one) => one.fact), ['image.queued', 'image.started', 'image.pending', 'image.started', 'image.built'])
  assert.equal(told[2]!.data, { context: packaged('patient').context.digest, attempt: 1, reason: 'Unschedulable', message: '0/1 nodes are available.' })
})

test('what an earlier kiln left running for a version that nobody wants is ended', async () => {
  const record = await wanted('unwanted', { cancelled: [1] })
  const later = await wanted('wanted')
  await start(1)
  await fact(ports, later.id, 'image.built')
  assert.equal(ports.builds.abandoned.map(({ id, version }) => ({ id, version })), [{ id: record.id, version: 1 }])
})

test('a build that kiln let go of when it stopped has not failed, however often it was heard before', async () => {
  const record = await write(ports, recordFor())
  await state(ports, record, 'image.queued', { ...packaged('let go'), priority: 'person' })
  const heard = await fact(ports, record.id, 'image.queued')
  const inTheWorks: Parameters<typeof build>[2] = new Set()
  ports.builds.run = async (_build, { signal }) => {
    const stopped = once(signal, 'abort')
    for (const { abort } of inTheWorks) abort.abort(kilnStops)
    await stopped
    return { built: false, again: true, failure: { cause: 'infrastructure', reason: 'BuilderStopped', message: 'kiln was stopped.' } }
  }
  assert.is((await build(ports, { concurrency: 1, perAccount: 100, timeoutMs: 60_000, builder: 'auto', namespace: 'default' }, inTheWorks, heard, { attempt: 9 })).verdict, 'later')
})

test.run()
