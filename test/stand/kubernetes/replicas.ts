// How many pods a Deployment wants of each of its ReplicaSets, and which of them may go first.
import type { Thing } from './store.ts'

export const replicasOf = (thing: Thing): number => thing.spec?.replicas ?? 1
const sum = (things: Thing[], count: (thing: Thing) => number): number => things.reduce((total, thing) => total + count(thing), 0)
export const wantedOf = (sets: Thing[]): number => sum(sets, replicasOf)
export const shownOf = (sets: Thing[], field: 'replicas' | 'readyReplicas' | 'availableReplicas'): number => sum(sets, (set) => set.status?.[field] ?? 0)

/** A number, or a percentage of the replicas: surge is rounded up, unavailable down; both 0 would stand still. */
export function bounds(deployment: Thing): { surge: number; unavailable: number } {
  const { maxSurge = '25%', maxUnavailable = '25%' } = deployment.spec.strategy?.rollingUpdate ?? {}
  const of = (value: string | number, round: (value: number) => number): number =>
    typeof value === 'number' ? value : value.endsWith('%') ? round((replicasOf(deployment) * Number(value.slice(0, -1))) / 100) : Number(value)
  const surge = of(maxSurge, Math.ceil)
  const unavailable = of(maxUnavailable, Math.floor)
  return { surge, unavailable: surge === 0 && unavailable === 0 ? 1 : unavailable }
}

/** How many the newest may have now: no more than wanted, and together with the old ones no more than the surge allows. */
export function newReplicas(deployment: Thing, newest: Thing | null, all: Thing[]): number {
  const wanted = replicasOf(deployment)
  const has = newest ? replicasOf(newest) : 0
  if (has > wanted) return wanted
  const room = wanted + bounds(deployment).surge - wantedOf(all)
  return room <= 0 ? has : has + Math.min(room, wanted - has)
}

/** What each old ReplicaSet may have now, by uid: first those whose pods are not available, then as many as availability allows. */
export function oldReplicas(deployment: Thing, newest: Thing, old: Thing[]): Map<string, number> {
  const next = new Map(old.map((set) => [set.metadata.uid, replicasOf(set)]))
  const atLeast = replicasOf(deployment) - bounds(deployment).unavailable
  const all = [...old, newest]
  /** Returns what is left of the budget; of none nothing is taken. */
  const takeDown = (most: (set: Thing) => number, budget: number): number => {
    for (const set of byAge(old)) {
      const has = next.get(set.metadata.uid)!
      const less = Math.max(0, Math.min(has, most(set), budget))
      next.set(set.metadata.uid, has - less)
      budget -= less
    }
    return budget
  }
  const notYet = replicasOf(newest) - (newest.status?.availableReplicas ?? 0)
  const spare = wantedOf(all) - atLeast - notYet
  const left = takeDown((set) => replicasOf(set) - (set.status?.availableReplicas ?? 0), spare)
  takeDown(replicasOf, Math.min(left, shownOf(all, 'availableReplicas') - atLeast))
  return next
}

/** Oldest first. */
export const byAge = (things: Thing[]): Thing[] =>
  [...things].sort((a, b) => a.metadata.creationTimestamp.localeCompare(b.metadata.creationTimestamp) || revisionOf(a) - revisionOf(b) || a.metadata.name.localeCompare(b.metadata.name))

export const revisionAnnotation = 'deployment.kubernetes.io/revision'
export const revisionOf = (thing: Thing): number => Number(thing.metadata.annotations?.[revisionAnnotation] ?? 0)

/** In the order in which pods go when there are too many: those that serve least first. */
export function leastNeeded(pods: Thing[]): Thing[] {
  const rank = (pod: Thing): number[] => [
    pod.spec.nodeName ? 1 : 0, ['Pending', 'Unknown', 'Running'].indexOf(pod.status?.phase), isReady(pod) ? 1 : 0,
    -Math.max(0, ...(pod.status?.containerStatuses ?? []).map(({ restartCount }: { restartCount: number }) => restartCount)),
    -Date.parse(pod.metadata.creationTimestamp),
  ]
  return [...pods].sort((a, b) => {
    const [one, other] = [rank(a), rank(b)]
    const at = one.findIndex((value, index) => value !== other[index])
    return at === -1 ? b.metadata.name.localeCompare(a.metadata.name) : one[at]! - other[at]!
  })
}

export const isReady = (pod: Thing): boolean =>
  (pod.status?.conditions ?? []).some(({ type, status }: { type: string; status: string }) => type === 'Ready' && status === 'True')

/** Neither ended nor on its way out. */
export const isActive = (pod: Thing): boolean => !['Succeeded', 'Failed'].includes(pod.status?.phase) && !pod.metadata.deletionTimestamp
