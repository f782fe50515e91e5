// Statuses: what has been observed of each lambda. The projection is the only writer. The port; `nats/statuses.ts` keeps them in KV `statuses`.
import type { Life } from './lifecycle.ts'
import type { Following, Held } from './records.ts'

export interface Statuses {
  /** null: no fact of it has been folded yet. */
  get(id: string): Promise<Held<Life> | null>
  /** From the live copy of this process, which may be a moment old; null also while nobody follows. */
  known(id: string): Life | null
  /** Compare-and-set; revision 0 creates. The new revision, or null: somebody else was first. */
  put(life: Life, revision: number): Promise<number | null>
  follow(tell: (life: Life) => void): Promise<Following>
}
