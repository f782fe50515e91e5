// What kiln reads of the cluster's objects, as the API shows them in JSON. Times are text there, and empty fields are left out.

export interface Meta {
  name: string
  namespace: string
  uid: string
  resourceVersion: string
  creationTimestamp: string
  generation?: number
  deletionTimestamp?: string
  labels?: Record<string, string>
  annotations?: Record<string, string>
}

export interface Terminated {
  exitCode: number
  signal?: number
  reason?: string
  message?: string
  startedAt?: string
}

export interface ContainerState {
  waiting?: { reason?: string; message?: string }
  running?: { startedAt?: string }
  terminated?: Terminated
}

export interface ContainerStatus {
  name: string
  ready: boolean
  restartCount: number
  state?: ContainerState
  lastState?: ContainerState
}

export interface Condition {
  type: string
  status: 'True' | 'False' | 'Unknown'
  reason?: string
  message?: string
}

export interface PodResource {
  metadata: Meta
  status?: {
    phase?: 'Pending' | 'Running' | 'Succeeded' | 'Failed' | 'Unknown'
    reason?: string
    message?: string
    podIP?: string
    startTime?: string
    conditions?: Condition[]
    containerStatuses?: ContainerStatus[]
  }
}

export interface DeploymentResource {
  metadata: Meta
  spec: { replicas?: number }
  status?: { observedGeneration?: number; conditions?: Condition[] }
}

export interface ReplicaSetResource {
  metadata: Meta
}

export interface EventResource {
  metadata: Meta
  type?: string
  reason?: string
  message?: string
  involvedObject: { kind?: string; name?: string; uid?: string }
}

export const condition = (of: { status?: { conditions?: Condition[] } }, type: string): Condition | undefined =>
  of.status?.conditions?.find((one) => one.type === type)

/** Waits that no pod ends by itself, in the field's own words; null: an ordinary start. */
export interface Wait {
  reason: string
  message: string
}

/** `ErrImagePull` and `ImagePullBackOff` alternate and are one thing. */
const oneWord: Record<string, string> = { ErrImagePull: 'ImagePullBackOff', RunContainerError: 'CreateContainerError' }

/** The back-off quotes what the pull said, after words of its own: both are told alike. */
const pullMessage = (message: string): string => /ErrImagePull: ([\s\S]*)$/.exec(message)?.[1] ?? message

/** Why a pod does not start. A missing volume shows in no status, only in an event (`FailedMount`). */
export function waitOf(pod: PodResource, mount: Wait | null): Wait | null {
  const scheduled = condition(pod, 'PodScheduled')
  if (scheduled?.status === 'False') return { reason: 'Unschedulable', message: scheduled.message ?? 'No node takes it.' }
  const waiting = pod.status?.containerStatuses?.[0]?.state?.waiting
  if (!waiting?.reason || waiting.reason === 'PodInitializing') return null
  if (waiting.reason === 'ContainerCreating') return mount
  const reason = oneWord[waiting.reason] ?? waiting.reason
  return { reason, message: reason === 'ImagePullBackOff' ? pullMessage(waiting.message ?? reason) : (waiting.message ?? reason) }
}

const volumeTrouble = new Set(['FailedMount', 'FailedAttachVolume', 'FailedCreatePodSandBox'])

/** What an event tells that the pod's status does not. A configuration that is merely late is not worth a word. */
export function mountTroubleOf({ type, reason, message }: EventResource): Wait | null {
  if (type !== 'Warning' || !reason || !volumeTrouble.has(reason) || message?.includes('timed out waiting for the condition')) return null
  return { reason, message: message ?? reason }
}
