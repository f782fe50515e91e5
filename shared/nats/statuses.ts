// Statuses, in KV `statuses`.
import type { Life } from '../lifecycle.ts'
import type { Statuses } from '../statuses.ts'
import type { Nats } from './connect.ts'
import { kept } from './kept.ts'
import { withTrouble } from './unavailable.ts'

export async function natsStatuses(nats: Nats, options: { replicas: number }): Promise<Statuses> {
  const bucket = await kept<Life>(nats, 'statuses', options)
  return withTrouble<Statuses>({
    get: bucket.get,
    known: (id) => bucket.known(id)?.value ?? null,
    put: (life, revision) => bucket.put(life.id, life, revision),
    follow: bucket.follow,
  })
}
