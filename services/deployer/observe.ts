// What the platform shows -> workload.running | pending | waiting | terminated | failed; and what should run but does not -> applied again; what should not -> removed.
import type { Fact, Facts } from '../../shared/events.ts'
import { desiredVersion, type Life } from '../../shared/lifecycle.ts'
import type { LambdaRecord } from '../../shared/records.ts'
import { stateAll } from '../../shared/worker.ts'
import type { Statement } from '../../shared/verdict.ts'
import { Refusal } from '../../shared/trouble.ts'
import type { Observation, Workload } from '../../shared/workloads.ts'
import { service, turns, workloadOf, type DeployerPorts } from './index.ts'

export interface Observing {
  /** Whether the platform has shown this version, and has not said since that it is gone. */
  shows(id: string, version: number): boolean
  close(): Promise<void>
}

/** States each observation, in order for each lambda, and not the same one twice. */
export async function startObserver(ports: DeployerPorts): Promise<Observing> {
  const inTurn = turns()
  const told = new Map<string, string>()
  const shown = new Set<string>()
  const pending = new Set<Promise<void>>()
  let closed = false

  const tell = (observation: Observation): void => {
    const isGone = observation.shows === 'terminated' || observation.shows === 'failed'
    shown[isGone ? 'delete' : 'add'](`${observation.id}:${observation.version}`)
    const stating = inTurn(observation.id, async () => {
      const { id, version } = observation
      const sight = JSON.stringify(observation)
      if (told.get(`${id}:${version}`) === sight) return
      await stateUntilHeard(ports, statementOf(observation), () => closed)
      if (isGone) told.delete(`${id}:${version}`)
      else told.set(`${id}:${version}`, sight)
      if (observation.reason === 'Deleted') await untilDone(ports, 'what somebody deleted waits to be applied again', id, () => closed, () => repair(ports, id))
    })
    pending.add(stating)
    void stating.finally(() => pending.delete(stating))
  }

  const watching = await ports.workloads.observe(tell)
  return {
    shows: (id, version) => shown.has(`${id}:${version}`),
    async close() {
      watching.close()
      closed = true
      await Promise.all(pending)
    },
  }
}

let counter = 0
/** Observations repeat; each is a fact of its own. */
const nth = (epoch: number): string => `${epoch}-${Date.now().toString(36)}-${(counter++).toString(36)}`

function statementOf(o: Observation): Statement {
  const about = { id: o.id, account: o.account, version: o.version, epoch: o.epoch, cause: 'observer', traceparent: null }
  const { reason, message, pods, endpoints, log } = o
  if (o.shows === 'failed') {
    const data: Facts['workload.failed'] = { stage: service, cause: o.cause ?? 'user', reason, message, ...(log && { log }) }
    return { ...about, fact: 'workload.failed', data, ...(o.epoch > 0 && { nth: String(o.epoch) }) } as Fact
  }
  return { ...about, fact: `workload.${o.shows}`, nth: nth(o.epoch), data: { reason, message, pods, endpoints, ...(log && { log }) } } as Fact
}

/** While NATS is away the world goes on: what was seen is stated when it is back. */
const stateUntilHeard = (ports: DeployerPorts, statement: Statement, isOver: () => boolean): Promise<void> =>
  untilDone(ports, `an observation waits to be stated: ${statement.fact}`, statement.id, isOver, () => stateAll(ports, { service }, [statement]))

async function untilDone(ports: DeployerPorts, what: string, id: string, isOver: () => boolean, act: () => Promise<void>): Promise<void> {
  for (let pauseMs = 500; !isOver(); pauseMs = Math.min(pauseMs * 2, 30_000)) {
    const error = await act().then(() => null, (e: unknown) => e)
    if (!error) return
    ports.log.warn(what, { lambda_id: id, error })
    await new Promise((resolve) => setTimeout(resolve, pauseMs))
  }
}

/** Somebody deleted it from the platform: what the record wants is applied again. */
async function repair(ports: DeployerPorts, id: string): Promise<void> {
  const [record, life] = [(await ports.records.get(id))?.value, (await ports.statuses.get(id))?.value]
  const version = record && life ? desiredVersion(record, life) : null
  const workload = version === null ? null : workloadOf(record!, life!, version)
  if (!workload) return
  ports.log.warn('somebody deleted a lambda from the platform; it is applied again', { lambda_id: id, version })
  await applyUnlessRefused(ports, workload)
}

