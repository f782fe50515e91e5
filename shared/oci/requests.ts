// Requests to registries and their token servers: over https or, where that is allowed, what answers; redirected, bounded in time and size.
import { Agent, request as undiciRequest, type Dispatcher } from 'undici'
import { Unavailable } from '../trouble.ts'
import { dockerHub } from './image-name.ts'

/** A body that is read while it is sent. */
export interface Stream {
  bytes: number
  /** From its beginning, each time: once for each request that carries it. */
  open(): AsyncIterable<Buffer>
}

export interface Request {
  method: Dispatcher.HttpMethod
  headers: Record<string, string>
  /** Goes to the host that is asked and to no other. */
  authorization?: string | null
  /** A stream is sent by one request to one place: it is not sent again, and follows no redirect. */
  body?: string | Buffer | Stream
  /** As long as something moves it may take as long as it wants: what goes or comes is large. */
  isLong?: boolean
  /** How long the answer may let wait for itself once all is sent, where that is not as usual. */
  answerMs?: number
  signal?: AbortSignal | undefined
}

export interface Answer {
  /** Where it came from, behind all redirects. */
  url: URL
  /** No other host has answered than the one that was asked. */
  isOfHost: boolean
  status: number
  header(name: string): string | null
  /** The whole body. Throws Unavailable when it is larger than `limit`. */
  bytes(limit: number): Promise<Buffer>
  /** The body as it comes. Throws Unavailable where it breaks off. Whoever does not read to the end closes the connection. */
  stream(): AsyncGenerator<Buffer, void>
  /** When the body is of no interest. Every answer is read or dropped. */
  drop(): Promise<void>
}

export interface Requests {
  /** `path` begins with '/'. Throws Unavailable when nothing answers, and the signal's reason when that has aborted; every status is an answer. */
  toHost(host: string, path: string, request: Request): Promise<Answer>
  /** The same for a whole address that `host` has named: its token server, or where its uploads go. */
  toUrl(url: URL, named: { by: string; for: string; who: string }, request: Request): Promise<Answer>
}

export interface Limits {
  connectMs: number
  /** Nothing moves for so long, and it is given up. */
  idleMs: number
  /** What is not long is over by then. */
  wholeMs: number
}

const usual: Limits = { connectMs: 5_000, idleMs: 30_000, wholeMs: 60_000 }
const redirectsAtMost = 5
/** Less than what servers keep them for. */
const keptConnectionMs = 30_000
type Scheme = 'https:' | 'http:'

/** `insecure`: hosts whose certificate may be anybody's, and which may speak plain http; so may those that they name. */
export function requests(insecure: ReadonlySet<string>, limits: Limits = usual): Requests {
  const { connectMs, idleMs, wholeMs } = limits
  const waiting = { headersTimeout: idleMs, bodyTimeout: idleMs, keepAliveTimeout: keptConnectionMs }
  const strict: Trust = { agent: new Agent({ ...waiting, connect: { timeout: connectMs } }), http: false, wholeMs }
  const lenient: Trust = { agent: new Agent({ ...waiting, connect: { timeout: connectMs, rejectUnauthorized: false } }), http: true, wholeMs }
  const trustIn = (host: string): Trust => (insecure.has(host) ? lenient : strict)
  /** What answered last, at hosts that may speak either. */
  const spoken = new Map<string, Scheme>()

  function schemesOf(host: string, body: Request['body']): Scheme[] {
    if (!trustIn(host).http) return ['https:']
    const last = spoken.get(host) ?? 'https:'
    return isStream(body) ? [last] : [...new Set([last, 'https:', 'http:'] as const)]
  }

  return {
    async toHost(host, path, request) {
      const place = host === dockerHub ? 'registry-1.docker.io' : host
      const failures: unknown[] = []
      for (const scheme of schemesOf(host, request.body)) {
        try {
          const answer = await followed(new URL(`${scheme}//${place}${path}`), `The registry ${host}`, trustIn(host), request)
          // 400 in no words of a registry is what a server of https says to http: the next time https is tried first, again.
          if (answer.status === 400 && !/json/.test(answer.header('content-type') ?? '')) spoken.delete(host)
          else spoken.set(host, scheme)
          return answer
        } catch (error) {
          request.signal?.throwIfAborted()
          failures.push(error)
          if (error instanceof Unavailable || isLate(error)) break
        }
      }
      // Where one of them was spoken before, its failure is the one to tell; else that of the last.
      throw unreachable(`The registry ${host}`, spoken.has(host) ? failures.reverse() : failures)
    },
    async toUrl(url, named, request) {
      const trust = trustIn(named.by)
      if (!mayGo(url, trust)) throw new Unavailable(`The registry ${named.by} sends kiln ${named.for} to ${url.origin}, which is not https.`)
      return followed(url, named.who, trust, request).catch((error: unknown) => {
        request.signal?.throwIfAborted()
        throw unreachable(named.who, [error])
      })
    },
  }
}

