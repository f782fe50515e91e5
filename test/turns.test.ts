// Turns, counted: a place is the one that an entry has when everybody is really served by turns.
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { priorities } from '../shared/queue.ts'
import { expectedStart, isTakenBefore, nextAccount, placeOf, type Waiting } from '../shared/turns.ts'

const turns = suite('turns')

/** The ids in the order in which they are served, one after the other. */
function servedInTurn(waiting: readonly Waiting[], served: ReadonlyMap<string, number>): string[] {
  const left = [...waiting]
  const last = new Map(served)
  const order: string[] = []
  for (let now = 1_000_000; left.length > 0; now++) {
    const account = nextAccount(left.map((one) => one.account), last)
    const [next] = left.filter((one) => one.account === account).sort((a, b) => (isTakenBefore(a, b) ? -1 : 1))
    left.splice(left.indexOf(next!), 1)
    last.set(next!.account, now)
    order.push(next!.id)
  }
  return order
}

/** The same numbers in every run. */
function dice(seed: number): (sides: number) => number {
  let state = seed
  return (sides) => {
    state = (state * 1_103_515_245 + 12_345) % 2_147_483_648
    return Math.floor((state / 2_147_483_648) * sides)
  }
}

const entry = (id: string, account: string, seq: number, priority: Waiting['priority'] = 'person'): Waiting => ({ id, account, priority, seq })

turns('accounts by turns; of one a person\'s before an automatic one\'s, and the oldest first', () => {
  const waiting = [entry('a1', 'a', 1), entry('a2', 'a', 2), entry('b1', 'b', 3, 'automatic'), entry('a3', 'a', 4), entry('b2', 'b', 5), entry('c1', 'c', 6)]
  assert.equal(servedInTurn(waiting, new Map()), ['a1', 'b2', 'c1', 'a2', 'b1', 'a3'])
  assert.equal(servedInTurn(waiting, new Map([['a', 20], ['b', 10], ['c', 30]])), ['b2', 'a1', 'c1', 'b1', 'a2', 'a3'])
})
turns('the account that was served longest ago is next, whoever never was before all others', () => {
  const served = new Map([['a', 3], ['b', 1], ['c', 2]])
  assert.is(nextAccount(['a', 'b', 'c'], served), 'b')
  assert.is(nextAccount(['a', 'c'], served), 'c')
  assert.is(nextAccount(['b', 'e', 'd'], served), 'd')
  assert.is(nextAccount([], served), null)
})
turns('a place is what serving them one by one comes to, for random queues', () => {
  for (let seed = 1; seed <= 200; seed++) {
    const roll = dice(seed)
    const accounts = Array.from({ length: 1 + roll(6) }, (_, n) => `account-${n}`)
    const served = new Map(accounts.filter(() => roll(3) > 0).map((account) => [account, roll(4)]))
    const waiting = Array.from({ length: roll(60) }, (_, n) => entry(`e${n}`, accounts[roll(accounts.length)]!, roll(2) ? n : 1_000 - n, priorities[roll(2)]!))
    const order = servedInTurn(waiting, served)
    assert.equal(waiting.map(({ id }) => placeOf(id, waiting, served)), waiting.map(({ id }) => order.indexOf(id) + 1), `seed ${seed}`)
  }
})
turns('what does not wait has no place; of several with one id the foremost counts', () => {
  const waiting = [entry('x', 'a', 3, 'automatic'), entry('y', 'a', 4), entry('x', 'a', 5)]
  assert.is(placeOf('nobody', waiting, new Map()), null)
  assert.is(placeOf('x', waiting, new Map()), 2)
})
turns('it may begin when as many have ended as stand in its way', () => {
  const pace = { limit: 4, running: 4, secondsEach: 60 }
  assert.is(expectedStart(1, pace), 15)
  assert.is(expectedStart(4, pace), 60)
  assert.is(expectedStart(9, pace), 135)
  assert.is(expectedStart(1, { ...pace, running: 3 }), 0)
  assert.is(expectedStart(2, { ...pace, running: 3 }), 15)
  assert.is(expectedStart(1, { limit: 3, running: 3, secondsEach: 10 }), 4)
  // The limit was lowered while more were at work.
  assert.is(expectedStart(1, { limit: 2, running: 6, secondsEach: 10 }), 25)
})
turns.run()
