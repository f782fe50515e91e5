// Claims on NATS: of several who wish for the same the first decides, and nobody takes away what another has claimed since.
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import type { Claims } from '../shared/claims.ts'
import { natsClaims } from '../shared/nats/claims.ts'
import { connectNats, type Nats } from '../shared/nats/connect.ts'
import { Unavailable } from '../shared/trouble.ts'
import { testNats, type TestNats } from './stand/nats.ts'

const test = suite('claims')
let server: TestNats
const connections: Nats[] = []

/** Of a process of its own. */
async function claims(): Promise<Claims> {
  const nats = await connectNats(server.url, { name: 'test' })
  connections.push(nats)
  return natsClaims(nats, { replicas: 1 })
}

test.before(async () => { server = await testNats() })
test.after.each(async () => { await Promise.all(connections.splice(0).map(({ nc }) => nc.close())) })
test.after(() => server.close())

test('the first says what is claimed, and everyone later is told that', async () => {
  const [one, other] = [await claims(), await claims()]
  const first = await one.claim('a.b', { who: 'first', n: [1] })
  assert.equal([first.value, first.isMine], [{ who: 'first', n: [1] }, true])
  const later = [await other.claim('a.b', { who: 'second' }), await one.claim('a.b', { who: 'first again' })]
  for (const claim of later) assert.equal(claim, { value: { who: 'first', n: [1] }, mark: first.mark, isMine: false })
  assert.ok((await other.claim('a.c', { who: 'second' })).isMine, 'another name')
})

test('of twenty who claim at once, in several processes, one has it, and all say the same', async () => {
  const all = await Promise.all([claims(), claims(), claims(), claims()])
  for (const round of [1, 2, 3]) {
    const claimed = await Promise.all(Array.from({ length: 20 }, (_, i) => all[i % 4]!.claim(`at-once-${round}`, { i })))
    const mine = claimed.map((claim, i) => ({ ...claim, i })).filter(({ isMine }) => isMine)
    assert.is(mine.length, 1)
    for (const { value, mark } of claimed) assert.equal([value, mark], [{ i: mine[0]!.i }, mine[0]!.mark])
  }
})

test('what was let go of can be claimed anew, by anyone, and is another claim then', async () => {
  const [one, other] = [await claims(), await claims()]
  const first = await one.claim('anew', 1)
  await one.release('anew', first)
  const second = await other.claim('anew', 2)
  assert.equal([second.value, second.isMine], [2, true])
  assert.is.not(second.mark, first.mark)
  // Whoever was told of a claim may let go of it, too.
  await one.release('anew', await one.claim('anew', 3))
  assert.equal((await one.claim('anew', 4)).value, 4)
})

test('letting go of a claim that is none any more leaves the one that came after it', async () => {
  const [one, other] = [await claims(), await claims()]
  const old = await one.claim('newer', 'old')
  await one.release('newer', old)
  const newer = await other.claim('newer', 'newer')
  await one.release('newer', old)
  assert.equal(await one.claim('newer', 'mine'), { value: 'newer', mark: newer.mark, isMine: false })
})

test('letting go twice, or by two at once, is fine', async () => {
  const [one, other] = [await claims(), await claims()]
  const claim = await one.claim('twice', 1)
  await Promise.all([one.release('twice', claim), other.release('twice', claim)])
  await other.release('twice', claim)
  assert.ok((await one.claim('twice', 2)).isMine)
})

test('never two have it at once, while some let go and others claim', async () => {
  const all = await Promise.all([claims(), claims(), claims()])
  const had: number[] = []
  let holders = 0
  const takeTurn = async (i: number): Promise<void> => {
    const on = all[i % 3]!
    const claim = await on.claim('in-turn', i)
    if (!claim.isMine) return takeTurn(i)
    had.push(i)
    assert.is(++holders, 1)
    assert.equal(await on.claim('in-turn', -1), { value: i, mark: claim.mark, isMine: false })
    holders -= 1
    await on.release('in-turn', claim)
  }
  await Promise.all(Array.from({ length: 12 }, (_, i) => takeTurn(i)))
  assert.equal(had.sort((a, b) => a - b), Array.from({ length: 12 }, (_, i) => i))
})

test('a claim is forgotten after a day, in a bucket of its own', async () => {
  await claims()
  const { config } = await connections[0]!.jsm.streams.info('KV_claims')
  assert.is(config.max_age, 24 * 60 * 60 * 1_000 * 1e6)
})

test('without NATS it is the world\'s trouble', async () => {
  const one = await claims()
  await connections[0]!.nc.close()
  const thrown = await Promise.all([one.claim('away', 1), one.release('away', { mark: 1 })].map((asked) => asked.then(() => null, (error: unknown) => error)))
  for (const error of thrown) assert.instance(error, Unavailable)
})

test.run()
