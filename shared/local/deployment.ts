// Deployment: one version of one lambda as it runs here: its pods, and what they show together.
import type { Observation, Pod, Workload } from '../workloads.ts'
import { givenUp, observed, together, type Together } from '../together.ts'
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
  const { id, version, deploy } = workload
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
  const seen = (beside: number | null, log: string[] | undefined): Together => ({
    of: workload, wanted, pods: shownPods(), endpoints: pods.flatMap((one) => one.origin() ?? []), beside, log,
  })
  const lastLog = (): string[] | undefined => pods.map((one) => one.lastLog()).find((lines) => lines.length > 0)

  return {
    workload,
    allReady: () => lacks === null && ready() === wanted,
    serves: () => ready() > 0,
    hasServed: () => served,
    observation: (beside) => (lacks === null ? together(seen(beside, lastLog())) : observed(seen(beside, undefined), 'pending', 'Unschedulable', lacks)),
    failure: () => givenUp(seen(null, pods.map((one) => one.printed()).find((lines) => lines.length > 0)), parts.readyTimeoutMs / 1_000),
    stopped: (reason, message) => observed(seen(null, lastLog()), 'terminated', reason, message),
    async stop() {
      await Promise.all(pods.map((one) => one.stop()))
    },
  }
}

const pendingPod = (name: string, message: string): Pod => ({
  name, state: 'pending', ready: false, restarts: 0, reason: 'Unschedulable', message, exitCode: null, signal: null, startedAt: null,
})
