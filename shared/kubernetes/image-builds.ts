// Image builds, on Kubernetes: one pod of kaniko each, as for a lambda.
import { kilnStops, type BuildEnd } from '../builds.ts'
import type { ImageBuild, ImageBuilds } from '../image-builds.ts'
import { sharing } from '../sharing.ts'
import { Unavailable } from '../trouble.ts'
import type { BuildWatch } from '../builds.ts'
import { cancelled, registryAway, world } from './build-end.ts'
import { kaniko, type KanikoOptions, type KanikoWish } from './kaniko.ts'
import { imageBuildName } from './names.ts'

export function kubernetesImageBuilds(options: KanikoOptions): ImageBuilds {
  const { config } = options
  const pods = kaniko(options)
  const shared = sharing<BuildEnd, BuildWatch>((id) => `This build is under way already (${id}).`)
  let isClosed = false

  const wishOf = ({ image: { name, tag }, ...build }: ImageBuild): KanikoWish => ({ ...build, pod: imageBuildName(build.id), version: 1, destination: `${config.registry}/${name}:${tag}` })

  return {
    engine: 'kaniko',
    lack: async () => null,
    async run(build, watch) {
      if (isClosed) return stopped
      try {
        return await shared.join(build.id, watch, async (together) => {
          const made = await pods.run(wishOf(build), {
            ...together,
            waits: (why) => together.members().forEach((one) => one.waits(why)),
            kept: async () => { await Promise.all(together.members().map((one) => one.kept())) },
          })
          return made.built ? { built: true, image: { reference: `${config.registry}/${build.image.name}@${made.digest}`, digest: made.digest } } : made
        })
      } catch (error) {
        if (error === kilnStops) return stopped
        if (watch.signal.aborted) return cancelled([])
        if (error instanceof Unavailable) return registryAway(error)
        throw error
      }
    },
    abandon: ({ id, namespace }) => pods.end({ pod: imageBuildName(id), namespace, version: 1 }),
    async close() {
      isClosed = true
      await shared.end(kilnStops)
    },
  }
}

const stopped = world('BuilderStopped', 'kiln was stopped during the build; it goes on, and is taken up again when kiln is back.')
