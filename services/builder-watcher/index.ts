// builder-watcher: context.packaged -> image.built | image.queued; and what is queued, in its turn -> image.started (and image.pending while the
// platform has no place for it), then image.built | image.failed
// Has images made: at once where only the code is new, else in turn, a few at a time. Ends a build that nobody wants any more.
import { kilnStops, type Build, type ImageBuilder, type Packaged } from '../../shared/builds.ts'
import type { Delivery, Hearing } from '../../shared/bus.ts'
import { nextFact, type Fact, type Heard } from '../../shared/events.ts'
import type { Ports } from '../../shared/ports.ts'
import { versionOf, type LambdaRecord } from '../../shared/records.ts'
import { done, type Verdict } from '../../shared/verdict.ts'
import { work, workOnQueue } from '../../shared/worker.ts'
import { make, type MakerPorts } from './make.ts'
import { buildOfItsOwn, isStillWanted as isBuildWanted } from './own-builds.ts'

type BuilderPorts = MakerPorts & Pick<Ports, 'buildRecords' | 'builds' | 'imageBuilds' | 'metrics' | 'queue' | 'records'>

export interface BuilderSettings {
  /** Over all replicas; it does not bound what takes a moment only. */
  concurrency: number
  /** Of them, of one account. */
  perAccount: number
  timeoutMs: number
  /** For lambdas that ask for none. */
  builder: ImageBuilder
  /** For builds that ask for none. */
  namespace: string
}

type Wanted = Heard<'context.packaged'> | Heard<'image.queued'>
/** What a lambda's version waits with. */
type Packed = Omit<Wanted, 'data'> & { data: Packaged }

const service = 'builder-watcher'
/** Quick ones at once, over all replicas. */
const mostQuick = 16

/** Builds in the works, so that a change of a record can end them. A lambda may have two: an old version is heard again while the new one is built. */
export type InTheWorks = Set<{ id: string; version: number; abort: AbortController }>

export async function startBuilderWatcher(ports: BuilderPorts, settings: BuilderSettings): Promise<Hearing> {
  const inTheWorks: InTheWorks = new Set()
  const endUnless = (id: string, wanted: (version: number) => boolean): void => {
    for (const build of inTheWorks) if (build.id === id && !wanted(build.version)) build.abort.abort()
  }
  const following = await Promise.all([
    ports.records.follow((record) => endUnless(record.id, (version) => isWanted(record, version))),
    ports.buildRecords.follow((record) => endUnless(record.id, () => isBuildWanted(record))),
  ])
  const { concurrency, perAccount } = settings
  const hearings = await Promise.all([
    work(ports, { service, name: `${service}-context-packaged`, fact: 'context.packaged', limit: mostQuick, failure: 'image.failed', handle: (heard, delivery) => build(ports, settings, inTheWorks, heard, delivery) }),
    workOnQueue(ports, {
      service, name: service, fact: 'image.queued', failure: 'image.failed', limit: concurrency, here: concurrency, perAccount,
      handle: (heard, delivery) => build(ports, settings, inTheWorks, heard, delivery),
    }),
  ])
  return {
    async stop() {
      const stopped = hearings.map((one) => one.stop())
      for (const { abort } of inTheWorks) abort.abort(kilnStops)
      await Promise.all(stopped)
      for (const one of following) one.close()
    },
  }
}

const isWanted = (record: LambdaRecord, version: number): boolean =>
  !record.deleted && record.version === version && !record.cancelled.includes(version)

export async function build(ports: BuilderPorts, settings: BuilderSettings, inTheWorks: InTheWorks, heard: Wanted, delivery: Delivery): Promise<Verdict> {
  const abort = new AbortController()
  const mine = { id: heard.id, version: heard.version, abort }
  inTheWorks.add(mine)
  try {
    if (heard.kind === 'build') return await buildOfItsOwn(ports, settings, heard as Heard<'image.queued'>, delivery, abort.signal)
    return await buildOfALambda(ports, settings, heard, delivery, abort.signal)
  } finally {
    inTheWorks.delete(mine)
  }
}

async function buildOfALambda(ports: BuilderPorts, settings: BuilderSettings, heard: Wanted, { attempt }: Delivery, signal: AbortSignal): Promise<Verdict> {
  const record = await ports.records.asOf(heard)
  const wish = record && wishOf(record, heard as Packed, settings)
  if (!wish) return done()
  if (!isWanted(record, heard.version)) {
    await ports.builds.abandon(wish)
    return done()
  }
  const { context } = wish
  const found = await ports.builds.find(wish)
  if (found.image) return done(nextFact(heard, 'image.built', { image: found.image, context: context.digest, reused: true, seconds: 0 }))
  if (heard.fact === 'context.packaged' && !found.quick) return enqueue(ports, record, heard as Heard<'context.packaged'>)
  return make(ports, heard, { attempt, signal }, {
    run: (watch) => ports.builds.run(wish, watch),
    isStillWanted: async () => {
      const now = (await ports.records.get(heard.id))?.value
      return now !== undefined && isWanted(now, heard.version)
    },
  })
}

/** null: the record no longer keeps that version. */
function wishOf(record: LambdaRecord, { id, account, version, data: { context, foundation } }: Packed, { timeoutMs, builder }: BuilderSettings): Build | null {
  const kept = versionOf(record, version)?.parameters
  if (!kept) return null
  const { namespace, selector } = kept.deploy_parameters
  return { id, account, version, context, foundation, builder: kept.image_builder ?? builder, commands: kept.user_docker_commands, timeoutMs, namespace, selector }
}

/** The newer version takes the place of an older one that still waits. */
async function enqueue(ports: BuilderPorts, record: LambdaRecord, heard: Heard<'context.packaged'>): Promise<Verdict> {
  const { context, foundation } = heard.data
  const queued = nextFact(heard, 'image.queued', { context, foundation, priority: versionOf(record, heard.version)!.priority })
  const life = (await ports.statuses.get(heard.id))?.value
  for (const [version, { state }] of Object.entries(life?.versions ?? {})) {
    if (state === 'queued' && Number(version) < heard.version) await ports.queue.withdraw({ ...heard, version: Number(version) })
  }
  await ports.queue.put({ ...queued, time: new Date().toISOString(), source: `kiln/${service}` } as Fact<'image.queued'>)
  return done(queued)
}
