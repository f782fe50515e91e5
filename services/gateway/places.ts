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

export async function places(ports: Pick<Ports, 'records' | 'statuses'>): Promise<Places> {
  const rows = new Map<string, { account: string; place: Place }>()
  const change = (id: string, record: LambdaRecord | null, life: Life | null): void => {
    if (record) rows.set(id, { account: record.account, place: placeOf(id, record, life) })
  }
  const following = [
    await ports.statuses.follow((life) => change(life.id, ports.records.known(life.id), life)),
    await ports.records.follow((record) => change(record.id, record, ports.statuses.known(record.id))),
  ]
  return {
    find(account, id) {
      const row = rows.get(id)
      return row?.account === account ? row.place : unknown(id)
    },
    async caughtUp() {
      await Promise.all(following.map((one) => one.caughtUp()))
    },
    close: () => following.forEach((one) => one.close()),
  }
}

const unknown = (id: string): Place => ({ running: false, status: 404, error_code: 42001, detail: `There is no lambda with id ${id}.` })

function placeOf(id: string, record: LambdaRecord, life: Life | null): Place {
  if (record.deleted) return unknown(id)
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
