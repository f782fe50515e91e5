// Which headers go on to the other side, and what is added to them.
import type { IncomingMessage } from 'node:http'

const none: ReadonlySet<string> = new Set()

/** RFC 9110 §7.6.1: these speak of one connection, not of the message; with whatever `Connection` names besides. */
const hopByHop = ['connection', 'keep-alive', 'te', 'trailer', 'transfer-encoding', 'upgrade']
const notForPods = new Set([...hopByHop, 'expect', 'host', 'luna-request-id', 'x-forwarded-for', 'x-forwarded-proto', 'x-forwarded-host'])
const notForClients = new Set([...hopByHop, 'luna-request-id', 'lambda-version'])
const notWith204 = new Set([...notForClients, 'content-length'])

export function headersForPod(req: IncomingMessage, requestId: string): string[] {
  const { headers, socket } = req
  const fields = endToEnd(req.rawHeaders, notForPods)
  fields.push('luna-request-id', requestId)
  fields.push('x-forwarded-for', appended(headers['x-forwarded-for'], socket.remoteAddress ?? 'unknown'))
  fields.push('x-forwarded-proto', appended(headers['x-forwarded-proto'], 'encrypted' in socket ? 'https' : 'http'))
  if (headers.host !== undefined) fields.push('x-forwarded-host', appended(headers['x-forwarded-host'], headers.host))
  return fields
}

export function headersForClient(raw: Buffer[], status: number): string[] {
  const fields = raw.map((bytes) => bytes.toString('latin1'))
  return endToEnd(fields, status === 204 ? notWith204 : notForClients)
}

function endToEnd(raw: readonly string[], dropped: ReadonlySet<string>): string[] {
  const named = namedByConnection(raw)
  const kept: string[] = []
  for (let i = 0; i < raw.length; i += 2) {
    const name = raw[i]!.toLowerCase()
    if (dropped.has(name) || named.has(name) || name.startsWith('proxy-')) continue
    kept.push(raw[i]!, raw[i + 1]!)
  }
  return kept
}

function namedByConnection(raw: readonly string[]): ReadonlySet<string> {
  const value = valueOf(raw, 'connection').toLowerCase()
  if (value === '' || value === 'keep-alive' || value === 'close') return none
  return new Set(value.split(',').map((name) => name.trim()))
}

/** All values of a header, as one list. */
export function valueOf(fields: readonly string[], name: string): string {
  let value = ''
  for (let i = 0; i < fields.length; i += 2) {
    const field = fields[i]!
    if (field.length !== name.length || field.toLowerCase() !== name) continue
    value = appended(value, fields[i + 1]!)
  }
  return value
}

const appended = (before: string | string[] | undefined, last: string): string => (before ? `${before}, ${last}` : last)
