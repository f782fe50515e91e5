// A platform that stands in for a real one where only the services are looked at: it builds and runs at once, or as a test tells it.
// Its own behaviour is held to the same contract as the real ones.
import type { Bases, Resolved } from '../../shared/bases.ts'
import type { Build, BuildEnd, Builds, BuildWatch } from '../../shared/builds.ts'
import type { ImageBuild, ImageBuilds } from '../../shared/image-builds.ts'
import type { Observation, Workload, Workloads } from '../../shared/workloads.ts'

export interface StandBases extends Bases {
  /** From now on a name stands for what this answers; at first there are no base images, as on a laptop. */
  decide(how: (name: string) => Promise<Resolved>): void
  /** Names that were asked for, in order. */
  readonly asked: string[]
}

export function standBases(): StandBases {
  const asked: string[] = []
  let how = async (_name: string): Promise<Resolved> => ({ base: null })
  return {
    asked,
    decide(next) { how = next },
    async resolve(name) {
      asked.push(name)
      return how(name)
    },
  }
}

export interface StandBuilds extends Builds {
  /** What was built, in order; a build that was found does not count. */
  readonly ran: Build[]
  /** Builds under way now, and the most that ever were at once. */
  readonly under: { now: number; most: number }
  /** From now on builds end only when the answer of this is there. */
  decide(how: (build: Build, watch: BuildWatch) => Promise<BuildEnd>): void
  /** Contexts that take a moment only. */
  readonly quick: Set<string>
  /** What was abandoned. */
  readonly abandoned: Build[]
}

export interface StandImageBuilds extends ImageBuilds {
  /** What was built, in order. */
  readonly ran: ImageBuild[]
  readonly abandoned: string[]
  /** From now on builds end only when the answer of this is there. */
  decide(how: (build: ImageBuild, watch: BuildWatch) => Promise<BuildEnd>): void
  /** Why there are none; null: there are. */
  lacks(why: string | null): void
}

export function standImageBuilds(engine: ImageBuilds['engine'] = 'kaniko'): StandImageBuilds {
  const [ran, abandoned]: [ImageBuild[], string[]] = [[], []]
  let why: string | null = null
  let how = async ({ image: { name }, context: { digest } }: ImageBuild, _watch: BuildWatch): Promise<BuildEnd> => ({ built: true, image: { reference: `stand/${name}@sha256:${digest}`, digest: `sha256:${digest}` } })
  return {
    engine, ran, abandoned,
    decide(next) { how = next },
    lacks(next) { why = next },
    lack: async () => why,
    async run(build, watch) {
      ran.push(build)
      watch.line(`building ${build.image.name}:${build.image.tag}`)
      return Promise.race([how(build, watch), ended(watch.signal)])
    },
    async abandon({ id }) { abandoned.push(id) },
    async close() {},
  }
}

const cancelled: BuildEnd = { built: false, again: false, failure: { cause: 'cancelled', reason: 'Cancelled', message: 'It was cancelled.' } }
const ended = (signal: AbortSignal): Promise<BuildEnd> => new Promise((resolve) => {
  if (signal.aborted) resolve(cancelled)
  signal.addEventListener('abort', () => resolve(cancelled))
})

export const imageOf = (build: Pick<Build, 'context'>) => ({ reference: `stand/${build.context.digest}`, digest: `sha256:${build.context.digest}` })

export function standBuilds(): StandBuilds {
  const made = new Set<string>()
  const ran: Build[] = []
  const under = { now: 0, most: 0 }
  const abandoned: Build[] = []
  const quick = new Set<string>()
  let how = async (build: Build, _watch: BuildWatch): Promise<BuildEnd> => ({ built: true, image: imageOf(build) })
  return {
    ran, under, abandoned, quick,
    decide(next) { how = next },
    find: async (build) => (made.has(build.context.digest) ? { image: imageOf(build) } : { image: null, quick: quick.has(build.context.digest) }),
    async run(build, watch) {
      const { line, signal } = watch
      ran.push(build)
      under.most = Math.max(under.most, ++under.now)
      line(`building ${build.context.digest.slice(0, 8)}`)
      const end = await Promise.race([how(build, watch), ended(signal)])
      under.now -= 1
      if (end.built) made.add(build.context.digest)
      return end
    },
    async abandon(build) { abandoned.push(build) },
    async remove(_lambda, contexts, elsewhere) {
      for (const digest of contexts) if (!elsewhere.has(digest)) made.delete(digest)
      return []
    },
    async close() {},
  }
}

export interface StandWorkloads extends Workloads {
  readonly wanted: Map<string, Workload>
  readonly applied: Workload[]
  show(observation: Partial<Observation> & Pick<Observation, 'id' | 'shows'>): void
}

export function standWorkloads(endpoint = 'http://127.0.0.1:9'): StandWorkloads {
  const wanted = new Map<string, Workload>()
  const applied: Workload[] = []
  const observers = new Set<(observation: Observation) => void>()
  const running = ({ id, account, version, epoch }: Workload): Observation =>
    ({ id, account, version, epoch, shows: 'running', reason: 'Running', message: 'It runs.', pods: [], endpoints: [endpoint] })
  const tell = (observation: Observation): void => observers.forEach((observer) => observer(observation))
  return {
    wanted, applied,
    show(part) {
      const workload = wanted.get(part.id)
      tell({ ...running(workload ?? { id: part.id, account: 'default', version: 1, epoch: 0 } as Workload), endpoints: part.shows === 'running' ? [endpoint] : [], ...part } as Observation)
    },
    async apply(workload) {
      applied.push(workload)
      const before = wanted.get(workload.id)
      wanted.set(workload.id, workload)
      tell(running(workload))
      if (before && before.version !== workload.version) tell({ ...running(before), shows: 'terminated', reason: 'Replaced', message: 'It was replaced.', endpoints: [] })
    },
    async remove(id) {
      const workload = wanted.get(id)
      wanted.delete(id)
      if (workload) tell({ ...running(workload), shows: 'terminated', reason: 'Removed', message: 'It was removed.', endpoints: [] })
    },
    list: async () => [...wanted.values()].map(({ id, version, epoch }) => ({ id, version, epoch })),
    async observe(observer) {
      observers.add(observer)
      for (const workload of wanted.values()) observer(running(workload))
      return { close: () => observers.delete(observer) }
    },
    async close() {},
  }
}
