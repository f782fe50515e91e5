// GET pods/<name>/log: what the query asks for, and the stream of the answer.
import type { ServerResponse } from 'node:http'
import { forbiddenValue, invalidOptions, invalidValue, type Cause } from './errors.ts'
import type { Thing } from './store.ts'

export interface LogQuery {
  follow: boolean
  previous: boolean
  tailLines: number | null
  sinceTime: string | null
  timestamps: boolean
  limitBytes: number | null
}

/** The kubelet's part: null for a pod that is on no node yet. */
export type ReadLog = (pod: Thing, container: string | null, query: LogQuery, signal: AbortSignal) => AsyncIterable<Buffer> | null

/** Answers with the bytes as they come; ends when they end, and stops them when the caller leaves. */
export async function streamLog(read: ReadLog, pod: Thing, query: URLSearchParams, response: ServerResponse, ending: AbortSignal): Promise<void> {
  const asked = readQuery(pod.metadata.name, query)
  const leaving = new AbortController()
  response.once('close', () => leaving.abort())
  const bytes = read(pod, query.get('container'), asked, AbortSignal.any([leaving.signal, ending]))
  if (bytes === null) {
    response.writeHead(204).end()
    return
  }
  response.writeHead(200, { 'Content-Type': 'text/plain', 'Cache-Control': 'no-cache, private' })
  response.flushHeaders()
  for await (const chunk of bytes) {
    if (response.destroyed) return
    if (!response.write(chunk)) await drained(response)
  }
  response.end()
}

const drained = (response: ServerResponse): Promise<void> => new Promise((resolve) => {
  const done = (): void => {
    response.off('drain', done).off('close', done)
    resolve()
  }
  response.once('drain', done).once('close', done)
})

function readQuery(name: string, query: URLSearchParams): LogQuery {
  const is = (field: string): boolean => ['true', '1'].includes(query.get(field) ?? '')
  const number = (field: string): number | null => (query.has(field) ? Number(query.get(field)) : null)
  const [tailLines, limitBytes, sinceSeconds] = [number('tailLines'), number('limitBytes'), number('sinceSeconds')]
  const causes: Cause[] = [
    ...(tailLines !== null && tailLines < 0 ? [invalidValue('tailLines', tailLines, 'must be greater than or equal to 0')] : []),
    ...(limitBytes !== null && limitBytes < 1 ? [invalidValue('limitBytes', limitBytes, 'must be greater than 0')] : []),
    ...(sinceSeconds !== null && query.has('sinceTime') ? [forbiddenValue('[]', 'at most one of `sinceTime` or `sinceSeconds` may be specified')] : []),
    ...(query.has('stream') ? [forbiddenValue('stream', 'may not be specified')] : []),
  ]
  if (causes.length > 0) throw invalidOptions('PodLogOptions', '', name, causes)
  const since = sinceSeconds === null ? query.get('sinceTime') : new Date(Date.now() - sinceSeconds * 1000).toISOString()
  return { follow: is('follow'), previous: is('previous'), timestamps: is('timestamps'), tailLines, limitBytes, sinceTime: since }
}
