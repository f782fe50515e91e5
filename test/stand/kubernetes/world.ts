// The world of the stand-in cluster: scheduler, controllers, autoscaler and kubelet, all at work on one store.
// Garbage is collected beside the API, which knows how each object is deleted.
import { mkdtemp } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { autoscaler } from './autoscaler.ts'
import { clock as clockOf } from './clock.ts'
import { deployments } from './deployments.ts'
import { keeper as keeperOf } from './keeper.ts'
import { kubelet as kubeletOf, type Kubelet } from './kubelet.ts'
import { owners as ownersOf } from './owners.ts'
import { replicaSets } from './replicasets.ts'
import { scheduler } from './scheduler.ts'
import type { Store, Thing } from './store.ts'

export interface WorldOptions {
  /** host:port of where images are pulled from whose reference names no host. */
  registry?: string
  /** Of node1, beside its host name. */
  nodeLabels?: Record<string, string>
  /** How long a second of the cluster lasts, in seconds: of probes, back-offs, graces, hooks and activeDeadlineSeconds. progressDeadlineSeconds are real ones. */
  timeScale?: number
  /** Between what happened to a pod and what is shown of it. */
  phaseLagMs?: number
  /** Why no pod may be made in this namespace now, in the words of the API's 403; null: it may. */
  forbidPods?(namespace: string): string | null
  /** false: pods are shown as running and ready at once, without a process. */
  runs?: boolean
}

export interface World extends Pick<Kubelet, 'deletePod' | 'log'> {
  /** Ends every process and removes every folder. */
  close(): Promise<void>
}

export async function world(store: Store, options: WorldOptions = {}): Promise<World> {
  const { registry = 'docker.io', nodeLabels = {}, timeScale = 1, phaseLagMs = 50, forbidPods = () => null, runs = true } = options
  const folder = await mkdtemp(join(tmpdir(), 'kiln-stand-cluster-'))
  const clock = clockOf(timeScale, phaseLagMs)
  const keeper = keeperOf(folder)
  const owners = ownersOf(store)
  const kubelet = kubeletOf({ store, clock, keeper, folder, registry, runs })
  const deletePod = (pod: Thing): void => void kubelet.deletePod(pod)
  const parts = [
    scheduler(store, { 'kubernetes.io/hostname': 'node1', ...nodeLabels }), deployments({ store, owners, clock }),
    replicaSets({ store, owners, clock, deletePod, forbidPods }), autoscaler(store), owners,
  ]
  return {
    deletePod: kubelet.deletePod, log: kubelet.log,
    async close() {
      for (const part of parts) part.close()
      await kubelet.close()
      clock.close()
      await keeper.close()
    },
  }
}
