// Slots: how many may be in the works at once, over all processes, and how many of one account. In stream SLOTS.
//
// Whoever puts the first message on the subject of a slot has that slot; whoever removes it gives it back. The stream forgets a message that is not written
// anew within the time after which a held entry goes to somebody else, so a process that dies gives back what it had. Two are needed to begin:
// one of all (`slot.all.<n>`) and one of the account (`slot.of.<account>.<n>`). This is not a consumer of as many messages as there may be,
// pulled and given back, because such a consumer does not tell which of them are held: here the stream itself says what is in the works, and for whom,
// so that limits of accounts hold over both of their priorities, and entries that only wait for being handled again do not count.
import { nuid, StringCodec, type Subscription } from 'nats'
import type { Turns } from '../queue.ts'
import { apiErrorCode, unlessMissing, wrongLastSequence, type Nats } from './connect.ts'
import { ackWaitMs, heartbeatMs, promptMs } from './hold.ts'
import { withTrouble } from './unavailable.ts'

const { encode, decode } = StringCodec()

export interface Slot {
  /** It is used: others hear that the account was served, and anyone can see for which entry. */
  use(entry: number): void
  giveBack(): Promise<void>
}

export interface Slots {
  /** `full`: there is no room at all; `share`: the account has all it may have. As far as this process knows, which `look` sets right. */
  take(account: string): Promise<Slot | 'full' | 'share'>
  /** Asks the stream which slots are held. */
  look(): Promise<void>
  /** How many of an account, as of the last look and what was heard since. */
  inTheWorks(account: string): number
  /** Writes all that are held here anew. */
  refresh(): void
  close(): void
}

export interface SlotTellers {
  /** Another process has begun an entry of this account. */
  served(account: string): void
  /** Somewhere a slot was given back. */
  freed(): void
}

const ofAll = 'slot.all.'
const ofAccount = (account: string): string => `slot.of.${account}.`
/** Plain messages from process to process, stored nowhere: one that is lost costs a second, until the next look. */
const saysUsed = 'kiln.slots.used'
const saysFreed = 'kiln.slots.freed'

interface Said { by: string; account: string; marks: string[] }

export function slotsOf(nats: Nats, { limit, perAccount }: Pick<Turns, 'limit' | 'perAccount'>, tellers: SlotTellers): Slots {
  let held = new Set<string>()
  const here = new Set<Mark>()
  const me = nuid.next()
  const count = (prefix: string): number => [...held].filter((subject) => subject.startsWith(prefix)).length

  /** null: all are held. */
  async function takeOne(prefix: string, most: number): Promise<Mark | null> {
    while (true) {
      const free = Array.from({ length: most }, (_, n) => `${prefix}${n + 1}`).filter((subject) => !held.has(subject))
      // Any of them: processes that look for one at the same moment seldom meet.
      const subject = free[Math.floor(Math.random() * free.length)]
      if (subject === undefined || count(prefix) >= most) return null
      held.add(subject)
      const mark = await takeMark(nats, subject).catch((error: unknown) => { held.delete(subject); throw error })
      if (mark) return mark
    }
  }

  async function giveBack(account: string, marks: Mark[]): Promise<void> {
    if (marks.length === 0) return
    await Promise.all(marks.map((mark) => mark.remove()))
    for (const mark of marks) {
      here.delete(mark)
      held.delete(mark.subject)
    }
    say(nats, saysFreed, { by: me, account, marks: marks.map((mark) => mark.subject) })
    tellers.freed()
  }

  function slot(account: string, [one, share]: [Mark, Mark]): Slot {
    const marks = [one, share]
    for (const mark of marks) here.add(mark)
    const heartbeat = setInterval(() => { for (const mark of marks) mark.write() }, heartbeatMs)
    heartbeat.unref()
    return {
      use(entry) {
        share.write(entry)
        say(nats, saysUsed, { by: me, account, marks: marks.map((mark) => mark.subject) })
      },
      async giveBack() {
        clearInterval(heartbeat)
        await giveBack(account, marks)
      },
    }
  }

  const subscriptions = [
    listen(nats, saysUsed, me, ({ account, marks }) => { for (const mark of marks) held.add(mark); tellers.served(account) }),
    listen(nats, saysFreed, me, ({ marks }) => { for (const mark of marks) held.delete(mark); tellers.freed() }),
  ]
  return {
    ...withTrouble<Pick<Slots, 'take' | 'look'>>({
      async take(account) {
        if (count(ofAll) >= limit) return 'full'
        if (count(ofAccount(account)) >= perAccount) return 'share'
        const [one, share] = await Promise.all([takeOne(ofAll, limit), takeOne(ofAccount(account), perAccount)])
        if (one && share) return slot(account, [one, share])
        await giveBack(account, [one, share].filter((mark) => mark !== null))
        return one ? 'share' : 'full'
      },
      async look() {
        // What is held here is held, also while the stream has forgotten it.
        const now = await heldSlots(nats, 'slot.>')
        held = new Set([...now, ...[...here].map((mark) => mark.subject)])
      },
    }),
    inTheWorks: (account) => count(ofAccount(account)),
    refresh() { for (const mark of here) mark.write() },
    close() { for (const subscription of subscriptions) subscription.unsubscribe() },
  }
}

