// The bus: facts are stated and heard, commands come in. The port; `nats/bus.ts` is JetStream.
import type { Fact, FactName, Heard, Kind, Verb } from './events.ts'

/** What becomes of a message: settled for good, or heard again in a while. Only the adapter acks. */
export type Settlement = 'settled' | { againInMs: number }

export interface Wish {
  /** The durable consumer: everyone of this name shares the messages. */
  name: string
  /** null: every fact. */
  fact: FactName | null
  /** How many may be in the works at once, over all replicas. */
  limit: number
  /** Called for each message that cannot be read. */
  refused(): void
}

export interface Delivery {
  /** 1 at first. */
  attempt: number
}

export interface Hearing {
  /** Takes no more, and resolves when what is in hand is settled. */
  stop(): Promise<void>
}

export interface Command {
  kind: Kind
  account: string
  verb: Verb
  body: Record<string, unknown>
  /** The command's `ce-id`, or its place in the stream when it has none. */
  cause: string
  traceparent: string | null
}

export interface Bus {
  /** Resolves when it is stored. Stated twice within ten minutes it is one fact. */
  state(fact: Fact): Promise<void>
  /** While `handle` is at work the message is held; when the process dies somebody else hears it. What cannot be read is kept in REFUSED. */
  hear(wish: Wish, handle: (heard: Heard, delivery: Delivery) => Promise<Settlement>): Promise<Hearing>
  /** Commands from other systems. `unreadable` gets what is none, with the reason; it is kept in REFUSED. */
  obey(handle: (command: Command) => Promise<Settlement>, unreadable: (what: Unreadable) => Promise<void>): Promise<Hearing>
  /** The kept facts of one life after `after`, oldest first, at most `limit`. */
  history(id: string, after: number, limit: number): Promise<Heard[]>
  /** Facts of one life after `after`, then each new one until the signal aborts. */
  follow(id: string, after: number, signal: AbortSignal): AsyncIterable<Heard>
  /** Messages that wait for this consumer, and those in the works. */
  depth(name: string): Promise<{ waiting: number; inFlight: number }>
  /** The address that other systems reach it at, and whether it answers now. */
  address(): string
  isConnected(): boolean
}

export interface Unreadable {
  kind: Kind
  account: string
  /** The lambda's id where it can be told, else `unknown`. */
  id: string
  cause: string
  reason: string
}
