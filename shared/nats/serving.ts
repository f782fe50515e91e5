// Serves the queue in one process: when there is room and something waits, takes a slot, then the next entry by turns, and has it handled.
//
// A slot is taken only when something waits, and given back at once when somebody else was faster. Between processes nothing is agreed: each takes whose turn
// it is as far as it knows, and it knows nearly all, since the others say what they begin. What it did not hear of it finds when it looks,
// once a second at most, and not at all while the stream is empty.
import type { JsMsg } from 'nats'
import type { Hearing, Settlement } from '../bus.ts'
import type { Log } from '../log.ts'
import type { Turns } from '../queue.ts'
import type { Nats } from './connect.ts'
import { hold } from './hold.ts'
import { lanesOf, type Lanes } from './lanes.ts'
import { slotsOf, type Slot, type Slots } from './slots.ts'

const lookMs = 1_000
/** The pause after NATS gave no answer. */
const troubleMs = 250

interface Serving {
  nats: Nats
  log: Log
  wish: Turns
  handle: (message: JsMsg) => Promise<Settlement>
  lanes: Lanes
  slots: Slots
  bell: Bell
  /** By their sequence in the stream. */
  inHand: Map<number, Promise<void>>
  /** Something may wait that this process has to look for. */
  isUnsure: boolean
  /** 0: not since it began, or since the connection was lost. */
  lookedAt: number
  heardAt: number
  isOver: boolean
}

export async function serveQueue(nats: Nats, log: Log, wish: Turns, handle: Serving['handle']): Promise<Hearing> {
  const [lanes, bell] = [lanesOf(nats), bellOf()]
  const slots = slotsOf(nats, wish, { served: lanes.served, freed: bell.ring })
  const serving: Serving = { nats, log, wish, handle, lanes, slots, bell, inHand: new Map(), isUnsure: true, lookedAt: 0, heardAt: 0, isOver: false }
  // What is published is heard here also when nobody keeps it for this process; only when it is stored it can be taken.
  const puts = nats.nc.subscribe('queue.>', { callback: (error, { subject }) => { if (!error) hear(serving, subject) } })
  void resume(serving)
  const running = run(serving)
  return {
    async stop() {
      serving.isOver = true
      puts.unsubscribe()
      bell.ring()
      await running
      await Promise.all(serving.inHand.values())
      slots.close()
    },
  }
}

function hear(serving: Serving, subject: string): void {
  serving.heardAt = Date.now()
  serving.isUnsure = true
  serving.lanes.heard(subject)
  serving.bell.ring()
}

async function resume(serving: Serving): Promise<void> {
  const { nats: { nc }, slots, bell } = serving
  void nc.closed().then(bell.ring)
  for await (const { type } of nc.status()) {
    if (serving.isOver) return
    if (type !== 'reconnect') continue
    // Before others think that the holder is gone. What was asked before is over when the server has answered once.
    await nc.flush().catch(() => undefined)
    slots.refresh()
    serving.isUnsure = true
    serving.lookedAt = 0
    bell.ring()
  }
}

async function run(serving: Serving): Promise<void> {
  const { wish, inHand, bell, log } = serving
  const isOver = (): boolean => serving.isOver || serving.nats.nc.isClosed()
  let isInTrouble = false
  while (!isOver()) {
    if (inHand.size >= wish.here) {
      await bell.rung(null)
      continue
    }
    try {
      const pauseMs = await step(serving)
      isInTrouble = false
      if (pauseMs !== 0 && !isOver()) await bell.rung(pauseMs)
    } catch (error) {
      if (!isInTrouble && !isOver()) log.warn('the queue cannot be served at the moment; it is tried again', { error })
      isInTrouble = true
      await new Promise((resolve) => setTimeout(resolve, troubleMs))
    }
  }
}

/** Begins one entry, or looks for one. How long to wait then unless something is heard of; null: for as long as nothing is. */
async function step(serving: Serving): Promise<number | null> {
  const { lanes, slots } = serving
  const taken = await take(serving)
  if (taken) {
    begin(serving, taken)
    return 0
  }
  if (!serving.isUnsure) return null
  const now = Date.now()
  const untilLookMs = serving.lookedAt + lookMs - now
  if (untilLookMs > 0) return untilLookMs
  await slots.look()
  const isEmpty = !(await lanes.look(slots.inTheWorks, serving.lookedAt === 0))
  serving.lookedAt = now
  // What was heard of only just may not have been stored yet when the server answered.
  serving.isUnsure = !isEmpty || now - serving.heardAt < lookMs
  if (lanes.next(new Set()) !== null) return 0
  return serving.isUnsure ? lookMs : null
}

interface Taken { message: JsMsg; slot: Slot; account: string }

/** null: nothing waits that there is room for. */
async function take({ lanes, slots }: Serving): Promise<Taken | null> {
  const leftOut = new Set<string>()
  for (let account = lanes.next(leftOut); account !== null; account = lanes.next(leftOut)) {
    leftOut.add(account)
    const slot = await slots.take(account)
    if (slot === 'full') return null
    if (slot === 'share') continue
    const message = await lanes.pull(account).catch((error: unknown) => { void slot.giveBack(); throw error })
    if (message) return { message, slot, account }
    await slot.giveBack()
  }
  return null
}

function begin(serving: Serving, { message, slot, account }: Taken): void {
  const { inHand, lanes, log, handle, bell } = serving
  // It was away for so long that the server gave it out again, to the one who has it.
  if (serving.isOver || inHand.has(message.seq)) {
    if (serving.isOver) message.nak()
    return void slot.giveBack()
  }
  lanes.served(account)
  slot.use(message.seq)
  let againInMs: number | null = null
  const work = hold(message, log, async () => {
    const settlement = await handle(message)
    if (settlement !== 'settled') ({ againInMs } = settlement)
    return settlement
  })
  const done = work.then(() => slot.giveBack()).finally(() => {
    inHand.delete(message.seq)
    if (againInMs !== null) hearLater(serving, message.subject, againInMs)
    bell.ring()
  })
  inHand.set(message.seq, done)
}

/** When it is due; should this process be gone by then, others find it when they look. */
function hearLater(serving: Serving, subject: string, ms: number): void {
  setTimeout(() => { if (!serving.isOver) hear(serving, subject) }, ms).unref()
}

interface Bell {
  ring(): void
  /** Resolves when it is rung, also when it was since the last time, or after so long. */
  rung(ms: number | null): Promise<void>
}

function bellOf(): Bell {
  let isRung = false
  let wake = (): void => undefined
  return {
    ring() { isRung = true; wake() },
    async rung(ms) {
      let timer: NodeJS.Timeout | null = null
      await new Promise<void>((resolve) => {
        wake = resolve
        if (ms !== null) timer = setTimeout(resolve, ms)
        if (isRung) resolve()
      })
      if (timer) clearTimeout(timer)
      isRung = false
    },
  }
}
