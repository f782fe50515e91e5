// The kubelet of the stand-in: every pod that the scheduler gives to node1 lives here, as real processes of this machine.
import { randomInt } from 'node:crypto'
import { join } from 'node:path'
import { gate } from '../await.ts'
import type { Clock } from './clock.ts'
import type { Keeper } from './keeper.ts'
import { now } from './memory.ts'
import { podLife, type PodLife } from './pod-life.ts'
import { podLog, type PodLogQuery } from './pod-logs.ts'
import { images } from './pull.ts'
import { nodeName } from './scheduler.ts'
import { stillPod } from './still-pod.ts'
import type { Store, Thing } from './store.ts'
import { countingVoice } from './voices.ts'

export interface KubeletParts {
  store: Store
  clock: Clock
  keeper: Keeper
  /** Images and pods have their folders here. */
  folder: string
  /** Where images are pulled from whose reference names no host. */
  registry: string
  /** false: pods are only shown. */
  runs: boolean
}

export interface Kubelet {
  /** A DELETE of a pod: marks it and begins its end, or drops it at once. Returns what was stored then. */
  deletePod(pod: Thing, graceSeconds?: number): Thing
  /** null: no node has the pod yet. Throws ApiError. */
  log(pod: Thing, container: string | null, query: PodLogQuery, signal: AbortSignal): AsyncIterable<Buffer> | null
  /** Ends all processes. */
  close(): Promise<void>
}

export function kubelet({ store, clock, keeper, folder, registry, runs }: KubeletParts): Kubelet {
  const voice = countingVoice(store, 'kubelet', nodeName)
  const pulled = images(join(folder, 'images'), registry)
  const lives = new Map<string, PodLife>()
  const news = new Map<string, { promise: Promise<void>; open(value: void): void }>()
  const newIp = addresses()
  let closed = false

  function wokenIn(namespace: string): Promise<void> {
    const waiting = news.get(namespace) ?? gate<void>()
    news.set(namespace, waiting)
    return waiting.promise
  }

  function lifeOf(pod: Thing): PodLife {
    const { uid, namespace } = pod.metadata
    const known = lives.get(uid)
    if (known) return known
    const life = runs
      ? podLife({ store, clock, voice, images: pulled, keeper, folder: join(folder, 'pods', uid), newIp, woken: () => wokenIn(namespace) }, pod)
      : stillPod({ store, newIp }, pod)
    lives.set(uid, life)
    // Not inside the change that brought it. After close the end of its processes is no news.
    setImmediate(() => { if (!closed) life.live().catch((error: unknown) => { if (!closed) throw error }) })
    return life
  }

  function deletePod(pod: Thing, graceSeconds: number = pod.metadata.deletionGracePeriodSeconds ?? pod.spec.terminationGracePeriodSeconds ?? 30): Thing {
    const { namespace, name, uid } = pod.metadata
    const current = store.get('pods', namespace, name)
    if (current?.metadata.uid !== uid) return pod
    const isOver = ['Succeeded', 'Failed'].includes(current.status?.phase)
    if (!current.spec.nodeName || isOver || graceSeconds === 0) return dropAtOnce(current)
    const before = current.metadata.deletionGracePeriodSeconds
    // Asked again, it can only have less time.
    if (before !== undefined && graceSeconds >= before) return current
    const stored = store.put('pods', marked(current, graceSeconds))
    lifeOf(stored).end(graceSeconds)
    return stored
  }

  function dropAtOnce(pod: Thing): Thing {
    const { namespace, name } = pod.metadata
    const stored = store.put('pods', marked(pod, 0))
    store.drop('pods', namespace, name)
    return stored
  }

  const stop = store.hear((kind, { type, object }) => {
    const { uid, namespace } = object.metadata
    if (kind === 'secrets' || kind === 'configmaps') {
      news.get(namespace)?.open()
      news.delete(namespace)
    }
    if (kind !== 'pods' || object.spec.nodeName !== nodeName) return
    if (type !== 'DELETED') return void (['Succeeded', 'Failed'].includes(object.status?.phase) ? undefined : lifeOf(object))
    const life = lives.get(uid)
    lives.delete(uid)
    void life?.kill()
  })
  for (const pod of store.list('pods', null)) if (pod.spec.nodeName === nodeName) lifeOf(pod)

  return {
    deletePod,
    log: (pod, container, query, signal) => podLog(pod, container, query, signal, (name) => lives.get(pod.metadata.uid)?.container(name) ?? null),
    async close() {
      closed = true
      stop()
      await Promise.all([...lives.values()].map((life) => life.kill()))
    },
  }
}

/** The time of deletion is when the grace is over. */
const marked = (pod: Thing, graceSeconds: number): Thing => ({
  ...pod,
  metadata: {
    ...pod.metadata, generation: (pod.metadata.generation ?? 1) + (pod.metadata.deletionTimestamp ? 0 : 1), deletionGracePeriodSeconds: graceSeconds,
    deletionTimestamp: graceSeconds === 0 ? now() : `${new Date(Date.now() + graceSeconds * 1_000).toISOString().slice(0, 19)}Z`,
  },
})

/** An address of its own for each pod, below 127.0.0.0/8: pods of several programs at the same time do not meet, as far as chance allows. */
function addresses(): () => string {
  const second = 16 + (process.pid % 224)
  let next = randomInt(1 << 16)
  return () => {
    do next = (next + 1) % (1 << 16)
    while ([0, 255].includes(next & 255))
    return `127.${second}.${next >> 8}.${next & 255}`
  }
}
