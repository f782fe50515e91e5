// Lanes: what waits in stream QUEUE, by account and priority. Each lane has a consumer of its own, made when something is first seen in it; the server removes
// those that nobody asked for long, and what waits stays in the stream.
import { AckPolicy, DeliverPolicy, NatsError, nanos, type ConsumerInfo, type JsMsg } from 'nats'
import { groupsOf } from '../groups.ts'
import { priorities, type Priority } from '../queue.ts'
import { nextAccount } from '../turns.ts'
import { unlessMissing, type Nats } from './connect.ts'
import { ackWaitMs, promptMs } from './hold.ts'
import { withTrouble } from './unavailable.ts'

/** A lane that nobody asks for so long loses its consumer. Far longer than any build: older servers do not see that a message of it is held, and it would be heard again. */
const idleMs = 24 * 60 * 60 * 1_000

interface Lane {
  account: string
  consumer: string
  filter: string
  isMade: boolean
  /** As far as this process knows; when it finds nothing, it is not asked again until it hears of something. */
  mayHave: boolean
  /** How often something was heard of. */
  heard: number
}

export interface Lanes {
  /** Something was put on this subject, or is to be handled again now. */
  heard(subject: string): void
  /** An entry of this account has begun. */
  served(account: string): void
  /** Whose turn it is, of those who may have something waiting and are not left out. */
  next(leftOut: ReadonlySet<string>): string | null
  /** The next entry of an account; null: there is none. */
  pull(account: string): Promise<JsMsg | null>
  /** Asks the server what waits. False: the stream is empty. `isFirst`: nothing could be heard of before. */
  look(inTheWorks: (account: string) => number, isFirst: boolean): Promise<boolean>
}

export function lanesOf(nats: Nats): Lanes {
  const accounts = new Map<string, Lane[]>()
  // By this process's own clock: when it took an entry of the account, or heard that another did. Of what was before it came,
  // the consumers know when they last gave something.
  const served = new Map<string, number>()

  function lane(account: string, priority: Priority): Lane {
    const known = accounts.get(account) ?? priorities.map((one) => ({ account, consumer: consumerOf(account, one), filter: filterOf(account, one), isMade: false, mayHave: false, heard: 0 }))
    accounts.set(account, known)
    return known[priorities.indexOf(priority)]!
  }

  function heard(subject: string): void {
    const [, account, priority] = subject.split('.')
    if (!account || !isPriority(priority)) return
    const one = lane(account, priority)
    one.mayHave = true
    one.heard += 1
  }

  function* waiting(leftOut: ReadonlySet<string>): Iterable<string> {
    for (const [account, lanes] of accounts) if (!leftOut.has(account) && lanes.some((one) => one.mayHave)) yield account
  }

  /** Entries that were taken before and are not in the works wait for being handled again, or their holder died: they are asked for, since only the server knows when. */
  function learn(infos: ConsumerInfo[], inTheWorks: (account: string) => number): void {
    const known = groupsOf(infos.map((info) => ({ info, place: placeOf(info.name) })).filter(hasPlace), ({ place }) => place.account)
    for (const [account, those] of known) {
      const taken = those.reduce((sum, { info }) => sum + info.num_ack_pending, 0)
      for (const { info, place } of those) {
        const one = lane(account, place.priority)
        one.isMade = true
        one.mayHave ||= info.num_pending > 0 || (info.num_ack_pending > 0 && taken > inTheWorks(account))
      }
      const lastMs = Math.max(...those.map(({ info }) => Date.parse(String(info.delivered.last_active)) || 0))
      if (lastMs > 0 && !served.has(account)) served.set(account, lastMs)
    }
  }

  const next = (leftOut: ReadonlySet<string>): string | null => nextAccount(waiting(leftOut), served)
  return {
    heard, next,
    served(account) { served.set(account, performance.timeOrigin + performance.now()) },
    ...withTrouble<Pick<Lanes, 'pull' | 'look'>>({
      async pull(account) {
        for (const one of accounts.get(account) ?? []) {
          if (!one.mayHave) continue
          const { heard: before } = one
          const message = await pullFrom(nats, one)
          if (message) return message
          // What was put while it was asked may have come too late for the answer.
          if (one.heard === before) one.mayHave = false
        }
        return null
      },
      async look(inTheWorks, isFirst) {
        const infos: ConsumerInfo[] = []
        for await (const info of nats.jsm.consumers.list('QUEUE')) infos.push(info)
        learn(infos, inTheWorks)
        const { state: { messages } } = await nats.jsm.streams.info('QUEUE')
        const counted = infos.reduce((sum, info) => sum + info.num_pending + info.num_ack_pending, 0)
        // Some wait in a lane that has no consumer. To go through all of them takes a while.
        const mustSearch = messages > counted && (isFirst || next(new Set()) === null)
        if (mustSearch) for (const subject of Object.keys(await countsOf(nats, 'queue.>'))) heard(subject)
        return messages > 0
      },
    }),
  }
}

