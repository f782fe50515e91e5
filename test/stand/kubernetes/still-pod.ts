// A pod without processes: shown as running and ready at once, and as ended when it is deleted. For measurements with a thousand lambdas.
import { newId } from './container-run.ts'
import { now } from './memory.ts'
import type { PodLife } from './pod-life.ts'
import { podStatus, type ShownContainer, type ShownPod } from './pod-status.ts'
import type { Store, Thing } from './store.ts'
import { creating } from './container.ts'

export function stillPod({ store, newIp }: { store: Store; newIp(): string }, pod: Thing): PodLife {
  const { namespace, name, uid } = pod.metadata
  const startTime = now()
  let isGone = false

  function publish(change: Pick<ShownPod, 'phase' | 'sandbox' | 'ip'>, state: Partial<ShownContainer>): void {
    const current = isGone ? null : store.get('pods', namespace, name)
    if (current?.metadata.uid !== uid) return
    const containers = pod.spec.containers.map(() => ({ ...creating(), ...state }))
    store.put('pods', { ...current, status: podStatus(current, { reason: null, message: null, startTime, meant: change.phase, containers, ...change }) })
  }

  const containerID = newId()
  let ip: string | null = null
  return {
    container: () => null,
    async live() {
      publish({ phase: 'Pending', sandbox: false, ip }, {})
      ip = newIp()
      publish({ phase: 'Running', sandbox: true, ip }, { state: { running: { startedAt: now() } }, ready: true, started: true, containerID, imageID: pod.spec.containers[0].image })
    },
    end() {
      if (isGone) return
      const terminated = { exitCode: 0, reason: 'Completed', startedAt: startTime, finishedAt: now(), containerID }
      publish({ phase: 'Succeeded', sandbox: false, ip }, { state: { terminated }, containerID })
      isGone = true
      const current = store.get('pods', namespace, name)
      if (current?.metadata.uid !== uid) return
      store.put('pods', { ...current, metadata: { ...current.metadata, deletionGracePeriodSeconds: 0, deletionTimestamp: now() } })
      store.drop('pods', namespace, name)
    },
    async kill() { isGone = true },
  }
}
