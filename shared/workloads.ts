// Workloads: what runs. The port; `local/workloads.ts` runs child processes, `kubernetes/workloads.ts` Deployments.
import type { Image } from './builds.ts'
import type { DeployParameters } from './parameters.ts'
import type { Cause } from './trouble.ts'

/** What a lambda is to run. `epoch` counts the times it was switched on; an observation carries it back. */
export interface Workload {
  id: string
  account: string
  version: number
  epoch: number
  image: Image
  /** What the lambda reads as `request.config.userConfig`. */
  userConfig: Record<string, unknown>
  deploy: DeployParameters
}

/** Where a version stands in a lambda's life. Versions are a clock, and so are the epochs of one version. */
export type Place = Pick<Workload, 'version' | 'epoch'>
export const isOlder = (a: Place, b: Place): boolean => a.version < b.version || (a.version === b.version && a.epoch < b.epoch)

export interface Pod {
  name: string
  state: 'running' | 'pending' | 'waiting' | 'terminated'
  ready: boolean
  restarts: number
  /** A fixed CamelCase word, e.g. `CrashLoopBackOff`; null while all is well. */
  reason: string | null
  message: string | null
  /** Of its last end. */
  exitCode: number | null
  signal: string | null
  startedAt: string | null
}

/**
 * What the platform shows of one version of one lambda. `failed`: it was given up, and its pods are gone. `terminated` says who ended it: `Replaced` by a newer
 * version, `Removed` by kiln, `Deleted` by somebody else, and whoever still wants it applies it again.
 */
export interface Observation {
  id: string
  account: string
  version: number
  epoch: number
  shows: 'running' | 'pending' | 'waiting' | 'terminated' | 'failed'
  reason: string
  message: string
  cause?: Cause
  pods: Pod[]
  /** Origins that serve now, e.g. `http://127.0.0.1:40123`; empty unless some pod is ready. */
  endpoints: string[]
  /** The last lines that an ended pod wrote. */
  log?: string[]
}

export interface Workloads {
  /**
   * Makes the platform want exactly this; returns when it does, not when it runs. Applying what is applied already changes nothing.
   * A version that replaces another is started beside it, gets ready, and only then is the old one drained and stopped;
   * when it does not get ready in time it is stopped, observed as `failed`, and the old one stays.
   */
  apply(workload: Workload): Promise<void>
  /** Stops and removes all versions of the lambda. Removing what is not there is fine. */
  remove(id: string): Promise<void>
  /** What the platform holds of kiln's, newest version of each lambda. */
  list(): Promise<Array<{ id: string; version: number; epoch: number }>>
  /** Tells everything that there is, then each change, in order for each lambda. */
  observe(tell: (observation: Observation) => void): Promise<{ close(): void }>
  /** Lets go of the platform. On a platform that lives by itself the workloads run on; local ones end. */
  close(): Promise<void>
}
