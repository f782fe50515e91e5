// A proxy in front of a registry: it counts what is asked, and lets things go wrong where a test wants them to.
import { once } from 'node:events'
import { Agent, createServer, request as httpRequest, type ClientRequest, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { Writable } from 'node:stream'

export interface Talk {
  method: string
  path: string
  query: Record<string, string>
  headers: Record<string, string>
  /** Bytes of its body that went through. */
  bytes: number
  /** What was answered; null: not yet, or never. */
  status: number | null
}

export interface Fault {
  /** An answer that does not come from the registry. */
  answer?: { status: number; headers?: Record<string, string>; body?: string | Buffer }
  /** The connection ends at once. */
  cut?: boolean
  /** So many bytes of its body go through, and when the registry has them, the connection ends. */
  breakAfter?: number
  /** All goes through, and the connection ends instead of the answer. */
  loseAnswer?: boolean
  /** Of the answer's body so many bytes go through, and the connection ends. */
  breakAnswerAfter?: number
  /** Instead of what the registry says; null: without. */
  headers?: (headers: Record<string, string | string[] | undefined>) => Record<string, string | string[] | undefined>
  /** Comes before the request goes on. */
  before?: () => Promise<unknown> | void
  /** Is given a promise: of the end of the connection before that of the answer. */
  leaving?: (left: Promise<unknown>) => void
  /** For each piece of the body, before it goes on. */
  piece?: () => Promise<unknown> | void
}

export interface Faults {
  /** host:port */
  address: string
  url: string
  /** What was asked, in the order of its beginning. */
  talks: Talk[]
  /** `PUT /v2/app/manifests/v1 201`, with digests and sessions shortened. */
  lines(): string[]
  /** What happens to a request; `null`: what would happen anyway. */
  fault: (talk: Talk) => Fault | null
  /** What the registry is asked instead. */
  rewrite: (path: string) => string
  close(): Promise<void>
}

export async function faults(registry: string): Promise<Faults> {
  const agent = new Agent({ keepAlive: true })
  let leaving: Promise<unknown> | null = null
  const server = createServer((request, response) => { void pass(request, response).catch(() => response.destroy()) }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = `127.0.0.1:${(server.address() as AddressInfo).port}`

  async function pass(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { pathname, searchParams } = new URL(request.url!, 'http://x')
    const talk: Talk = { method: request.method!, path: pathname, query: Object.fromEntries(searchParams), headers: request.headers as Record<string, string>, bytes: 0, status: null }
    self.talks.push(talk)
    request.on('error', () => undefined)
    response.on('error', () => undefined)
    const fault = self.fault(talk) ?? {}
    await leaving
    await fault.before?.()
    fault.leaving?.(new Promise<void>((resolve) => { response.on('close', () => { if (!response.writableFinished) resolve() }) }))
    if (fault.cut) return void response.destroy()
    if (fault.answer) return instead(fault.answer, talk, request, response)
    const [host = '', port] = registry.split(':')
    const upstream = httpRequest({ host, port, method: request.method, path: self.rewrite(request.url!), headers: request.headers, agent })
    const answered = once(upstream, 'response') as Promise<[IncomingMessage]>
    upstream.on('error', () => undefined)
    answered.catch(() => response.destroy())
    // Whoever asked is away: what he asks next comes when the registry knows that, too.
    response.on('close', () => { if (!upstream.writableEnded && !upstream.destroyed) leaving = leave(upstream) })
    for await (const chunk of request as AsyncIterable<Buffer>) {
      await fault.piece?.()
      const piece = chunk.subarray(0, (fault.breakAfter ?? Infinity) - talk.bytes)
      talk.bytes += piece.length
      await written(upstream, piece)
      if (talk.bytes === fault.breakAfter) return leave(upstream).then(() => void response.destroy())
    }
    upstream.end()
    const [answer] = await answered
    if (fault.loseAnswer) {
      answer.resume()
      await once(answer, 'close')
      response.destroy()
      return
    }
    talk.status = answer.statusCode!
    response.writeHead(answer.statusCode!, fault.headers?.({ ...answer.headers }) ?? answer.headers)
    let left = fault.breakAnswerAfter ?? Infinity
    for await (const chunk of answer as AsyncIterable<Buffer>) {
      await written(response, chunk.subarray(0, left))
      left -= chunk.length
      if (left <= 0) return void response.destroy()
    }
    response.end()
  }

  const self: Faults = {
    address, url: `http://${address}`, talks: [], fault: () => null, rewrite: (path) => path,
    lines: () => self.talks.map(({ method, path, query, status }) => `${method} ${short(path)}${'mount' in query ? '?mount' : ''} ${status}`),
    async close() {
      agent.destroy()
      server.closeAllConnections()
      server.close()
      await once(server, 'close')
    },
  }
  return self
}

/** Also when it cannot be: whoever reads hears of that. */
const written = (to: Writable, bytes: Buffer): Promise<void> => new Promise((resolve) => { to.write(bytes, () => resolve()) })

const short = (path: string): string => path.replace(/(sha256:.{6})[0-9a-f]+/, '$1').replace(/uploads\/.+/, 'uploads/…')

function instead({ status, headers = {}, body = '' }: NonNullable<Fault['answer']>, talk: Talk, request: IncomingMessage, response: ServerResponse): void {
  talk.status = status
  request.resume()
  response.writeHead(status, headers).end(request.method === 'HEAD' ? undefined : body)
}

/** The registry sees the end of the connection, has what came before it, and is done with that when it closes its side. */
async function leave(upstream: ClientRequest): Promise<void> {
  const closed = new Promise((resolve) => { upstream.once('close', resolve) })
  if (upstream.socket) upstream.socket.end()
  else upstream.destroy()
  await closed
}
