// Following: a list, then every change of it as it happens, for ever. A watch that breaks, or whose place is forgotten (410), starts again from a list.
import type { Readable } from 'node:stream'
import type { Log } from '../log.ts'
import type { Cluster, Query } from './client.ts'

export interface Heard<T> {
  /** Everything that there is: at first, and whenever the watch had to start again. */
  all(items: T[]): void
  changed(object: T): void
  gone(object: T): void
}

export interface Followed {
  /** Resolves after the first list. */
  listed: Promise<void>
  close(): void
}

interface Event<T> {
  type: 'ADDED' | 'MODIFIED' | 'DELETED' | 'BOOKMARK' | 'ERROR'
  object: T & { metadata?: { resourceVersion?: string }; code?: number; message?: string }
}

/** The server ends a watch cleanly after about this long; then it goes on where it was. */
const watchSeconds = 300
/** Of Events there are no bookmarks: such a watch ends before its silence could mean that nobody is there. */
const quietSeconds = 110
/** Bookmarks come once a minute: after longer silence nobody is there any more. */
const silenceMs = 150_000
const mostPauseMs = 5_000

class Forgotten extends Error {}

export function follow<T extends object>(cluster: Cluster, path: string, query: Query, heard: Heard<T>, log: Log): Followed {
  const over = new AbortController()
  let open = (): void => undefined
  const listed = new Promise<void>((resolve) => { open = resolve })

  async function once(): Promise<void> {
    const { items, resourceVersion } = await cluster.list<T>(path, query)
    if (over.signal.aborted) return
    heard.all(items)
    open()
    let from = resourceVersion
    while (!over.signal.aborted) from = await watch(from)
  }

  /** One watch from this version on, until the server ends it; resolves with where to go on. */
  async function watch(from: string): Promise<string> {
    const seconds = Math.round((path.endsWith('/events') ? quietSeconds : watchSeconds) * (0.8 + Math.random() * 0.2))
    const stream = await cluster.stream(path, { ...query, watch: true, allowWatchBookmarks: true, resourceVersion: from, timeoutSeconds: seconds }, over.signal, silenceMs)
    let at = from
    for await (const line of linesOf(stream!)) {
      const { type, object } = JSON.parse(line) as Event<T>
      if (type === 'ERROR') throw new Forgotten(object.message ?? 'the watch ended in an error')
      at = object.metadata?.resourceVersion ?? at
      if (type === 'BOOKMARK') continue
      if (type === 'DELETED') heard.gone(object)
      else heard.changed(object)
    }
    return at
  }

  void (async () => {
    for (let pauseMs = 100; !over.signal.aborted; pauseMs = Math.min(pauseMs * 2, mostPauseMs)) {
      const from = Date.now()
      const error = await once().then(() => null, (e: unknown) => e)
      if (over.signal.aborted) return
      // What held for a while is no reason to wait long.
      if (Date.now() - from > 30_000) pauseMs = 100
      log[error instanceof Forgotten ? 'info' : 'warn']('a watch of Kubernetes starts again from a list', { path, error })
      if (!(error instanceof Forgotten)) await new Promise((resolve) => setTimeout(resolve, pauseMs))
    }
  })()

  return { listed, close: () => over.abort() }
}

/** Whole lines of a stream of bytes, as text; what follows the last newline is a line too. */
export async function* linesOf(stream: Readable): AsyncGenerator<string> {
  let rest: Buffer[] = []
  for await (const chunk of stream as AsyncIterable<Buffer>) {
    let from = 0
    for (let end = chunk.indexOf(10); end >= 0; end = chunk.indexOf(10, from)) {
      yield Buffer.concat([...rest, chunk.subarray(from, end)]).toString('utf8')
      rest = []
      from = end + 1
    }
    if (from < chunk.length) rest.push(chunk.subarray(from))
  }
  if (rest.length > 0) yield Buffer.concat(rest).toString('utf8')
}
