// One pod of a lambda, as users read it: what the API shows, in a fixed word and a sentence. Pure.
import { constants } from 'node:os'
import { standstill } from '../standstill.ts'
import type { Pod } from '../workloads.ts'
import { condition, waitOf, type PodResource, type Terminated, type Wait } from './resources.ts'

/** What else is known of a pod. */
export interface Surroundings {
  mount: Wait | null
  /** The memory that it may use; null: no limit. */
  memoryLimit: string | null
  /** The last lines of its last run that ended. */
  lastLines: string[]
}

export const isReady = (pod: PodResource): boolean => !pod.metadata.deletionTimestamp && condition(pod, 'Ready')?.status === 'True'

/** It has ended for good: another takes its place. */
export const isOver = (pod: PodResource): boolean => pod.status?.phase === 'Failed' || pod.status?.phase === 'Succeeded'

/** The last run that ended, if any. */
export function lastEnd(pod: PodResource): Terminated | null {
  const status = pod.status?.containerStatuses?.[0]
  return status?.state?.terminated ?? status?.lastState?.terminated ?? null
}

export function podOf(pod: PodResource, around: Surroundings): Pod {
  const status = pod.status?.containerStatuses?.[0]
  const end = lastEnd(pod)
  const ready = isReady(pod)
  const trouble = ready ? null : troubleOf(pod, around)
  return {
    name: pod.metadata.name, state: stateOf(pod, trouble), ready, restarts: status?.restartCount ?? 0,
    reason: trouble?.reason ?? null, message: trouble?.message ?? null,
    exitCode: end?.exitCode ?? null, signal: end ? signalOf(end) : null, startedAt: status?.state?.running?.startedAt ?? null,
  }
}

function stateOf(pod: PodResource, trouble: Wait | null): Pod['state'] {
  if (isOver(pod) || pod.metadata.deletionTimestamp) return 'terminated'
  if (trouble?.reason === 'Unschedulable') return 'pending'
  return isReady(pod) || pod.status?.containerStatuses?.[0]?.state?.running ? 'running' : 'waiting'
}

/** Why a pod is not ready: each with the remedy, where a person has one. */
function troubleOf(pod: PodResource, around: Surroundings): Wait {
  const { reason, message } = pod.status ?? {}
  if (isOver(pod) && reason) return { reason, message: reason === 'Evicted' ? `The node evicted it: ${message ?? ''}`.trim() : (message ?? reason) }
  if (pod.metadata.deletionTimestamp) return { reason: 'Stopping', message: 'It is being stopped.' }
  const crash = crashOf(pod, around)
  if (crash) return crash
  const wait = waitOf(pod, around.mount)
  return wait ? inWords(wait) : { reason: 'Starting', message: 'It starts.' }
}

/** A run that ended speaks until the pod is ready again: between two crashes it only seems to start. */
function crashOf(pod: PodResource, { memoryLimit, lastLines }: Surroundings): Wait | null {
  const end = lastEnd(pod)
  if (!end) return null
  if (end.reason === 'OOMKilled') {
    return { reason: 'OOMKilled', message: `It needed more memory than ${memoryLimit ? `its limit of ${memoryLimit}` : 'the node has'} and was killed. Raise deploy_parameters.resources.limits.memory.` }
  }
  if (end.reason === 'StartError' || end.reason === 'ContainerCannotRun') return { reason: 'CreateContainerError', message: `It cannot be started: ${end.message ?? end.reason}` }
  const still = standstill(lastLines)
  if (still) return { reason: 'CrashLoopBackOff', message: still }
  const last = lastLines.findLast((line) => line.trim() !== '')
  return { reason: 'CrashLoopBackOff', message: `It ended with exit code ${end.exitCode}${last ? `: ${last.slice(0, 300)}` : '.'}` }
}

/** Where a secret or a permission is missing, the cluster's own sentence names it. */
function inWords({ reason, message }: Wait): Wait {
  const remedies: Record<string, string> = {
    ImagePullBackOff: 'The image cannot be pulled: ', CreateContainerConfigError: 'Its configuration lacks something: ', FailedMount: 'A volume cannot be mounted: ',
    Unschedulable: 'No node takes it: ', CreateContainerError: 'It cannot be started: ',
  }
  return { reason, message: `${remedies[reason] ?? ''}${message}` }
}

function signalOf({ exitCode, signal }: Terminated): string | null {
  const number = signal || (exitCode > 128 ? exitCode - 128 : 0)
  return Object.entries(constants.signals).find(([, n]) => n === number)?.[0] ?? null
}