/** What the platform refuses for the user's own words is not worth trying again and again, and holds up no other lambda. */
async function applyUnlessRefused(ports: DeployerPorts, workload: Workload): Promise<boolean> {
  const refusal = await ports.workloads.apply(workload).then(() => null, (error: unknown) => {
    if (error instanceof Refusal) return error
    throw error
  })
  if (refusal) ports.log.warn('the platform refuses a lambda', { lambda_id: workload.id, version: workload.version, error: refusal })
  return refusal === null
}

/** How often the two are compared, and how soon after a comparison that failed. */
const usual = { everyMs: 5 * 60_000, againMs: 5_000 }

/** Resyncs now, and then every few minutes: what fails is tried again, and nothing is removed by one that failed. */
export async function keepInAgreement(ports: DeployerPorts, observing: Observing, { everyMs, againMs } = usual): Promise<{ close(): void }> {
  const closed = new AbortController()
  const once = async (isFirst: boolean): Promise<boolean> => {
    const done = await resync(ports, isFirst ? observing : null).catch((error: unknown) => void ports.log.error('the platform and the records could not be brought into agreement', { error }))
    if (done && done.applied + done.removed > 0) ports.log.info('the platform and the records agree again', done)
    return done !== undefined
  }
  let isFirst = !(await once(true))
  const next = async (): Promise<void> => {
    if (closed.signal.aborted) return
    isFirst = !(await once(isFirst))
    timer = setTimeout(next, isFirst ? againMs : everyMs).unref()
  }
  let timer = setTimeout(next, isFirst ? againMs : everyMs).unref()
  return { close: () => { closed.abort(); clearTimeout(timer) } }
}

/**
 * Makes the platform and the records agree. At the start of kiln, with who observes, it is first said what serves no more, so that nobody is sent to a place
 * that is another's by now. Whatever cannot be read throws before anything is removed.
 */
export async function resync(ports: DeployerPorts, observing: Observing | null): Promise<{ applied: number; removed: number }> {
  const { records, lives } = await everything(ports)
  const running = new Map((await ports.workloads.list()).map((one) => [one.id, one]))
  if (observing) await Promise.all([...lives.values()].flatMap((life) => stateGone(ports, life, observing)))

  let applied = 0
  for (const record of records.values()) {
    const life = lives.get(record.id)
    const version = desiredVersion(record, life ?? null)
    const workload = life && version !== null ? workloadOf(record, life, version) : null
    const isThere = workload && running.get(record.id)?.version === version && running.get(record.id)?.epoch === record.epoch
    if (!workload || isThere) continue
    if (await applyUnlessRefused(ports, workload)) applied += 1
  }
  const unwanted = [...running.keys()].filter((id) => !isWanted(records.get(id)))
  // A store that knows of nothing at all has more likely been lost than been right.
  if (records.size === 0 && unwanted.length > 0) {
    ports.log.error('the platform runs lambdas and kiln knows of none: none is removed. Is this the right NATS, and has it kept its data?', { lambdas: unwanted.length })
    return { applied, removed: 0 }
  }
  for (const id of unwanted) await ports.workloads.remove(id)
  return { applied, removed: unwanted.length }
}

const isWanted = (record: LambdaRecord | undefined): boolean => record !== undefined && !record.deleted && record.alive

async function everything(ports: DeployerPorts): Promise<{ records: Map<string, LambdaRecord>; lives: Map<string, Life> }> {
  const records = new Map<string, LambdaRecord>()
  const lives = new Map<string, Life>()
  const following = await Promise.all([
    ports.records.follow((record) => records.set(record.id, record)),
    ports.statuses.follow((life) => lives.set(life.id, life)),
  ])
  for (const one of following) one.close()
  return { records, lives }
}

const stateGone = (ports: DeployerPorts, life: Life, observing: Observing): Array<Promise<void>> =>
  Object.entries(life.versions).filter(([n, v]) => v.sight && v.sight.endpoints.length > 0 && !observing.shows(life.id, Number(n))).map(([version, v]) => stateAll(ports, { service }, [{
    fact: 'workload.waiting', id: life.id, account: life.account, version: Number(version), epoch: v.sight!.epoch, cause: 'observer', traceparent: null, nth: nth(v.sight!.epoch),
    data: { reason: 'KilnRestarted', message: 'kiln was restarted; the lambda is started again.', pods: [], endpoints: [] },
  }]))
