// The queue: what has to be built waits here for its turn, and accounts take turns. The port; `nats/queue.ts` is JetStream, `turns.ts` says whose turn it is.
import type { Delivery, Hearing, Settlement } from './bus.ts'
import type { Fact, Heard } from './events.ts'

/** What a person waits for comes before what was started by itself. */
export const priorities = ['person', 'automatic'] as const
export type Priority = (typeof priorities)[number]

export interface Turns {
  /** How many may be in the works at once, over all processes; all are started with the same. A lower one than before holds for what begins from then on. */
  limit: number
  /** How many of them in this process. */
  here: number
  /** How many of them of one account, over all processes. */
  perAccount: number
  /** Called for each entry that cannot be read. */
  refused(): void
}

export interface Queue {
  /** Resolves when it is stored. The same fact put twice within ten minutes is one entry, also when the first was taken or withdrawn meanwhile. */
  put(fact: Fact<'image.queued'>): Promise<void>
  /**
   * Takes entries while there is room. Accounts by turns: the one that was served longest ago is next. Of one account a person's before an automatic one,
   * and the oldest first. While `handle` is at work the entry is held; when the process dies another takes it. What is to be handled again waits
   * its time without holding up others. What cannot be read is kept in REFUSED.
   */
  serve(wish: Turns, handle: (heard: Heard<'image.queued'>, delivery: Delivery) => Promise<Settlement>): Promise<Hearing>
  /**
   * Takes back what waits of this version. What is in the works stays there; of an entry that is taken at this very moment the handler goes on,
   * but it is not handled again after a crash.
   */
  withdraw(of: Pick<Fact, 'account' | 'id' | 'version'>): Promise<void>
  /** Entries of an account (null: of all): those that wait, also for being handled again, and those in the works. */
  depth(account: string | null): Promise<{ waiting: number; inFlight: number }>
}
