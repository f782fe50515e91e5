// Turns: whose entry of the queue is next, which place one has, and when it may begin. Pure.
import { priorities, type Priority } from './queue.ts'

export interface Waiting {
  id: string
  account: string
  priority: Priority
  /** The lower, the older. */
  seq: number
}

/** When each account was served last, by any clock that only goes forward; who is not in it never was. */
export type Served = ReadonlyMap<string, number>

/** The account that was served longest ago; of two that never were, or at the same time, the first by name. null: there is none. */
export function nextAccount(accounts: Iterable<string>, served: Served): string | null {
  let next: string | null = null
  for (const account of accounts) if (next === null || isServedBefore(account, next, served)) next = account
  return next
}

function isServedBefore(a: string, b: string, served: Served): boolean {
  const [servedA, servedB] = [served.get(a) ?? -Infinity, served.get(b) ?? -Infinity]
  return servedA === servedB ? a < b : servedA < servedB
}

/** Of one account. */
export function isTakenBefore(a: Waiting, b: Waiting): boolean {
  const [rankA, rankB] = [priorities.indexOf(a.priority), priorities.indexOf(b.priority)]
  return rankA === rankB ? a.seq < b.seq : rankA < rankB
}

/**
 * The place of an entry (1: the next) if turns go on as they stand; of several with this id the foremost's. null: none waits.
 * Whoever has `ahead` entries of its own before it waits for as many whole rounds, in each of which every other account gets one if it has one left,
 * and then for those accounts whose turn comes before its own. So counting is enough, and nothing is sorted. An account that has all it may have
 * in the works misses turns; that is not foreseen.
 */
export function placeOf(id: string, waiting: readonly Waiting[], served: Served): number | null {
  const counts = new Map<string, number>()
  let mine: Waiting | null = null
  for (const one of waiting) {
    counts.set(one.account, (counts.get(one.account) ?? 0) + 1)
    if (one.id === id && (mine === null || isTakenBefore(one, mine))) mine = one
  }
  if (mine === null) return null
  let ahead = 0
  for (const one of waiting) if (one.account === mine.account && isTakenBefore(one, mine)) ahead += 1
  let place = ahead + 1
  for (const [account, count] of counts) {
    if (account !== mine.account) place += Math.min(count, isServedBefore(account, mine.account, served) ? ahead + 1 : ahead)
  }
  return place
}

export interface Pace {
  /** How many may be in the works at once. */
  limit: number
  /** How many are. */
  running: number
  /** How long one takes as a rule. */
  secondsEach: number
}

/** Whole seconds from now until the entry at this place may begin, as an estimate: those that have to end before, `limit` at a time. */
export function expectedStart(place: number, { limit, running, secondsEach }: Pace): number {
  const mustEnd = Math.max(0, running + place - limit)
  return Math.ceil((mustEnd / limit) * secondsEach)
}
