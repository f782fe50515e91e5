// The mirror: what the cluster holds of kiln's lambdas, by lambda, kept true by watches of Deployments, ReplicaSets, Pods and the Events of pods.
// Only what is read of each object is kept: there may be thousands.
import type { Log } from '../log.ts'
import type { Cluster } from './client.ts'
import { follow, type Followed, type Heard } from './follow.ts'
import { label, ownLabels, path, selectorOf } from './names.ts'
import { mountTroubleOf, type DeploymentResource, type EventResource, type Meta, type PodResource, type ReplicaSetResource, type Wait } from './resources.ts'

export interface LambdaObjects {
  deployments: Map<string, DeploymentResource>
  replicaSets: Map<string, ReplicaSetResource>
  pods: Map<string, PodResource>
}

export interface Mirror {
  of(id: string): LambdaObjects
  ids(): string[]
  /** What an event tells of this pod, and its status does not. */
  mountTrouble(pod: PodResource): Wait | null
  /** Resolves when everything has been listed once. */
  complete: Promise<void>
  /** Resolves when the objects of this lambda are so. Rejects after `ms`. */
  until(id: string, is: (objects: LambdaObjects) => boolean, ms: number): Promise<void>
  close(): void
}

const keptTroubles = 2_000

/** `changed`: something of this lambda is another; `podGone`: the pod of this uid is no more. */
export function mirror(cluster: Cluster, { namespaces, installation }: { namespaces: string[]; installation: string }, { changed, podGone }: { changed(id: string): void; podGone(uid: string): void }, log: Log): Mirror {
  const lambdas = new Map<string, LambdaObjects>()
  /** By the uid of the pod. */
  const troubles = new Map<string, Wait>()
  const waiting = new Map<string, Set<() => void>>()
  const labelSelector = selectorOf(ownLabels(installation, 'lambda'))

  const entry = (id: string): LambdaObjects => lambdas.get(id) ?? { deployments: new Map(), replicaSets: new Map(), pods: new Map() }

  function touched(id: string): void {
    for (const look of waiting.get(id) ?? []) look()
    changed(id)
  }

  function hearing<T extends { metadata: Meta }>(part: keyof LambdaObjects, namespace: string, trim: (object: T) => T): Heard<T> {
    const idOf = (object: T): string => object.metadata.labels?.[label.id] ?? ''
    const keyOf = (object: T): string => `${namespace}/${object.metadata.name}`
    const put = (object: T): void => {
      const id = idOf(object)
      const objects = entry(id)
      ;(objects[part] as unknown as Map<string, T>).set(keyOf(object), trim(object))
      lambdas.set(id, objects)
    }
    const drop = (id: string, key: string): void => {
      const objects = lambdas.get(id)
      const uid = objects?.[part].get(key)?.metadata.uid
      if (!objects?.[part].delete(key)) return
      if (part === 'pods') podGone(uid!)
      if (objects.deployments.size + objects.replicaSets.size + objects.pods.size === 0) lambdas.delete(id)
    }
    return {
      all(items) {
        const there = new Set(items.map(keyOf))
        const vanished = [...lambdas].flatMap(([id, objects]) => [...objects[part].keys()].filter((key) => key.startsWith(`${namespace}/`) && !there.has(key)).map((key) => ({ id, key })))
        for (const { id, key } of vanished) drop(id, key)
        items.forEach(put)
        for (const id of new Set([...vanished.map(({ id }) => id), ...items.map(idOf)])) touched(id)
      },
      changed(object) {
        put(object)
        touched(idOf(object))
      },
      gone(object) {
        drop(idOf(object), keyOf(object))
        touched(idOf(object))
      },
    }
  }

  function tell(event: EventResource): void {
    const trouble = mountTroubleOf(event)
    const { uid, name } = event.involvedObject
    if (!trouble || !uid) return
    troubles.delete(uid)
    troubles.set(uid, trouble)
    for (const oldest of troubles.keys()) {
      if (troubles.size <= keptTroubles) break
      troubles.delete(oldest)
    }
    const id = /^lambda-([0-9a-f-]{36})-/.exec(name ?? '')?.[1]
    if (id && lambdas.has(id)) touched(id)
  }

  const follows: Followed[] = namespaces.flatMap((namespace) => [
    follow(cluster, path.pods(namespace), { labelSelector }, hearing('pods', namespace, trimmedPod), log),
    follow(cluster, path.replicaSets(namespace), { labelSelector }, hearing('replicaSets', namespace, trimmedMeta), log),
    follow(cluster, path.deployments(namespace), { labelSelector }, hearing('deployments', namespace, trimmedDeployment), log),
    follow<EventResource>(cluster, path.events(namespace), { fieldSelector: 'involvedObject.kind=Pod,type=Warning' }, { all: (items) => items.forEach(tell), changed: tell, gone: () => undefined }, log),
  ])

  return {
    of: entry,
    ids: () => [...lambdas.keys()],
    mountTrouble: (pod) => troubles.get(pod.metadata.uid) ?? null,
    complete: Promise.all(follows.map(({ listed }) => listed)).then(() => undefined),
    until(id, is, ms) {
      return new Promise((resolve, reject) => {
        const looks = waiting.get(id) ?? new Set()
        waiting.set(id, looks)
        const end = (): void => {
          clearTimeout(timer)
          looks.delete(look)
          if (looks.size === 0 && waiting.get(id) === looks) waiting.delete(id)
        }
        const look = (): void => {
          if (!is(entry(id))) return
          end()
          resolve()
        }
        const timer = setTimeout(() => { end(); reject(new Error(`not so within ${ms / 1_000} s`)) }, ms)
        looks.add(look)
        look()
      })
    },
    close: () => follows.forEach((one) => one.close()),
  }
}

function trimmedMeta<T extends { metadata: Meta }>({ metadata }: T): T {
  const { name, namespace, uid, resourceVersion, creationTimestamp, generation, deletionTimestamp, labels, annotations } = metadata
  return { metadata: { name, namespace, uid, resourceVersion, creationTimestamp, generation, deletionTimestamp, labels, annotations } } as T
}

const trimmedDeployment = (one: DeploymentResource): DeploymentResource =>
  ({ ...trimmedMeta(one), spec: { replicas: one.spec.replicas }, status: { observedGeneration: one.status?.observedGeneration, conditions: one.status?.conditions } })

function trimmedPod(pod: PodResource): PodResource {
  const { phase, reason, message, podIP, conditions, containerStatuses } = pod.status ?? {}
  const needed = conditions?.filter(({ type }) => type === 'Ready' || type === 'PodScheduled').map(({ type, status, reason, message }) => ({ type, status, reason, message }))
  const containers = containerStatuses?.slice(0, 1).map(({ name, ready, restartCount, state, lastState }) => ({ name, ready, restartCount, state, lastState }))
  const { annotations: _, ...metadata } = trimmedMeta(pod).metadata
  return { metadata, status: { phase, reason, message, podIP, conditions: needed, containerStatuses: containers } }
}
