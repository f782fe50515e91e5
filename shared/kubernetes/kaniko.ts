// kaniko: one pod makes one image. What runs is adopted after a crash, what has ended is read.
import { kilnStops, type BuildWatch, type Build } from '../builds.ts'
import { kanikoLines } from '../kaniko-log.ts'
import type { Log } from '../log.ts'
import { deleted, failureOf, isHopeless, neverBegan, standingOf, timedOut, troubleOf, world, type Failed } from './build-end.ts'
import { buildPod, container, limitsOf, type BuildPlace } from './build-pod.ts'
import { Rejected, type Cluster } from './client.ts'
import { annotation, label, path } from './names.ts'
import { readLog } from './pod-log.ts'
import type { PodResource, Wait } from './resources.ts'
import { watchPod, type WatchedPod } from './watched-pod.ts'

/** What the pod makes, and under whose name. */
export interface KanikoWish extends Pick<Build, 'id' | 'account' | 'version' | 'namespace' | 'selector' | 'timeoutMs'> {
  /** The pod's name. */
  pod: string
  context: { name: string; digest: string }
  /** `registry/repository:tag` */
  destination: string
  /** Of the Dockerfile's ARGs. */
  args: Record<string, string>
  /** Kubernetes quantities; empty: the operator's BUILD_LIMITS. */
  limits: Record<string, string>
}

export type Made = { built: true; digest: string } | Failed

export interface Kaniko {
  /**
   * Makes the pod, or adopts the one of the same version and context; one of another is removed first. Resolves when it is gone again. When the
   * signal aborts it is removed, unless kiln stops: then it goes on. Throws the signal's reason.
   */
  run(wish: KanikoWish, watch: BuildWatch): Promise<Made>
  /** Removes the pod if it belongs to this version, and waits until it is gone. */
  end(wish: Pick<KanikoWish, 'pod' | 'namespace' | 'version'>): Promise<void>
  /** Removes the pod, whatever it makes. */
  remove(pod: string, namespace: string): Promise<void>
}

export interface KanikoOptions extends BuildPlace {
  cluster: Cluster
  /** The digest under a reference; null: there is none. */
  registry: { digest(reference: string): Promise<string | null> }
  log: Log
}

/** From the end of a container to the end of its log; usually well below a second. */
const logEndsMs = 5_000
/** Beyond its deadline a pod whose node is lost never ends: nobody is left to enforce it. */
const lostNodeMs = 60_000

