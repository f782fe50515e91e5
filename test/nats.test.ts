// Longer than 250 lines: every adapter of one server, each short.
import { connect, StringCodec } from 'nats'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import type { Settlement } from '../shared/bus.ts'
import type { Fact, Heard } from '../shared/events.ts'
import type { LambdaRecord } from '../shared/records.ts'
import { gate } from './stand/await.ts'
import { testNats, type TestNats } from './stand/nats.ts'
import { standPorts, type StandPorts } from './stand/ports.ts'

const { encode } = StringCodec()
let refusals = 0
const refused = (): void => { refusals += 1 }
let nats: TestNats
let ports: StandPorts
let count = 0
const newId = (): string => `00000000-0000-4000-8000-${String(++count).padStart(12, '0')}`

function packaged(id: string, more: Partial<Fact> = {}): Fact<'context.packaged'> {
  return {
    fact: 'context.packaged', id, account: 'default', version: 1, epoch: 0, time: new Date().toISOString(), source: 'kiln/test', cause: 'because', traceparent: '00-1-2-01',
    data: { context: { name: 'c', digest: 'd', bytes: 1 }, files: 1 }, ...more,
  } as Fact<'context.packaged'>
}
const record = (id: string, name = 'x'): LambdaRecord => ({
  id, account: 'default', version: 1, epoch: 0, alive: true, deleted: false, cancelled: [], created: '', updated: name, versions: [], change: { fact: 'lambda.accepted', time: '', cause: '' },
})
const open = async (): Promise<void> => { nats = await testNats(); ports = await standPorts(nats.url) }
const close = async (): Promise<void> => { await ports.close(); await nats.close() }

// ---
const bus = suite('the bus')
bus.before(open)
bus.after(close)

