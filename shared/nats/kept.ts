// A KV bucket of JSON values with compare-and-set and a live copy: what records and statuses are both made of.
import type { KV } from 'nats'
import type { Following, Held } from '../records.ts'
import { apiErrorCode, wrongLastSequence, type Nats } from './connect.ts'
import { follow } from './follow.ts'

export interface Kept<T> {
  get(key: string): Promise<Held<T> | null>
  /** The new revision, or null: somebody else was first. Revision 0 creates. */
  put(key: string, value: T, revision: number): Promise<number | null>
  follow(tell: (value: T) => void): Promise<Following>
}

export async function kept<T>(nats: Nats, bucket: string, options: { replicas: number; ttlMs?: number }): Promise<Kept<T>> {
  const kv: KV = await nats.js.views.kv(bucket, { history: 1, replicas: options.replicas, ...(options.ttlMs && { ttl: options.ttlMs }) })
  return {
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
    async follow(tell) {
      const follower = await follow(nats, { stream: `KV_${bucket}`, subject: `$KV.${bucket}.>`, from: 'lastOfEach' }, (message) => {
        if (message.data.length > 0) tell(message.json<T>())
      })
      await follower.caughtUp()
      return { caughtUp: shared(follower.caughtUp), close: follower.close }
    },
  }
}

/** Callers who come while one question waits to be asked share its answer; one that was asked before they came is not theirs. */
function shared(ask: () => Promise<void>): () => Promise<void> {
  let next: Promise<void> | null = null
  return () => (next ??= Promise.resolve().then(() => { next = null; return ask() }))
}
