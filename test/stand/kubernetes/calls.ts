// Plain calls to the HTTP side of the stand-in, for the tests of the stand-in itself.
import { serveApi, type Api, type ApiHooks, type ApiOptions } from './api.ts'
import { memoryStore } from './memory.ts'
import type { Store } from './store.ts'

export interface Request {
  method: string
  path: string
  headers?: Record<string, string>
  /** An object is sent as JSON, a string as it is. */
  body?: unknown
}

export interface Response {
  status: number
  headers: Headers
  body: any
}

/** One open watch. */
export interface Watching {
  status: number
  /** The next event; null when the stream has ended, 'broken' when it was cut. */
  next(): Promise<any>
  close(): void
}

export interface Stand {
  store: Store
  api: Api
  send(request: Request): Promise<Response>
  watch(path: string): Promise<Watching>
}

/** What the kubelet does when it is not what is tested: a pod is marked, and stays until the test drops it. */
const quietKubelet = (store: Store): ApiHooks => ({
  deletePod(pod, graceSeconds) {
    const { creationTimestamp } = pod.metadata
    return store.put('pods', { ...pod, metadata: { ...pod.metadata, deletionTimestamp: creationTimestamp, deletionGracePeriodSeconds: graceSeconds } })
  },
  log: () => null,
})

/** A store with its HTTP side, for as long as the work takes. */
export async function withStand(work: (stand: Stand) => Promise<void>, hooks: Partial<ApiHooks> = {}, options: ApiOptions = {}): Promise<void> {
  const store = memoryStore()
  const api = await serveApi(store, { ...quietKubelet(store), ...hooks }, options)
  try {
    await work({ store, api, send: (request) => send(api.address, request), watch: (path) => watch(api.address, path) })
  } finally {
    await api.close()
  }
}

const usual = { 'User-Agent': 'kiln/0.0', 'Accept': 'application/json', 'Authorization': 'Bearer any' }

async function send(address: string, { method, path, headers, body }: Request): Promise<Response> {
  const type = body === undefined ? {} : { 'Content-Type': 'application/json' }
  const text = body === undefined || typeof body === 'string' ? body : JSON.stringify(body)
  const all = Object.fromEntries(Object.entries({ ...usual, ...type, ...headers }).filter(([, value]) => value !== ''))
  const response = await fetch(address + path, { method, headers: all, body: text })
  const answer = await response.text()
  const json = response.headers.get('content-type') === 'application/json'
  return { status: response.status, headers: response.headers, body: json ? JSON.parse(answer) : answer }
}

async function watch(address: string, path: string): Promise<Watching> {
  const leaving = new AbortController()
  const response = await fetch(address + path, { headers: usual, signal: leaving.signal })
  const reader = response.body!.pipeThrough(new TextDecoderStream()).getReader()
  let rest = ''
  return {
    status: response.status,
    async next() {
      while (!rest.includes('\n')) {
        const piece = await reader.read().catch(() => 'broken' as const)
        if (piece === 'broken') return 'broken'
        if (piece.done) return rest === '' ? null : JSON.parse(rest)
        rest += piece.value
      }
      const end = rest.indexOf('\n')
      const line = rest.slice(0, end)
      rest = rest.slice(end + 1)
      return JSON.parse(line)
    },
    close: () => leaving.abort(),
  }
}
