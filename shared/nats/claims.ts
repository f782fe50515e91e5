// Claims, in KV `claims`, for a day at most.
import type { KV } from 'nats'
import type { Claims } from '../claims.ts'
import { apiErrorCode, wrongLastSequence, type Nats } from './connect.ts'
import { withTrouble } from './unavailable.ts'

const dayMs = 24 * 60 * 60 * 1_000

export async function natsClaims(nats: Nats, { replicas }: { replicas: number }): Promise<Claims> {
  const kv: KV = await nats.js.views.kv('claims', { history: 1, replicas, ttl: dayMs })
  const unlessLost = (error: unknown): null => {
    if (apiErrorCode(error) === wrongLastSequence) return null
    throw error
  }
  return withTrouble<Claims>({
    async claim<T>(name: string, mine: T) {
      while (true) {
        const mark = await kv.create(name, JSON.stringify(mine)).catch(unlessLost)
        if (mark !== null) return { value: mine, mark, isMine: true }
        const entry = await kv.get(name)
        // Let go of between the two.
        if (entry?.operation === 'PUT') return { value: entry.json<T>(), mark: entry.revision, isMine: false }
      }
    },
    async release(name, { mark }) {
      await kv.delete(name, { previousSeq: mark }).catch(unlessLost)
    },
  })
}
