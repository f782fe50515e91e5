// The connection to NATS, and the streams and buckets that kiln keeps there. Nothing else makes any.
import { connect, nanos, RetentionPolicy, StorageType, DiscardPolicy, type JetStreamClient, type JetStreamManager, type NatsConnection, type StreamConfig } from 'nats'
import { priorities } from '../queue.ts'
import { Unavailable } from '../trouble.ts'
import { ackWaitMs } from './hold.ts'

export interface Nats {
  nc: NatsConnection
  js: JetStreamClient
  jsm: JetStreamManager
  address: string
  /** The same promise, which fails as Unavailable when the connection is lost: what waits for messages of a consumer that the server forgot would wait for ever. */
  whileConnected<T>(work: Promise<T>, limitMs?: number): Promise<T>
}

const days = (n: number): number => nanos(n * 24 * 60 * 60 * 1_000)
const minutes = (n: number): number => nanos(n * 60 * 1_000)

/** How many servers hold each stream. */
interface Keeping { replicas: number }

const streams = ({ replicas }: Keeping): Array<Partial<StreamConfig> & { name: string; subjects: string[] }> => [
  { name: 'EVENTS', subjects: ['lambda.events.>', 'build.events.>'], max_age: days(30), duplicate_window: minutes(10), num_replicas: replicas, allow_direct: true },
  { name: 'COMMANDS', subjects: ['lambda.commands.>', 'build.commands.>'], retention: RetentionPolicy.Workqueue, duplicate_window: minutes(10), num_replicas: replicas },
  { name: 'QUEUE', subjects: priorities.map((one) => `queue.*.${one}.*.*`), retention: RetentionPolicy.Workqueue, duplicate_window: minutes(10), num_replicas: replicas },
  { name: 'SLOTS', subjects: ['slot.>'], max_msgs_per_subject: 1, max_age: nanos(ackWaitMs), num_replicas: replicas },
  // Bounded thrice, so that no lambda that prints without end pushes out the others or fills the disk.
  { name: 'LOGS', subjects: ['lambda.logs.>'], max_age: days(7), max_bytes: 2 ** 30, max_msgs_per_subject: 5_000, discard: DiscardPolicy.Old, num_replicas: replicas },
  { name: 'REFUSED', subjects: ['lambda.refused.>'], max_age: days(30), max_bytes: 64 * 2 ** 20, discard: DiscardPolicy.Old, num_replicas: replicas },
]

export interface Connecting {
  name: string
  replicas?: number
  /** How long the first connection may take: in a cluster everything starts at once. */
  firstMs?: number
  /** Called once when the server does not answer at first. */
  waits?(): void
}

/** Connects for good: it reconnects for ever, and every reader resumes where it was. Throws when no first connection comes about. */
export async function connectNats(url: string, options: Connecting): Promise<Nats> {
  const nc = await firstConnection(url, options)
  // KV and Object Store are asked about at each use unless the check is off; the streams are made here and stay.
  const jsm = await nc.jetstreamManager({ timeout: 10_000 })
  const js = nc.jetstream({ timeout: 10_000 })
  await ensureStreams(jsm, { replicas: options.replicas ?? 1 })
  return { nc, js, jsm, address: url, whileConnected: failingWhenLost(nc) }
}

async function firstConnection(url: string, { name, firstMs = 5_000, waits }: Connecting): Promise<NatsConnection> {
  const until = Date.now() + firstMs
  for (let isFirst = true; ; isFirst = false) {
    try {
      return await connect({
        servers: url.split(','), name, maxReconnectAttempts: -1, reconnectTimeWait: 100, reconnectJitter: 50, timeout: 5_000, waitOnFirstConnect: false, pingInterval: 10_000,
        // The client would make an Error with its stack for each request, in case it fails.
        noAsyncTraces: true,
      })
    } catch (error) {
      if (Date.now() + againMs > until) throw new Error(`NATS at ${url} cannot be reached (${(error as Error).message}). NATS_URL must name a server with JetStream that runs.`, { cause: error })
      if (isFirst) waits?.()
    }
    await new Promise((resolve) => setTimeout(resolve, againMs))
  }
}

const againMs = 500

/** For an object as large as they may be, over a slow network. */
const patienceMs = 60_000

function failingWhenLost(nc: NatsConnection): Nats['whileConnected'] {
  const waiting = new Set<(error: Error) => void>()
  void (async () => {
    for await (const { type } of nc.status()) {
      // On the way back, too: what was asked while it was away may have been half heard.
      if (type === 'disconnect' || type === 'reconnect') for (const fail of waiting) fail(new Unavailable('The connection to NATS was lost.'))
    }
  })()
  return (work, limitMs = patienceMs) => new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Unavailable('NATS did not answer in time.')), limitMs)
    waiting.add(reject)
    void work.then(resolve, reject).finally(() => { clearTimeout(timer); waiting.delete(reject) })
  })
}

async function ensureStreams(jsm: JetStreamManager, keeping: Keeping): Promise<void> {
  for (const wanted of streams(keeping)) {
    const config = { storage: StorageType.File, retention: RetentionPolicy.Limits, ...wanted }
    await jsm.streams.info(wanted.name).then(() => jsm.streams.update(wanted.name, config), () => jsm.streams.add(config))
  }
}

/** The code of a JetStream API error, or null. */
export const apiErrorCode = (error: unknown): number | null =>
  (error as { api_error?: { err_code?: number } }).api_error?.err_code ?? null

export const wrongLastSequence = 10071

/** That there is no such message or consumer is no error. */
export function unlessMissing(error: unknown): null {
  if (missing.has(apiErrorCode(error))) return null
  throw error
}

/** Of a message that is read, of one that is removed (alone, in a cluster), of a consumer. */
const missing: ReadonlySet<number | null> = new Set([10037, 10057, 10043, 10014])
