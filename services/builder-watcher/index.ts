// builder-watcher: context.packaged -> image.started, then image.built | image.failed
// Has images made, a few at a time, and ends a build that nobody wants any more.
import type { Build } from '../../shared/builds.ts'
import type { Delivery, Hearing } from '../../shared/bus.ts'
import { nextFact, type Heard } from '../../shared/events.ts'
import type { Ports } from '../../shared/ports.ts'
import type { LambdaRecord } from '../../shared/records.ts'
import { done, later, refuse, type Verdict } from '../../shared/verdict.ts'
import { stateAll, work } from '../../shared/worker.ts'

type BuilderPorts = Pick<Ports, 'builds' | 'bus' | 'log' | 'logs' | 'metrics' | 'records'>

export interface BuilderSettings {
  /** Over all replicas. */
  concurrency: number
  timeoutMs: number
}

const service = 'builder-watcher'
/** The pause after the world's trouble, doubled each time. */
const againMs = 5_000

/** Builds in the works, so that a change of a record can end them. A lambda may have two: an old version is heard again while the new one is built. */
type InTheWorks = Set<{ id: string; version: number; abort: AbortController }>

export async function startBuilderWatcher(ports: BuilderPorts, settings: BuilderSettings): Promise<Hearing> {
  const inTheWorks: InTheWorks = new Set()
  const following = await ports.records.follow((record) => {
    for (const build of inTheWorks) if (build.id === record.id && !isWanted(record, build.version)) build.abort.abort()
  })
  const hearing = await work(ports, {
    service, name: service, fact: 'context.packaged', limit: settings.concurrency, failure: 'image.failed',
    handle: (heard, delivery) => build(ports, settings, inTheWorks, heard, delivery),
  })
  return {
    async stop() {
      const stopped = hearing.stop()
      for (const { abort } of inTheWorks) abort.abort()
      await stopped
      following.close()
    },
  }
}

const isWanted = (record: LambdaRecord, version: number): boolean =>
  !record.deleted && record.version === version && !record.cancelled.includes(version)

export async function build(ports: BuilderPorts, settings: BuilderSettings, inTheWorks: InTheWorks, heard: Heard<'context.packaged'>, { attempt }: Delivery): Promise<Verdict> {
  const abort = new AbortController()
  const mine = { id: heard.id, version: heard.version, abort }
  inTheWorks.add(mine)
  try {
    const record = await ports.records.asOf(heard)
    if (!record || !isWanted(record, heard.version)) return done()
    return await findOrMake(ports, settings, heard, attempt, abort.signal)
  } finally {
    inTheWorks.delete(mine)
  }
}

async function findOrMake(ports: BuilderPorts, settings: BuilderSettings, heard: Heard<'context.packaged'>, attempt: number, signal: AbortSignal): Promise<Verdict> {
  const { id, account, version, data: { context } } = heard
  const wish: Build = { id, account, version, context, timeoutMs: settings.timeoutMs }
  const found = await ports.builds.find(wish)
  if (found) return done(nextFact(heard, 'image.built', { image: found, context: context.digest, reused: true, seconds: 0 }))

  await stateAll(ports, { service }, [nextFact(heard, 'image.started', { context: context.digest, attempt })])
  const from = Date.now()
  const log = ports.logs.writer({ account, id, version, kind: 'build' }, 'build', attempt - 1)
  const end = await ports.builds.run(wish, { line: log.line, signal })
  await log.flush()

  if (end.built) return done(nextFact(heard, 'image.built', { image: end.image, context: context.digest, reused: false, seconds: (Date.now() - from) / 1_000 }))
  // Cancelled, superseded or deleted: the record says so already. When kiln itself stops, the build begins again elsewhere.
  if (end.failure.cause === 'cancelled') return (await isStillWanted(ports, heard)) ? later(100, end.failure) : done()
  return end.again ? later(againMs, end.failure) : refuse(end.failure)
}

async function isStillWanted(ports: BuilderPorts, heard: Heard): Promise<boolean> {
  const record = (await ports.records.get(heard.id))?.value
  return record !== undefined && isWanted(record, heard.version)
}
