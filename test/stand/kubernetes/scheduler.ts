// The scheduler of the stand-in: one node, node1, with labels and without a GPU. A pod that fits gets it, any other is told why not.
import { now } from './memory.ts'
import type { Store, Thing } from './store.ts'
import { turns } from './turns.ts'
import { schedulerVoice } from './voices.ts'

export const nodeName = 'node1'
const preemption = 'no new claims to deallocate, preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling.'

export function scheduler(store: Store, nodeLabels: Record<string, string>): { close(): void } {
  const voice = schedulerVoice(store)
  const queue = turns((key) => {
    const [namespace, name] = key.split('/') as [string, string]
    const pod = store.get('pods', namespace, name)
    if (pod && isWaiting(pod)) place(pod)
  })

  function place(pod: Thing): void {
    const obstacle = obstacleOf(pod, nodeLabels)
    if (obstacle === null) {
      store.put('pods', { ...pod, spec: { ...pod.spec, nodeName }, status: scheduled(pod, { status: 'True' }) })
      voice.say(pod, 'Normal', 'Scheduled', `Successfully assigned ${pod.metadata.namespace}/${pod.metadata.name} to ${nodeName}`)
      return
    }
    const message = `0/1 nodes are available: 1 ${obstacle}. ${preemption}`
    voice.say(pod, 'Warning', 'FailedScheduling', message)
    store.put('pods', { ...pod, status: scheduled(pod, { observedGeneration: pod.metadata.generation ?? 1, status: 'False', reason: 'Unschedulable', message }) })
  }

  const stop = store.hear((kind, { type, object }) => {
    if (kind === 'pods' && type === 'ADDED' && isWaiting(object)) queue.add(`${object.metadata.namespace}/${object.metadata.name}`)
  })
  for (const pod of store.list('pods', null)) if (isWaiting(pod)) queue.add(`${pod.metadata.namespace}/${pod.metadata.name}`)
  return {
    close() {
      stop()
      queue.close()
    },
  }
}

const isWaiting = (pod: Thing): boolean => !pod.spec?.nodeName && !pod.metadata.deletionTimestamp

/** Why the node does not do. The real scheduler looks at labels before it looks at resources, and names the first thing. */
function obstacleOf(pod: Thing, nodeLabels: Record<string, string>): string | null {
  const wanted = Object.entries((pod.spec?.nodeSelector ?? {}) as Record<string, string>)
  if (wanted.some(([label, value]) => nodeLabels[label] !== value)) return "node(s) didn't match Pod's node affinity/selector"
  const containers = (pod.spec?.containers ?? []) as Array<{ resources?: { requests?: Record<string, unknown>; limits?: Record<string, unknown> } }>
  const gpu = 'nvidia.com/gpu'
  const asksForGpu = containers.some(({ resources }) => Number(resources?.requests?.[gpu] ?? resources?.limits?.[gpu] ?? 0) > 0)
  return asksForGpu ? `Insufficient ${gpu}` : null
}

const scheduled = (pod: Thing, { observedGeneration, ...condition }: { status: string; observedGeneration?: number; reason?: string; message?: string }): object => ({
  ...pod.status,
  conditions: [{
    type: 'PodScheduled', ...(observedGeneration !== undefined && { observedGeneration }), status: condition.status,
    lastProbeTime: null, lastTransitionTime: now(), ...(condition.reason && { reason: condition.reason, message: condition.message }),
  }],
})
