// One request on its way to a pod and its answer on the way back. Nothing is buffered: each side waits for the other.
import type { IncomingMessage, ServerResponse } from 'node:http'
import { PassThrough } from 'node:stream'
import type { Dispatcher } from 'undici'
import { problem, problemOf, sendProblem, type Problem } from '../../shared/http.ts'
import { headersForClient, headersForPod, valueOf } from './hop-by-hop.ts'
import type { Connection, Place, Pod, Pods, Target } from './proxy.ts'

const triesInAll = 3
const repeatable = new Set(['GET', 'HEAD', 'OPTIONS', 'TRACE', 'PUT', 'DELETE'])
const none: ReadonlySet<string> = new Set()

/**
 * Has an identity, so it is a class: undici reports to it what becomes of the request. It uses undici's older handler
 * interface, which is given the headers as they came; the newer one makes an object of them first.
 */
export class Exchange implements Dispatcher.DispatchHandler {
  private headers: string[] = []
  private body: PassThrough | null = null
  private timer: NodeJS.Timeout | undefined
  private tries = 0
  private unreachable = none
  private version: number | null = null
  private pod: Pod | null = null
  private connection: Connection | null = null
  /** Known as soon as the request goes out on a connection, not before. */
  private abort: (() => void) | null = null
  private resume: () => void = () => undefined
  private answerBegan = false
  private bodyBegan = false
  private bytesLeft = Number.NaN
  private over = false

  constructor(
    private readonly req: IncomingMessage,
    private readonly res: ServerResponse,
    private readonly target: Target,
    private readonly pods: Pods,
    private readonly timeoutMs: number,
    private readonly whenOver: () => void,
  ) {}

  start(): void {
    if (this.res.destroyed) return this.end()
    this.res.on('close', () => this.clientGone())
    const obstacle = whatCannotBeCarried(this.req)
    if (obstacle !== null) return this.answer(501, obstacle, { title: 'Not Implemented' })
    this.headers = headersForPod(this.req, this.target.requestId)
    this.body = bodyOf(this.req)
    this.timer = setTimeout(() => this.stalled(), this.timeoutMs)
    this.seekPod()
  }

  private seekPod(): void {
    if (this.over) return
    try {
      const place = this.target.place()
      if (!place.running) return this.refuse(place)
      if (place.endpoints.length === 0) return this.refuse(noPodIsReady)
      this.version = place.version
      this.tries++
      const pod = this.pods.next(place.endpoints, this.unreachable)
      this.pods.take(pod, (connection) => this.send(pod, connection))
    } catch (error) {
      const { status, detail, ...more } = problemOf(error, this.target.requestId)
      this.answer(status, detail, more)
    }
  }

  private send(pod: Pod, connection: Connection): void {
    if (this.over) return this.pods.giveBack(pod, connection)
    this.pod = pod
    this.connection = connection
    this.abort = null
    const { path } = this.target
    connection.client.dispatch({ method: this.req.method as Dispatcher.HttpMethod, path, headers: this.headers, body: this.body }, this)
  }

  onConnect(abort: () => void): void {
    if (this.over) return abort()
    this.abort = abort
    if (this.target.awaitsContinue) this.res.writeContinue()
  }

  onBodySent(): void {
    this.timer?.refresh()
  }

  onResponseStarted(): void {
    this.answerBegan = true
  }

  onHeaders(status: number, raw: Buffer[], resume: () => void, statusText: string): boolean {
    this.timer?.refresh()
    if (status < 200) return true
    const fields = headersForClient(raw, status)
    this.bytesLeft = Number.parseInt(valueOf(fields, 'content-length'), 10)
    fields.push('Lambda-Version', String(this.version), 'Luna-Request-Id', this.target.requestId)
    this.res.writeHead(status, statusText, fields)
    this.resume = resume
    // undici would wait in vain for the body whose length a 304 only tells.
    if (status === 304 || this.bytesLeft === 0) this.finish()
    else queueMicrotask(() => this.flushHead())
    return true
  }

  /** Once what came with the head is written: a stream of events may say nothing for a long time. */
  private flushHead(): void {
    if (!this.over && !this.bodyBegan) this.res.flushHeaders()
  }

  onData(chunk: Buffer): boolean {
    this.timer?.refresh()
    this.bodyBegan = true
    this.bytesLeft -= chunk.length
    if (this.bytesLeft === 0) {
      // The last bytes go out in one write with the end, and with the head if they are all there is.
      this.finish(chunk)
      return true
    }
    if (this.res.write(chunk)) return true
    this.res.once('drain', this.resume)
    return false
  }

  onComplete(): void {
    if (this.connection !== null) this.connection.kept = true
    this.letGo()
    if (!this.over) this.finish()
  }

  onError(error: Error): void {
    const wasKept = this.connection?.kept ?? false
    const reached = this.abort !== null
    if (!reached && this.pod !== null) this.unreachable = new Set([...this.unreachable, this.pod.origin])
    this.letGo()
    if (this.over) return
    if (!reached) return this.notReached(error)
    if (wasKept && this.mayBeRepeated() && failureOf(error) === brokeOff) return this.tryAgain()
    const { reason, detail } = failureOf(error)
    this.answer(502, detail, { reason })
  }

