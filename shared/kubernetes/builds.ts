// Builds, on Kubernetes: one pod of kaniko makes one image. What runs is adopted after a crash, what has ended is read, and nothing is built that the registry holds.
import { kilnStops, type Build, type BuildEnd, type Builds, type BuildWatch, type Image, type Kept } from '../builds.ts'
import type { Log } from '../log.ts'
import type { Objects } from '../objects.ts'
import { sharing } from '../sharing.ts'
import { cancelled, deleted, failureOf, isHopeless, neverBegan, registryAway, standingOf, timedOut, troubleOf, world } from './build-end.ts'
import { buildPod, container, destinationOf, type BuildPlace } from './build-pod.ts'
import { Rejected, type Cluster } from './client.ts'
import { annotation, buildName, label, path, repositoryOf } from './names.ts'
import { readLog } from './pod-log.ts'
import type { PodResource, Wait } from './resources.ts'
import { watchPod, type WatchedPod } from './watched-pod.ts'

/** What the builds ask of the registry; `oci/registry.ts` is one. */
export interface ImageRegistry {
  /** The digest under a reference such as `registry/name:tag`; null: there is none. A registry that cannot be asked is Unavailable. */
  digest(reference: string): Promise<string | null>
  /** null: it is gone, or was not there. Otherwise why it stays. */
  remove(reference: string): Promise<string | null>
}

export interface KubernetesBuildsOptions extends BuildPlace {
  cluster: Cluster
  registry: ImageRegistry
  objects: Pick<Objects, 'has'>
  log: Log
}

/** What is told while a pod is attended to; that all is kept is asked for at its end. */
type Attended = Omit<BuildWatch, 'kept'>

const closing = new Error('kiln ends')
const linesKept = 40
/** From the end of a container to the end of its log; usually well below a second. */
const logEndsMs = 5_000
/** Beyond its deadline a pod whose node is lost never ends: nobody is left to enforce it. */
const lostNodeMs = 60_000

