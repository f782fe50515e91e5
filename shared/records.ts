// Records: what users want of their lambdas. Ingest is the only writer. The port; `nats/records.ts` keeps them in KV `lambdas`.
import type { Parameters } from './parameters.ts'
import type { Priority } from './queue.ts'

export interface Version {
  version: number
  /** SHA-256 (hex) of the archive as it was sent. */
  archive: { digest: string; bytes: number }
  parameters: Parameters
  /** The version whose image this one runs, when the image does not depend on what changed; null: it gets its own. */
  imageOf: number | null
  /** Who waits for it. */
  priority: Priority
  /** ISO 8601 */
  created: string
  /** The version whose content a rollback took. */
  rollbackOf?: number
}

/** The last thing that was decided, so that a crash between deciding and stating it can be made good. */
export interface Change {
  fact: 'lambda.accepted' | 'lambda.enabled' | 'lambda.disabled' | 'lambda.cancelled' | 'lambda.deleted'
  time: string
  /** The request id or the command's `ce-id`. */
  cause: string
}

export interface LambdaRecord {
  id: string
  account: string
  /** The newest version's number. It grows for ever, also over a deletion. */
  version: number
  /** Grows by one at each enable and disable: with the version it makes the clock that facts are ordered by. */
  epoch: number
  alive: boolean
  deleted: boolean
  /** Versions that were cancelled before they ran. */
  cancelled: number[]
  created: string
  updated: string
  /** Oldest first; the last 20. */
  versions: Version[]
  change: Change
}

export interface Held<T> {
  value: T
  /** For compare-and-set. */
  revision: number
}

export interface Records {
  /** As the store has it now; null: never known. */
  get(id: string): Promise<Held<LambdaRecord> | null>
  /** From the live copy of this process, which may be a moment old; null also while nobody follows. */
  known(id: string): LambdaRecord | null
  /** At least as new as this fact: from the live copy when that is, else from the store. */
  asOf(fact: { id: string; version: number; epoch: number }): Promise<LambdaRecord | null>
  /** Compare-and-set; revision 0 creates. false: somebody else was first. */
  put(record: LambdaRecord, revision: number): Promise<boolean>
  /** Calls `tell` for every record that there is, then for each change. Resolves when the first pass is through. */
  follow(tell: (record: LambdaRecord) => void): Promise<Following>
}

export interface Following {
  /** Resolves when everything that was written before this call has been told. */
  caughtUp(): Promise<void>
  close(): void
}

export const versionOf = (record: LambdaRecord, version: number): Version | null => record.versions.find((v) => v.version === version) ?? null

/** The versions kept in a record: enough to go back, small enough for one message. */
export const keptVersions = 20
