// Requests to registries and their token servers: over https or, where that is allowed, what answers; redirected, bounded in time and size.
import { Agent, request as undiciRequest, type Dispatcher } from 'undici'
import { Unavailable } from '../trouble.ts'
import { dockerHub } from './image-name.ts'

export interface Request {
  method: Dispatcher.HttpMethod
  headers: Record<string, string>
  /** Goes to the host that is asked and to no other. */
  authorization?: string | null
  body?: string | Buffer
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
  /** When the body is of no interest. Every answer is read or dropped. */
  drop(): Promise<void>
}

export interface Requests {
  /** `path` begins with '/'. Throws Unavailable when nothing answers; every status is an answer. */
  toHost(host: string, path: string, request: Request): Promise<Answer>
  /** The same for a whole address that `host` has named: its token server. */
  toUrl(url: URL, host: string, request: Request): Promise<Answer>
}

const limits = { connectMs: 5_000, answerMs: 30_000, wholeMs: 60_000, redirects: 5 }
type Scheme = 'https:' | 'http:'

/** `insecure`: hosts whose certificate may be anybody's, and which may speak plain http; so may those that they name. */
export function requests(insecure: ReadonlySet<string>): Requests {
  const waiting = { headersTimeout: limits.answerMs, bodyTimeout: limits.answerMs }
  const strict = new Agent({ ...waiting, connect: { timeout: limits.connectMs } })
  const lenient = new Agent({ ...waiting, connect: { timeout: limits.connectMs, rejectUnauthorized: false } })
  /** What answered last, at hosts that may speak either. */
  const spoken = new Map<string, Scheme>()
  return {
    async toHost(host, path, request) {
      const place = host === dockerHub ? 'registry-1.docker.io' : host
      const trust: Trust = insecure.has(host) ? { agent: lenient, http: true } : { agent: strict, http: false }
      const schemes: Scheme[] = trust.http ? [...new Set([spoken.get(host) ?? 'https:', 'https:', 'http:'] as const)] : ['https:']
      const failures: unknown[] = []
      for (const scheme of schemes) {
        try {
          const answer = await followed(new URL(`${scheme}//${place}${path}`), `The registry ${host}`, trust, request)
          // 400 is also what a server of https says to http: the next time https is tried first, again.
          if (answer.status === 400) spoken.delete(host)
          else spoken.set(host, scheme)
          return answer
        } catch (error) {
          failures.push(error)
          if (error instanceof Unavailable || isLate(error)) break
        }
      }
      throw unreachable(`The registry ${host}`, failures)
    },
    async toUrl(url, host, request) {
      const trust: Trust = insecure.has(host) ? { agent: lenient, http: true } : { agent: strict, http: false }
      if (!mayGo(url, trust)) throw new Unavailable(`The registry ${host} sends kiln for a token to ${url.origin}, which is not https.`)
      const who = `The token server ${url.host}`
      return followed(url, who, trust, request).catch((error: unknown) => { throw unreachable(who, [error]) })
    },
  }
}

interface Trust { agent: Agent; http: boolean }
const mayGo = (url: URL, { http }: Trust): boolean => url.protocol === 'https:' || (http && url.protocol === 'http:')

async function followed(from: URL, who: string, trust: Trust, request: Request): Promise<Answer> {
  let url = from
  for (let redirects = 0; ; redirects++) {
    const isOfHost = url.origin === from.origin
    const response = await sent(url, trust, isOfHost ? request : { ...request, authorization: null })
    const location = [301, 302, 303, 307, 308].includes(response.statusCode) ? response.headers['location'] : undefined
    if (typeof location !== 'string' || !URL.canParse(location, url.href)) return answerOf(url, isOfHost, response, who)
    await response.body.dump().catch(() => undefined)
    url = new URL(location, url)
    if (redirects === limits.redirects) throw new Unavailable(`${who} redirects without end: ${limits.redirects} times, then to ${url.origin}.`)
    if (!mayGo(url, trust)) throw new Unavailable(`${who} redirects to ${url.origin}, which is not https.`)
    // A body may hold a credential.
    if (request.body !== undefined && url.origin !== from.origin) throw new Unavailable(`${who} redirects what is sent there to ${url.origin}.`)
  }
}

/** A connection that was kept can be closed by the other side at the very moment of its next use. */
async function sent(url: URL, trust: Trust, request: Request): Promise<Dispatcher.ResponseData> {
  return once(url, trust, request).catch((error: unknown) => {
    if (['UND_ERR_SOCKET', 'ECONNRESET', 'EPIPE'].includes(codeOf(error))) return once(url, trust, request)
    throw error
  })
}

function once(url: URL, { agent }: Trust, { method, headers, authorization, body }: Request): Promise<Dispatcher.ResponseData> {
  return undiciRequest(url, {
    method, body: body ?? null, headers: { ...headers, ...(authorization && { authorization }) }, dispatcher: agent, signal: AbortSignal.timeout(limits.wholeMs),
  })
}

function answerOf(url: URL, isOfHost: boolean, { statusCode, headers, body }: Dispatcher.ResponseData, who: string): Answer {
  return {
    url, isOfHost, status: statusCode,
    header(name) {
      const value = headers[name]
      return (Array.isArray(value) ? value.join(', ') : value) ?? null
    },
    async bytes(limit) {
      const chunks: Buffer[] = []
      let bytes = 0
      try {
        for await (const chunk of body as AsyncIterable<Buffer>) {
          bytes += chunk.length
          if (bytes > limit) throw new Unavailable(`${who} answered with more than ${limit} bytes.`)
          chunks.push(chunk)
        }
      } catch (error) {
        throw unreachable(who, [error])
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
