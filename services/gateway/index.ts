// gateway: the one address. Knows who calls, gives each request an id, and sends it to ingest, to status-api, to builder-watcher or to a lambda.
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo, Socket } from 'node:net'
import { getRequestListener } from '@hono/node-server'
import { Hono, type MiddlewareHandler } from 'hono'
import { problem, problemResponse, requestIdOf, sendProblem, withManners, type HttpEnv, type Problem } from '../../shared/http.ts'
import type { Ports } from '../../shared/ports.ts'
import { Unavailable } from '../../shared/trouble.ts'
import { docsPages } from './docs.ts'
import type { Places } from './places.ts'
import type { Place, Proxy } from './proxy.ts'
import type { AccountOf } from './tokens.ts'

type Handler = (request: Request) => Response | Promise<Response>

export interface GatewayParts {
  ingest: Handler
  statusApi: Handler
  /** What operators ask; null: this gateway has no way there. */
  builder: Handler | null
  places: Places
  proxy: Proxy
  accountOf: AccountOf
}

export interface Listening {
  port: number
  close(): Promise<void>
}

type GatewayPorts = Pick<Ports, 'bus' | 'log' | 'metrics'>

/** Longest request line and headers; beyond it the answer is 431. */
const maxHeaderBytes = 32 * 1024

/** The address as a Hono app; invocations do not pass through it. */
export function gateway(ports: GatewayPorts, parts: GatewayParts): Hono<HttpEnv> {
  const app = withManners(new Hono<HttpEnv>(), ports.log)
  app.get('/healthz', (c) => c.json({ status: 'ok' }))
  app.get('/readyz', (c) => {
    const isReady = ports.bus.isConnected()
    return c.json({ status: isReady ? 'ready' : 'waiting for NATS', nats: ports.bus.address() }, isReady ? 200 : 503)
  })
  app.get('/metrics', async (c) => c.text(await ports.metrics.text(), 200, { 'content-type': ports.metrics.contentType }))
  docsPages(app)
  const guard = guardOf(parts.accountOf)
  const theirs = ['/lambdas', '/lambdas/*', '/builds', '/builds/*']
  for (const path of theirs) app.use(path, guard)
  app.on(['GET', 'HEAD'], theirs, (c) => parts.statusApi(inside(c.req.raw, c.get('account'), c.get('requestId'))))
  for (const path of theirs) app.all(path, (c) => parts.ingest(inside(c.req.raw, c.get('account'), c.get('requestId'))))
  app.use('/garbage', operatorsOnly(parts), guard)
  app.all('/garbage', (c) => parts.builder!(inside(c.req.raw, c.get('account'), c.get('requestId'))))
  return app
}

/** Garbage is nobody's own: where callers need tokens, no token says that its holder is an operator. */
function operatorsOnly({ builder, accountOf }: GatewayParts): MiddlewareHandler<HttpEnv> {
  const isOpen = accountOf(undefined) !== null
  return async function operators(c, next) {
    if (!isOpen) return problemResponse(problem(403, 'This is for operators, whom no token names: ask builder-watcher at its own address (in a cluster http://builder-watcher:8080/garbage).', c.get('requestId')))
    if (!builder) return problemResponse(problem(404, 'This gateway has no way to builder-watcher: set BUILDER_URL, or ask builder-watcher at its own address.', c.get('requestId')))
    await next()
  }
}

const challenge = (status: number): Record<string, string> => (status === 401 ? { 'www-authenticate': 'Bearer' } : {})

function guardOf(accountOf: AccountOf): MiddlewareHandler<HttpEnv> {
  return async function guard(c, next) {
    const account = accountOf(c.req.header('authorization'))
    if (account === null) return problemResponse(problem(401, tokenNeeded, c.get('requestId')), challenge(401))
    const isReading = c.req.method === 'GET' || c.req.method === 'HEAD'
    if (!isReading && isForeign((name) => c.req.header(name))) return problemResponse(problem(403, 'Requests from pages of another site are refused.', c.get('requestId')))
    c.set('account', account)
    await next()
  }
}

const tokenNeeded = 'A token is needed: send Authorization: Bearer <token>.'

/** A page of another site must not make lambdas through the browser of someone who runs kiln on a laptop. */
function isForeign(header: (name: string) => string | undefined): boolean {
  const origin = header('origin')
  return header('sec-fetch-site') === 'cross-site' || (origin !== undefined && !isSameHost(origin, header('host')))
}

function isSameHost(origin: string, host: string | undefined): boolean {
  return URL.canParse(origin) && new URL(origin).host === host
}

/** The request as the services behind the gateway see it: whoever calls cannot choose an account. */
function inside(request: Request, account: string, requestId: string): Request {
  const headers = new Headers(request.headers)
  headers.set('luna-account-id', account)
  headers.set('luna-request-id', requestId)
  return new Request(request, { headers, ...(request.body && { duplex: 'half' }) } as RequestInit)
}

