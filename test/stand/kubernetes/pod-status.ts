// The status of a pod as the kubelet shows it: phase, conditions and containers, from what is known of its containers.
import { now } from './memory.ts'
import type { Thing } from './store.ts'

export interface Terminated {
  exitCode: number
  reason: string
  message?: string
  startedAt: string | null
  finishedAt: string | null
  containerID?: string
}

export type ContainerState = { waiting: { reason: string; message?: string } } | { running: { startedAt: string } } | { terminated: Terminated }

export interface ShownContainer {
  state: ContainerState
  lastState: { terminated?: Terminated }
  ready: boolean
  started: boolean
  restartCount: number
  imageID: string
  containerID: string | null
}

export interface ShownPod {
  phase: string
  /** Of the pod itself, e.g. DeadlineExceeded. */
  reason: string | null
  message: string | null
  /** Its sandbox exists: it has an address, and containers can start. */
  sandbox: boolean
  ip: string | null
  startTime: string
  containers: ShownContainer[]
  /** What conditions tell of: the phase that is meant, though it is not shown yet. null: as they were. */
  meant: string | null
}

type Condition = { type: string; status: string; lastTransitionTime: string; reason?: string; message?: string }

/** What the containers make of the pod. `over`: none of them is started again. */
export function phaseOf(containers: ShownContainer[], restartPolicy: string, over: boolean): string {
  const ends = containers.map(endOf)
  if (containers.some(({ state }, index) => 'waiting' in state && ends[index] === null)) return 'Pending'
  if (containers.some(({ state }) => 'running' in state)) return 'Running'
  const good = ends.every((end) => end?.exitCode === 0)
  if (restartPolicy === 'Always' && !over) return 'Running'
  if (good) return 'Succeeded'
  return restartPolicy === 'OnFailure' && !over ? 'Running' : 'Failed'
}

/** How it ended, when it does not run: of what waits to be started again, its last run. */
const endOf = ({ state, lastState }: ShownContainer): Terminated | null =>
  ('terminated' in state ? state.terminated : 'waiting' in state ? lastState.terminated ?? null : null)

export function podStatus(pod: Thing, shown: ShownPod): object {
  const observedGeneration = pod.metadata.generation ?? 1
  const { phase, reason, message, ip, startTime, containers } = shown
  return {
    observedGeneration, phase, conditions: conditionsOf(pod, shown, observedGeneration),
    ...(message !== null && { message }), ...(reason !== null && { reason }),
    hostIP: '127.0.0.1', hostIPs: [{ ip: '127.0.0.1' }], ...(ip !== null && { podIP: ip, podIPs: [{ ip }] }), startTime,
    containerStatuses: containers.map((container, index) => containerStatus(pod.spec.containers[index], container)),
    qosClass: pod.status?.qosClass ?? 'BestEffort',
  }
}

function conditionsOf(pod: Thing, shown: ShownPod, observedGeneration: number): object[] {
  const before = (pod.status?.conditions ?? []) as Condition[]
  const of = (type: string): Condition | undefined => before.find((condition) => condition.type === type)
  const names = pod.spec.containers.map(({ name }: { name: string }) => name) as string[]
  const unready = names.filter((_, index) => !shown.containers[index]!.ready)
  const completed = shown.meant === 'Succeeded' ? { reason: 'PodCompleted' } : {}
  const ready = shown.meant === null ? told(of('Ready')) : readiness(shown.meant, unready)
  const wanted: Array<[string, Pick<Condition, 'status' | 'reason' | 'message'>]> = [
    ['PodReadyToStartContainers', { status: shown.sandbox ? 'True' : 'False' }],
    ['Initialized', shown.meant === null ? told(of('Initialized')) : { status: 'True', ...completed }],
    ['Ready', ready], ['ContainersReady', ready], ['PodScheduled', { status: 'True' }],
  ]
  return wanted.map(([type, { status, ...why }]) => ({
    type, observedGeneration, status, lastProbeTime: null, lastTransitionTime: of(type)?.status === status ? of(type)!.lastTransitionTime : now(), ...why,
  }))
}

const told = (condition: Condition | undefined): Pick<Condition, 'status' | 'reason' | 'message'> =>
  ({ status: condition?.status ?? 'False', ...(condition?.reason && { reason: condition.reason }), ...(condition?.message && { message: condition.message }) })

function readiness(meant: string, unready: string[]): Pick<Condition, 'status' | 'reason' | 'message'> {
  if (meant === 'Succeeded') return { status: 'False', reason: 'PodCompleted' }
  if (meant === 'Failed') return { status: 'False', reason: 'PodFailed' }
  if (unready.length === 0) return { status: 'True' }
  return { status: 'False', reason: 'ContainersNotReady', message: `containers with unready status: [${unready.join(' ')}]` }
}

interface ContainerSpec { name: string; image: string; resources?: object; volumeMounts?: Array<{ name: string; mountPath: string; readOnly?: boolean }> }

function containerStatus(spec: ContainerSpec, shown: ShownContainer): object {
  const { state, lastState, ready, started, restartCount, imageID, containerID } = shown
  const mounts = spec.volumeMounts?.map(({ name, mountPath, readOnly }) => ({ name, mountPath, ...(readOnly && { readOnly, recursiveReadOnly: 'Disabled' }) }))
  return {
    name: spec.name, state, lastState, ready, restartCount, image: spec.image, imageID, ...(containerID !== null && { containerID }), started,
    ...(containerID !== null && { resources: spec.resources ?? {} }), ...(mounts && { volumeMounts: mounts }),
  }
}
