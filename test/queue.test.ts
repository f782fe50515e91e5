// Longer than 250 lines: everything that the queue promises, on a real nats-server, each in a few lines.
import { connect, nanos } from 'nats'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import type { Hearing } from '../shared/bus.ts'
import type { Turns } from '../shared/queue.ts'
import { placeOf, type Waiting } from '../shared/turns.ts'
import { testNats, type TestNats } from './stand/nats.ts'
import { standPorts, type StandPorts } from './stand/ports.ts'
import { desk, put, queued, serve, type Desk } from './stand/queue.ts'

const test = suite('the queue')
let nats: TestNats
/** One puts, two may serve. */
let [ports, first, second]: StandPorts[] = []
let hearings: Hearing[] = []

test.before.each(async () => {
  nats = await testNats()
  ;[ports, first, second] = await Promise.all([standPorts(nats.url), standPorts(nats.url), standPorts(nats.url)])
})
test.after.each(async () => {
  await Promise.all(hearings.splice(0).map((hearing) => hearing.stop()))
  await Promise.all([ports, first, second].map((one) => one!.close()))
  await nats.close()
})

async function serving(on: StandPorts, at: Pick<Desk, 'handle'>, wish: Partial<Turns> = {}): Promise<Hearing> {
  const hearing = await serve(on, at, wish)
  hearings.push(hearing)
  return hearing
}
const accountsOf = (at: Desk): string => at.begun.map(({ heard }) => heard.account).join(' ')
const idsOf = (at: Desk): string[] => at.begun.map(({ heard }) => heard.id)
const heldSlots = async (): Promise<number> => {
  const nc = await connect({ servers: nats.url })
  const { state } = await (await nc.jetstreamManager()).streams.info('SLOTS')
  await nc.close()
  return state.messages
}

