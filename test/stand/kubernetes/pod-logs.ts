// The log of a pod as its node gives it: which run is meant, and the refusals that a real node was recorded to give.
import type { Container } from './container.ts'
import type { LogQuery } from './container-log.ts'
import { badRequest } from './errors.ts'
import type { ContainerState, Terminated } from './pod-status.ts'
import type { Thing } from './store.ts'

export type PodLogQuery = LogQuery & { previous: boolean }
type Log = AsyncIterable<Buffer>
interface Status { name: string; state: ContainerState; lastState: { terminated?: Terminated }; containerID?: string }

/** null: no node has it yet. Throws ApiError. */
export function podLog(pod: Thing, wanted: string | null, query: PodLogQuery, signal: AbortSignal, of: (container: string) => Container | null): Log | null {
  const name = containerNamed(pod, wanted)
  if (!pod.spec.nodeName) return null
  const status = ((pod.status?.containerStatuses ?? []) as Status[]).find((one) => one.name === name)
  const last = status?.lastState.terminated ?? null
  if (query.previous) {
    if (last === null) throw badRequest(`previous terminated container "${name}" in pod "${pod.metadata.name}" not found`)
    return read(of(name), last.containerID, query, signal)
  }
  if (status === undefined) throw waiting(name, pod, 'ContainerCreating')
  if ('running' in status.state) return read(of(name), status.containerID, query, signal)
  if ('terminated' in status.state) {
    const { containerID } = status.state.terminated
    if (!containerID) throw badRequest(`container "${name}" in pod "${pod.metadata.name}" is terminated`)
    return read(of(name), containerID, query, signal)
  }
  if (last !== null) return read(of(name), last.containerID, query, signal)
  const { reason } = status.state.waiting
  throw waiting(name, pod, ['ErrImagePull', 'ImagePullBackOff'].includes(reason) ? 'trying and failing to pull image' : reason)
}

const waiting = (name: string, pod: Thing, why: string): Error => badRequest(`container "${name}" in pod "${pod.metadata.name}" is waiting to start: ${why}`)

function containerNamed(pod: Thing, wanted: string | null): string {
  const { initContainers = [], containers } = pod.spec as { initContainers?: Array<{ name: string }>; containers: Array<{ name: string }> }
  const names = [...initContainers, ...containers].map(({ name }) => name)
  if (wanted !== null && names.includes(wanted)) return wanted
  if (wanted !== null) throw badRequest(`container ${wanted} is not valid for pod ${pod.metadata.name}`)
  if (names.length > 1) throw badRequest(`a container name must be specified for pod ${pod.metadata.name}, choose one of: [${names.join(' ')}]`)
  return names[0]!
}

/** A run that is neither the last nor the last but one is forgotten; a real node says so with a 200. */
function read(container: Container | null, containerID: string | undefined, query: LogQuery, signal: AbortSignal): Log {
  const log = containerID === undefined ? undefined : container?.logs.get(containerID)
  return log ? log.read(query, signal) : lost(containerID ?? '')
}

async function* lost(containerID: string): Log {
  yield Buffer.from(`unable to retrieve container logs for ${containerID}`)
}
