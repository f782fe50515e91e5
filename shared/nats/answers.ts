// Answers, in KV `answers`, for a day.
import { createHash } from 'node:crypto'
import type { Answer, Answers } from '../answers.ts'
import type { Nats } from './connect.ts'
import { kept } from './kept.ts'
import { withTrouble } from './unavailable.ts'

const dayMs = 24 * 60 * 60 * 1_000

export async function natsAnswers(nats: Nats, options: { replicas: number }): Promise<Answers> {
  const bucket = await kept<Answer>(nats, 'answers', { ...options, ttlMs: dayMs })
  return withTrouble<Answers>({
    async claim(account, key, answer) {
      const name = createHash('sha256').update(`${account}\n${key}`).digest('hex')
      const known = await bucket.get(name)
      if (known) return known.value
      if (await bucket.put(name, answer, 0)) return answer
      const first = await bucket.get(name)
      if (!first) throw new Error('an idempotency key was lost while it was claimed')
      return first.value
    },
  })
}
