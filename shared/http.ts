// What every HTTP answer of kiln shares: request ids and problem+json (RFC 9457), from one map of errors.
import { randomUUID } from 'node:crypto'
import type { ServerResponse } from 'node:http'
import type { Context, Hono } from 'hono'
import type { Finding } from './finding.ts'
import { Refusal, Unavailable } from './trouble.ts'
import type { Log } from './log.ts'

export interface Problem {
  type?: string
  title: string
  status: number
  detail: string
  request_id: string
  error_code?: number
  reason?: string
  errors?: Finding[]
}

const titles: Record<number, string> = {
  400: 'Bad Request', 401: 'Unauthorized', 403: 'Forbidden', 404: 'Not Found', 405: 'Method Not Allowed', 408: 'Request Timeout',
  409: 'Conflict', 410: 'Gone', 413: 'Content Too Large', 414: 'URI Too Long', 415: 'Unsupported Media Type', 422: 'Unprocessable Content',
  429: 'Too Many Requests', 431: 'Request Header Fields Too Large', 500: 'Internal Server Error', 502: 'Bad Gateway',
  503: 'Service Unavailable', 504: 'Gateway Timeout',
}

export function problem(status: number, detail: string, requestId: string, more: Partial<Problem> = {}): Problem {
  return { title: titles[status] ?? 'Error', status, detail, request_id: requestId, ...more }
}

/** Visible ASCII, at most 128 characters: what kiln takes over from a caller. */
const acceptable = /^[\x21-\x7e]{1,128}$/

/** The caller's request id if it is acceptable, else a new one: `<unix seconds>,<uuid4>`. */
export function requestIdOf(given: string | undefined): string {
  if (given !== undefined && acceptable.test(given)) return given
  return `${Math.floor(Date.now() / 1000)},${randomUUID()}`
}

/** Every error that can leave an HTTP service, as a problem. What is not named here is ours: said in the log, not to the caller. */
export function problemOf(error: unknown, requestId: string): Problem {
  if (error instanceof Refusal) {
    return problem(error.status, error.message, requestId, {
      ...(error.errorCode !== null && { error_code: error.errorCode }),
      ...(error.findings.length > 0 && { errors: error.findings }),
    })
  }
  if (error instanceof Unavailable) return problem(503, error.message, requestId)
  return problem(500, 'kiln failed at this; the log of the service has the details under this request id.', requestId)
}

const problemHeaders = (requestId: string, status: number): Record<string, string> => ({
  'content-type': 'application/problem+json',
  'luna-request-id': requestId,
  ...((status === 503 || status === 429) && { 'retry-after': '1' }),
})

/** A problem on a raw Node response; `more` headers come last. Does nothing when the answer has begun. */
export function sendProblem(res: ServerResponse, body: Problem, more: Record<string, string> = {}): void {
  if (res.headersSent || res.destroyed) return
  res.writeHead(body.status, { ...problemHeaders(body.request_id, body.status), ...more })
  res.end(JSON.stringify(body))
}

export interface HttpEnv {
  Variables: { requestId: string; account: string }
}

export function problemResponse(body: Problem, more: Record<string, string> = {}): Response {
  return new Response(JSON.stringify(body), { status: body.status, headers: { ...problemHeaders(body.request_id, body.status), ...more } })
}

/** The manners of every Hono app of kiln: a request id on each answer, each error as a problem, the account of the caller. */
export function withManners(app: Hono<HttpEnv>, log: Log): Hono<HttpEnv> {
  app.use(async function manners(c, next) {
    c.set('requestId', requestIdOf(c.req.header('luna-request-id')))
    c.set('account', c.req.header('luna-account-id') ?? 'default')
    await next()
    c.res.headers.set('luna-request-id', c.get('requestId'))
  })
  app.notFound((c) => problemResponse(problem(404, `There is nothing at ${c.req.path}.`, requestIdIn(c))))
  app.onError((error, c) => {
    const answer = problemOf(error, requestIdIn(c))
    if (answer.status === 500) log.error('a request failed', { error, request_id: answer.request_id, path: c.req.path })
    return problemResponse(answer, error instanceof Refusal && error.retryAfterS !== null ? { 'retry-after': String(error.retryAfterS) } : {})
  })
  return app
}

const requestIdIn = (c: Context<HttpEnv>): string => c.get('requestId') ?? requestIdOf(c.req.header('luna-request-id'))