export function kubernetesBuilds(options: KubernetesBuildsOptions): Builds {
  const { cluster, config, registry, objects, log } = options
  const shared = sharing<BuildEnd>((key) => `This build joins one of the same context that is under way (${key}).`)
  /** Everyone who waits for a build, by its key. */
  const members = new Map<string, Set<BuildWatch>>()
  let isClosed = false

  const imageOf = ({ id }: Pick<Build, 'id'>, digest: string): Image => ({ reference: `${repositoryOf(config.registry, id)}@${digest}`, digest })

  async function find(build: Build): Promise<Image | null> {
    const digest = await registry.digest(destinationOf(config.registry, build))
    return digest ? imageOf(build, digest) : null
  }

  /** The pod of this build: a new one, or the one that is there. One of another version or context is removed first, one that is on its way out is waited for. */
  async function createOrAdopt(build: Build, signal: AbortSignal): Promise<PodResource> {
    const [name, at] = [buildName(build.id), path.pods(build.namespace)]
    while (true) {
      signal.throwIfAborted()
      const made = await cluster.create<PodResource>(at, buildPod(options, build)).catch((error: unknown) => {
        if (error instanceof Rejected && error.reason === 'AlreadyExists') return null
        throw error
      })
      if (made) return made
      const there = await cluster.get<PodResource>(path.pods(build.namespace, name))
      if (!there) continue
      const { labels, annotations, deletionTimestamp, uid } = there.metadata
      const isOurs = labels?.[label.version] === String(build.version) && annotations?.[annotation.context] === build.context.digest
      if (isOurs && !deletionTimestamp) return there
      if (!deletionTimestamp) await cluster.remove(path.pods(build.namespace, name), { uid }).catch(unlessReplaced)
      await vanished(build.namespace, name, uid, signal)
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
  async function attend(build: Build, pod: PodResource, watch: Attended): Promise<BuildEnd> {
    const last: string[] = []
    const line = (written: string): void => {
      const text = plainly(written)
      if (last.push(text) > linesKept) last.shift()
      watch.line(text)
    }
    const reading = new AbortController()
    const watched = watchPod(cluster, pod.metadata, log)
    try {
      const began = await beginning(pod, watched, watch)
      if (began) return began
      // An image is no worse for a log that could not be read.
      const read = readLog(cluster, { namespace: build.namespace, pod: pod.metadata.name, container }, line, reading.signal)
        .catch((error: unknown) => log.warn('the log of a build cannot be read', { lambda_id: build.id, error }))
      const ended = await within(watched.until((sight) => isOver(pod, sight), watch.signal), leftMs(pod, build.timeoutMs + lostNodeMs))
      if (!ended) return timedOut(build.timeoutMs / 1_000, last)
      await within(read, logEndsMs)
      return await endOf(build, pod, ended, last)
    } finally {
      reading.abort()
      watched.close()
    }
  }

  /** Waits until the container has begun, and says why it does not; an end when it never will. */
  async function beginning(pod: PodResource, watched: WatchedPod, watch: Attended): Promise<BuildEnd | null> {
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

  async function endOf(build: Build, { metadata: { uid } }: PodResource, { pod, lastSeen }: { pod: PodResource | null; lastSeen: PodResource | null }, last: string[]): Promise<BuildEnd> {
    const seen = pod?.metadata.uid === uid ? pod : lastSeen
    const standing = seen ? standingOf(seen, null) : null
    if (standing?.stands === 'built') {
      const image = standing.digest ? imageOf(build, standing.digest) : await find(build)
      return image ? { built: true, image } : world('ImageNotPushed', 'kaniko ended well, but the registry does not hold the image. It is built again.', last)
    }
    if (standing?.stands === 'failed') return failureOf(seen!, { seconds: build.timeoutMs / 1_000, limits: config.buildLimits, log: last })
    return deleted(last)
  }

  async function make(build: Build, key: string, { line, signal }: { line(text: string): void; signal: AbortSignal }): Promise<BuildEnd> {
    const everyone = (): BuildWatch[] => [...(members.get(key) ?? [])]
    let pod: PodResource | null = null
    try {
      const found = await find(build).catch(registryAway)
      if (found && 'built' in found) return found
      if (found) return { built: true, image: found }
      pod = await createOrAdopt(build, signal)
      const end = await attend(build, pod, { line, signal, waits: (why) => everyone().forEach((one) => one.waits(why)) })
      // Once its digest and its log are safe it is of no more use.
      await Promise.all(everyone().map((one) => one.kept()))
      await removePod(pod)
      return end
    } catch (error) {
      if (!signal.aborted) return troubleOf(error)
      if (signal.reason !== kilnStops && signal.reason !== closing && pod) await removePod(pod)
      throw error
    }
  }

  return {
    find,
    async run(build, watch) {
      if (isClosed) return stopped
      if (!(await objects.has(build.context.name))) {
        return { built: false, again: false, failure: { cause: 'infrastructure', reason: 'ContextUnusable', message: `The context of this version cannot be used: ${build.context.name} is not there any more. Send the archive again with PUT.` } }
      }
      const key = `${build.id}:${build.version}:${build.context.digest}`
      const here = members.get(key) ?? new Set()
      members.set(key, here.add(watch))
      try {
        return await shared.join(key, watch, (one) => make(build, key, one))
      } catch (error) {
        if (error === closing || error === kilnStops) return stopped
        if (watch.signal.aborted) return cancelled([])
        throw error
      } finally {
        here.delete(watch)
        if (here.size === 0 && members.get(key) === here) members.delete(key)
      }
    },
    async abandon({ id, namespace, version }) {
      const pod = await cluster.get<PodResource>(path.pods(namespace, buildName(id)))
      if (pod && pod.metadata.labels?.[label.version] === String(version)) await removePod(pod)
    },
    async remove({ id, namespaces }, contexts) {
      const underWay = new Set([...members.keys()].filter((key) => key.startsWith(`${id}:`)).map((key) => key.split(':').at(-1)!))
      if (underWay.size === 0) for (const namespace of namespaces) await cluster.remove(path.pods(namespace, buildName(id)))
      const kept: Kept[] = []
      for (const digest of contexts) {
        if (underWay.has(digest)) continue
        const image = `${repositoryOf(config.registry, id)}:${digest}`
        const why = await registry.remove(image)
        if (why) kept.push({ image, why })
      }
      return kept
    },
    async close() {
      isClosed = true
      await shared.end(closing)
    },
  }
}

const stopped = world('BuilderStopped', 'kiln was stopped during the build; it goes on, and is taken up again when kiln is back.')

/** The pod has ended, is being deleted, or is another's by now. */
function isOver({ metadata: { uid } }: PodResource, { pod }: { pod: PodResource | null }): boolean {
  if (!pod || pod.metadata.uid !== uid) return true
  const { stands } = standingOf(pod, null)
  return stands === 'built' || stands === 'failed'
}

/** kaniko's own lines without their dress: `time="…" level=info msg="COPY code/ /lambda/"` → `COPY code/ /lambda/`. */
function plainly(line: string): string {
  const message = /^time="[^"]*" level=info msg=("(?:[^"\\]|\\.)*"|\S+)$/.exec(line)?.[1]
  if (!message?.startsWith('"')) return message ?? line
  try { return JSON.parse(message) as string } catch { return line }
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
