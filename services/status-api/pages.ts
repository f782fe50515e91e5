// Pages of a list: so many rows after a cursor, only those of a status or a name.
import type { Context } from 'hono'
import type { HttpEnv } from '../../shared/http.ts'
import { Refusal } from '../../shared/trouble.ts'

const usual = 100
const most = 1_000

export interface Page {
  limit: number
  /** `<created>~<id>` of the last row of the page before; null: from the first. */
  after: string | null
  status: string | undefined
  name: string | undefined
}

/** What the query asks for; `nameIn`: the field that a name is asked by. */
export function pageAsked(c: Context<HttpEnv>, statuses: readonly string[], nameIn: string): Page {
  const { limit = String(usual), cursor, status, [nameIn]: name } = c.req.query()
  if (!/^\d{1,6}$/.test(limit) || Number(limit) < 1 || Number(limit) > most) throw new Refusal(400, null, `limit must be a number from 1 to ${most}.`)
  if (status !== undefined && !statuses.includes(status)) throw new Refusal(400, null, `status must be one of ${statuses.join(', ')}.`)
  const after = cursor === undefined ? null : Buffer.from(cursor, 'base64url').toString()
  if (after !== null && !/^\d{4}-\d{2}-\d{2}T[\d:.]+Z~[0-9a-f-]{36}$/.test(after)) throw new Refusal(400, null, 'cursor must be one that an earlier answer gave.')
  return { limit: Number(limit), after, status, name }
}

/** `rowOf`: null leaves it out. `cursor` null: there are no more. */
export function pageOf<Row extends { status: string; created: string }>(ids: Iterable<string>, { limit, status }: Page, rowOf: (id: string) => Row | null): { rows: Row[]; cursor: string | null } {
  const rows: Row[] = []
  let last: string | null = null
  for (const id of ids) {
    const row = rowOf(id)
    if (!row || (status && row.status !== status)) continue
    if (rows.length === limit) return { rows, cursor: last }
    rows.push(row)
    last = Buffer.from(`${row.created}~${id}`).toString('base64url')
  }
  return { rows, cursor: null }
}