/** Of one connection only (RFC 9110 §7.6.1), or answered by the gateway's own server already. */
const notForwarded = ['connection', 'keep-alive', 'te', 'trailer', 'transfer-encoding', 'upgrade', 'expect']

/** A service in another process: the same handler, over HTTP. */
export function forwardTo(url: string): Handler {
  return async (request) => {
    const { pathname, search } = new URL(request.url)
    const { method, body, signal } = request
    const headers = new Headers(request.headers)
    for (const name of notForwarded) headers.delete(name)
    const wish = { method, headers, body, signal, redirect: 'manual', ...(body && { duplex: 'half' }) } as RequestInit
    const answer = await fetch(new URL(pathname + search, url), wish).catch((error: Error) => {
      if (signal.aborted) throw error
      throw new Unavailable(`The part of kiln that answers this cannot be reached now; try again soon.`, { cause: error })
    })
    // What fetch gives cannot be given more headers.
    return new Response(answer.body, { status: answer.status, headers: new Headers(answer.headers) })
  }
}

// ---
// The server. Invocations are told by their path and carried by the proxy on the raw request and response; everything else is Hono's.

const invocation = /^\/lambdas\/([^/?]+)\/proxy(\/[^?]*)?(\?.*)?$/

export async function listen(ports: GatewayPorts, parts: GatewayParts, at: { host: string; port: number }): Promise<Listening> {
  const others = getRequestListener(gateway(ports, parts).fetch)
  const server = createServer({ maxHeaderSize: maxHeaderBytes, keepAliveTimeout: 65_000, requestTimeout: 0 }, (req, res) => {
    const match = invocation.exec(req.url ?? '')
    if (match) void invoke(parts, req, res, match)
    else void others(req, res)
  })
  server.on('clientError', answerParserError)
  ports.metrics.measure('kiln_proxy_in_flight', 'Invocations under way', {}, () => parts.proxy.inFlight)
  await new Promise<void>((resolve, reject) => { server.once('error', reject); server.listen(at.port, at.host, resolve) })
  return { port: (server.address() as AddressInfo).port, close: () => close(server, parts) }
}

async function invoke(parts: GatewayParts, req: IncomingMessage, res: ServerResponse, match: RegExpExecArray): Promise<void> {
  const requestId = requestIdOf(req.headers['luna-request-id'] as string | undefined)
  const caller = parts.accountOf(req.headers.authorization)
  if (caller === null) return sendProblem(res, problem(401, tokenNeeded, requestId), challenge(401))
  const id = match[1]!.toLowerCase()
  // A lambda, or a fact of it, of this very moment may not have reached this table yet: who heard it first is not sent away for that.
  const isAbsent = (): boolean => { const place = parts.places.find(caller, id); return !place.running && place.status !== 409 }
  if (isAbsent()) await parts.places.caughtUp().catch(() => undefined)
  if (isAbsent() && isOnItsWay(parts.places.find(caller, id))) await new Promise((resolve) => setTimeout(resolve, settlingMs))
  await parts.proxy.carry(req, res, { place: () => parts.places.find(caller, id), path: (match[2] ?? '/') + (match[3] ?? ''), requestId })
}

/** What a fact needs at most, on a busy machine, from its statement to this table. */
const settlingMs = 250
const isOnItsWay = (place: Place): boolean => !place.running && place.status === 503

const parserErrors: Record<string, { status: number; detail: string }> = {
  HPE_HEADER_OVERFLOW: { status: 431, detail: `The request line and headers have more than ${maxHeaderBytes} bytes.` },
  ERR_HTTP_REQUEST_TIMEOUT: { status: 408, detail: 'The request did not arrive in time.' },
}

/** What Node's parser refuses never becomes a request; it is answered all the same. */
function answerParserError(error: NodeJS.ErrnoException, socket: Socket): void {
  if (!socket.writable || error.code === 'ECONNRESET') return void socket.destroy()
  const { status, detail } = parserErrors[error.code ?? ''] ?? { status: 400, detail: `The request is not HTTP: ${error.message}.` }
  const body: Problem = problem(status, detail, requestIdOf(undefined))
  const text = JSON.stringify(body)
  socket.end(`HTTP/1.1 ${status} ${body.title}\r\ncontent-type: application/problem+json\r\nluna-request-id: ${body.request_id}\r\ncontent-length: ${Buffer.byteLength(text)}\r\nconnection: close\r\n\r\n${text}`)
}

/** Takes no more, lets what is under way end for a while, then closes. */
async function close(server: Server, parts: GatewayParts): Promise<void> {
  const closed = new Promise<void>((resolve) => server.close(() => resolve()))
  server.closeIdleConnections()
  const patience = setTimeout(() => server.closeAllConnections(), 3_000)
  await closed
  clearTimeout(patience)
  await parts.proxy.close()
  parts.places.close()
}
