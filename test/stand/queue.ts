// Entries of the queue, and a desk at which a test has them handled: it sees what begins, and may hold it until it says so.
import { randomUUID } from 'node:crypto'
import type { Delivery, Hearing, Settlement } from '../../shared/bus.ts'
import type { Fact, Heard } from '../../shared/events.ts'
import type { Ports } from '../../shared/ports.ts'
import type { Priority, Turns } from '../../shared/queue.ts'
import { gate } from './await.ts'
import { packaged } from './lives.ts'

export function queued(account: string, more: Partial<Fact> = {}, priority: Priority = 'person'): Fact<'image.queued'> {
  const { files: _, ...packages } = packaged('any')
  const data = { ...packages, priority }
  return { fact: 'image.queued', id: randomUUID(), account, version: 1, epoch: 0, time: new Date().toISOString(), source: 'kiln/test', cause: 'test', traceparent: null, data, ...more } as Fact<'image.queued'>
}

/** Puts so many, one after the other. */
export async function put({ queue }: Pick<Ports, 'queue'>, account: string, count = 1, priority: Priority = 'person'): Promise<Fact<'image.queued'>[]> {
  const facts = Array.from({ length: count }, () => queued(account, {}, priority))
  for (const fact of facts) await queue.put(fact)
  return facts
}

interface Begun { heard: Heard<'image.queued'>; attempt: number; end(settlement: Settlement): void }

export interface Desk {
  /** In the order in which they began. */
  begun: Begun[]
  /** In the works now. */
  now(): Begun[]
  /** The most that ever were at once, of those counted. */
  most(counted?: (one: Begun) => boolean): number
  /** Resolves as soon as it is so, at whichever desk. */
  until(isSo: () => boolean): Promise<void>
  /** What is held ends, and so does at once what comes from now on. */
  release(): void
  handle(heard: Heard<'image.queued'>, delivery: Delivery): Promise<Settlement>
}

/** Those who wait look again whenever something begins or ends at any desk. */
const waits = new Set<() => void>()
const look = (): void => { for (const wait of waits) wait() }

/** Two processes may share it. `holds`: nothing ends by itself. */
export function desk({ holds = false } = {}): Desk {
  const [begun, sights] = [[] as Begun[], [] as Begun[][]]
  let now: Begun[] = []
  let isHolding = holds
  return {
    begun,
    now: () => now,
    most: (counted = () => true) => Math.max(0, ...sights.map((sight) => sight.filter(counted).length)),
    async until(isSo) {
      const so = gate()
      const wait = (): void => { if (isSo()) so.open() }
      waits.add(wait)
      wait()
      await so.promise
      waits.delete(wait)
    },
    release() {
      isHolding = false
      for (const one of now) one.end('settled')
    },
    async handle(heard, { attempt }) {
      const end = gate<Settlement>()
      const mine: Begun = { heard, attempt, end: end.open }
      begun.push(mine)
      now = [...now, mine]
      sights.push(now)
      if (!isHolding) setImmediate(() => end.open('settled'))
      look()
      const settlement = await end.promise
      now = now.filter((one) => one !== mine)
      look()
      return settlement
    },
  }
}

export function serve({ queue }: Pick<Ports, 'queue'>, { handle }: Pick<Desk, 'handle'>, wish: Partial<Turns> = {}): Promise<Hearing> {
  const { limit = 1, here = 100, perAccount = 100, refused = () => undefined } = wish
  return queue.serve({ limit, here, perAccount, refused }, handle)
}
