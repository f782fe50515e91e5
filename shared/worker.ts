// The worker: hear -> handle -> state the facts -> settle. Turns verdicts into what becomes of a message; knows the retry budget.
import type { Delivery, Hearing, Settlement, Wish } from './bus.ts'
import { nextFact, type FactName, type Heard } from './events.ts'
import type { Ports } from './ports.ts'
import type { Turns } from './queue.ts'
import { Refusal, Unavailable, type Failure } from './trouble.ts'
import { later, refuse, type Statement, type Verdict } from './verdict.ts'

export interface Work<N extends FactName> extends Pick<Wish, 'name'> {
  /** The service: source of its facts, stage of its failures. */
  service: string
  fact: N
  /** The fact that says that this step failed; null: a failure is only logged. */
  failure: 'context.refused' | 'image.failed' | 'workload.failed' | null
  handle: (heard: Heard<N>, delivery: Delivery) => Promise<Verdict>
}

/** After so many tries the world's trouble is a failure. With the back-off below that is about ten minutes. */
const maxAttempts = 12
const maxBackoffMs = 120_000

type WorkerPorts = Pick<Ports, 'bus' | 'log' | 'metrics'>

/** Sets a service to work on one kind of fact, for ever; `limit`: so many at once, over all replicas. */
export function work<N extends FactName>(ports: WorkerPorts, one: Work<N> & { limit: number }): Promise<Hearing> {
  const { metrics, bus } = ports
  metrics.measure('kiln_queue_depth', 'Messages that wait for a stage', { stage: one.name }, async () => (await bus.depth(one.name)).waiting)
  return bus.hear({ name: one.name, fact: one.fact, limit: one.limit, refused: () => metrics.refused(one.name) }, (heard, delivery) => settle(ports, one, heard as Heard<N>, delivery))
}

/** The same for what waits in the queue. */
export function workOnQueue(ports: WorkerPorts & Pick<Ports, 'queue'>, one: Work<'image.queued'> & Omit<Turns, 'refused'>): Promise<Hearing> {
  const { metrics, queue } = ports
  metrics.measure('kiln_queue_depth', 'Messages that wait for a stage', { stage: one.name }, async () => (await queue.depth(null)).waiting)
  return queue.serve({ ...one, refused: () => metrics.refused(one.name) }, (heard, delivery) => settle(ports, one, heard, delivery))
}

async function settle<N extends FactName>(ports: WorkerPorts, one: Work<N>, heard: Heard<N>, delivery: Delivery): Promise<Settlement> {
  const end = ports.metrics.begin(one.name)
  const log = ports.log.with({ service: one.service, lambda_id: heard.id, version: heard.version, fact: heard.fact, request_id: heard.cause })
  const verdict = await one.handle(heard, delivery).catch((error: unknown): Verdict => {
    if (error instanceof Refusal) return refuse({ cause: 'user', reason: 'Refused', message: error.message })
    if (error instanceof Unavailable) return later(1_000, { cause: 'infrastructure', reason: 'Unavailable', message: error.message })
    log.error('a bug: the handler threw', { error, attempt: delivery.attempt })
    return { verdict: 'later', ms: 1_000, failure: ours(error) }
  })
  if (verdict.verdict === 'done') {
    await stateAll(ports, one, verdict.facts)
    end({ fact: heard.fact, verdict: 'done' })
    return 'settled'
  }
  const isSpent = verdict.verdict === 'refuse' || delivery.attempt >= maxAttempts
  const failure: Failure = { stage: one.service, ...verdict.failure }
  log.warn(isSpent ? 'failed' : 'later', { ...failure, attempt: delivery.attempt })
  end({ fact: heard.fact, verdict: isSpent ? 'refuse' : 'later', ...(isSpent && { cause: failure.cause }) })
  if (!isSpent) return { againInMs: backoffMs(verdict.ms, delivery.attempt) }
  if (one.failure) await stateAll(ports, one, [nextFact(heard, one.failure, failure, { epoch: heard.epoch, nth: nthOf(heard) })])
  return 'settled'
}

/** A lambda that is switched on again may fail again in the same version. */
const nthOf = (heard: Heard): string | undefined => (heard.epoch > 0 ? String(heard.epoch) : undefined)

export const backoffMs = (ms: number, attempt: number): number => Math.min(ms * 2 ** (attempt - 1), maxBackoffMs)

const ours = (error: unknown): Omit<Failure, 'stage'> => ({
  cause: 'infrastructure', reason: 'KilnError', message: `kiln itself failed at this step (${(error as Error)?.message ?? error}); its log has the details.`,
})

export async function stateAll(ports: Pick<Ports, 'bus'>, { service }: { service: string }, facts: Statement[]): Promise<void> {
  for (const fact of facts) await ports.bus.state({ ...fact, time: new Date().toISOString(), source: `kiln/${service}` })
}
