// Where each lambda can be reached now, or why it cannot: a small table in memory, kept by the watches.
import { lambdaStatus, servingVersion, stateOf, type Life } from '../../shared/lifecycle.ts'
import type { Ports } from '../../shared/ports.ts'
import type { LambdaRecord } from '../../shared/records.ts'
import type { Place } from './proxy.ts'

export interface Places {
  find(account: string, id: string): Place
  caughtUp(): Promise<void>
  close(): void
}

interface Row {
  record: Pick<LambdaRecord, 'id' | 'account' | 'version' | 'epoch' | 'alive' | 'deleted' | 'cancelled' | 'change'> | null
  life: Life | null
  place: Place
}

export async function places(ports: Pick<Ports, 'records' | 'statuses'>): Promise<Places> {
  const rows = new Map<string, Row>()
  const change = (id: string, part: Partial<Row>): void => {
    const row = { record: null, life: null, place: unknown(id), ...rows.get(id), ...part }
    rows.set(id, { ...row, place: placeOf(id, row.record as LambdaRecord | null, row.life) })
  }
  const following = await Promise.all([
    ports.records.follow(({ id, account, version, epoch, alive, deleted, cancelled, change: last }) => change(id, { record: { id, account, version, epoch, alive, deleted, cancelled, change: last } })),
    ports.statuses.follow((life) => change(life.id, { life: slim(life) })),
  ])
  return {
    find(account, id) {
      const row = rows.get(id)
      return row?.record?.account === account ? row.place : unknown(id)
    },
    async caughtUp() {
      await Promise.all(following.map((one) => one.caughtUp()))
    },
    close: () => following.forEach((one) => one.close()),
  }
}

/** Without what no request needs. */
const slim = (life: Life): Life => ({ ...life, timeline: [] })

const unknown = (id: string): Place => ({ running: false, status: 404, error_code: 42001, detail: `There is no lambda with id ${id}.` })

function placeOf(id: string, record: LambdaRecord | null, life: Life | null): Place {
  if (!record || record.deleted) return unknown(id)
  if (!record.alive) return { running: false, status: 409, error_code: 42016, reason: 'Disabled', detail: `Lambda ${id} is disabled; POST /lambdas/${id}/enable switches it on.` }
  const version = servingVersion(life)
  if (version !== null) return { running: true, version, endpoints: life!.versions[version]!.sight!.endpoints }
  const state = stateOf(record, life)
  const v = life?.versions[record.version]
  const because = state === 'failed' ? v?.failure : v?.sight
  return {
    running: false, status: 503, reason: because?.reason ?? 'NotRunning', retryAfterS: state === 'failed' ? 30 : 1,
    detail: `Lambda ${id} is not running: it is ${state} (${lambdaStatus(record, life)})${because ? `: ${because.message}` : '.'}`,
  }
}
