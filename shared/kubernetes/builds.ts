// Builds, on Kubernetes: the environment by a pod of kaniko where it is missing, the code as one layer on it; or all of it by one kaniko.
// Nothing is made that the registry holds.
import { kilnStops, type Build, type BuildEnd, type Builds, type BuildWatch, type Context, type Image, type Kept } from '../builds.ts'
import type { Claims } from '../claims.ts'
import type { Objects } from '../objects.ts'
import { environmentRepository, repositoryOf } from '../repositories.ts'
import { runs } from '../running.ts'
import { sharing, type Together } from '../sharing.ts'
import { Unavailable } from '../trouble.ts'
import { cancelled, contextUnusable, noParent, registryAway, timedOut, world } from './build-end.ts'
import { kubernetesEnvironments } from './environments.ts'
import { kaniko, type KanikoOptions } from './kaniko.ts'
import { buildName } from './names.ts'

/** What the builds ask of the registry; `oci/images.ts` is one. */
export interface ImageRegistry {
  /** The digest under a reference such as `registry/name:tag`; null: there is none. A registry that cannot be asked is Unavailable. */
  digest(reference: string): Promise<string | null>
  /** null: it is gone, or was not there. Otherwise why it stays. */
  remove(reference: string): Promise<string | null>
  /**
   * A new image: the parent with the context's code as its last layer. Answers its digest, or why there is no such image. Throws Unavailable, or
   * the signal's reason; null: the context is not there.
   */
  putCode(wish: { parent: string; context: Context; runs: typeof runs; to: string; signal: AbortSignal }): Promise<{ digest: string } | { refused: { reason: string; message: string } } | null>
}

export interface KubernetesBuildsOptions extends KanikoOptions {
  registry: ImageRegistry
  objects: Pick<Objects, 'has'>
  claims: Claims
}

type Shared = Together<BuildWatch>

export function kubernetesBuilds(options: KubernetesBuildsOptions): Builds {
  const { config, registry, objects, claims } = options
  const pods = kaniko(options)
  const environments = kubernetesEnvironments({ registry: config.registry, images: registry, kaniko: pods, claims, objects })
  const shared = sharing<BuildEnd, BuildWatch>((key) => `This build joins one of the same context that is under way (${key}).`)
  let isClosed = false

  const destinationOf = ({ id, context }: Pick<Build, 'id' | 'context'>): string => `${repositoryOf(config.registry, id)}:${context.digest}`
  const imageOf = ({ id }: Pick<Build, 'id'>, digest: string): Image => ({ reference: `${repositoryOf(config.registry, id)}@${digest}`, digest })

  function make(build: Build, together: Shared): Promise<BuildEnd> {
    const watch: BuildWatch = {
      ...together,
      waits: (why) => together.members().forEach((one) => one.waits(why)),
      kept: async () => { await Promise.all(together.members().map((one) => one.kept())) },
    }
    return build.builder === 'kaniko' ? byKaniko(build, watch) : byLayer(build, watch)
  }

  async function byKaniko(build: Build, watch: BuildWatch): Promise<BuildEnd> {
    const found = await registry.digest(destinationOf(build))
    if (found) return { built: true, image: imageOf(build, found) }
    if (!(await objects.has(build.context.name))) return contextUnusable(build.context.name)
    const made = await pods.run({ ...build, pod: buildName(build.id), destination: destinationOf(build), args: {}, limits: {} }, watch)
    return made.built ? { built: true, image: imageOf(build, made.digest) } : made
  }

  async function byLayer(build: Build, watch: BuildWatch): Promise<BuildEnd> {
    const { base, environment } = build.foundation
    const ground = environment === null ? null : await environments.make(build, environment, watch)
    if (ground && !ground.built) return ground
    const parent = ground ? `${environmentRepository(config.registry)}@${ground.digest}` : base!.reference
    const late = AbortSignal.timeout(build.timeoutMs)
    try {
      watch.line(`Code: one layer of ${build.context.code.bytes} bytes on ${parent}`)
      const put = await registry.putCode({ parent, context: build.context, runs, to: destinationOf(build), signal: AbortSignal.any([watch.signal, late]) })
      if (put === null) return contextUnusable(build.context.name)
      if ('refused' in put) return noParent(put.refused, environment !== null)
      const image = imageOf(build, put.digest)
      watch.line(`Pushed ${image.reference}`)
      return { built: true, image }
    } catch (error) {
      if (late.aborted && !watch.signal.aborted) return timedOut(build.timeoutMs / 1_000, [])
      throw error
    }
  }

  return {
    async find(build) {
      const digest = await registry.digest(destinationOf(build))
      if (digest) return { image: imageOf(build, digest) }
      const { environment } = build.foundation
      return { image: null, quick: build.builder === 'auto' && (environment === null || (await environments.has(environment.key))) }
    },
    async run(build, watch) {
      if (isClosed) return stopped
      try {
        return await shared.join(keyOf(build), watch, (together) => make(build, together))
      } catch (error) {
        if (error === kilnStops) return stopped
        if (watch.signal.aborted) return cancelled([])
        if (error instanceof Unavailable) return registryAway(error)
        throw error
      }
    },
    abandon: (build) => pods.end({ ...build, pod: buildName(build.id) }),
    async remove({ id, namespaces }, contexts) {
      const underWay = new Set(shared.underWay().filter((key) => key.startsWith(`${id}:`)).map((key) => key.split(':').at(-1)!))
      const isNeeded = underWay.size > 0 || environments.makers().includes(id)
      if (!isNeeded) for (const namespace of namespaces) await pods.remove(buildName(id), namespace)
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
      await Promise.all([shared.end(kilnStops), environments.close(kilnStops)])
    },
  }
}

const keyOf = ({ id, version, context }: Build): string => `${id}:${version}:${context.digest}`

const stopped = world('BuilderStopped', 'kiln was stopped during the build; it goes on, and is taken up again when kiln is back.')
