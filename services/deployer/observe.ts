// What the platform shows -> workload.running | pending | waiting | terminated | failed; and what should run but does not -> applied again.
import type { Fact, Facts } from '../../shared/events.ts'
import { desiredVersion, type Life } from '../../shared/lifecycle.ts'
import type { LambdaRecord } from '../../shared/records.ts'
import { stateAll } from '../../shared/worker.ts'
import type { Statement } from '../../shared/verdict.ts'
import type { Observation } from '../../shared/workloads.ts'
import { service, turns, workloadOf, type DeployerPorts } from './index.ts'

export interface Observing {
  close(): Promise<void>
}

/** States each observation, in order for each lambda, and not the same one twice. */
export async function startObserver(ports: DeployerPorts): Promise<Observing> {
  const inTurn = turns()
  const told = new Map<string, string>()
  const pending = new Set<Promise<void>>()
  let closed = false

  const tell = (observation: Observation): void => {
    const stating = inTurn(observation.id, async () => {
      const { id, version } = observation
      const sight = JSON.stringify(observation)
      if (told.get(`${id}:${version}`) === sight) return
      await stateUntilHeard(ports, statementOf(observation), () => closed)
      if (observation.shows === 'terminated' || observation.shows === 'failed') told.delete(`${id}:${version}`)
      else told.set(`${id}:${version}`, sight)
    })
    pending.add(stating)
    void stating.finally(() => pending.delete(stating))
  }

  const watching = await ports.workloads.observe(tell)
  return {
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
async function stateUntilHeard(ports: DeployerPorts, statement: Statement, isOver: () => boolean): Promise<void> {
  while (!isOver()) {
    const error = await stateAll(ports, { service }, [statement]).then(() => null, (e: unknown) => e)
    if (!error) return
    ports.log.warn('an observation waits to be stated', { lambda_id: statement.id, fact: statement.fact, error })
    await new Promise((resolve) => setTimeout(resolve, 500))
  }
}

/** At start: makes the platform and the records agree. What serves no more is said first, so that nobody is sent to a port that is another's by now. */
export async function resync(ports: DeployerPorts): Promise<{ applied: number; removed: number }> {
  const { records, lives } = await everything(ports)
  const running = new Map((await ports.workloads.list()).map((one) => [one.id, one]))
  await Promise.all([...lives.values()].filter((life) => !running.has(life.id)).flatMap((life) => stateGone(ports, life)))

  let applied = 0
  for (const record of records.values()) {
    const life = lives.get(record.id)
    const version = desiredVersion(record, life ?? null)
    const workload = life && version !== null ? workloadOf(record, life, version) : null
    const isThere = workload && running.get(record.id)?.version === version && running.get(record.id)?.epoch === record.epoch
    if (!workload || isThere) continue
    await ports.workloads.apply(workload)
    applied += 1
  }
  const unwanted = [...running.keys()].filter((id) => !isWanted(records.get(id)))
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

const stateGone = (ports: DeployerPorts, life: Life): Array<Promise<void>> =>
  Object.entries(life.versions).filter(([, v]) => v.sight && v.sight.endpoints.length > 0).map(([version, v]) => stateAll(ports, { service }, [{
    fact: 'workload.waiting', id: life.id, account: life.account, version: Number(version), epoch: v.sight!.epoch, cause: 'observer', traceparent: null, nth: nth(v.sight!.epoch),
    data: { reason: 'KilnRestarted', message: 'kiln was restarted; the lambda is started again.', pods: [], endpoints: [] },
  }]))