test('what was put is handled as it was put, and then it is gone', async () => {
  const at = desk()
  const facts = [queued('acme', { version: 3, epoch: 2, traceparent: '00-1-2-01' }), queued('acme')]
  for (const fact of facts) await ports!.queue.put(fact)
  const hearing = await serving(first!, at)
  await at.until(() => at.begun.length === 2)
  assert.equal(at.begun.map(({ heard: { seq: _, ...rest }, attempt }) => ({ rest, attempt })), facts.map((rest) => ({ rest, attempt: 1 })))
  await hearing.stop()
  assert.equal(await ports!.queue.depth(null), { waiting: 0, inFlight: 0 })
})
test('a message of the queue is a CloudEvent that anyone can look at', async () => {
  const [fact] = await put(ports!, 'acme', 1, 'automatic')
  const nc = await connect({ servers: nats.url })
  const message = await (await nc.jetstreamManager()).streams.getMessage('QUEUE', { last_by_subj: `queue.acme.automatic.${fact!.id}.1` })
  assert.is(message.json<{ lambda_id: string }>().lambda_id, fact!.id)
  assert.is(message.header.get('ce-type'), 'image.queued')
  await nc.close()
})
test('put before anybody serves or while somebody does, it is handled', async () => {
  const at = desk()
  await put(ports!, 'acme')
  await serving(first!, at)
  await at.until(() => at.begun.length === 1)
  await put(ports!, 'acme')
  await at.until(() => at.begun.length === 2)
  await put(ports!, 'new')
  await at.until(() => at.begun.length === 3)
})
test('accounts take turns: three do not wait behind a hundred', async () => {
  const at = desk()
  await put(ports!, 'large', 100)
  await put(ports!, 'small', 3)
  await serving(first!, at, { limit: 1 })
  await at.until(() => at.begun.length === 103)
  assert.is(accountsOf(at).slice(0, 41), 'large small large small large small large')
})
test('turns go on where they were when another process takes over', async () => {
  const before = desk({ holds: true })
  await put(ports!, 'b', 3)
  const hearing = await serving(first!, before)
  await before.until(() => before.begun.length === 1)
  await put(ports!, 'a', 3)
  before.begun[0]!.end('settled')
  await before.until(() => before.begun.length === 2)
  assert.is(accountsOf(before), 'b a')
  const stopped = hearing.stop()
  before.release()
  await stopped
  const after = desk()
  await serving(second!, after)
  await after.until(() => after.begun.length === 4)
  assert.is(accountsOf(after), 'b a b a')
})
test('two processes that know of each other\'s take turns as one', async () => {
  const at = desk()
  await Promise.all([serving(first!, at, { limit: 1 }), serving(second!, at, { limit: 1 })])
  await Promise.all([put(ports!, 'a', 30), put(ports!, 'b', 30)])
  await at.until(() => at.begun.length === 60)
  // Each knows a moment later what the other took.
  assert.ok(!/(a a a a|b b b b)/.test(accountsOf(at).replace(/( a)+$|( b)+$/, '')), accountsOf(at))
})
test('one after the other they begin in the order of their places', async () => {
  const at = desk()
  const waiting: Waiting[] = []
  for (let n = 0; n < 40; n++) {
    const [account, priority] = [['a', 'b-c', 'd', 'b'][(n * 7) % 11 % 4]!, n % 3 ? 'person' : 'automatic'] as const
    const [fact] = await put(ports!, account, 1, priority)
    waiting.push({ id: fact!.id, account, priority, seq: n })
  }
  await serving(first!, at, { limit: 1 })
  await at.until(() => at.begun.length === 40)
  assert.equal(idsOf(at), waiting.toSorted((a, b) => placeOf(a.id, waiting, new Map())! - placeOf(b.id, waiting, new Map())!).map(({ id }) => id))
})
test('a person\'s comes before an automatic one of the same account, whichever came first', async () => {
  const at = desk()
  const automatic = await put(ports!, 'acme', 3, 'automatic')
  const person = await put(ports!, 'acme', 3, 'person')
  await serving(first!, at)
  await at.until(() => at.begun.length === 6)
  assert.equal(idsOf(at), [...person, ...automatic].map(({ id }) => id))
})
test('no more are in the works than the limit, over two processes, and as many when there are', async () => {
  const at = desk({ holds: true })
  await Promise.all([serving(first!, at, { limit: 3 }), serving(second!, at, { limit: 3 })])
  await put(ports!, 'a', 30)
  await at.until(() => at.now().length === 3)
  await put(ports!, 'b', 30)
  assert.equal(await ports!.queue.depth(null), { waiting: 57, inFlight: 3 })
  at.release()
  await at.until(() => at.begun.length === 60 && at.now().length === 0)
  assert.is(at.most(), 3)
})
test('no more in one process than it may, and the others take the rest', async () => {
  const [narrow, wide] = [desk({ holds: true }), desk({ holds: true })]
  await serving(first!, narrow, { limit: 5, here: 1 })
  await put(ports!, 'a', 1)
  await narrow.until(() => narrow.now().length === 1)
  await serving(second!, wide, { limit: 5 })
  await put(ports!, 'a', 10)
  await wide.until(() => wide.now().length === 4)
  narrow.release()
  wide.release()
  await wide.until(() => narrow.begun.length + wide.begun.length === 11)
  assert.is(narrow.most(), 1)
})
test('no more of one account than it may have, whatever their priority; there is room for others', async () => {
  const at = desk({ holds: true })
  await Promise.all([serving(first!, at, { limit: 8, perAccount: 2 }), serving(second!, at, { limit: 8, perAccount: 2 })])
  await Promise.all([put(ports!, 'a', 5, 'person'), put(ports!, 'a', 5, 'automatic')])
  await put(ports!, 'b', 1)
  await at.until(() => at.now().length === 3)
  assert.equal(await ports!.queue.depth('a'), { waiting: 8, inFlight: 2 })
  at.release()
  await at.until(() => at.begun.length === 11 && at.now().length === 0)
  assert.is(at.most(({ heard }) => heard.account === 'a'), 2)
})
test('who has nothing to do holds no slot', async () => {
  const at = desk()
  const both = await Promise.all([serving(first!, at, { limit: 1 }), serving(second!, at, { limit: 1 })])
  for (let n = 1; n <= 20; n++) {
    await put(ports!, 'acme')
    await at.until(() => at.begun.length === n && at.now().length === 0)
  }
  assert.is(at.most(), 1)
  await both[0].stop()
  await put(ports!, 'acme')
  await at.until(() => at.begun.length === 21)
  await both[1].stop()
  assert.is(await heldSlots(), 0)
})
test('what a process held when it died is taken by another, with the slot', async () => {
  const dying = await standPorts(nats.url)
  const [held, at] = [desk({ holds: true }), desk()]
  await serve(dying, held, { limit: 1 })
  const [fact] = await put(ports!, 'acme')
  await held.until(() => held.now().length === 1)
  // Its connection ends, and with it the heartbeats.
  await dying.close()
  await serving(first!, at, { limit: 1 })
  await at.until(() => at.begun.length === 1)
  assert.equal(at.begun.map(({ heard, attempt }) => [heard.id, attempt]), [[fact!.id, 2]])
})
test('what takes longer than a dead process is waited for stays where it is, and so does its slot', async () => {
  const dying = await standPorts(nats.url)
  const [long, lost, other] = [desk({ holds: true }), desk({ holds: true }), desk()]
  await serving(first!, long, { limit: 2, here: 1 })
  const [slow] = await put(ports!, 'acme')
  await long.until(() => long.now().length === 1)
  await serve(dying, lost, { limit: 2 })
  const [brief] = await put(ports!, 'acme')
  await lost.until(() => lost.now().length === 1)
  await dying.close()
  await serving(second!, other, { limit: 2 })
  await put(ports!, 'acme', 2)
  await other.until(() => other.begun.length === 3)
  assert.ok(idsOf(other).includes(brief!.id) && !idsOf(other).includes(slow!.id))
  assert.is(other.most(), 1)
  assert.is(long.begun.length, 1)
  long.release()
})
test('a slot that the stream forgot while its holder lives is taken again', async () => {
  const [long, other] = [desk({ holds: true }), desk()]
  await serving(first!, long, { limit: 1 })
  await put(ports!, 'acme')
  await long.until(() => long.now().length === 1)
  const nc = await connect({ servers: nats.url })
  const written = async (count: number): Promise<void> => {
    const writes = nc.subscribe('slot.>', { max: count })
    await nc.flush()
    for await (const _ of writes);
  }
  await (await nc.jetstreamManager()).streams.purge('SLOTS')
  // Both marks: refused, since what they should follow is gone, then taken again.
  await written(4)
  await put(ports!, 'acme')
  const seen: number[] = []
  await serving(second!, { handle: (heard, delivery) => { seen.push(long.now().length); return other.handle(heard, delivery) } }, { limit: 1, here: 1 })
  // The holder's next heartbeat: time enough to begin, if there were a slot.
  await written(2)
  const stopped = hearings[0]!.stop()
  long.release()
  await stopped
  await other.until(() => other.begun.length === 1)
  assert.equal(seen, [0])
  await nc.close()
})
test('what is to be handled again comes again in its time, and holds up nobody meanwhile', async () => {
  const at = desk({ holds: true })
  const [one, two] = await put(ports!, 'acme', 2)
  await serving(first!, at, { limit: 1, perAccount: 1 })
  await at.until(() => at.now().length === 1)
  at.begun[0]!.end({ againInMs: 700 })
  await at.until(() => at.begun.length === 2)
  assert.equal(await ports!.queue.depth('acme'), { waiting: 1, inFlight: 1 })
  at.release()
  await at.until(() => at.begun.length === 3)
  assert.equal(at.begun.map(({ heard, attempt }) => [heard.id, attempt]), [[one!.id, 1], [two!.id, 1], [one!.id, 2]])
})
test('what was given back by a process that is gone comes again in another', async () => {
  const [before, after] = [desk({ holds: true }), desk()]
  const hearing = await serving(first!, before, { limit: 1 })
  const [fact] = await put(ports!, 'acme')
  await before.until(() => before.now().length === 1)
  await serving(second!, after, { limit: 1 })
  const stopped = hearing.stop()
  before.begun[0]!.end({ againInMs: 300 })
  await stopped
  await after.until(() => after.begun.length === 1)
  assert.equal(after.begun.map(({ heard, attempt }) => [heard.id, attempt]), [[fact!.id, 2]])
})
test('a handler that throws loses nothing', async () => {
  const at = desk()
  await put(ports!, 'acme')
  await serving(first!, { handle: async (heard, delivery) => { if (delivery.attempt === 1) throw new Error('a bug'); return at.handle(heard, delivery) } }, { limit: 1 })
  await at.until(() => at.begun.length === 1)
  assert.is(at.begun[0]!.attempt, 2)
})
test('the same put twice is one entry, another version another', async () => {
  const fact = queued('acme')
  await ports!.queue.put(fact)
  await ports!.queue.put(fact)
  await ports!.queue.put({ ...fact, version: 2 })
  assert.equal(await ports!.queue.depth('acme'), { waiting: 2, inFlight: 0 })
})
test('what is withdrawn is not handled, whatever its priority, and no other version goes with it', async () => {
  const at = desk()
  const [fact, [bystander]] = [queued('acme'), await put(ports!, 'acme')]
  await ports!.queue.put(fact)
  await ports!.queue.put({ ...queued('acme', {}, 'automatic'), id: fact.id, nth: '2' })
  await ports!.queue.put({ ...queued('acme', {}, 'automatic'), id: fact.id, version: 2 })
  await ports!.queue.withdraw(fact)
  await ports!.queue.withdraw(queued('nobody'))
  assert.equal(await ports!.queue.depth('acme'), { waiting: 2, inFlight: 0 })
  await serving(first!, at)
  await at.until(() => at.begun.length === 2)
  assert.equal(at.begun.map(({ heard }) => [heard.id, heard.version]), [[bystander!.id, 1], [fact.id, 2]])
})
test('what waits for being handled again can be withdrawn', async () => {
  const at = desk({ holds: true })
  const [fact] = await put(ports!, 'acme')
  const hearing = await serving(first!, at)
  await at.until(() => at.now().length === 1)
  at.begun[0]!.end({ againInMs: 60_000 })
  await hearing.stop()
  assert.equal(await ports!.queue.depth('acme'), { waiting: 1, inFlight: 0 })
  await ports!.queue.withdraw(fact!)
  assert.equal(await ports!.queue.depth(null), { waiting: 0, inFlight: 0 })
})
test('what is in the works is not withdrawn: when its process dies, another takes it', async () => {
  const dying = await standPorts(nats.url)
  const [held, at] = [desk({ holds: true }), desk()]
  await serve(dying, held)
  const [fact] = await put(ports!, 'acme')
  await held.until(() => held.now().length === 1)
  await ports!.queue.withdraw(fact!)
  await dying.close()
  await serving(first!, at)
  await at.until(() => at.begun.length === 1)
  assert.is(at.begun[0]!.heard.id, fact!.id)
})
test('what nobody can read leaves the queue and is kept in REFUSED, and its slot is free again', async () => {
  const nc = await connect({ servers: nats.url })
  const kept = nc.subscribe('lambda.refused.QUEUE', { max: 2 })
  await nc.flush()
  let refusals = 0
  const at = desk()
  await nc.jetstream().publish('queue.acme.person.x.1', '{ this is no JSON')
  await nc.jetstream().publish('queue.acme.person.y.1', 'null')
  await put(ports!, 'acme')
  await serving(first!, at, { limit: 1, refused: () => { refusals += 1 } })
  await at.until(() => at.begun.length === 1)
  const bodies: string[] = []
  for await (const message of kept) bodies.push(message.string())
  assert.equal(bodies, ['{ this is no JSON', 'null'])
  assert.is(refusals, 2)
  await nc.close()
})
test('the depth is told for an account and for all, whether somebody serves or not', async () => {
  const at = desk({ holds: true })
  await Promise.all([put(ports!, 'a', 4, 'person'), put(ports!, 'a', 3, 'automatic'), put(ports!, 'b', 2)])
  const depths = (): Promise<unknown[]> => Promise.all(['a', 'b', 'c', null].map((account) => ports!.queue.depth(account)))
  assert.equal(await depths(), [{ waiting: 7, inFlight: 0 }, { waiting: 2, inFlight: 0 }, { waiting: 0, inFlight: 0 }, { waiting: 9, inFlight: 0 }])
  await serving(first!, at, { limit: 3 })
  await at.until(() => at.now().length === 3)
  assert.equal(await depths(), [{ waiting: 5, inFlight: 2 }, { waiting: 1, inFlight: 1 }, { waiting: 0, inFlight: 0 }, { waiting: 6, inFlight: 3 }])
  at.release()
  await at.until(() => at.begun.length === 9)
})
test('a higher limit holds when processes start again', async () => {
  const [low, high] = [desk(), desk({ holds: true })]
  const hearing = await serving(first!, low, { limit: 1 })
  await put(ports!, 'acme', 2)
  await low.until(() => low.begun.length === 2)
  await hearing.stop()
  await serving(first!, high, { limit: 3 })
  await put(ports!, 'acme', 5)
  await high.until(() => high.now().length === 3)
  high.release()
  await high.until(() => high.begun.length === 5)
  assert.is(high.most(), 3)
})
test('under a lower limit nothing begins before enough of what began under a higher one has ended', async () => {
  const [before, after] = [desk({ holds: true }), desk()]
  const hearing = await serving(first!, before, { limit: 3 })
  await put(ports!, 'acme', 6)
  await before.until(() => before.now().length === 3)
  const stopped = hearing.stop()
  const seen: number[] = []
  await serving(second!, { handle: (heard, delivery) => { seen.push(before.now().length); return after.handle(heard, delivery) } }, { limit: 2 })
  before.begun[0]!.end('settled')
  before.begun[1]!.end('settled')
  await after.until(() => after.begun.length === 3)
  before.release()
  await stopped
  assert.is(after.most(), 1)
  assert.equal(seen, [1, 1, 1])
})
test('a consumer that the server removed, since nobody asked for long, is made again', async () => {
  const at = desk()
  await serving(first!, at)
  await put(ports!, 'acme')
  await at.until(() => at.begun.length === 1)
  const nc = await connect({ servers: nats.url })
  const gone = nc.subscribe('$JS.EVENT.ADVISORY.CONSUMER.DELETED.QUEUE.person-acme', { max: 1 })
  await (await nc.jetstreamManager()).consumers.update('QUEUE', 'person-acme', { inactive_threshold: nanos(50) })
  for await (const _ of gone);
  await nc.close()
  await put(ports!, 'acme')
  await at.until(() => at.begun.length === 2)
})
test('what is in hand is waited for when a process stops, and it takes no more', async () => {
  const [at, next] = [desk({ holds: true }), desk()]
  const hearing = await serving(first!, at)
  await put(ports!, 'acme', 2)
  await at.until(() => at.now().length === 1)
  let isStopped = false
  const stopped = hearing.stop().then(() => { isStopped = true })
  await serving(second!, next)
  assert.is(isStopped, false)
  at.release()
  await next.until(() => next.begun.length === 1)
  await stopped
  assert.is(at.begun.length, 1)
})
test('all processes start again: what waits goes on', async () => {
  const [before, after] = [desk({ holds: true }), desk()]
  const both = await Promise.all([serving(first!, before, { limit: 2 }), serving(second!, before, { limit: 2 })])
  const facts = [...(await put(ports!, 'a', 5)), ...(await put(ports!, 'b', 5))]
  await before.until(() => before.now().length === 2)
  const stopped = Promise.all(both.map((one) => one.stop()))
  before.release()
  await stopped
  await serving(first!, after, { limit: 2 })
  await after.until(() => before.begun.length + after.begun.length === 10)
  assert.equal([...idsOf(before), ...idsOf(after)].sort(), facts.map(({ id }) => id).sort())
})
test('nats-server restarts in the middle: all are handled', async () => {
  const at = desk({ holds: true })
  await Promise.all([serving(first!, at, { limit: 4 }), serving(second!, at, { limit: 4 })])
  const facts = [...(await put(ports!, 'a', 20)), ...(await put(ports!, 'b', 20))]
  await at.until(() => at.now().length === 4)
  await nats.restart()
  at.release()
  const ids = (): Set<string> => new Set(idsOf(at))
  await at.until(() => ids().size === 40 && at.now().length === 0)
  assert.equal(facts.filter(({ id }) => !ids().has(id)), [])
  const after = queued('c')
  await ports!.queue.put(after)
  await at.until(() => ids().has(after.id))
})
test('a thousand of twenty accounts: each is handled once', async () => {
  const at = desk()
  await Promise.all([serving(first!, at, { limit: 8 }), serving(second!, at, { limit: 8 })])
  const facts = (await Promise.all(Array.from({ length: 20 }, (_, n) => put(ports!, `account-${n}`, 50, n % 2 ? 'person' : 'automatic')))).flat()
  await at.until(() => at.begun.length >= 1_000 && at.now().length === 0)
  await Promise.all(hearings.splice(0).map((hearing) => hearing.stop()))
  assert.equal(idsOf(at).sort(), facts.map(({ id }) => id).sort())
  assert.ok(at.most() <= 8)
  assert.equal(await ports!.queue.depth(null), { waiting: 0, inFlight: 0 })
  assert.equal([first, second].flatMap((one) => one!.complaints), [])
})
test.run()
