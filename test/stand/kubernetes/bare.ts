// A bare cluster: its API over HTTP and nobody behind it. A test plays there what a real cluster was recorded to show, and knows how far its client has read.
import { EventEmitter, once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Readable } from 'node:stream'
import { cluster, type Cluster, type Query } from '../../../shared/kubernetes/client.ts'
import { serveApi, type Api, type ApiOptions } from './api.ts'
import { kubeconfig } from './cluster.ts'
import type { LogQuery } from './log-requests.ts'
import { memoryStore, now } from './memory.ts'
import { placeOf } from './paths.ts'
import { selectorOf, type Matches } from './selectors.ts'
import type { Kind, Store, Thing } from './store.ts'

export interface BareCluster {
  store: Store
  api: Api
  /** What the adapter under test is given. */
  client: Cluster
  /** Anybody else who does something in the cluster. */
  somebody: Cluster
  /** Resolves when the store holds what is waited for. */
  until(is: () => boolean): Promise<void>
  /** Resolves when the adapter has read all that there is and waits for nothing but news: what it does at once, it has done. */
  settled(): Promise<void>
  close(): Promise<void>
}

/** What a run of a container has printed; `null`: it is on no node yet (204). Throws ApiError where the kubelet refuses. */
export type Prints = (pod: Thing, query: LogQuery) => string | null
/** Whether the run that a log is asked of still goes on: then the log does not end. */
export type GoesOn = (pod: Thing) => boolean

interface Watched {
  kind: Kind
  matches: Matches
  /** The versions of the last change that it is to be told, and of the last that its reader has done with. */
  due: number
  read: number
}

interface Reading {
  watches: Set<Watched>
  calls: number
  /** Logs that are open, and those of them that the cluster holds open since the run goes on. */
  logs: number
  held: number
}

/** A test that waits for what never comes says so. */
const patienceMs = 60_000

export async function bareCluster(prints: Prints = () => '', goesOn: GoesOn = isRunning, options: ApiOptions = {}): Promise<BareCluster> {
  const store = memoryStore()
  const moved = new EventEmitter().setMaxListeners(0)
  const reading: Reading = { watches: new Set(), calls: 0, logs: 0, held: 0 }
  const until = async (is: () => boolean): Promise<void> => {
    const patience = AbortSignal.timeout(patienceMs)
    while (!is()) await once(moved, 'moved', { signal: patience }).catch((error: unknown) => { throw new Error(`it never came: ${String(is)}`, { cause: error }) })
  }
  /** As long as it takes. */
  const ending = async (is: () => boolean): Promise<void> => { while (!is()) await once(moved, 'moved') }
  const move = (): void => void moved.emit('moved')
  const forget = store.hear((kind, { object, previous }) => {
    for (const watched of reading.watches) if (watched.kind === kind && [object, previous].some((one) => one && watched.matches(one))) watched.due = Number(object.metadata.resourceVersion)
    move()
  })

  /** The log of a run: what it printed, and then its end. */
  async function* written(pod: Thing, text: string, query: LogQuery, signal: AbortSignal): AsyncGenerator<Buffer> {
    const bytes = Buffer.from(query.timestamps ? stamped(text) : text)
    if (bytes.length > 0) yield bytes
    const present = (): Thing | null => store.get('pods', pod.metadata.namespace, pod.metadata.name)
    const isSame = (): boolean => present()?.metadata.uid === pod.metadata.uid && runOf(present()!) === runOf(pod) && goesOn(present()!)
    reading.held += 1
    move()
    signal.addEventListener('abort', move)
    await ending(() => signal.aborted || query.previous || !query.follow || !isSame())
    reading.held -= 1
    move()
  }

  const api = await serveApi(store, {
    // The test goes on from here.
    deletePod(pod, deletionGracePeriodSeconds) {
      const deletionTimestamp = pod.metadata.deletionTimestamp ?? now()
      return store.put('pods', { ...pod, metadata: { ...pod.metadata, deletionTimestamp, deletionGracePeriodSeconds } })
    },
    log(pod, _container, query, signal) {
      const text = prints(pod, query)
      return text === null ? null : written(pod, text, query, signal)
    },
  }, options)
  const folder = mkdtempSync(join(tmpdir(), 'kiln-bare-'))
  const file = join(folder, 'kubeconfig')
  writeFileSync(file, kubeconfig(api.address))
  const [own, somebody] = [cluster({ kubeconfig: file }), cluster({ kubeconfig: file })]
  const isStill = (): boolean => reading.calls === 0 && reading.logs === reading.held && [...reading.watches].every(({ due, read }) => read >= due)
  return {
    store, api, until, somebody, client: listenedTo(own, store, reading, move),
    async settled() {
      // What an adapter does at once after a piece of news has begun when the turn of the event loop is over.
      for (let still = 0; still < 3; still = isStill() ? still + 1 : 0) {
        await until(isStill)
        await new Promise((resolve) => setImmediate(resolve))
      }
    },
    async close() {
      forget()
      await Promise.all([own.close(), somebody.close()])
      await api.close()
      rmSync(folder, { recursive: true })
    },
  }
}

