// A KV bucket of JSON values with compare-and-set and a live copy: what records and statuses are both made of.
import type { JsMsg, KV } from 'nats'
import type { Following, Held } from '../records.ts'
import { apiErrorCode, wrongLastSequence, type Nats } from './connect.ts'
import { follow } from './follow.ts'

export interface Kept<T> {
  get(key: string): Promise<Held<T> | null>
  /** From the live copy, which may be a moment old; null also while nobody follows. */
  known(key: string): Held<T> | null
  /** The new revision, or null: somebody else was first. Revision 0 creates. */
  put(key: string, value: T, revision: number): Promise<number | null>
  follow(tell: (value: T) => void): Promise<Following>
}

export async function kept<T>(nats: Nats, bucket: string, options: { replicas: number; ttlMs?: number }): Promise<Kept<T>> {
  const kv: KV = await nats.js.views.kv(bucket, { history: 1, replicas: options.replicas, ...(options.ttlMs && { ttl: options.ttlMs }) })
  const copy = liveCopy<T>(nats, bucket)
  return {
    known: copy.known,
    async get(key) {
      const entry = await kv.get(key)
      return entry && entry.operation === 'PUT' ? { value: entry.json<T>(), revision: entry.revision } : null
    },
    async put(key, value, revision) {
      try {
        return await kv.put(key, JSON.stringify(value), { previousSeq: revision })
      } catch (error) {
        if (apiErrorCode(error) === wrongLastSequence) return null
        throw error
      }
    },
    follow: copy.follow,
  }
}

/** One watch of the bucket for all who follow it in this process; it begins with the first of them. Values are kept as text. */
function liveCopy<T>(nats: Nats, bucket: string): Pick<Kept<T>, 'known' | 'follow'> {
  const prefix = `$KV.${bucket}.`
  const values = new Map<string, { bytes: Buffer; revision: number }>()
  const tellers = new Set<(value: T) => void>()
  const valueOf = (bytes: Buffer): T => JSON.parse(bytes.toString()) as T
  let started: Promise<() => Promise<void>> | null = null

  function heard(message: JsMsg): void {
    const key = message.subject.slice(prefix.length)
    if (message.data.length === 0) return void values.delete(key)
    // A copy of its own size: the message is a view into a large buffer of the connection.
    const bytes = Buffer.allocUnsafeSlow(message.data.length)
    bytes.set(message.data)
    values.set(key, { bytes, revision: message.seq })
    if (tellers.size === 0) return
    const value = valueOf(bytes)
    for (const tell of tellers) tell(value)
  }

  async function start(): Promise<() => Promise<void>> {
    const follower = await follow(nats, { stream: `KV_${bucket}`, subject: `${prefix}>`, from: 'lastOfEach' }, heard)
    await follower.caughtUp()
    return shared(follower.caughtUp)
  }

  return {
    known(key) {
      const held = values.get(key)
      return held ? { value: valueOf(held.bytes), revision: held.revision } : null
    },
    async follow(tell) {
      const caughtUp = await (started ??= start().catch((error: unknown) => { started = null; throw error }))
      await caughtUp()
      for (const { bytes } of values.values()) tell(valueOf(bytes))
      tellers.add(tell)
      return { caughtUp, close: () => tellers.delete(tell) }
    },
  }
}

/** Callers who come while one question waits to be asked share its answer; one that was asked before they came is not theirs. */
function shared(ask: () => Promise<void>): () => Promise<void> {
  let next: Promise<void> | null = null
  return () => (next ??= Promise.resolve().then(() => { next = null; return ask() }))
}
