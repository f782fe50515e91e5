// The live copy that every read is answered from: records and statuses, as the watches bring them.
// Values are kept as JSON text and parsed when asked for: 10,000 lambdas are a few kilobytes each, not a heap of objects.
import { servingVersion, type Life } from '../../shared/lifecycle.ts'
import type { Ports } from '../../shared/ports.ts'
import type { LambdaRecord } from '../../shared/records.ts'

export interface View {
  /** null: unknown, deleted, or another account's. */
  find(account: string, id: string): { record: LambdaRecord; life: Life | null } | null
  /** Ids of an account's lambdas in order of creation, after `after` (exclusive; null: from the first). */
  idsAfter(account: string, after: string | null): Iterable<string>
  /** 1-based place among the builds that wait, or null. */
  placeInQueue(id: string): number | null
  count(): number
  /** Resolves when everything written before this call can be read. */
  caughtUp(): Promise<void>
  close(): void
}

interface Row {
  record: Buffer
  life: Buffer | null
  account: string
  created: string
  deleted: boolean
  /** Sequence of its place in the build queue; 0: it does not wait. */
  queued: number
}

export async function view(ports: Pick<Ports, 'records' | 'statuses'>): Promise<View> {
  const rows = new Map<string, Row>()
  // A life may be folded before its record is seen.
  const early = new Map<string, Buffer>()
  const queue = new Map<string, number>()
  // `<created>~<id>` of every row, sorted: the same order on every replica, whatever order the watches brought them in.
  let order: string[] | null = null

  const enqueue = (id: string, row: Row): void => {
    if (row.queued > 0 && !row.deleted) queue.set(id, row.queued)
    else queue.delete(id)
  }
  const statuses = await ports.statuses.follow((life) => {
    const row = rows.get(life.id)
    if (!row) return void early.set(life.id, packed(life))
    row.life = packed(life)
    row.queued = queuedIn(life)
    enqueue(life.id, row)
  })
  const records = await ports.records.follow((record) => {
    const known = rows.get(record.id)
    const life = known?.life ?? early.get(record.id) ?? null
    early.delete(record.id)
    const row: Row = {
      record: packed(record), life, account: record.account, created: record.created, deleted: record.deleted,
      queued: known?.queued ?? (life ? queuedIn(unpacked(life)) : 0),
    }
    if (known?.created !== record.created) order = null
    rows.set(record.id, row)
    enqueue(record.id, row)
  })

  return {
    find(account, id) {
      const row = rows.get(id)
      if (!row || row.deleted || row.account !== account) return null
      return { record: unpacked(row.record), life: row.life && unpacked(row.life) }
    },
    *idsAfter(account, after) {
      order ??= [...rows].map(([id, row]) => `${row.created}~${id}`).sort()
      for (let i = after === null ? 0 : firstAfter(order, after); i < order.length; i++) {
        const id = order[i]!.slice(order[i]!.indexOf('~') + 1)
        const row = rows.get(id)!
        if (!row.deleted && row.account === account) yield id
      }
    },
    placeInQueue(id) {
      const mine = queue.get(id)
      if (mine === undefined) return null
      return [...queue.values()].filter((seq) => seq <= mine).length
    },
    count: () => [...rows.values()].filter((row) => !row.deleted).length,
    async caughtUp() {
      await Promise.all([records.caughtUp(), statuses.caughtUp()])
    },
    close() {
      records.close()
      statuses.close()
    },
  }
}

/** Index of the first key beyond `after` in a sorted list. */
function firstAfter(keys: string[], after: string): number {
  let low = 0
  let high = keys.length
  while (low < high) {
    const middle = (low + high) >> 1
    if (keys[middle]! > after) high = middle
    else low = middle + 1
  }
  return low
}

const packed = (value: unknown): Buffer => Buffer.from(JSON.stringify(value))
const unpacked = <T>(bytes: Buffer): T => JSON.parse(bytes.toString()) as T

/** The newest version waits for a builder. */
function queuedIn(life: Life): number {
  const v = life.versions[life.version]
  return v?.state === 'packaged' && servingVersion(life) !== life.version ? v.queued : 0
}
