// What the pods of one version show together, in the same words on every platform. Pure.
import type { Cause } from './trouble.ts'
import type { Observation, Pod, Workload } from './workloads.ts'

export interface Together {
  of: Pick<Workload, 'id' | 'account' | 'version' | 'epoch'>
  /** How many pods there should be. */
  wanted: number
  pods: Pod[]
  /** Origins of the pods that are ready. */
  endpoints: string[]
  /** The version that serves until this one is complete; null: none. */
  beside: number | null
  log?: string[] | undefined
}

/** Until all are ready, a version beside an older one serves nobody: until then it may still be given up. */
export const servesAlready = ({ pods, wanted, beside }: Together): boolean => {
  const ready = pods.filter((one) => one.ready).length
  return ready > 0 && (beside === null || ready >= wanted)
}

export function together(t: Together): Observation {
  const trouble = speaker(t.pods)
  if (t.wanted === 0) return observed(t, 'terminated', 'ScaledToZero', 'It is scaled to zero pods: set deploy_parameters.pod_count to 1 or more to run it.')
  if (servesAlready(t)) {
    const isShort = t.pods.filter((one) => one.ready).length < t.wanted
    return observed(t, 'running', 'Running', `${readiness(t)}.${isShort ? ` ${trouble?.message ?? ''}` : ''}`.trimEnd(), { endpoints: t.endpoints })
  }
  const said = [`${readiness(t)}${t.beside === null ? '' : `; version ${t.beside} serves until then`}.`, trouble?.message].filter(Boolean).join(' ')
  return observed(t, trouble?.reason === 'Unschedulable' ? 'pending' : 'waiting', trouble?.reason ?? 'Starting', said)
}

/** A version that was not ready in time beside one that serves, and is given up. */
export function givenUp(t: Together, seconds: number): Observation {
  const trouble = speaker(t.pods)
  const [reason, cause] = reasonOfFailure(t.pods, trouble?.reason ?? null)
  const why = trouble?.message && trouble.reason !== 'Starting' ? trouble.message : 'It has not answered GET /healthz with 200: it must listen on LAMBDA_HOST and LAMBDA_PORT.'
  return observed(t, 'failed', reason, `Version ${t.of.version} was not ready within ${seconds} s and was stopped; the version before it goes on. ${why}`, { cause })
}

export function observed({ of: { id, account, version, epoch }, pods, log }: Pick<Together, 'of' | 'pods' | 'log'>, shows: Observation['shows'], reason: string, message: string, more: Partial<Observation> = {}): Observation {
  return { id, account, version, epoch, shows, reason, message, pods, endpoints: [], ...(log && log.length > 0 && { log }), ...more }
}

function readiness({ pods, wanted }: Together): string {
  // While there are more than wanted, some are about to go.
  return `${Math.min(wanted, pods.filter((one) => one.ready).length)} of ${wanted} pod${wanted === 1 ? ' is' : 's are'} ready`
}

/** The pod whose trouble speaks for all: one that has a reason, rather than one that merely starts. */
function speaker(pods: Pod[]): Pod | undefined {
  const notReady = pods.filter((one) => !one.ready)
  return notReady.find((one) => one.reason !== 'Starting') ?? notReady.find((one) => one.message !== null) ?? notReady[0]
}

/** Whose fault each is; what is not named here is the user's program. */
const causes: Record<string, Cause> = {
  Unschedulable: 'quota', FailedCreate: 'quota', ImageMissing: 'infrastructure', CannotStart: 'infrastructure', CreateContainerError: 'infrastructure', ImagePullBackOff: 'registry', InvalidImageName: 'registry',
  FailedMount: 'infrastructure', CreateContainerConfigError: 'user', OOMKilled: 'user', Evicted: 'infrastructure',
}

/** A pod that merely starts again has crashed before, and that is why it is not ready. */
function reasonOfFailure(pods: Pod[], reason: string | null): [string, Cause] {
  if (reason !== null && causes[reason]) return [reason, causes[reason]]
  return pods.some(({ restarts, ready }) => restarts > 0 && !ready) || reason === 'CrashLoopBackOff' ? ['CrashLoopBackOff', 'user'] : ['ProgressDeadlineExceeded', 'timeout']
}
