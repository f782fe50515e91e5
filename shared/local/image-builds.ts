// Image builds, on this machine: kaniko's executor in a private root, one at a time.
import type { BuildEnd } from '../builds.ts'
import type { ImageBuilds } from '../image-builds.ts'
import { world } from '../kaniko-log.ts'
import type { Objects } from '../objects.ts'
import { whyNoLocalKaniko, type LocalKaniko } from './kaniko.ts'

export interface LocalImageBuildsOptions {
  kaniko: LocalKaniko
  /** The executor's path; null: none is named. */
  executor: string | null
  /** Registry, and path in it; null: none is named. */
  registry: string | null
  objects: Pick<Objects, 'part'>
  /** BUILD_LIMITS, which have no effect here; null: none. */
  ignoredLimits: string | null
}

export function localImageBuilds({ kaniko, executor, registry, objects, ignoredLimits }: LocalImageBuildsOptions): ImageBuilds {
  let isClosed = false
  let works = false

  /** It is tried: once it has worked it is believed, and until then it may be mended. */
  async function whyNoKaniko(): Promise<string | null> {
    if (works) return null
    const why = await whyNoLocalKaniko(executor)
    works = why === null
    return why
  }

  return {
    engine: 'local_kaniko',
    async lack() {
      const lacks = [registry === null ? noRegistry : null, await whyNoKaniko()].filter((one) => one !== null)
      return lacks.length > 0 ? lacks.join(' ') : null
    },
    async run({ context, image: { name, tag }, args, limits, timeoutMs }, { line, waits, signal }): Promise<BuildEnd> {
      if (isClosed) return world('BuilderStopped', 'kiln was stopped during the build; it is built again when kiln is back.')
      const archive = await objects.part(context.name, 0)
      if (archive === null) return { built: false, again: false, failure: { cause: 'infrastructure', reason: 'ContextUnusable', message: `The archive of this build is gone (${context.name}); send it again.` } }
      const ignored = [...(ignoredLimits === null ? [] : [`BUILD_LIMITS (${ignoredLimits})`]), ...(Object.keys(limits).length > 0 ? ['resources'] : [])]
      if (ignored.length > 0) line(`Ignored: ${ignored.join(' and ')}. This build runs on the machine of kiln itself, and what bounds that bounds it.`)
      const made = await kaniko.run({ context: archive, destination: `${registry}/${name}:${tag}`, buildArgs: args, timeoutMs }, { line, waits, signal })
      return made.built ? { built: true, image: { reference: `${registry}/${name}@${made.digest}`, digest: made.digest } } : made
    },
    // A build of this machine ends with the kiln that began it.
    async abandon() {},
    async close() {
      isClosed = true
      await kaniko.close()
    },
  }
}

const noRegistry = 'This kiln has no registry to push images to: have the operator set LAMBDA_REGISTRY.'
