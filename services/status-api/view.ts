// The live copy that every read is answered from: records and statuses, as the watches bring them.
// The values themselves stay in the ports' live copies, as text: 10,000 lambdas are a few kilobytes each, not a heap of objects.
import type { BuildRecord } from '../../shared/build-records.ts'
import { servingVersion, type Life } from '../../shared/lifecycle.ts'
import type { Ports } from '../../shared/ports.ts'
import type { Priority } from '../../shared/queue.ts'
import type { LambdaRecord } from '../../shared/records.ts'
import { line, type InLine, type Line } from './line.ts'

export interface View {
  /** null: unknown, deleted, or another account's. */
  find(account: string, id: string): { record: LambdaRecord; life: Life | null } | null
  findBuild(account: string, id: string): { record: BuildRecord; life: Life | null } | null
  /** Ids of an account's lambdas, or of its builds, in order of creation, after `after` (exclusive; null: from the first). */
  idsAfter(kind: Kind, account: string, after: string | null): Iterable<string>
  /** Where it stands among the builds that wait; null: it does not wait. */
  inLine(id: string): InLine | null
  /** Resolves when everything written before this call can be read. */
  caughtUp(): Promise<void>
  close(): void
}

export type Kind = 'lambda' | 'build'

interface Row {
  kind: Kind
  account: string
  created: string
  deleted: boolean
  priority: Priority
}

type ViewPorts = Pick<Ports, 'buildRecords' | 'records' | 'statuses'>

/** `atOnce`: builds at once, over all replicas. */
export async function view(ports: ViewPorts, { atOnce }: { atOnce: number }): Promise<View> {
  const rows = new Map<string, Row>()
  const waiting: Line = line(atOnce)
  // `<created>~<id>` of every row of a kind, sorted: the same order on every replica, whatever order the watches brought them in.
  const orders = new Map<Kind, string[]>()

  const stand = (id: string, row: Row | undefined, life: Life | null): void => {
    const seq = row && !row.deleted ? queuedIn(life) : 0
    waiting.stand(id, row && seq > 0 ? { account: row.account, priority: row.priority, seq } : null)
  }
  const keep = (id: string, row: Row): void => {
    if (rows.get(id)?.created !== row.created) orders.delete(row.kind)
    rows.set(id, row)
    // A life may be folded before its record is seen.
    stand(id, row, ports.statuses.known(id))
  }
  const following = [
    await ports.statuses.follow((life) => {
      waiting.learn(life)
      stand(life.id, rows.get(life.id), life)
    }),
    await ports.records.follow(({ id, account, created, deleted, versions }) => keep(id, { kind: 'lambda', account, created, deleted, priority: versions.at(-1)?.priority ?? 'person' })),
    await ports.buildRecords.follow(({ id, account, created, deleted, priority }) => keep(id, { kind: 'build', account, created, deleted, priority })),
  ]
  const isTheirs = (kind: Kind, account: string, id: string): boolean => {
    const row = rows.get(id)
    return row !== undefined && row.kind === kind && !row.deleted && row.account === account
  }

  return {
    find(account, id) {
      const record = isTheirs('lambda', account, id) ? ports.records.known(id) : null
      return record && { record, life: ports.statuses.known(id) }
    },
    findBuild(account, id) {
      const record = isTheirs('build', account, id) ? ports.buildRecords.known(id) : null
      return record && { record, life: ports.statuses.known(id) }
    },
    *idsAfter(kind, account, after) {
      const order = orders.get(kind) ?? [...rows].filter(([, row]) => row.kind === kind).map(([id, row]) => `${row.created}~${id}`).sort()
      orders.set(kind, order)
      for (let i = after === null ? 0 : firstAfter(order, after); i < order.length; i++) {
        const id = order[i]!.slice(order[i]!.indexOf('~') + 1)
        if (isTheirs(kind, account, id)) yield id
      }
    },
    inLine: (id) => waiting.find(id),
    async caughtUp() {
      await Promise.all(following.map((one) => one.caughtUp()))
    },
    close: () => following.forEach((one) => one.close()),
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

/** Sequence of its entry in the queue; 0: the newest version does not wait for a builder. */
function queuedIn(life: Life | null): number {
  if (!life) return 0
  const v = life.versions[life.version]
  return v?.state === 'queued' && servingVersion(life) !== life.version ? v.queued : 0
}
