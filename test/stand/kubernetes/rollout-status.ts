// What a Deployment shows of its rollout: counts without zeros, and the three conditions in the order of their last change.
import { now } from './memory.ts'
import { bounds, replicasOf, shownOf, wantedOf } from './replicas.ts'
import type { Thing } from './store.ts'

export interface Condition {
  type: string
  status: string
  lastUpdateTime: string
  lastTransitionTime: string
  reason: string
  message: string
}

export interface RolloutStatus {
  observedGeneration?: number
  replicas?: number
  updatedReplicas?: number
  readyReplicas?: number
  availableReplicas?: number
  unavailableReplicas?: number
  conditions?: Condition[]
  collisionCount?: number
}

const complete = 'NewReplicaSetAvailable'
const late = 'ProgressDeadlineExceeded'

export const conditionOf = (status: RolloutStatus | undefined, type: string): Condition | undefined => status?.conditions?.find((condition) => condition.type === type)

/** A change of status or reason puts the condition last; without one, everything stays, the times too. */
export function withCondition(conditions: Condition[], type: string, status: string, reason: string, message: string): Condition[] {
  const before = conditions.find((condition) => condition.type === type)
  if (before?.status === status && before.reason === reason) return conditions
  const lastTransitionTime = before?.status === status ? before.lastTransitionTime : now()
  return [...conditions.filter((condition) => condition !== before), { type, status, lastUpdateTime: now(), lastTransitionTime, reason, message }]
}

/** Counts and availability. `newest` null: its ReplicaSet is not made yet. */
export function countsOf(deployment: Thing, all: Thing[], newest: Thing | null): RolloutStatus {
  const available = shownOf(all, 'availableReplicas')
  const enough = available >= replicasOf(deployment) - bounds(deployment).unavailable
  const conditions = withCondition(deployment.status?.conditions ?? [], 'Available', enough ? 'True' : 'False',
    enough ? 'MinimumReplicasAvailable' : 'MinimumReplicasUnavailable', enough ? 'Deployment has minimum availability.' : 'Deployment does not have minimum availability.')
  const counts = {
    replicas: shownOf(all, 'replicas'), updatedReplicas: newest?.status?.replicas ?? 0, readyReplicas: shownOf(all, 'readyReplicas'),
    availableReplicas: available, unavailableReplicas: Math.max(0, wantedOf(all) - available),
  }
  const { collisionCount } = deployment.status ?? {}
  return { observedGeneration: deployment.metadata.generation, ...withoutZeros(counts), conditions, ...(collisionCount && { collisionCount }) }
}

const withoutZeros = (counts: Record<string, number>): Record<string, number> => Object.fromEntries(Object.entries(counts).filter(([, count]) => count !== 0))

/** Counts, availability, refusals of pods and progress. `sinceMs`: how long there has been no progress. */
export function rolloutStatus(deployment: Thing, all: Thing[], newest: Thing, sinceMs: number): RolloutStatus {
  const next = countsOf(deployment, all, newest)
  const progressed = progress(deployment, next, newest, sinceMs)
  const refusal = [newest, ...all].flatMap((set) => (set.status?.conditions ?? []) as Condition[]).find(({ type }) => type === 'ReplicaFailure')
  if (refusal) return { ...next, conditions: withCondition(progressed, 'ReplicaFailure', 'True', refusal.reason, refusal.message) }
  return { ...next, conditions: progressed.filter(({ type }) => type !== 'ReplicaFailure') }
}

function progress(deployment: Thing, next: RolloutStatus, newest: Thing, sinceMs: number): Condition[] {
  const conditions = next.conditions!
  const before = conditionOf(deployment.status, 'Progressing')
  const set = `ReplicaSet "${newest.metadata.name}"`
  // Once complete it stays so until the next revision: scaling and crashes do not count.
  if (before?.reason === complete && (next.replicas ?? 0) === (next.updatedReplicas ?? 0)) return conditions
  if (isComplete(deployment, next)) return withCondition(conditions, 'Progressing', 'True', complete, `${set} has successfully progressed.`)
  if (movedOn(deployment.status ?? {}, next)) {
    const others = conditions.filter(({ type }) => type !== 'Progressing')
    const since = before?.status === 'True' ? before.lastTransitionTime : now()
    return [...others, { type: 'Progressing', status: 'True', lastUpdateTime: now(), lastTransitionTime: since, reason: 'ReplicaSetUpdated', message: `${set} is progressing.` }]
  }
  if (before?.reason === late || (before && before.reason !== complete && sinceMs >= deadlineMs(deployment))) {
    return withCondition(conditions, 'Progressing', 'False', late, `${set} has timed out progressing.`)
  }
  return conditions
}

export const deadlineMs = (deployment: Thing): number => (deployment.spec.progressDeadlineSeconds ?? 600) * 1_000

export function isComplete(deployment: Thing, status: RolloutStatus): boolean {
  const wanted = replicasOf(deployment)
  return (status.updatedReplicas ?? 0) === wanted && (status.replicas ?? 0) === wanted && (status.availableReplicas ?? 0) === wanted
    && (status.observedGeneration ?? 0) >= (deployment.metadata.generation ?? 0)
}

/** More new pods, fewer old ones, more ready or more available than shown before. */
export function movedOn(before: RolloutStatus, next: RolloutStatus): boolean {
  const old = ({ replicas = 0, updatedReplicas = 0 }: RolloutStatus): number => replicas - updatedReplicas
  const more = (field: 'updatedReplicas' | 'readyReplicas' | 'availableReplicas'): boolean => (next[field] ?? 0) > (before[field] ?? 0)
  return more('updatedReplicas') || old(next) < old(before) || more('readyReplicas') || more('availableReplicas')
}