const statusOf = (pod: Thing): any => pod.status?.containerStatuses?.[0]
const runOf = (pod: Thing): number => statusOf(pod)?.restartCount ?? 0
export const isRunning = (pod: Thing): boolean => Boolean(statusOf(pod)?.state?.running)

/** Each line has a time of its own, as the kubelet gives it. */
function stamped(text: string): string {
  const lines = text.split('\n').filter((_, at, all) => at < all.length - 1 || all[at] !== '')
  return lines.map((line, at) => `2026-11-20T12:00:00.${String(at + 1).padStart(9, '0')}Z ${line}\n`).join('')
}

/** The same client, which counts what is asked and what of the answers has been read. */
function listenedTo(client: Cluster, store: Store, reading: Reading, move: () => void): Cluster {
  const counted = <Arguments extends unknown[], Answer>(call: (...given: Arguments) => Promise<Answer>) => async (...given: Arguments): Promise<Answer> => {
    reading.calls += 1
    try {
      return await call(...given)
    } finally {
      reading.calls -= 1
      move()
    }
  }
  return {
    get: counted(client.get) as Cluster['get'], list: counted(client.list) as Cluster['list'], create: counted(client.create) as Cluster['create'],
    apply: counted(client.apply) as Cluster['apply'], remove: counted(client.remove), close: client.close,
    stream: counted(async (path, query, signal, silenceMs) => {
      const stream = await client.stream(path, query, signal, silenceMs)
      if (stream === null) return null
      return (path.endsWith('/log') ? logRead(stream, reading, move) : watchRead(stream, watchedBy(path, query, store), reading, move)) as unknown as Readable
    }),
  }
}

function watchedBy(path: string, query: Query, store: Store): Watched {
  const { kind, namespace } = placeOf(path)
  const matches = selectorOf(kind, String(query['labelSelector'] ?? ''), String(query['fieldSelector'] ?? ''))
  const within: Matches = (thing) => thing.metadata.namespace === namespace && matches(thing)
  const from = Number(query['resourceVersion'])
  const missed = (store.since(from) ?? []).filter((one) => one.kind === kind && (within(one.change.object) || (one.change.previous && within(one.change.previous))))
  return { kind, matches: within, due: missed.at(-1)?.version ?? from, read: from }
}

/** Whoever asks for the next piece has done with the one before. */
async function* watchRead(stream: Readable, watched: Watched, reading: Reading, move: () => void): AsyncGenerator<Buffer> {
  reading.watches.add(watched)
  let rest = ''
  try {
    for await (const piece of stream as AsyncIterable<Buffer>) {
      yield piece
      const lines = (rest + piece.toString('latin1')).split('\n')
      rest = lines.pop()!
      const last = lines.at(-1)
      if (last) watched.read = Math.max(watched.read, Number((JSON.parse(last) as { object: Thing }).object.metadata?.resourceVersion ?? 0))
      move()
    }
  } finally {
    reading.watches.delete(watched)
    move()
  }
}

async function* logRead(stream: Readable, reading: Reading, move: () => void): AsyncGenerator<Buffer> {
  reading.logs += 1
  try {
    yield* stream as AsyncIterable<Buffer>
  } finally {
    reading.logs -= 1
    move()
  }
}
