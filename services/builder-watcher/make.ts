// Making: one build from its start to its end, told as facts and in its log, whether a lambda wants it or somebody else.
import type { BuildEnd, BuildWatch } from '../../shared/builds.ts'
import { nextFact, type Heard } from '../../shared/events.ts'
import type { Ports } from '../../shared/ports.ts'
import { done, later, refuse, type Verdict } from '../../shared/verdict.ts'
import { stateAll } from '../../shared/worker.ts'

export type MakerPorts = Pick<Ports, 'bus' | 'log' | 'logs' | 'statuses'>

export interface Making {
  run(watch: BuildWatch): Promise<BuildEnd>
  isStillWanted(): Promise<boolean>
}

type Wanted = Heard<'context.packaged'> | Heard<'image.queued'>

const service = 'builder-watcher'
/** The pause after the world's trouble, doubled each time. */
const againMs = 5_000
/** A build that the world ended so often is given up: more would only use up the cluster. Deliveries after a crash count too. */
const mostBuilds = 6

export async function make(ports: MakerPorts, heard: Wanted, { attempt, signal }: { attempt: number; signal: AbortSignal }, { run, isStillWanted }: Making): Promise<Verdict> {
  const { account, id, version, data: { context } } = heard
  // Taken over from a kiln that died, it has begun already; tried again, it begins once more.
  const isAgain = attempt > 1 && (await ports.statuses.get(id))?.value.versions[version]?.state === 'unscheduled'
  await stateAll(ports, { service }, [nextFact(heard, 'image.started', { context: context.digest, attempt }, isAgain ? { nth: String(attempt) } : {})])
  const from = Date.now()
  const log = ports.logs.writer({ account, id, version, kind: 'build' }, 'build', attempt - 1)
  const waiting = waitingOf(ports, heard, attempt)
  const end = await run({ line: log.line, waits: waiting.tell, kept: () => log.flush(), signal })
  await Promise.all([log.flush(), waiting.stated()])

  if (end.built) return done(nextFact(heard, 'image.built', { image: end.image, context: context.digest, reused: false, seconds: (Date.now() - from) / 1_000 }))
  // Cancelled, superseded or deleted: the record says so already. When kiln itself stops, the build goes on or begins again elsewhere.
  if (signal.aborted || end.failure.cause === 'cancelled') return (await isStillWanted()) ? later(100, end.failure) : done()
  if (!end.again || attempt >= mostBuilds) return refuse(end.failure)
  const { reason, message } = end.failure
  await stateAll(ports, { service }, [nextFact(heard, 'image.pending', { context: context.digest, attempt, reason, message }, { nth: `${attempt}-again` })])
  return later(againMs, end.failure)
}

/** States, one after the other, that the build waits and that it goes on. */
function waitingOf(ports: MakerPorts, heard: Wanted, attempt: number): { tell(why: { reason: string; message: string } | null): void; stated(): Promise<void> } {
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
