// deployer: image.built | lambda.accepted (nothing to build) | enabled | disabled | cancelled | deleted -> workload.applied | workload.failed
// Makes the platform run what the record wants: whatever is heard, the answer is computed from record and status.
import type { Hearing } from '../../shared/bus.ts'
import { nextFact, type FactName, type Heard } from '../../shared/events.ts'
import { desiredVersion, fold, type Life } from '../../shared/lifecycle.ts'
import type { Ports } from '../../shared/ports.ts'
import { versionOf, type LambdaRecord } from '../../shared/records.ts'
import { done, type Verdict } from '../../shared/verdict.ts'
import { work } from '../../shared/worker.ts'
import type { Workload } from '../../shared/workloads.ts'

export type DeployerPorts = Pick<Ports, 'bus' | 'log' | 'metrics' | 'records' | 'statuses' | 'workloads'>

export const service = 'deployer'
const causes = ['image.built', 'lambda.accepted', 'lambda.enabled', 'lambda.disabled', 'lambda.cancelled', 'lambda.deleted'] as const satisfies FactName[]

export async function startDeployer(ports: DeployerPorts): Promise<Hearing> {
  const inTurn = turns()
  const hearings = await Promise.all(causes.map((fact) => work(ports, {
    service, name: fact === 'image.built' ? service : `${service}-${fact.replace('.', '-')}`, fact, limit: 64, failure: 'workload.failed',
    handle: (heard) => inTurn(heard.id, () => deploy(ports, heard)),
  })))
  return { stop: async () => { await Promise.all(hearings.map((hearing) => hearing.stop())) } }
}

/** One after the other for each lambda, side by side for different ones. */
export function turns(): <T>(id: string, act: () => Promise<T>) => Promise<T> {
  const last = new Map<string, Promise<unknown>>()
  return (id, act) => {
    const mine = (last.get(id) ?? Promise.resolve()).then(act, act)
    last.set(id, mine)
    void mine.catch(() => undefined).finally(() => { if (last.get(id) === mine) last.delete(id) })
    return mine
  }
}

export async function deploy(ports: DeployerPorts, heard: Heard<(typeof causes)[number]>): Promise<Verdict> {
  if (heard.fact === 'lambda.accepted' && !(heard as Heard<'lambda.accepted'>).data.image) return done()
  const record = await ports.records.asOf(heard)
  if (!record) return done()
  // What brings the newest version's image needs no more to be known; anything else asks the store.
  const isEnough = heard.version === record.version && 'image' in heard.data && heard.data.image !== null
  const life = isEnough ? ports.statuses.known(heard.id) : ((await ports.statuses.get(heard.id))?.value ?? null)
  // The projection may not have folded this very fact yet.
  return reconcile(ports, record, fold(life, heard), heard)
}

async function reconcile(ports: DeployerPorts, record: LambdaRecord, life: Life, heard: Heard): Promise<Verdict> {
  if (record.deleted || !record.alive) {
    await ports.workloads.remove(record.id)
    return done()
  }
  const version = desiredVersion(record, life)
  if (version === null) {
    // Cancelled before anything of it served.
    if (heard.fact === 'lambda.cancelled') await ports.workloads.remove(record.id)
    return done()
  }
  const workload = workloadOf(record, life, version)
  if (!workload) return done()
  await ports.workloads.apply(workload)
  const { epoch, image, deploy: { pod_count } } = workload
  return done(nextFact(heard, 'workload.applied', { image, pod_count }, { version, epoch, ...(epoch > 0 && { nth: String(epoch) }) }))
}

/** What version `n` is to run; null when the record no longer keeps it. */
export function workloadOf(record: LambdaRecord, life: Life, n: number): Workload | null {
  const version = versionOf(record, n)
  const image = life.versions[n]?.image
  if (!version || !image) return null
  const { id, account, epoch } = record
  return { id, account, version: n, epoch, image, userConfig: version.parameters.user_config, deploy: version.parameters.deploy_parameters }
}
