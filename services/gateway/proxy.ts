// The invocation path: where a lambda's pods are reached, and a free connection to the least busy of them.
// The exchange itself, byte by byte, is in exchange.ts. Mount `carry` on the Node server, before Hono:
// `server.on('request')` as it is, and `server.on('checkContinue')` with `awaitsContinue`.
import type { IncomingMessage, ServerResponse } from 'node:http'
import { Client } from 'undici'
import { Exchange } from './exchange.ts'

/** Where a lambda can be reached now, or why it cannot. */
export type Place =
  | { running: true; version: number; endpoints: readonly string[] }
  | { running: false; status: 404 | 409 | 503; detail: string; reason?: string; error_code?: number; retryAfterS?: number }

export interface Target {
  /** Asked before each try, so that a switch of versions is seen. */
  place: () => Place
  /** Begins with '/' and includes the query. */
  path: string
  requestId: string
  /** The server left `Expect: 100-continue` to us (its 'checkContinue' event): the client is told to go on once a pod is reached. */
  awaitsContinue?: boolean
}

export interface Proxy {
  /** Carries one request to the lambda and its answer back. Never throws, never rejects; fulfilled when the exchange is over. */
  carry(req: IncomingMessage, res: ServerResponse, target: Target): Promise<void>
  /** Requests in flight. */
  readonly inFlight: number
  /** Lets what is in flight finish, then drops every connection. What comes later is answered 503. */
  close(): Promise<void>
}

export function proxy(options: { timeoutMs: number; connectionsPerPod?: number }): Proxy {
  const ways = pods(options.connectionsPerPod ?? 1024)
  let inFlight = 0
  let closing = false
  let nothingLeft = (): void => undefined
  return {
    get inFlight() { return inFlight },
    carry(req, res, target) {
      inFlight++
      return new Promise((resolve) => {
        const over = (): void => {
          inFlight--
          if (inFlight === 0) nothingLeft()
          resolve()
        }
        new Exchange(req, res, closing ? { ...target, place: () => shuttingDown } : target, ways, options.timeoutMs, over).start()
      })
    },
    async close() {
      closing = true
      if (inFlight > 0) await new Promise<void>((resolve) => { nothingLeft = resolve })
      await ways.close()
    },
  }
}

const shuttingDown: Place = { running: false, status: 503, reason: 'ShuttingDown', detail: 'This gateway is shutting down; try again.' }

/** One connection to a pod, made when first used and made again after it broke. It carries one request at a time. */
export interface Connection {
  readonly client: Client
  /** It has carried an answer before: the pod may be closing it just as the next request is on its way. */
  kept: boolean
}

export interface Pod {
  readonly origin: string
  /** Requests that were given to this pod and are not finished. */
  outstanding: number
  /** When it was last chosen, counted in choices. */
  turn: number
  usedAt: number
  readonly connections: Connection[]
  readonly idle: Connection[]
  readonly waiting: Array<(connection: Connection) => void>
}

export interface Pods {
  /** The pod with the fewest outstanding requests; of equals, each in its turn. One to avoid only if there is no other. */
  next(origins: readonly string[], avoid: ReadonlySet<string>): Pod
  /** Calls back with a free connection: at once, or as soon as one is given back. Give each back exactly once. */
  take(pod: Pod, use: (connection: Connection) => void): void
  giveBack(pod: Pod, connection: Connection): void
  /** Drops every connection, whatever it carries. */
  close(): Promise<void>
}

const unusedForMs = 60_000
const podsAtMost = 4096
/** A pod on the same network answers in a millisecond; an address that has left the network does not answer at all. */
const connectWithinMs = 3_000

const nothing: ReadonlySet<string> = new Set()

function pods(connectionsPerPod: number): Pods {
  const known = new Map<string, Pod>()
  const housekeeping = setInterval(() => forgetUnused(known, unusedForMs), unusedForMs / 2).unref()
  let turns = 0
  const next = (origins: readonly string[], avoid: ReadonlySet<string>): Pod => {
    let best: Pod | null = null
    for (const origin of origins) {
      if (avoid.has(origin)) continue
      const pod = podAt(known, origin)
      if (best === null || isBefore(pod, best)) best = pod
    }
    if (best === null) return next(origins, nothing)
    best.turn = ++turns
    return best
  }
  return {
    next,
    take(pod, use) {
      pod.usedAt = Date.now()
      pod.outstanding++
      const connection = freeConnection(pod, connectionsPerPod)
      if (connection === null) pod.waiting.push(use)
      else use(connection)
    },
    giveBack(pod, connection) {
      pod.outstanding--
      const use = pod.waiting.shift()
      if (use === undefined) pod.idle.push(connection)
      // Not at once: undici is still in the middle of the request that has just ended.
      else queueMicrotask(() => use(connection))
    },
    async close() {
      clearInterval(housekeeping)
      const connections = [...known.values()].flatMap((pod) => pod.connections)
      known.clear()
      await Promise.all(connections.map(({ client }) => client.destroy()))
    },
  }
}

const isBefore = (a: Pod, b: Pod): boolean =>
  a.outstanding === b.outstanding ? a.turn < b.turn : a.outstanding < b.outstanding

function podAt(known: Map<string, Pod>, origin: string): Pod {
  const pod = known.get(origin)
  if (pod !== undefined) return pod
  if (known.size >= podsAtMost) forgetUnused(known, 0)
  const made: Pod = { origin, outstanding: 0, turn: 0, usedAt: 0, connections: [], idle: [], waiting: [] }
  known.set(origin, made)
  return made
}

/** Lets go of the pods that nobody has used for a while, such as those of versions that are gone. */
function forgetUnused(known: Map<string, Pod>, forMs: number): void {
  const before = Date.now() - forMs
  for (const pod of known.values()) {
    if (pod.outstanding > 0 || pod.usedAt > before) continue
    known.delete(pod.origin)
    for (const { client } of pod.connections) void client.close()
  }
}

/** The one given back last, since it is the warmest; those that are not needed again close by themselves. */
function freeConnection(pod: Pod, atMost: number): Connection | null {
  const idle = pod.idle.pop()
  if (idle !== undefined) return idle
  if (pod.connections.length >= atMost) return null
  const made = connectionTo(pod.origin)
  pod.connections.push(made)
  return made
}

function connectionTo(origin: string): Connection {
  // No other limits of time here: the exchange knows what it waits for, the connection does not.
  const client = new Client(origin, { pipelining: 1, headersTimeout: 0, bodyTimeout: 0, connectTimeout: connectWithinMs })
  const connection: Connection = { client, kept: false }
  client.on('connect', () => { connection.kept = false })
  return connection
}