  private notReached(error: Error & { code?: string }): void {
    if (error.code === 'UND_ERR_INVALID_ARG') return this.answer(400, `This request cannot be passed on: ${error.message}.`, {})
    if (this.tries < triesInAll) return this.tryAgain()
    this.answer(503, 'No pod of the lambda could be reached; nothing of the request was sent. Try again.', { reason: 'PodUnreachable' })
  }

  private mayBeRepeated(): boolean {
    return !this.answerBegan && this.body === null && this.tries < triesInAll && repeatable.has(this.req.method!)
  }

  /** Out of undici's call, and the last time with a moment in which the news of a switch can arrive. */
  private tryAgain(): void {
    setTimeout(() => this.seekPod(), this.tries < 2 ? 0 : 50)
  }

  private stalled(): void {
    const limit = `${this.timeoutMs / 1000} s`
    const abort = this.abort
    if (this.waitsForClient()) this.answer(408, `Nothing more of the request came within ${limit}.`, { reason: 'TimeLimit' })
    else this.answer(504, `The lambda did not answer within ${limit}.`, { reason: 'TimeLimit' })
    abort?.()
  }

  private waitsForClient(): boolean {
    if (this.res.headersSent) return this.res.writableNeedDrain
    return this.abort !== null && this.body !== null && !this.req.complete && !this.body.writableNeedDrain
  }

  private clientGone(): void {
    if (this.over) return
    this.end()
    this.abort?.()
  }

  private refuse({ status, detail, reason, error_code, retryAfterS }: Place & { running: false }): void {
    this.answer(status, detail, { ...(reason && { reason }), ...(error_code && { error_code }) }, retryAfterS)
  }

  /** Ends the exchange with a problem, or with a broken connection if an answer has begun: half an answer must not look whole. */
  private answer(status: number, detail: string, more: Partial<Problem>, retryAfterS?: number): void {
    const { req, res } = this
    // Only a reset tells a client of HTTP/1.0 that the end of the connection is not the end of the answer.
    if (res.headersSent && req.httpVersionMinor === 0) req.socket.resetAndDestroy()
    else if (res.headersSent) res.destroy()
    else sendProblem(res, problem(status, detail, this.target.requestId, more), {
      ...(retryAfterS !== undefined && { 'retry-after': String(retryAfterS) }),
      ...(this.version !== null && { 'lambda-version': String(this.version) }),
    })
    this.end()
  }

  private finish(lastBytes?: Buffer): void {
    this.res.end(lastBytes)
    this.end()
  }

  private end(): void {
    this.over = true
    clearTimeout(this.timer)
    if (this.body !== null && !this.req.complete) this.req.unpipe(this.body).resume()
    this.whenOver()
  }

  private letGo(): void {
    if (this.pod !== null && this.connection !== null) this.pods.giveBack(this.pod, this.connection)
    this.connection = null
    this.abort = null
  }
}

const noPodIsReady = { running: false, status: 503, reason: 'NoPodReady', detail: 'No pod of the lambda is ready; try again.' } as const

interface Failure { reason: string; detail: string }
const brokeOff: Failure = { reason: 'PodBrokeOff', detail: 'The lambda closed the connection before it answered completely.' }
const garbage: Failure = { reason: 'PodAnsweredGarbage', detail: 'The lambda answered something that is not HTTP.' }
const overflow: Failure = { reason: 'PodAnsweredGarbage', detail: "The headers of the lambda's answer are too large." }

function failureOf(error: Error & { code?: string }): Failure {
  if (error.code === 'UND_ERR_HEADERS_OVERFLOW') return overflow
  // undici's parser and its check of lengths, Node's writer of headers, and what undici says of answers that nobody asked for.
  if (error.name === 'HTTPParserError' || /^(ERR_|UND_ERR_RES)/.test(error.code ?? '')) return garbage
  return /^bad (response|upgrade)$/.test(error.message) ? garbage : brokeOff
}

function bodyOf(req: IncomingMessage): PassThrough | null {
  const { 'content-length': length = '0', 'transfer-encoding': encoding } = req.headers
  if (length === '0' && encoding === undefined) return null
  // Between the two, so that undici, which destroys the body when a pod breaks off, leaves the client's connection whole.
  const body = new PassThrough().on('error', () => undefined)
  return req.pipe(body)
}

/** Other upgrades than WebSocket are offers (h2c), and may be left alone. */
function whatCannotBeCarried({ headers }: IncomingMessage): string | null {
  const encoding = headers['transfer-encoding']
  if (encoding !== undefined && encoding.toLowerCase() !== 'chunked') return `A body in transfer coding "${encoding}" cannot be passed on; "chunked" can.`
  return headers.upgrade?.toLowerCase() === 'websocket' ? 'WebSockets are not passed on to lambdas.' : null
}