export function kaniko(options: KanikoOptions): Kaniko {
  const { cluster, config, registry, log } = options

  /** The pod of this wish: a new one, or the one that is there. One of another is removed first, one that is on its way out is waited for. */
  async function createOrAdopt(wish: KanikoWish, signal: AbortSignal): Promise<PodResource> {
    const [name, at] = [wish.pod, path.pods(wish.namespace)]
    while (true) {
      signal.throwIfAborted()
      const made = await cluster.create<PodResource>(at, buildPod(options, wish)).catch((error: unknown) => {
        if (error instanceof Rejected && error.reason === 'AlreadyExists') return null
        throw error
      })
      if (made) return made
      const there = await cluster.get<PodResource>(path.pods(wish.namespace, name))
      if (!there) continue
      const { labels, annotations, deletionTimestamp, uid } = there.metadata
      const isOurs = labels?.[label.version] === String(wish.version) && annotations?.[annotation.context] === wish.context.digest
      if (isOurs && !deletionTimestamp) return there
      if (!deletionTimestamp) await cluster.remove(path.pods(wish.namespace, name), { uid }).catch(unlessReplaced)
      await vanished(wish.namespace, name, uid, signal)
    }
  }

  /** Resolves when no pod of this name and uid is there any more. */
  async function vanished(namespace: string, name: string, uid: string, signal?: AbortSignal): Promise<void> {
    const watched = watchPod(cluster, { namespace, name }, log)
    try {
      await watched.until(({ pod }) => pod === null || pod.metadata.uid !== uid, signal)
    } finally {
      watched.close()
    }
  }

  async function removePod(pod: PodResource): Promise<void> {
    const { namespace, name, uid } = pod.metadata
    await cluster.remove(path.pods(namespace, name), { uid }).catch(unlessReplaced)
    await vanished(namespace, name, uid)
  }

  /** From the pod's first sight to its end. The last lines of the log come with a failure. */
  async function attend(wish: KanikoWish, pod: PodResource, watch: BuildWatch): Promise<Made> {
    const { line, last } = kanikoLines((text) => watch.line(text))
    const reading = new AbortController()
    const watched = watchPod(cluster, pod.metadata, log)
    try {
      const began = await beginning(pod, watched, watch)
      if (began) return began
      // An image is no worse for a log that could not be read.
      const read = readLog(cluster, { namespace: wish.namespace, pod: pod.metadata.name, container }, line, reading.signal)
        .catch((error: unknown) => log.warn('the log of a build cannot be read', { lambda_id: wish.id, error }))
      const ended = await within(watched.until((sight) => isOver(pod, sight), watch.signal), leftMs(pod, wish.timeoutMs + lostNodeMs))
      if (!ended) return timedOut(wish.timeoutMs / 1_000, last)
      await within(read, logEndsMs)
      return await endOf(wish, pod, ended, last)
    } finally {
      reading.abort()
      watched.close()
    }
  }

  /** Waits until the container has begun, and says why it does not; an end when it never will. */
  async function beginning(pod: PodResource, watched: WatchedPod, watch: BuildWatch): Promise<Failed | null> {
    let why: Wait | null = null
    const begun = watched.until((sight) => {
      if (isOver(pod, sight)) return true
      const standing = standingOf(sight.pod!, sight.mount)
      if (standing.stands !== 'waiting') return true
      if (standing.why?.reason !== why?.reason || standing.why?.message !== why?.message) watch.waits(standing.why)
      why = standing.why
      return isHopeless(why)
    }, watch.signal)
    const sight = await within(begun, leftMs(pod, config.scheduleTimeoutMs))
    const goesOn = sight?.pod && ['running', 'built'].includes(standingOf(sight.pod, null).stands)
    if (goesOn && why !== null) watch.waits(null)
    return sight && !isHopeless(why) ? null : neverBegan(why, config.scheduleTimeoutMs / 1_000, config.kanikoImage)
  }

  async function endOf(wish: KanikoWish, { metadata: { uid } }: PodResource, { pod, lastSeen }: { pod: PodResource | null; lastSeen: PodResource | null }, last: string[]): Promise<Made> {
    const seen = pod?.metadata.uid === uid ? pod : lastSeen
    const standing = seen ? standingOf(seen, null) : null
    if (standing?.stands === 'built') {
      const digest = standing.digest ?? (await registry.digest(wish.destination))
      return digest ? { built: true, digest } : world('ImageNotPushed', 'kaniko ended well, but the registry does not hold the image. It is built again.', last)
    }
    if (standing?.stands === 'failed') return failureOf(seen!, { seconds: wish.timeoutMs / 1_000, limits: limitsOf(config, wish), log: last })
    return deleted(last)
  }

  return {
    async run(wish, watch) {
      let pod: PodResource | null = null
      try {
        pod = await createOrAdopt(wish, watch.signal)
        const made = await attend(wish, pod, watch)
        // Once its digest and its log are safe it is of no more use.
        await watch.kept()
        await removePod(pod)
        return made
      } catch (error) {
        if (!watch.signal.aborted) return troubleOf(error)
        if (watch.signal.reason !== kilnStops && pod) await removePod(pod)
        throw error
      }
    },
    async end({ pod: name, namespace, version }) {
      const pod = await cluster.get<PodResource>(path.pods(namespace, name))
      if (pod && pod.metadata.labels?.[label.version] === String(version)) await removePod(pod)
    },
    async remove(pod, namespace) {
      await cluster.remove(path.pods(namespace, pod))
    },
  }
}

/** The pod has ended, is being deleted, or is another's by now. */
function isOver({ metadata: { uid } }: PodResource, { pod }: { pod: PodResource | null }): boolean {
  if (!pod || pod.metadata.uid !== uid) return true
  const { stands } = standingOf(pod, null)
  return stands === 'built' || stands === 'failed'
}

const leftMs = (pod: PodResource, limitMs: number): number => Math.max(0, Date.parse(pod.metadata.creationTimestamp) + limitMs - Date.now())

/** null: it took longer. */
async function within<T>(promise: Promise<T>, ms: number): Promise<T | null> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<null>((resolve) => { timer = setTimeout(() => resolve(null), ms) })
  return Promise.race([promise, late]).finally(() => clearTimeout(timer))
}

/** Whoever was to be removed is gone, and another has its name. */
function unlessReplaced(error: unknown): void {
  if (!(error instanceof Rejected && error.status === 409)) throw error
}
