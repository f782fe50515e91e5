// The live copy that every read is answered from: records and statuses, as the watches bring them.
// The values themselves stay in the ports' live copies, as text: 10,000 lambdas are a few kilobytes each, not a heap of objects.
import { servingVersion, type Life } from '../../shared/lifecycle.ts'
import type { Ports } from '../../shared/ports.ts'
import type { Priority } from '../../shared/queue.ts'
import type { LambdaRecord } from '../../shared/records.ts'
import { placeOf, type Waiting } from '../../shared/turns.ts'

export interface View {
  /** null: unknown, deleted, or another account's. */
  find(account: string, id: string): { record: LambdaRecord; life: Life | null } | null
  /** Ids of an account's lambdas in order of creation, after `after` (exclusive; null: from the first). */
  idsAfter(account: string, after: string | null): Iterable<string>
  /** 1-based place among the builds that wait, if accounts go on taking turns as they do now; or null. */
  placeInQueue(id: string): number | null
  count(): number
  /** Resolves when everything written before this call can be read. */
  caughtUp(): Promise<void>
  close(): void
}

interface Row {
  account: string
  created: string
  deleted: boolean
  /** Sequence of its entry in the build queue; 0: it does not wait. */
  queued: number
}

type Waits = Omit<Waiting, 'id'>

export async function view(ports: Pick<Ports, 'records' | 'statuses'>): Promise<View> {
  const rows = new Map<string, Row>()
  const queue = new Map<string, Waits>()
  /** When a build of each account was begun last: whose turn it is. */
  const served = new Map<string, number>()
  // `<created>~<id>` of every row, sorted: the same order on every replica, whatever order the watches brought them in.
  let order: string[] | null = null

  const enqueue = (id: string, row: Row): void => {
    if (row.queued > 0 && !row.deleted) queue.set(id, { account: row.account, priority: priorityOf(ports.records.known(id)), seq: row.queued })
    else queue.delete(id)
  }
  const statuses = await ports.statuses.follow((life) => {
    const begun = life.timeline.findLast((moment) => moment.fact === 'image.started')?.lastSeq ?? 0
    if (begun > (served.get(life.account) ?? 0)) served.set(life.account, begun)
    const row = rows.get(life.id)
    if (!row) return
    row.queued = queuedIn(life)
    enqueue(life.id, row)
  })
  const records = await ports.records.follow((record) => {
    const known = rows.get(record.id)
    // A life may be folded before its record is seen.
    const queued = known?.queued ?? queuedIn(ports.statuses.known(record.id))
    const row: Row = { account: record.account, created: record.created, deleted: record.deleted, queued }
    if (known?.created !== record.created) order = null
    rows.set(record.id, row)
    enqueue(record.id, row)
  })

  return {
    find(account, id) {
      const row = rows.get(id)
      if (!row || row.deleted || row.account !== account) return null
      const record = ports.records.known(id)
      return record && { record, life: ports.statuses.known(id) }
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
      if (!queue.has(id)) return null
      return placeOf(id, [...queue].map(([one, waits]) => ({ id: one, ...waits })), served)
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

const priorityOf = (record: LambdaRecord | null): Priority => record?.versions.at(-1)?.priority ?? 'person'

/** The newest version waits for a builder. */
function queuedIn(life: Life | null): number {
  if (!life) return 0
  const v = life.versions[life.version]
  return v?.state === 'queued' && servingVersion(life) !== life.version ? v.queued : 0
}
