// Build records: the images that users want built from archives of their own. The port; `nats/build-records.ts` keeps them in KV `builds`.
import type { BuildParameters } from './build-parameters.ts'
import type { OwnImage } from './events.ts'
import type { Priority } from './queue.ts'
import type { Following, Held } from './records.ts'

export interface BuildRecord {
  id: string
  account: string
  context: OwnImage['context']
  parameters: BuildParameters
  /** Whatever the archive was sent as. */
  archive: { digest: string; bytes: number }
  /** Who waits for it. */
  priority: Priority
  /** Nobody wants it any more, and why; null: it is wanted. */
  cancelled: { reason: string; message: string } | null
  deleted: boolean
  /** ISO 8601 */
  created: string
  updated: string
  /** The last thing that was decided, so that a crash between deciding and stating it can be made good. */
  change: { fact: 'image.queued' | 'image.cancelled' | 'image.forgotten'; time: string; cause: string }
}

export interface BuildRecords {
  /** As the store has it now; null: never known. */
  get(id: string): Promise<Held<BuildRecord> | null>
  /** From the live copy of this process, which may be a moment old; null also while nobody follows. */
  known(id: string): BuildRecord | null
  /** Compare-and-set; revision 0 creates. false: somebody else was first. */
  put(record: BuildRecord, revision: number): Promise<boolean>
  /** Calls `tell` for every record that there is, then for each change. Resolves when the first pass is through. */
  follow(tell: (record: BuildRecord) => void): Promise<Following>
}
