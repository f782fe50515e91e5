// The API server of Kubernetes: one road for every request, with the credentials that a kubeconfig or the pod's own service account gives.
import { existsSync } from 'node:fs'
import type { RequestOptions } from 'node:https'
import type { Readable } from 'node:stream'
import { KubeConfig } from '@kubernetes/client-node'
import { Agent, request } from 'undici'
import { Unavailable } from '../trouble.ts'

export type Query = Record<string, string | number | boolean | undefined>

export interface Listed<T> {
  items: T[]
  resourceVersion: string
}

/** Paths are the API's own, such as `/api/v1/namespaces/default/pods/x`. */
export interface Cluster {
  /** null: there is none. */
  get<T>(path: string): Promise<T | null>
  /** Everything, page by page. */
  list<T>(path: string, query: Query): Promise<Listed<T>>
  create<T>(path: string, body: object): Promise<T>
  /** Server-side apply: kiln's fields become these, other fields stay as they are. Fields of others that it names are taken over. */
  apply<T>(path: string, body: object, manager?: string): Promise<T>
  /** Removing what is not there is fine. */
  remove(path: string, options?: { graceSeconds?: number; foreground?: boolean; uid?: string }): Promise<void>
  /** The bytes of an answer that goes on; `silenceMs`: after so long without any it is broken. null: 204. */
  stream(path: string, query: Query, signal: AbortSignal, silenceMs: number): Promise<Readable | null>
  close(): Promise<void>
}

/** The API server said no. What it may mean is the caller's to know; what is the world's trouble is Unavailable instead. */
export class Rejected extends Error {
  constructor(readonly status: number, readonly reason: string, message: string) {
    super(message)
    this.name = 'Rejected'
  }
}

export const fieldManager = 'kiln'
/** Where Kubernetes puts the certificate of its API server into a pod that may ask it. */
const ownAccount = '/var/run/secrets/kubernetes.io/serviceaccount/ca.crt'
const answerMs = 30_000
const attempts = 4
const pageSize = 500

type Method = 'GET' | 'POST' | 'PATCH' | 'DELETE'
interface Call {
  method: Method
  path: string
  query?: Query
  body?: object
  contentType?: string
}

