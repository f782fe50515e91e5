// Builds of their own: an archive with a Dockerfile becomes an image that no lambda is made of.
import type { Delivery } from '../../shared/bus.ts'
import type { BuildRecord } from '../../shared/build-records.ts'
import type { Heard } from '../../shared/events.ts'
import type { ImageBuild } from '../../shared/image-builds.ts'
import { buildState, isBuildInFlight } from '../../shared/lifecycle.ts'
import type { Ports } from '../../shared/ports.ts'
import { done, type Verdict } from '../../shared/verdict.ts'
import { make, type MakerPorts } from './make.ts'

export const isStillWanted = (record: BuildRecord): boolean => !record.deleted && record.cancelled === null

export async function buildOfItsOwn(
  ports: MakerPorts & Pick<Ports, 'buildRecords' | 'imageBuilds'>, settings: { timeoutMs: number; namespace: string }, heard: Heard<'image.queued'>, { attempt }: Delivery, signal: AbortSignal,
): Promise<Verdict> {
  const record = (await ports.buildRecords.get(heard.id))?.value
  if (!record) return done()
  const wish = wishOf(record, settings)
  if (!isStillWanted(record)) {
    await ports.imageBuilds.abandon(wish)
    return done()
  }
  // Heard again after it was stated: it would be built once more.
  if (!isBuildInFlight(buildState(record, (await ports.statuses.get(heard.id))?.value ?? null))) return done()
  return make(ports, heard, { attempt, signal }, {
    run: (watch) => ports.imageBuilds.run(wish, watch),
    isStillWanted: async () => {
      const now = (await ports.buildRecords.get(heard.id))?.value
      return now !== undefined && isStillWanted(now)
    },
  })
}

function wishOf({ id, account, context, parameters: p }: BuildRecord, { timeoutMs, namespace }: { timeoutMs: number; namespace: string }): ImageBuild {
  return {
    id, account, context, image: { name: p.image_name, tag: p.tag }, args: p.build_args, limits: p.resources as Record<string, string>, namespace: p.namespace ?? namespace, selector: p.selector,
    timeoutMs: p.timeout === null ? timeoutMs : p.timeout * 1_000,
  }
}
