// Build records, in KV `builds`.
import type { BuildRecord, BuildRecords } from '../build-records.ts'
import type { Nats } from './connect.ts'
import { kept } from './kept.ts'
import { withTrouble } from './unavailable.ts'

export async function natsBuildRecords(nats: Nats, options: { replicas: number }): Promise<BuildRecords> {
  const bucket = await kept<BuildRecord>(nats, 'builds', options)
  return withTrouble<BuildRecords>({
    get: (id) => bucket.get(id),
    known: (id) => bucket.known(id)?.value ?? null,
    put: async (record, revision) => (await bucket.put(record.id, record, revision)) !== null,
    follow: bucket.follow,
  })
}