interface Trust { agent: Agent; http: boolean; wholeMs: number }
const mayGo = (url: URL, { http }: Trust): boolean => url.protocol === 'https:' || (http && url.protocol === 'http:')
const isStream = (body: Request['body']): body is Stream => typeof body === 'object' && !Buffer.isBuffer(body)

async function followed(from: URL, who: string, trust: Trust, request: Request): Promise<Answer> {
  let url = from
  for (let redirects = 0; ; redirects++) {
    const isOfHost = url.origin === from.origin
    const response = await sent(url, trust, isOfHost ? request : { ...request, authorization: null })
    const location = [301, 302, 303, 307, 308].includes(response.statusCode) ? response.headers['location'] : undefined
    if (typeof location !== 'string' || !URL.canParse(location, url.href)) return answerOf(url, isOfHost, response, who)
    await response.body.dump().catch(() => undefined)
    url = new URL(location, url)
    if (redirects === redirectsAtMost) throw new Unavailable(`${who} redirects without end: ${redirectsAtMost} times, then to ${url.origin}.`)
    if (!mayGo(url, trust)) throw new Unavailable(`${who} redirects to ${url.origin}, which is not https.`)
    // A body may hold a credential, and a stream is gone once it is sent.
    if (request.body !== undefined && (url.origin !== from.origin || isStream(request.body))) throw new Unavailable(`${who} redirects what is sent there to ${url.origin}.`)
  }
}

/** A connection that was kept can be closed by the other side at the very moment of its next use. */
async function sent(url: URL, trust: Trust, request: Request): Promise<Dispatcher.ResponseData> {
  if (isStream(request.body)) return once(url, trust, request)
  return once(url, trust, request).catch((error: unknown) => {
    if (['UND_ERR_SOCKET', 'ECONNRESET', 'EPIPE'].includes(codeOf(error))) return once(url, trust, request)
    throw error
  })
}

function once(url: URL, { agent, wholeMs }: Trust, { method, headers, authorization, body, isLong, answerMs, signal }: Request): Promise<Dispatcher.ResponseData> {
  const given = isStream(body) ? asWritten(body.open()) : (body ?? null)
  const length = isStream(body) && { 'content-length': String(body.bytes) }
  const limits = [...(signal ? [signal] : []), ...(isLong ? [] : [AbortSignal.timeout(wholeMs)])]
  return undiciRequest(url, {
    method, body: given, headers: { ...headers, ...length, ...(authorization && { authorization }) }, dispatcher: agent,
    signal: limits.length > 1 ? AbortSignal.any(limits) : (limits[0] ?? null), ...(answerMs !== undefined && { headersTimeout: answerMs }),
  })
}

/** It takes whatever can be iterated and closes it in the end; its types do not say so. */
const asWritten = (chunks: AsyncIterable<Buffer>): Dispatcher.DispatchOptions['body'] => chunks as unknown as Exclude<Dispatcher.DispatchOptions['body'], undefined>

function answerOf(url: URL, isOfHost: boolean, { statusCode, headers, body }: Dispatcher.ResponseData, who: string): Answer {
  async function* stream(): AsyncGenerator<Buffer, void> {
    try {
      yield* body as AsyncIterable<Buffer>
    } catch (error) {
      throw unreachable(who, [error])
    }
  }
  return {
    url, isOfHost, status: statusCode, stream,
    header(name) {
      const value = headers[name]
      return (Array.isArray(value) ? value.join(', ') : value) ?? null
    },
    async bytes(limit) {
      const chunks: Buffer[] = []
      let bytes = 0
      for await (const chunk of stream()) {
        bytes += chunk.length
        if (bytes > limit) throw new Unavailable(`${who} answered with more than ${limit} bytes.`)
        chunks.push(chunk)
      }
      return Buffer.concat(chunks, bytes)
    },
    // What is larger goes with its connection.
    drop: () => body.dump({ limit: 64 * 1_024 }).catch(() => undefined),
  }
}

const codeOf = (error: unknown): string => (error as { code?: string }).code ?? ''
const isLate = (error: unknown): boolean => ['UND_ERR_HEADERS_TIMEOUT', 'UND_ERR_BODY_TIMEOUT'].includes(codeOf(error)) || (error as Error).name === 'TimeoutError'

/** The last failure is what is told, the others are kept with it. */
function unreachable(who: string, failures: unknown[]): Unavailable {
  const last = failures.at(-1)
  if (last instanceof Unavailable) return last
  const cause = failures.length === 1 ? last : new AggregateError(failures)
  if (isLate(last)) return new Unavailable(`${who} did not answer in time.`, { cause })
  const code = codeOf(last)
  if (code === 'EPROTO' || code.startsWith('ERR_SSL')) return new Unavailable(`${who} does not speak https (${code}). If that is right, name it in LAMBDA_INSECURE_REGISTRIES.`, { cause })
  if (/CERT|SIGNATURE|ISSUER/.test(code)) return new Unavailable(`${who} has a certificate that is not trusted (${code}). If that is right, name it in LAMBDA_INSECURE_REGISTRIES.`, { cause })
  return new Unavailable(`${who} cannot be reached: ${(last as Error).message || code}.`, { cause })
}
