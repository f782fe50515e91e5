// Records, in KV `lambdas`.
import type { LambdaRecord, Records } from '../records.ts'
import type { Nats } from './connect.ts'
import { kept } from './kept.ts'
import { withTrouble } from './unavailable.ts'

export async function natsRecords(nats: Nats, options: { replicas: number }): Promise<Records> {
  const bucket = await kept<LambdaRecord>(nats, 'lambdas', options)
  return withTrouble<Records>({
    get: bucket.get,
    known: (id) => bucket.known(id)?.value ?? null,
    async asOf({ id, version, epoch }) {
      const known = bucket.known(id)?.value
      if (known && known.version >= version && known.epoch >= epoch) return known
      return (await bucket.get(id))?.value ?? null
    },
    put: async (record, revision) => (await bucket.put(record.id, record, revision)) !== null,
    follow: bucket.follow,
  })
}