/** `kubeconfig`: a file; null: the cluster that kiln itself runs in. Looked at with the first request: a service that asks nothing needs no right to ask. */
export function cluster({ kubeconfig }: { kubeconfig: string | null }): Cluster {
  let known: { config: KubeConfig; server: string } | null = null
  let agent: { key: string; agent: Agent } | null = null

  function reached(): { config: KubeConfig; server: string } {
    if (known) return known
    const config = new KubeConfig()
    try {
      if (kubeconfig) config.loadFromFile(kubeconfig)
      else if (existsSync(ownAccount)) config.loadFromCluster()
    } catch (error) {
      throw new Unavailable(`${kubeconfig ?? ownAccount} does not say how to reach a cluster: ${(error as Error).message}`, { cause: error })
    }
    const server = config.getCurrentCluster()?.server
    if (!server) throw new Unavailable(kubeconfig ? `${kubeconfig} names no cluster of Kubernetes` : 'kiln runs in no cluster of Kubernetes; KUBECONFIG must name a file that says how to reach one')
    return known = { config, server }
  }

  /** Tokens and certificates may be renewed while kiln runs: they are asked for at each request, and cost nothing unless they changed. */
  async function admission(): Promise<{ headers: Record<string, string>; agent: Agent }> {
    const { config } = reached()
    const options: RequestOptions = { headers: {} }
    await config.applyToHTTPSOptions(options)
    const { ca, cert, key, rejectUnauthorized, servername, auth } = options
    const tls = { ca, cert, key, rejectUnauthorized, servername } as object
    const known = JSON.stringify([String(ca), String(cert), String(key), rejectUnauthorized, servername])
    // The one before lives on until its last answer has ended.
    if (agent?.key !== known) agent = { key: known, agent: new Agent({ connect: { ...tls, timeout: 10_000 }, keepAliveTimeout: 60_000, bodyTimeout: 0 }) }
    const headers = { ...(options.headers as Record<string, string>) }
    if (auth) headers['authorization'] = `Basic ${Buffer.from(auth).toString('base64')}`
    return { headers, agent: agent.agent }
  }

  async function send({ method, path, query, body, contentType = 'application/json' }: Call, more: { signal?: AbortSignal; bodyTimeout?: number } = {}) {
    const { server } = reached()
    const { headers, agent: dispatcher } = await admission()
    try {
      return await request(`${server}${path}${queryOf(query)}`, {
        method, dispatcher, headersTimeout: answerMs, ...more,
        headers: { ...headers, accept: 'application/json', 'user-agent': 'kiln', ...(body && { 'content-type': contentType }) },
        ...(body && { body: JSON.stringify(body) }),
      })
    } catch (error) {
      if (more.signal?.aborted) throw error
      throw new Unavailable(`the Kubernetes API at ${server} does not answer: ${(error as Error).message}`, { cause: error })
    }
  }

  /** What is asked here can be asked again: names are deterministic, and what is there already is no harm. */
  async function ask<T>(call: Call, attempt = 1): Promise<T> {
    const { statusCode, headers, body } = await send(call, { bodyTimeout: answerMs })
    const text = await body.text().catch((error: Error) => { throw new Unavailable(`the answer of the Kubernetes API broke off: ${error.message}`, { cause: error }) })
    if (statusCode < 300) return JSON.parse(text) as T
    const error = troubleOf(statusCode, text, call)
    const isBusy = statusCode === 429 || statusCode === 503 || statusCode === 504
    if (!isBusy || attempt === attempts) throw error
    const seconds = Number(headers['retry-after'] ?? 1)
    await new Promise((resolve) => setTimeout(resolve, Math.min(Number.isFinite(seconds) ? seconds : 1, 10) * 1_000))
    return ask<T>(call, attempt + 1)
  }

  return {
    get: <T>(path: string) => ask<T>({ method: 'GET', path }).catch(nullWhenMissing),
    async list<T>(path: string, query: Query) {
      const items: T[] = []
      for (let from: string | undefined; ;) {
        const page: { items: T[]; metadata: { resourceVersion: string; continue?: string } } = await ask({ method: 'GET', path, query: { ...query, limit: pageSize, continue: from } })
        items.push(...page.items)
        from = page.metadata.continue
        if (!from) return { items, resourceVersion: page.metadata.resourceVersion }
      }
    },
    create: <T>(path: string, body: object) => ask<T>({ method: 'POST', path, body }),
    apply: <T>(path: string, body: object, manager = fieldManager) =>
      ask<T>({ method: 'PATCH', path, body, query: { fieldManager: manager, force: true }, contentType: 'application/apply-patch+yaml' }),
    async remove(path, { graceSeconds, foreground, uid } = {}) {
      const body = {
        kind: 'DeleteOptions', apiVersion: 'v1', propagationPolicy: foreground ? 'Foreground' : 'Background',
        ...(graceSeconds !== undefined && { gracePeriodSeconds: graceSeconds }), ...(uid && { preconditions: { uid } }),
      }
      await ask({ method: 'DELETE', path, body }).catch(nullWhenMissing)
    },
    async stream(path, query, signal, silenceMs) {
      const call: Call = { method: 'GET', path, query }
      const { statusCode, body } = await send(call, { signal, bodyTimeout: silenceMs })
      if (statusCode === 200) return body
      const text = await body.text()
      if (statusCode === 204) return null
      throw troubleOf(statusCode, text, call)
    },
    async close() {
      await agent?.agent.destroy()
    },
  }
}

function queryOf(query: Query = {}): string {
  const given = Object.entries(query).filter(([, value]) => value !== undefined).map(([name, value]): [string, string] => [name, String(value)])
  return given.length > 0 ? `?${new URLSearchParams(given)}` : ''
}

function nullWhenMissing(error: unknown): null {
  if (error instanceof Rejected && error.status === 404) return null
  throw error
}

/**
 * 5xx and 429 are the world's trouble, and so are credentials that are refused. A 500 about a "typed patch" is not: the API server
 * answers so to a body that it cannot read, and would for ever.
 */
function troubleOf(status: number, text: string, { method, path }: Call): Error {
  const { message, reason } = statusIn(text)
  const said = `${method} ${path}: ${status} ${message}`
  const isOurs = status === 500 && message.includes('typed patch')
  if (isOurs) return new Error(`the Kubernetes API cannot read what kiln sent: ${said}`)
  if (status === 401) return new Unavailable(`the Kubernetes API refuses kiln's credentials: ${said}`)
  if (status === 429 || status >= 500) return new Unavailable(`the Kubernetes API cannot answer now: ${said}`)
  return new Rejected(status, reason, message)
}

/** Not every answer has a Status as its body: some are plain text. */
function statusIn(text: string): { message: string; reason: string } {
  try {
    const { message, reason } = JSON.parse(text) as { message?: string; reason?: string }
    return { message: message ?? text.slice(0, 500), reason: reason ?? '' }
  } catch {
    return { message: text.trim().slice(0, 500), reason: '' }
  }
}