bus('a fact is heard as it was stated, with its place in the stream', async () => {
  const heard = gate<Heard>()
  const id = newId()
  const hearing = await ports.bus.hear({ name: 'as-stated', fact: 'context.packaged', limit: 4, refused }, async (one) => { if (one.id === id) heard.open(one); return 'settled' })
  const fact = packaged(id)
  await ports.bus.state(fact)
  const { seq, ...rest } = await heard.promise
  assert.equal(rest, fact)
  assert.ok(seq > 0)
  await hearing.stop()
})
bus('on the wire it is a CloudEvent in binary mode', async () => {
  const nc = await connect({ servers: nats.url })
  const id = newId()
  const sub = nc.subscribe(`lambda.events.default.${id}.>`, { max: 1 })
  await nc.flush()
  await ports.bus.state(packaged(id))
  for await (const message of sub) {
    const header = (name: string) => message.headers!.get(name)
    assert.is(message.subject, `lambda.events.default.${id}.context.packaged`)
    assert.equal(['ce-specversion', 'ce-id', 'ce-type', 'ce-subject', 'ce-source', 'traceparent'].map(header), ['1.0', `${id}:1:context.packaged`, 'context.packaged', id, 'kiln/test', '00-1-2-01'])
    assert.is((message.json() as { lambda_id: string }).lambda_id, id)
  }
  await nc.close()
})
bus('stated twice it is one fact', async () => {
  const id = newId()
  await ports.bus.state(packaged(id))
  await ports.bus.state(packaged(id))
  await ports.bus.state(packaged(id, { nth: '2' }))
  assert.is((await ports.bus.history(id, 0, 10)).length, 2)
})
bus('what is not settled is heard again, with its attempt', async () => {
  const id = newId()
  const attempts: number[] = []
  const done = gate()
  const hearing = await ports.bus.hear({ name: 'again', fact: 'context.packaged', limit: 4, refused }, async (heard, { attempt }): Promise<Settlement> => {
    if (heard.id !== id) return 'settled'
    attempts.push(attempt)
    if (attempt < 3) return { againInMs: 10 }
    done.open()
    return 'settled'
  })
  await ports.bus.state(packaged(id))
  await done.promise
  assert.equal(attempts, [1, 2, 3])
  await hearing.stop()
})
bus('a handler that throws loses nothing', async () => {
  const id = newId()
  const again = gate()
  const hearing = await ports.bus.hear({ name: 'throws', fact: 'context.packaged', limit: 4, refused }, async (heard, { attempt }): Promise<Settlement> => {
    if (heard.id !== id) return 'settled'
    if (attempt === 1) throw new Error('a bug')
    again.open()
    return 'settled'
  })
  await ports.bus.state(packaged(id))
  await again.promise
  await hearing.stop()
})
bus('no more are in the works at once than the limit, over two replicas', async () => {
  const [first, second] = [ports, await standPorts(nats.url)]
  const ids = new Set(Array.from({ length: 12 }, newId))
  const [all, most] = [gate(), { now: 0, ever: 0, done: 0 }]
  const handle = async (heard: Heard): Promise<Settlement> => {
    if (!ids.has(heard.id)) return 'settled'
    most.ever = Math.max(most.ever, ++most.now)
    await new Promise((resolve) => setImmediate(resolve))
    most.now -= 1
    if (++most.done === ids.size) all.open()
    return 'settled'
  }
  const wish = { name: 'limited', fact: 'context.packaged' as const, limit: 3, refused }
  const hearings = [await first.bus.hear(wish, handle), await second.bus.hear(wish, handle)]
  for (const id of ids) await ports.bus.state(packaged(id))
  await all.promise
  assert.ok(most.ever <= 3, `${most.ever} at once`)
  for (const hearing of hearings) await hearing.stop()
  await second.close()
})
bus('a consumer that an earlier kiln made for another kind of fact hears what it is wanted for now', async () => {
  const [heard, id] = [gate<Heard>(), newId()]
  await (await ports.bus.hear({ name: 'changes', fact: 'context.packaged', limit: 4, refused }, async () => 'settled')).stop()
  const hearing = await ports.bus.hear({ name: 'changes', fact: 'image.failed', limit: 4, refused }, async (one) => { if (one.id === id) heard.open(one); return 'settled' })
  await ports.bus.state(packaged(id))
  await ports.bus.state({ ...packaged(id), fact: 'image.failed', data: { stage: 's', cause: 'user', reason: 'R', message: 'm' } } as Fact)
  assert.is((await heard.promise).fact, 'image.failed')
  await hearing.stop()
})
bus('what a replica held when it died is heard by another', async () => {
  const dying = await standPorts(nats.url)
  const id = newId()
  const [held, taken] = [gate(), gate<number>()]
  await dying.bus.hear({ name: 'dies', fact: 'context.packaged', limit: 8, refused }, async (heard): Promise<Settlement> => {
    if (heard.id !== id) return 'settled'
    held.open()
    return new Promise(() => undefined)
  })
  await ports.bus.state(packaged(id))
  await held.promise
  // Its connection ends, and with it the heartbeats.
  void dying.close()
  const hearing = await ports.bus.hear({ name: 'dies', fact: 'context.packaged', limit: 8, refused }, async (heard, { attempt }) => { if (heard.id === id) taken.open(attempt); return 'settled' })
  assert.is(await taken.promise, 2)
  await hearing.stop()
})
bus('a message that is no fact leaves its queue and is kept in REFUSED', async () => {
  const nc = await connect({ servers: nats.url })
  const kept = nc.subscribe('lambda.refused.EVENTS', { max: 1 })
  await nc.flush()
  const hearing = await ports.bus.hear({ name: 'garbage', fact: 'context.packaged', limit: 4, refused }, async () => 'settled')
  await nc.jetstream().publish(`lambda.events.default.${newId()}.context.packaged`, encode('{ this is no JSON'))
  for await (const message of kept) assert.is(message.string(), '{ this is no JSON')
  await hearing.stop()
  assert.is(refusals, 1)
  assert.ok(ports.complaints.some((line) => line.includes('a message was refused')))
  await nc.close()
})
bus('a life is followed from any place on', async () => {
  const id = newId()
  for (const nth of ['1', '2', '3']) await ports.bus.state(packaged(id, { nth }))
  const [, second] = await ports.bus.history(id, 0, 10)
  const over = new AbortController()
  const seen: Heard[] = []
  for await (const heard of ports.bus.follow(id, second!.seq, over.signal)) {
    seen.push(heard)
    if (seen.length === 1) await ports.bus.state(packaged(id, { nth: '4' }))
    if (seen.length === 2) over.abort()
  }
  assert.is(seen.length, 2)
  assert.ok(seen[0]!.seq > second!.seq)
})
bus('the depth counts what waits and what is in the works', async () => {
  const own = await standPorts(nats.url)
  const [busy, release] = [gate(), gate()]
  const [a, b] = [newId(), newId()]
  const hearing = await own.bus.hear({ name: 'depth', fact: 'image.started', limit: 1, refused }, async () => { busy.open(); await release.promise; return 'settled' })
  for (const id of [a, b]) await own.bus.state({ ...packaged(id), fact: 'image.started', data: { context: 'c', attempt: 1 } } as Fact)
  await busy.promise
  assert.equal(await own.bus.depth('depth'), { waiting: 1, inFlight: 1 })
  release.open()
  await hearing.stop()
  await own.close()
})
bus.run()

// ---
const kept = suite('records and statuses')
kept.before(open)
kept.after(close)

