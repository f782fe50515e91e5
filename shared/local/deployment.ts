// Deployment: one version of one lambda as it runs here: its pods, and what they show together.
import type { Observation, Pod, Workload } from '../workloads.ts'
import type { Cause } from '../trouble.ts'
import { missing } from './limits.ts'
import { pod, type PodParts, type RunningPod } from './pod.ts'

export interface DeploymentParts extends PodParts {
  gpuDevice: string
}

export interface Deployment {
  readonly workload: Workload
  /** What it shows; `beside` names the version that serves until this one does. */
  observation(beside: number | null): Observation
  allReady(): boolean
  serves(): boolean
  /** It has been ready once. */
  hasServed(): boolean
  /** What it shows when it is given up, and what when it has been stopped for this reason. */
  failure(): Observation
  stopped(reason: 'Replaced' | 'Removed', message: string): Observation
  /** Resolves when no process of it is left. */
  stop(): Promise<void>
}

export function deployment(parts: DeploymentParts, workload: Workload, changed: () => void): Deployment {
  const { id, account, version, epoch, deploy } = workload
  const wanted = deploy.autoscaling?.min ?? deploy.pod_count
  const names = Array.from({ length: wanted }, (_, ordinal) => `lambda-${id}-${version}-${ordinal}`)
  const lacks = missing(deploy, parts.gpuDevice)
  let served = false
  const pods: RunningPod[] = lacks !== null ? [] : names.map((name) => pod(parts, workload, name, () => {
    served ||= ready() > 0
    changed()
  }))
  const ready = (): number => pods.filter((one) => one.origin() !== null).length
  const shownPods = (): Pod[] => (lacks === null ? pods.map((one) => one.show()) : names.map((name) => pendingPod(name, lacks)))
  const readiness = (): string => `${ready()} of ${wanted} pod${wanted === 1 ? ' is' : 's are'} ready`

  function observed(shows: Observation['shows'], reason: string, message: string, more: Partial<Observation> = {}): Observation {
    const log = pods.map((one) => one.lastLog()).find((lines) => lines.length > 0)
    return { id, account, version, epoch, shows, reason, message, pods: shownPods(), endpoints: [], ...(log && { log }), ...more }
  }

  /** The pod whose trouble speaks for all: one that has a reason, rather than one that merely starts. */
  function speaker(): Pod | undefined {
    const notReady = shownPods().filter((one) => !one.ready)
    return notReady.find((one) => one.reason !== 'Starting') ?? notReady.find((one) => one.message !== null) ?? notReady[0]
  }

  function waiting(beside: number | null): Observation {
    const trouble = speaker()
    const said = [`${readiness()}${beside === null ? '' : `; version ${beside} serves until then`}.`, trouble?.message].filter(Boolean)
    return observed('waiting', trouble?.reason ?? 'Starting', said.join(' '))
  }

  return {
    workload,
    allReady: () => lacks === null && ready() === wanted,
    serves: () => ready() > 0,
    hasServed: () => served,
    observation(beside) {
      if (lacks !== null) return observed('pending', 'Unschedulable', lacks)
      if (wanted === 0) return observed('terminated', 'ScaledToZero', 'It is scaled to zero pods: set deploy_parameters.pod_count to 1 or more to run it.')
      // Beside an older version it serves nobody before it is complete: until then it may still be given up.
      if (ready() === 0 || (beside !== null && ready() < wanted)) return waiting(beside)
      const endpoints = pods.flatMap((one) => one.origin() ?? [])
      return observed('running', 'Running', `${readiness()}.${ready() < wanted ? ` ${speaker()?.message ?? ''}` : ''}`.trimEnd(), { endpoints })
    },
    failure() {
      const trouble = speaker()
      const [reason, cause] = reasonOfFailure(shownPods(), trouble?.reason ?? null)
      const why = trouble?.message ?? 'It has not answered GET /healthz with 200: it must listen on LAMBDA_HOST and LAMBDA_PORT.'
      const log = pods.map((one) => one.printed()).find((lines) => lines.length > 0)
      return observed('failed', reason, `Version ${version} was not ready within ${parts.readyTimeoutMs / 1_000} s and was stopped; the version before it goes on. ${why}`, { cause, ...(log && { log }) })
    },
    stopped: (reason, message) => observed('terminated', reason, message),
    async stop() {
      await Promise.all(pods.map((one) => one.stop()))
    },
  }
}

const pendingPod = (name: string, message: string): Pod => ({
  name, state: 'pending', ready: false, restarts: 0, reason: 'Unschedulable', message, exitCode: null, signal: null, startedAt: null,
})

/** A pod that merely starts again has crashed before, and that is why it is not ready. */
function reasonOfFailure(pods: Pod[], reason: string | null): [string, Cause] {
  if (reason === 'Unschedulable') return [reason, 'quota']
  if (reason === 'ImageMissing' || reason === 'CannotStart') return [reason, 'infrastructure']
  if (reason === 'OOMKilled') return [reason, 'user']
  return pods.some(({ restarts, ready }) => restarts > 0 && !ready) || reason === 'CrashLoopBackOff' ? ['CrashLoopBackOff', 'user'] : ['NotReadyInTime', 'timeout']
}
