// One pod, watched until it shows what is waited for; with what its events tell and its status does not.
import type { Log } from '../log.ts'
import type { Cluster } from './client.ts'
import { follow } from './follow.ts'
import { path } from './names.ts'
import { mountTroubleOf, type EventResource, type PodResource, type Wait } from './resources.ts'

export interface PodSight {
  /** null: there is none of this name. */
  pod: PodResource | null
  /** As it was seen last, if ever. */
  lastSeen: PodResource | null
  mount: Wait | null
}

export interface WatchedPod {
  /** The first sight, from now on, that is so. Rejects with the signal's reason. */
  until(is: (sight: PodSight) => boolean, signal?: AbortSignal): Promise<PodSight>
  close(): void
}

export function watchPod(cluster: Cluster, { namespace, name }: { namespace: string; name: string }, log: Log): WatchedPod {
  const sight: PodSight = { pod: null, lastSeen: null, mount: null }
  const waiting = new Set<() => void>()
  let isListed = false

  function see(pod: PodResource | null): void {
    isListed = true
    sight.pod = pod
    if (pod) sight.lastSeen = pod
    for (const look of waiting) look()
  }

  const pods = follow<PodResource>(cluster, path.pods(namespace), { fieldSelector: `metadata.name=${name}` }, {
    all: (items) => see(items[0] ?? null),
    changed: see,
    gone(pod) {
      // Its last state goes with it: a pod that ended well just before it was deleted has ended well.
      sight.lastSeen = pod
      see(null)
    },
  }, log)
  const tell = (event: EventResource): void => {
    const trouble = mountTroubleOf(event)
    if (!trouble || event.involvedObject.uid !== sight.pod?.metadata.uid) return
    sight.mount = trouble
    for (const look of waiting) look()
  }
  const events = follow<EventResource>(cluster, path.events(namespace), { fieldSelector: `involvedObject.kind=Pod,involvedObject.name=${name}` }, {
    all: (items) => items.forEach(tell), changed: tell, gone: () => undefined,
  }, log)

  return {
    until(is, signal) {
      return new Promise((resolve, reject) => {
        const end = (): void => {
          waiting.delete(look)
          signal?.removeEventListener('abort', abort)
        }
        const abort = (): void => { end(); reject(signal!.reason) }
        const look = (): void => {
          if (!isListed || !is(sight)) return
          end()
          resolve({ ...sight })
        }
        if (signal?.aborted) return abort()
        signal?.addEventListener('abort', abort)
        waiting.add(look)
        look()
      })
    },
    close() {
      pods.close()
      events.close()
    },
  }
}