async function pullFrom(nats: Nats, lane: Lane): Promise<JsMsg | null> {
  for (let attempt = 1; ; attempt++) {
    if (!lane.isMade) await make(nats, lane)
    try {
      return await nats.whileConnected(nats.js.pull('QUEUE', lane.consumer), promptMs)
    } catch (error) {
      if (!(error instanceof NatsError)) throw error
      if (nothingThere.has(error.code)) return null
      if (error.code !== nobodyThere || attempt === attempts) throw error
    }
    lane.isMade = false
    // In a cluster a consumer that was only just made takes a moment until it answers.
    if (attempt > 1) await new Promise((resolve) => setTimeout(resolve, againMs))
  }
}

const attempts = 10
const againMs = 50

/** No message, or none in time. */
const nothingThere: ReadonlySet<string> = new Set(['404', '408', '409'])
/** There is no such consumer. */
const nobodyThere = '503'

async function make({ jsm }: Nats, lane: Lane): Promise<void> {
  // Entries that wait for being handled again must not hold up the others of their account: slots are the limit, not what the consumer may have out.
  await jsm.consumers.add('QUEUE', {
    durable_name: lane.consumer, filter_subject: lane.filter, ack_policy: AckPolicy.Explicit, deliver_policy: DeliverPolicy.All,
    ack_wait: nanos(ackWaitMs), max_ack_pending: -1, max_deliver: -1, inactive_threshold: nanos(idleMs),
  })
  lane.isMade = true
}

const isPriority = (word: string | undefined): word is Priority => (priorities as readonly (string | undefined)[]).includes(word)
const filterOf = (account: string, priority: Priority): string => `queue.${account}.${priority}.>`
/** The priority first: an account may have hyphens. */
const consumerOf = (account: string, priority: Priority): string => `${priority}-${account}`

interface Place { account: string; priority: Priority }

/** null: the consumer is none of kiln's. */
function placeOf(consumer: string): Place | null {
  const [priority, ...account] = consumer.split('-')
  return isPriority(priority) ? { priority, account: account.join('-') } : null
}

const hasPlace = <T extends { place: Place | null }>(one: T): one is T & { place: Place } => one.place !== null

/** How many messages each subject has. */
async function countsOf({ jsm }: Nats, filter: string): Promise<Record<string, number>> {
  return (await jsm.streams.info('QUEUE', { subjects_filter: filter })).state.subjects ?? {}
}

/** How many entries of an account the stream holds; of all accounts for null. */
export async function countEntries(nats: Nats, account: string | null): Promise<number> {
  if (account === null) return (await nats.jsm.streams.info('QUEUE')).state.messages
  const counts = await Promise.all(priorities.map(async (priority) => {
    // A consumer knows without going through all of them.
    const info = await nats.jsm.consumers.info('QUEUE', consumerOf(account, priority)).catch(unlessMissing)
    if (info) return info.num_pending + info.num_ack_pending
    return Object.values(await countsOf(nats, filterOf(account, priority))).reduce((sum, count) => sum + count, 0)
  }))
  return counts.reduce((sum, count) => sum + count, 0)
}