kept('compare-and-set: of two who write at once one is first', async () => {
  const id = newId()
  const wins = await Promise.all([1, 2, 3, 4].map((n) => ports.records.put(record(id, `writer ${n}`), 0)))
  assert.is(wins.filter(Boolean).length, 1)
  const held = (await ports.records.get(id))!
  assert.is(await ports.records.put(record(id, 'next'), held.revision), true)
  assert.is(await ports.records.put(record(id, 'late'), held.revision), false)
  assert.is((await ports.records.get(id))!.value.updated, 'next')
})
kept('what never was is null', async () => {
  assert.is(await ports.records.get(newId()), null)
  assert.is(await ports.statuses.get(newId()), null)
})
kept('a follower has everything before it resolves, and everything written before caughtUp', async () => {
  const first = newId()
  await ports.records.put(record(first), 0)
  const seen = new Map<string, string>()
  const following = await ports.records.follow((one) => seen.set(one.id, one.updated))
  assert.ok(seen.has(first))
  for (let i = 0; i < 50; i++) {
    const id = newId()
    await ports.records.put(record(id, String(i)), 0)
    await following.caughtUp()
    assert.is(seen.get(id), String(i))
  }
  following.close()
})
kept('an Idempotency-Key keeps its first answer', async () => {
  const first = { lambda_id: newId(), question: 'q' }
  const answers = await Promise.all([ports.answers.claim('a', 'key', first), ports.answers.claim('a', 'key', { lambda_id: newId(), question: 'other' })])
  assert.equal(answers[0], answers[1])
  assert.is.not((await ports.answers.claim('b', 'key', { lambda_id: newId(), question: 'q' })).lambda_id, answers[0].lambda_id)
})
kept.run()

// ---
/** What every store promises is in contract/objects.ts. */
const objects = suite('objects')
objects.before(open)
objects.after(close)

objects('a name whose content is gone is not there, until it is put again', async () => {
  await ports.objects.put('hollow', Buffer.from('content'))
  const nc = await connect({ servers: nats.url })
  await (await nc.jetstreamManager()).streams.purge('OBJ_kiln', { filter: '$O.kiln.C.>' })
  await nc.close()
  assert.equal([await ports.objects.has('hollow'), await ports.objects.get('hollow')], [false, null])
  await ports.objects.put('hollow', Buffer.from('content'))
  assert.is(String(await ports.objects.get('hollow')), 'content')
})
objects.run()

// ---
const logs = suite('logs')
logs.before(open)
logs.after(close)

logs('lines come back in order, by pod and run', async () => {
  const of = { account: 'default', id: newId(), version: 1, kind: 'run' as const }
  const writer = ports.logs.writer(of, 'pod-0', 2)
  for (let i = 0; i < 1_000; i++) writer.line(`line ${i}`)
  await writer.flush()
  const entries = await ports.logs.read(of)
  assert.equal(entries.flatMap((entry) => entry.lines), Array.from({ length: 1_000 }, (_, i) => `line ${i}`))
  assert.ok(entries.every((entry) => entry.pod === 'pod-0' && entry.run === 2))
  assert.equal((await ports.logs.read(of, 3)).flatMap((entry) => entry.lines), ['line 997', 'line 998', 'line 999'])
})
logs('they are followed, and resumed', async () => {
  const of = { account: 'default', id: newId(), version: 1, kind: 'build' as const }
  const writer = ports.logs.writer(of, 'build')
  writer.line('one')
  await writer.flush()
  const over = new AbortController()
  const seen: string[] = []
  for await (const entry of ports.logs.follow(of, 0, over.signal)) {
    seen.push(...entry.lines)
    if (seen.length === 1) writer.line('two')
    if (seen.length === 2) over.abort()
  }
  assert.equal(seen, ['one', 'two'])
})
logs('a removed lambda has none', async () => {
  const of = { account: 'default', id: newId(), version: 1, kind: 'run' as const }
  const writer = ports.logs.writer(of, 'p')
  writer.line('x')
  await writer.flush()
  await ports.logs.remove(of.account, of.id)
  assert.equal(await ports.logs.read(of), [])
})
logs.run()

// ---
const restart = suite('a restart of nats-server')

restart('hearers, followers and logs go on where they were', async () => {
  await open()
  const [before, after] = [newId(), newId()]
  const heard = new Map([before, after].map((id) => [id, gate<Heard>()]))
  const hearing = await ports.bus.hear({ name: 'survives', fact: 'context.packaged', limit: 4, refused }, async (one) => { heard.get(one.id)?.open(one); return 'settled' })
  const seen = new Map([before, after].map((id) => [id, gate()]))
  const following = await ports.records.follow((one) => seen.get(one.id)?.open())
  await ports.bus.state(packaged(before))
  await ports.records.put(record(before), 0)
  await Promise.all([heard.get(before)!.promise, seen.get(before)!.promise])

  await nats.restart()
  await untilStated(packaged(after))
  await ports.records.put(record(after), 0)
  await Promise.all([heard.get(after)!.promise, seen.get(after)!.promise])
  await following.caughtUp()
  assert.is((await ports.bus.history(before, 0, 10)).length, 1)

  following.close()
  await hearing.stop()
  await close()
})

/** The server may need a moment; who states tries again. */
async function untilStated(fact: Fact): Promise<void> {
  while (!(await ports.bus.state(fact).then(() => true, () => false))) await new Promise((resolve) => setImmediate(resolve))
}
restart.run()