interface Mark {
  subject: string
  /** Again, so that it is not forgotten; with the entry it is held for. */
  write(entry?: number): void
  remove(): Promise<void>
}

/** null: somebody else has it. */
async function takeMark(nats: Nats, subject: string): Promise<Mark | null> {
  const by = nuid.next()
  let [entry, isOver]: [number | null, boolean] = [null, false]
  const put = (last: number): Promise<number | null> => putAfter(nats, subject, last, { by, entry })

  /** 0: it is not there any more, and somebody else was faster. */
  async function anew(last: number): Promise<number> {
    const written = await put(last)
    if (written !== null) return written
    // Perhaps it was written, and the answer got lost with the connection. Or it was forgotten, since NATS was away for long: then it is taken again when it can be.
    const now = await lastOf(nats, subject)
    if (now === null) return (await put(0)) ?? 0
    return now.body.by === by ? now.seq : 0
  }

  const first = await put(0)
  if (first === null) return null
  let seq = first
  let writing: Promise<void> = Promise.resolve()
  return {
    subject,
    write(used) {
      entry = used ?? entry
      // Whatever comes of it, the work goes on.
      writing = writing.then(async () => { if (!isOver) seq = await anew(seq) }).catch(() => undefined)
    },
    async remove() {
      isOver = true
      await writing
      // Tried until the stream would have forgotten it anyway: NATS may have gone away in the middle.
      for (const until = Date.now() + ackWaitMs; seq > 0 && Date.now() < until && !nats.nc.isClosed();) {
        const isGone = await nats.whileConnected(nats.jsm.streams.deleteMessage('SLOTS', seq, false), promptMs).catch(unlessMissing).then(() => true, () => false)
        if (isGone) return
        await new Promise((resolve) => setTimeout(resolve, againMs))
      }
    },
  }
}

const againMs = 100

/** `entry`: the sequence in the queue of what it is used for; null: not yet. */
interface Body { by: string; entry: number | null }

/** The last message is another one; in a cluster also: another one is being written. */
const tooLate: ReadonlySet<number | null> = new Set([wrongLastSequence, 10164])

/** The new sequence; null: the last message of this subject is another one. */
async function putAfter(nats: Nats, subject: string, last: number, body: Body): Promise<number | null> {
  try {
    return (await nats.whileConnected(nats.js.publish(subject, encode(JSON.stringify(body)), { expect: { lastSubjectSequence: last } }), promptMs)).seq
  } catch (error) {
    if (tooLate.has(apiErrorCode(error))) return null
    throw error
  }
}

async function lastOf({ jsm }: Nats, subject: string): Promise<{ seq: number; body: Body } | null> {
  const message = await jsm.streams.getMessage('SLOTS', { last_by_subj: subject }).catch(unlessMissing)
  return message && { seq: message.seq, body: message.json<Body>() }
}

function say({ nc }: Nats, subject: string, said: Said): void {
  if (!nc.isClosed() && !nc.isDraining()) nc.publish(subject, encode(JSON.stringify(said)))
}

/** To what others say. */
function listen({ nc }: Nats, subject: string, me: string, tell: (said: Said) => void): Subscription {
  return nc.subscribe(subject, {
    callback: (error, message) => {
      const said = error ? null : (JSON.parse(decode(message.data)) as Said)
      if (said && said.by !== me) tell(said)
    },
  })
}

async function heldSlots({ jsm }: Nats, filter: string): Promise<string[]> {
  const { state } = await jsm.streams.info('SLOTS', { subjects_filter: filter })
  return Object.keys(state.subjects ?? {})
}

/** How many entries are in the works; of all accounts for null. */
export const countInTheWorks = async (nats: Nats, account: string | null): Promise<number> =>
  (await heldSlots(nats, `${account === null ? ofAll : ofAccount(account)}*`)).length

/** The entries of an account that are in the works, by their sequence in the queue. */
export async function entriesInTheWorks(nats: Nats, account: string): Promise<Set<number>> {
  const subjects = await heldSlots(nats, `${ofAccount(account)}*`)
  const lasts = await Promise.all(subjects.map((subject) => lastOf(nats, subject)))
  return new Set(lasts.flatMap((last) => last?.body.entry ?? []))
}
