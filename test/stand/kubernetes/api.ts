// The HTTP side of the stand-in for a Kubernetes cluster: answers as a real API server was recorded to answer, over a store that controllers share.
import { once } from 'node:events'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { answer, type Answer } from './answering.ts'
import { removing } from './deletion.ts'
import { ApiError } from './errors.ts'
import type { ReadLog } from './log-requests.ts'
import { collectGarbage } from './ownership.ts'
import type { Rule } from './rights.ts'
import type { Store, Thing } from './store.ts'
import { writing } from './writing.ts'

export interface ApiHooks {
  /** DELETE of a pod that is scheduled: its processes are ended, and it is dropped when they have ended. Returns what is stored then. */
  deletePod(pod: Thing, graceSeconds: number): Thing
  /** The text of a container's log. Throws ApiError for 400 and 404. `follow` goes on until the container's run ends or the signal aborts. null: not scheduled, 204. */
  log: ReadLog
}

export interface ApiOptions {
  /** Bearer token -> what it may do. Without it, every token may do everything. */
  roles?: ReadonlyMap<string, Rule[]>
  /** How often a watch that asks for bookmarks has one. */
  bookmarkMs?: number
}

type Failure = { status: number; body?: unknown; headers?: Record<string, string> } | 'reset'

export interface Api {
  /** http://127.0.0.1:<port> */
  address: string
  close(): Promise<void>
  /** Breaks all watches that are open, as a restart of the API server does. */
  breakWatches(): void
  /** How many watches are open. */
  watches(): number
  /** Requests so far: method, and path with query. */
  requests: Array<{ method: string; path: string }>
  /** The next request whose method and path match is answered by this instead. */
  failNext(match: (method: string, path: string) => boolean, answer: Failure): void
}

export async function serveApi(store: Store, hooks: ApiHooks, { roles, bookmarkMs = 60_000 }: ApiOptions = {}): Promise<Api> {
  const remove = removing(store, hooks.deletePod)
  const stopCollecting = collectGarbage(store, remove)
  const watches = new Set<ServerResponse>()
  const ending = new AbortController()
  const requests: Api['requests'] = []
  const failures: Array<{ match: (method: string, path: string) => boolean; answer: Failure }> = []
  const opened = (response: ServerResponse): void => {
    watches.add(response)
    response.once('close', () => watches.delete(response))
  }
  const parts = { store, writing: writing(store), remove, log: hooks.log, roles, bookmarkMs, opened, ending: ending.signal }

  const server = createServer((request, response) => {
    const { method = '', url = '' } = request
    requests.push({ method, path: url })
    const index = failures.findIndex(({ match }) => match(method, url))
    const [failure] = index === -1 ? [] : failures.splice(index, 1)
    if (failure !== undefined) failWith(failure.answer, request, response)
    else answer(parts, request, response).then((found) => found !== null && send(response, found), (error) => sendError(response, error))
  })
  // Longer than any client keeps a connection: it is never the server that closes one while a request is on its way.
  server.keepAliveTimeout = 600_000
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return {
    address: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    async close() {
      stopCollecting()
      ending.abort()
      const closed = once(server, 'close')
      server.close()
      server.closeAllConnections()
      await closed
    },
    breakWatches: () => watches.forEach((response) => response.destroy()),
    watches: () => watches.size,
    requests,
    failNext: (match, answer) => failures.push({ match, answer }),
  }
}

function failWith(failure: Failure, request: IncomingMessage, response: ServerResponse): void {
  if (failure === 'reset') {
    request.socket.resetAndDestroy()
    return
  }
  request.resume()
  send(response, { status: failure.status, body: failure.body ?? '', headers: failure.headers })
}

function send(response: ServerResponse, { status, body, headers = {} }: Answer): void {
  if (response.destroyed) return
  const text = typeof body === 'string' ? body : JSON.stringify(body)
  const type = typeof body === 'string' ? 'text/plain; charset=utf-8' : 'application/json'
  response.writeHead(status, { 'Cache-Control': 'no-cache, private', 'Content-Type': type, 'Content-Length': Buffer.byteLength(text), ...headers }).end(text)
}

/** A refusal is an answer; anything else is a fault of the stand-in, and says so. */
function sendError(response: ServerResponse, error: unknown): void {
  if (response.headersSent) {
    response.destroy()
    return
  }
  if (error instanceof ApiError) send(response, error)
  else send(response, { status: 500, body: `the stand-in failed: ${error instanceof Error ? error.stack : String(error)}\n` })
}
