// The controller of ReplicaSets: makes the pods that are missing, deletes the ones too many, and counts them.
import type { Clock } from './clock.ts'
import { now } from './memory.ts'
import { controllerOf, type Owners } from './owners.ts'
import { isActive, isReady, leastNeeded, replicasOf } from './replicas.ts'
import type { Store, Thing } from './store.ts'
import { podOf, randomSuffix } from './templates.ts'
import { turns } from './turns.ts'
import { countingVoice } from './voices.ts'

export interface ReplicaSetsParts {
  store: Store
  owners: Owners
  clock: Clock
  deletePod(pod: Thing): void
  /** Why no pod may be made in this namespace now, in the words of the API's 403; null: it may. */
  forbidPods(namespace: string): string | null
}

const retryFirstMs = 5

export function replicaSets({ store, owners, clock, deletePod, forbidPods }: ReplicaSetsParts): { close(): void } {
  const voice = countingVoice(store, 'replicaset-controller')
  const refused = new Map<string, number>()

  const queue = turns((key) => {
    const [namespace, name] = key.split('/') as [string, string]
    const set = store.get('replicasets', namespace, name)
    if (set === null) return void refused.delete(key)
    const pods = owners.controlled(set.metadata.uid, 'pods').filter(isActive)
    const missing = set.metadata.deletionTimestamp ? 0 : replicasOf(set) - pods.length
    const refusal = missing > 0 ? refusalOf(set) : null
    // What there was before the change is counted: so the first status of a new set is 0, as on a real cluster.
    showStatus(set, pods, refusal)
    if (refusal !== null) return retry(key)
    refused.delete(key)
    // One that is refused in between is told in the next turn, which the others bring.
    for (let made = 0; made < missing && (made === 0 || forbidPods(namespace) === null); made++) make(set)
    for (const pod of missing < 0 ? leastNeeded(pods).slice(0, -missing) : []) {
      deletePod(pod)
      voice.say(set, 'Normal', 'SuccessfulDelete', `Deleted pod: ${pod.metadata.name}`)
    }
  })

  function refusalOf(set: Thing): string | null {
    const why = forbidPods(set.metadata.namespace)
    if (why === null) return null
    const refusal = `pods "${set.metadata.name}-${randomSuffix()}" is forbidden: ${why}`
    voice.say(set, 'Warning', 'FailedCreate', `Error creating: ${refusal}`)
    return refusal
  }

  function make(set: Thing): void {
    const name = `${set.metadata.name}-${randomSuffix()}`
    store.put('pods', podOf(set, name))
    voice.say(set, 'Normal', 'SuccessfulCreate', `Created pod: ${name}`)
  }

  function retry(key: string): void {
    const ms = refused.get(key) ?? retryFirstMs
    refused.set(key, ms * 2)
    clock.afterReal(ms, () => queue.add(key))
  }

  function showStatus(before: Thing, pods: Thing[], refusal: string | null): void {
    const set = store.get('replicasets', before.metadata.namespace, before.metadata.name)
    if (set === null) return
    const ready = pods.filter(isReady).length
    const conditions = conditionsOf(set, refusal)
    store.put('replicasets', {
      ...set,
      status: {
        replicas: pods.length, ...(pods.length > 0 && { fullyLabeledReplicas: pods.length }), ...(ready > 0 && { readyReplicas: ready, availableReplicas: ready }),
        observedGeneration: before.metadata.generation, ...(conditions.length > 0 && { conditions }),
      },
    })
  }

  const keyOf = ({ metadata }: Thing, name = metadata.name): string => `${metadata.namespace}/${name}`
  const stop = store.hear((kind, { type, object }) => {
    if (kind === 'replicasets' && type !== 'DELETED') return queue.add(keyOf(object))
    if (kind !== 'pods' || controllerOf(object) === null) return
    for (const owner of object.metadata.ownerReferences ?? []) if (owner.kind === 'ReplicaSet') queue.add(keyOf(object, owner.name))
  })
  for (const set of store.list('replicasets', null)) queue.add(keyOf(set))
  return {
    close() {
      stop()
      queue.close()
    },
  }
}

/** The first refusal stays for as long as there is one. */
function conditionsOf(set: Thing, refusal: string | null): object[] {
  if (refusal === null) return []
  const before = (set.status?.conditions ?? []) as object[]
  return before.length > 0 ? before : [{ type: 'ReplicaFailure', status: 'True', lastTransitionTime: now(), reason: 'FailedCreate', message: refusal }]
}
