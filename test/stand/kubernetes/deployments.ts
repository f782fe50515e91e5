// The controller of Deployments: one ReplicaSet for each template, rolled over within the bounds of surge and availability.
import type { Clock } from './clock.ts'
import type { Owners } from './owners.ts'
import { byAge, newReplicas, oldReplicas, replicasOf, revisionAnnotation, revisionOf } from './replicas.ts'
import { conditionOf, countsOf, deadlineMs, isComplete, movedOn, rolloutStatus, withCondition, type RolloutStatus } from './rollout-status.ts'
import type { Store, Thing } from './store.ts'
import { adopted, hashOf, newSet, sameTemplate, setAnnotations, sizes, wasScaled } from './templates.ts'
import { turns } from './turns.ts'
import { countingVoice } from './voices.ts'

export interface DeploymentsParts {
  store: Store
  owners: Owners
  clock: Clock
}

export function deployments({ store, owners, clock }: DeploymentsParts): { close(): void } {
  const voice = countingVoice(store, 'deployment-controller')
  /** When each last made progress; the times in its status have whole seconds only. */
  const progressed = new Map<string, number>()
  const deadlines = new Map<string, () => void>()

  const queue = turns((key) => {
    const [namespace, name] = key.split('/') as [string, string]
    const deployment = store.get('deployments', namespace, name)
    if (deployment === null) return forget(key)
    const all = setsOf(deployment)
    if (deployment.metadata.deletionTimestamp) return show(deployment, countsOf(deployment, all, newestOf(deployment, all)))
    if (all.some((set) => wasScaled(deployment, set))) return scale(deployment, all)
    roll(deployment, all)
  })

  /** Those that it owns, and those that have lost their owner and fit. */
  function setsOf(deployment: Thing): Thing[] {
    const owned = owners.controlled(deployment.metadata.uid, 'replicasets')
    if (owned.length > 0 || deployment.metadata.deletionTimestamp) return byAge(owned)
    return byAge(owners.strays('replicasets', deployment.metadata.namespace).flatMap((set) => {
      const mine = adopted(deployment, set)
      return mine ? [store.put('replicasets', mine)] : []
    }))
  }

  function scale(deployment: Thing, all: Thing[]): void {
    const active = all.filter((set) => replicasOf(set) > 0)
    const newest = newestOf(deployment, all) ?? active.at(-1)!
    const others = active.filter((set) => set.metadata.uid !== newest.metadata.uid)
    // While two versions run, the difference goes to the newer one; each remembers the new size.
    const only = active.length === 1 ? active[0]! : newest
    const size = active.length === 1 ? replicasOf(deployment) : newReplicas(deployment, newest, all)
    for (const set of [...others.filter((set) => set !== only), only]) resize(deployment, set, set === only ? size : replicasOf(set), true)
    show(deployment, countsOf(deployment, all, newestOf(deployment, all)))
  }

  function roll(deployment: Thing, all: Thing[]): void {
    const found = newestOf(deployment, all)
    const old = all.filter((set) => set !== found)
    const revision = Math.max(0, ...old.map(revisionOf)) + 1
    const newest = found ? revised(deployment, found, revision) : made(deployment, old, revision)
    if (newest === null) return
    const current = store.get('deployments', deployment.metadata.namespace, deployment.metadata.name)!
    const now = [...old, newest]
    if (!resize(current, newest, newReplicas(current, newest, now))) {
      const less = oldReplicas(current, newest, old)
      for (const set of old) resize(current, set, less.get(set.metadata.uid)!)
    }
    // A new revision was shown: the real controller meets its own change here, and counts in its next turn.
    if (found && revisionOf(current) !== revisionOf(deployment)) return
    // Counted with the sizes from before the change, as the real controller does.
    const next = rolloutStatus(current, now, newest, Date.now() - (progressed.get(current.metadata.uid) ?? Date.now()))
    if (movedOn(current.status ?? {}, next)) progressed.set(current.metadata.uid, Date.now())
    show(current, next)
    if (isComplete(current, next)) tidy(current, old)
  }

  /** The ReplicaSet that exists, with the newest revision: a rollback takes an old one up again. */
  function revised(deployment: Thing, set: Thing, revision: number): Thing {
    const next = store.put('replicasets', { ...set, metadata: { ...set.metadata, annotations: setAnnotations(deployment, set, revision) } })
    const has = conditionOf(deployment.status, 'Progressing')
    const conditions = has ? deployment.status.conditions
      : withCondition(deployment.status?.conditions ?? [], 'Progressing', 'True', 'FoundNewReplicaSet', `Found new replica set "${set.metadata.name}"`)
    if (!has || revisionOf(deployment) !== revisionOf(next)) show(deployment, { ...deployment.status, conditions }, revisionOf(next))
    return next
  }

  /** null: the name is taken, and it is tried again with another hash. */
  function made(deployment: Thing, old: Thing[], revision: number): Thing | null {
    const collisions = deployment.status?.collisionCount ?? 0
    const draft = newSet(deployment, hashOf(deployment.spec.template, collisions), revision, newReplicas(deployment, null, old))
    if (store.get('replicasets', draft.metadata.namespace, draft.metadata.name)) {
      show(deployment, { ...deployment.status, collisionCount: collisions + 1 })
      return null
    }
    const set = store.put('replicasets', draft)
    if (replicasOf(set) > 0) tellScaled(deployment, set, 0)
    const conditions = withCondition(deployment.status?.conditions ?? [], 'Progressing', 'True', 'NewReplicaSetCreated', `Created new replica set "${set.metadata.name}"`)
    show(deployment, { ...deployment.status, conditions }, revision)
    return set
  }

  /** `remembers`: also when it keeps its number, it notes the Deployment's. */
  function resize(deployment: Thing, set: Thing, replicas: number, remembers = false): boolean {
    const before = replicasOf(set)
    if (before === replicas && !remembers) return false
    const annotations = { ...set.metadata.annotations, ...sizes(deployment) }
    const generation = (set.metadata.generation ?? 1) + (before === replicas ? 0 : 1)
    const next = store.put('replicasets', { ...set, metadata: { ...set.metadata, generation, annotations }, spec: { ...set.spec, replicas } })
    if (before !== replicas) tellScaled(deployment, next, before)
    return before !== replicas
  }

  const tellScaled = (deployment: Thing, set: Thing, before: number): void => voice.say(deployment, 'Normal', 'ScalingReplicaSet',
    `Scaled ${replicasOf(set) > before ? 'up' : 'down'} replica set ${set.metadata.name} from ${before} to ${replicasOf(set)}`)

  function show(deployment: Thing, status: RolloutStatus, revision?: number): void {
    const { namespace, name, uid } = deployment.metadata
    const current = store.get('deployments', namespace, name)
    if (current?.metadata.uid !== uid) return
    const annotations = revision === undefined ? current.metadata.annotations : { ...current.metadata.annotations, [revisionAnnotation]: String(revision) }
    const next = store.put('deployments', { ...current, metadata: { ...current.metadata, ...(annotations && { annotations }) }, status })
    const [before, after] = [conditionOf(current.status, 'Progressing'), conditionOf(status, 'Progressing')]
    if (after && JSON.stringify(before) !== JSON.stringify(after)) progressed.set(uid, Date.now())
    watchDeadline(next)
  }

  function watchDeadline(deployment: Thing): void {
    const key = `${deployment.metadata.namespace}/${deployment.metadata.name}`
    deadlines.get(key)?.()
    deadlines.delete(key)
    const condition = conditionOf(deployment.status, 'Progressing')
    if (condition?.status !== 'True' || condition.reason === 'NewReplicaSetAvailable') return
    const from = progressed.get(deployment.metadata.uid) ?? Date.now()
    progressed.set(deployment.metadata.uid, from)
    deadlines.set(key, clock.afterReal(Math.max(0, from + deadlineMs(deployment) - Date.now()) + 1, () => queue.add(key)))
  }

  /** Old ReplicaSets beyond the history go, the lowest revision first; one that still has pods stays. */
  function tidy(deployment: Thing, old: Thing[]): void {
    const alive = old.filter(({ metadata }) => !metadata.deletionTimestamp).sort((a, b) => revisionOf(a) - revisionOf(b))
    const over = alive.slice(0, Math.max(0, alive.length - (deployment.spec.revisionHistoryLimit ?? 10)))
    for (const { metadata } of over.filter(isIdle)) store.drop('replicasets', metadata.namespace, metadata.name)
  }

  function forget(key: string): void {
    deadlines.get(key)?.()
    deadlines.delete(key)
  }

  const stop = store.hear((kind, { type, object }) => {
    if (kind === 'deployments') {
      if (type === 'DELETED') progressed.delete(object.metadata.uid)
      return queue.add(`${object.metadata.namespace}/${object.metadata.name}`)
    }
    if (kind !== 'replicasets') return
    for (const owner of object.metadata.ownerReferences ?? []) if (owner.kind === 'Deployment') queue.add(`${object.metadata.namespace}/${owner.name}`)
  })
  for (const { metadata } of store.list('deployments', null)) queue.add(`${metadata.namespace}/${metadata.name}`)
  return {
    close() {
      stop()
      queue.close()
      for (const cancel of deadlines.values()) cancel()
    },
  }
}

const isIdle = (set: Thing): boolean =>
  replicasOf(set) === 0 && (set.status?.replicas ?? 0) === 0 && (set.status?.observedGeneration ?? 0) >= (set.metadata.generation ?? 0)

/** The oldest with the Deployment's template. */
const newestOf = (deployment: Thing, all: Thing[]): Thing | null => all.find((set) => sameTemplate(deployment, set)) ?? null
