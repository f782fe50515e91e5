// How a build pod stands, and why it ended: what the API shows and the last lines of kaniko's log, read together. Pure.
import { failed, failureInLog, world, type Failed, type KanikoAdvice } from '../kaniko-log.ts'
import { Unavailable } from '../trouble.ts'
import { Rejected } from './client.ts'
import { waitOf, type PodResource, type Wait } from './resources.ts'

export { cancelled, world, type Failed } from '../kaniko-log.ts'

export type Standing =
  | { stands: 'waiting'; why: Wait | null }
  | { stands: 'running' }
  | { stands: 'built'; digest: string | null }
  /** Somebody deletes it. */
  | { stands: 'leaving' }
  | { stands: 'failed' }

/**
 * The result is in the container's state a second before the phase follows. Success needs no more; a failure waits for the phase, since only
 * then the pod says whether it was evicted or too slow. A pod that is being deleted looks like a failed build, so that is asked first.
 * `OOMKilled` with exit code 0 is a success: only some process of it met the limit.
 */
export function standingOf(pod: PodResource, mount: Wait | null): Standing {
  const state = pod.status?.containerStatuses?.[0]?.state
  if (state?.terminated?.exitCode === 0) return { stands: 'built', digest: /sha256:[0-9a-f]{64}/.exec(state.terminated.message ?? '')?.[0] ?? null }
  if (pod.status?.phase === 'Succeeded') return { stands: 'built', digest: null }
  if (pod.metadata.deletionTimestamp) return { stands: 'leaving' }
  if (pod.status?.phase === 'Failed') return { stands: 'failed' }
  if (state?.running || state?.terminated) return { stands: 'running' }
  return { stands: 'waiting', why: waitOf(pod, mount) }
}

export const timedOut = (seconds: number, log: string[]): Failed =>
  failed('timeout', 'BuildTimeout', `The build took longer than ${seconds} seconds. Make requirements.txt smaller, or raise BUILD_TIMEOUT, and send it again with PUT.`, false, log)
export const deleted = (log: string[]): Failed => world('BuildPodDeleted', 'Somebody deleted the build pod. It is built again.', log)

/** Waits that only somebody who changes the settings can end. */
const hopeless = new Set(['InvalidImageName', 'ErrImageNeverPull'])

/** A pod that has not begun for too long; `kanikoImage` is what it waits for when its image cannot be pulled. */
export function neverBegan(why: Wait | null, seconds: number, kanikoImage: string): Failed {
  if (why?.reason === 'Unschedulable') return world('Unschedulable', `For ${seconds} seconds no node took the build pod: ${why.message} It is tried again.`)
  if (why && (why.reason === 'ImagePullBackOff' || hopeless.has(why.reason))) return failed('registry', why.reason, `The build pod cannot get its image ${kanikoImage}: ${why.message}`, !hopeless.has(why.reason), [])
  return world(why?.reason ?? 'BuildNotStarted', `The build pod did not begin within ${seconds} seconds${why ? `: ${why.message}` : '.'}`)
}
export const isHopeless = (why: Wait | null): boolean => why !== null && hopeless.has(why.reason)

export interface Told {
  seconds: number
  limits: Record<string, string>
  /** The last lines, oldest first. */
  log: string[]
}

/** Why a pod whose phase is Failed did not make the image. */
export function failureOf(pod: PodResource, { seconds, limits, log }: Told): Failed {
  const { reason, message } = pod.status ?? {}
  const end = pod.status?.containerStatuses?.[0]?.state?.terminated
  if (reason === 'DeadlineExceeded') return timedOut(seconds, log)
  if (reason === 'Evicted') return world('Evicted', `The node evicted the build: ${message ?? ''} It is built again.`.replace(/\s+/g, ' '), log)
  if (reason) return world(reason, `The cluster ended the build pod (${reason}): ${message ?? ''} It is built again.`.replace(/\s+/g, ' '), log)
  if (end?.reason === 'OOMKilled') {
    const limit = limits['memory'] ? `its limit of ${limits['memory']}` : 'the memory that it may use'
    return world('OOMKilled', `The build needed more memory than ${limit}. It is built again; if it stays so, raise BUILD_LIMITS or install less.`, log)
  }
  if (end?.reason === 'StartError' || end?.reason === 'ContainerCannotRun') return failed('infrastructure', end.reason, `kaniko cannot be started: ${end.message ?? ''}`, false, log)
  // An adopted pod may have ended before its log was read: then its last words are in the message.
  return failureInLog(log.length > 0 ? log : (end?.message ?? '').split('\n').filter(Boolean), end?.exitCode ?? null, advice)
}

const noContext = /NoSuchKey|NoSuchBucket|AccessDenied|InvalidAccessKeyId|SignatureDoesNotMatch|api error|downloading (from )?s3|getting (build )?context|failed to get .*s3/i

const advice: KanikoAdvice = {
  credentials: 'The operator should look at LAMBDA_REGISTRY_SECRET.',
  registry: 'The operator should look at LAMBDA_REGISTRY and LAMBDA_INSECURE_REGISTRIES.',
  whoInstalls: 'build pods',
  context: (last, log) => noContext.test(last)
    ? world('ContextUnreadable', `The build cannot read its context from S3: ${last}. The operator should look at S3_SECRET and S3_ENDPOINT. It is tried again.`, log) : null,
}

/** Whether there is anything to build is the registry's to say: while it cannot be asked, nothing is. */
export function registryAway(error: unknown): Failed {
  if (!(error instanceof Unavailable)) throw error
  return failed('registry', 'RegistryUnavailable', `${error.message}. It is tried again.`, true, [])
}

/** A pod that the cluster will not have: by its quota, by kiln's rights, or because the namespace is not there. */
export function troubleOf(error: unknown): Failed {
  if (error instanceof Unavailable) return world('KubernetesUnavailable', `${error.message}. It is tried again.`)
  if (!(error instanceof Rejected)) throw error
  const { status, message } = error
  if (status === 403 && message.includes('exceeded quota')) return failed('quota', 'QuotaExceeded', `The namespace's quota does not allow the build: ${message}. It is tried again.`, true, [])
  if (status === 404) return failed('user', 'NamespaceMissing', `The cluster has no such namespace: ${message}. Have it made, or name another.`, false, [])
  return failed('infrastructure', 'BuildPodRefused', `The cluster refuses the build pod: ${message}`, status === 403, [])
}

export const contextUnusable = (name: string): Failed =>
  failed('infrastructure', 'ContextUnusable', `The context of this version cannot be used: ${name} is not there any more. Send the archive again with PUT.`, false, [])

/** What the code was to be put on cannot be used: an environment is made again, a base image is the user's to name. */
export function noParent({ reason, message }: { reason: string; message: string }, isEnvironment: boolean): Failed {
  return isEnvironment ? world('EnvironmentGone', `The environment vanished from the registry while it was needed: ${message} It is made again.`) : failed('user', reason, message, false, [])
}
