// builder-watcher: context.packaged -> image.built | image.queued; image.queued -> image.started (and image.pending while the platform has no
// place for it), then image.built | image.failed
// Has images made: at once where only the code is new, else in turn, a few at a time. Ends a build that nobody wants any more.
import { kilnStops, type Build, type ImageBuilder } from '../../shared/builds.ts'
import type { Delivery, Hearing } from '../../shared/bus.ts'
import { nextFact, type Heard } from '../../shared/events.ts'
import type { Ports } from '../../shared/ports.ts'
import { versionOf, type LambdaRecord } from '../../shared/records.ts'
import { done, later, refuse, type Verdict } from '../../shared/verdict.ts'
import { stateAll, work } from '../../shared/worker.ts'

type BuilderPorts = Pick<Ports, 'builds' | 'bus' | 'log' | 'logs' | 'metrics' | 'records'>

export interface BuilderSettings {
  /** Over all replicas; it does not bound what takes a moment only. */
  concurrency: number
  timeoutMs: number
  /** For lambdas that ask for none. */
  builder: ImageBuilder
}

type Wanted = Heard<'context.packaged'> | Heard<'image.queued'>

const service = 'builder-watcher'
/** Quick ones at once, over all replicas. */
const mostQuick = 16
/** The pause after the world's trouble, doubled each time. */
const againMs = 5_000
/** A build that the world ended so often is given up: more would only use up the cluster. Deliveries after a crash count too. */
const mostBuilds = 6

/** Builds in the works, so that a change of a record can end them. A lambda may have two: an old version is heard again while the new one is built. */
export type InTheWorks = Set<{ id: string; version: number; abort: AbortController }>

export async function startBuilderWatcher(ports: BuilderPorts, settings: BuilderSettings): Promise<Hearing> {
  const inTheWorks: InTheWorks = new Set()
  const following = await ports.records.follow((record) => {
    for (const build of inTheWorks) if (build.id === record.id && !isWanted(record, build.version)) build.abort.abort()
  })
  const handle = (heard: Wanted, delivery: Delivery): Promise<Verdict> => build(ports, settings, inTheWorks, heard, delivery)
  const hearings = await Promise.all([
    work(ports, { service, name: `${service}-context-packaged`, fact: 'context.packaged', limit: mostQuick, failure: 'image.failed', handle }),
    work(ports, { service, name: service, fact: 'image.queued', limit: settings.concurrency, failure: 'image.failed', handle }),
  ])
  return {
    async stop() {
      const stopped = hearings.map((one) => one.stop())
      for (const { abort } of inTheWorks) abort.abort(kilnStops)
      await Promise.all(stopped)
      following.close()
    },
  }
}

const isWanted = (record: LambdaRecord, version: number): boolean =>
  !record.deleted && record.version === version && !record.cancelled.includes(version)

export async function build(ports: BuilderPorts, settings: BuilderSettings, inTheWorks: InTheWorks, heard: Wanted, { attempt }: Delivery): Promise<Verdict> {
  const abort = new AbortController()
  const mine = { id: heard.id, version: heard.version, abort }
  inTheWorks.add(mine)
  try {
    const record = await ports.records.asOf(heard)
    const wish = record && wishOf(record, heard, settings)
    if (!wish) return done()
    if (!isWanted(record, heard.version)) {
      await ports.builds.abandon(wish)
      return done()
    }
    return await findOrMake(ports, wish, heard, attempt, abort.signal)
  } finally {
    inTheWorks.delete(mine)
  }
}

/** null: the record no longer keeps that version. */
function wishOf(record: LambdaRecord, { id, account, version, data: { context, foundation } }: Wanted, { timeoutMs, builder }: BuilderSettings): Build | null {
  const kept = versionOf(record, version)?.parameters
  if (!kept) return null
  const { namespace, selector } = kept.deploy_parameters
  return { id, account, version, context, foundation, builder: kept.image_builder ?? builder, timeoutMs, namespace, selector }
}

async function findOrMake(ports: BuilderPorts, wish: Build, heard: Wanted, attempt: number, signal: AbortSignal): Promise<Verdict> {
  const { context, foundation } = wish
  const found = await ports.builds.find(wish)
  if (found.image) return done(nextFact(heard, 'image.built', { image: found.image, context: context.digest, reused: true, seconds: 0 }))
  if (heard.fact === 'context.packaged' && !found.quick) return done(nextFact(heard, 'image.queued', { context, foundation }))

  await stateAll(ports, { service }, [nextFact(heard, 'image.started', { context: context.digest, attempt })])
  const from = Date.now()
  const log = ports.logs.writer({ account: wish.account, id: wish.id, version: wish.version, kind: 'build' }, 'build', attempt - 1)
  const waiting = waitingOf(ports, heard, attempt)
  const end = await ports.builds.run(wish, { line: log.line, waits: waiting.tell, kept: () => log.flush(), signal })
  await Promise.all([log.flush(), waiting.stated()])

  if (end.built) return done(nextFact(heard, 'image.built', { image: end.image, context: context.digest, reused: false, seconds: (Date.now() - from) / 1_000 }))
  // Cancelled, superseded or deleted: the record says so already. When kiln itself stops, the build goes on or begins again elsewhere.
  if (signal.aborted || end.failure.cause === 'cancelled') return (await isStillWanted(ports, heard)) ? later(100, end.failure) : done()
  return end.again && attempt < mostBuilds ? later(againMs, end.failure) : refuse(end.failure)
}

/** States, one after the other, that the build waits and that it goes on. */
function waitingOf(ports: BuilderPorts, heard: Wanted, attempt: number): { tell(why: { reason: string; message: string } | null): void; stated(): Promise<void> } {
  const context = heard.data.context.digest
  let turn = 0
  let stating: Promise<void> = Promise.resolve()
  return {
    tell(why) {
      const more = { nth: `${attempt}-${++turn}` }
      const fact = why ? nextFact(heard, 'image.pending', { context, attempt, ...why }, more) : nextFact(heard, 'image.started', { context, attempt }, more)
      stating = stating.then(() => stateAll(ports, { service }, [fact])).catch((error: unknown) => ports.log.warn('that a build waits could not be stated', { lambda_id: heard.id, error }))
    },
    stated: () => stating,
  }
}

async function isStillWanted(ports: BuilderPorts, heard: Heard): Promise<boolean> {
  const record = (await ports.records.get(heard.id))?.value
  return record !== undefined && isWanted(record, heard.version)
}
