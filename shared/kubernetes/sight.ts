// What a lambda's objects in the cluster show of each of its versions. Pure: the same objects, the same answer.
import { observed, servesAlready, together, type Together } from '../together.ts'
import { isOlder, type Observation, type Place, type Pod, type Workload } from '../workloads.ts'
import type { LambdaObjects } from './mirror.ts'
import { port } from './lambda-manifests.ts'
import { annotation, label } from './names.ts'
import { isOver, isReady, podOf, type Surroundings } from './pods.ts'
import { condition, type DeploymentResource, type PodResource } from './resources.ts'

export const keyOf = ({ version, epoch }: Place): string => `${version}.${epoch}`

/** A version that was stopped because it did not get ready beside another; kept on the Deployment, so that no restart of kiln forgets it. */
export type GivenUp = Place & Pick<Observation, 'reason' | 'message' | 'cause' | 'log'>

export interface Sight {
  /** What kiln wants to run; null: no Deployment. */
  wanted: Workload | null
  deployment: DeploymentResource | null
  /** One for each version that there is something to tell of, the wanted one first. */
  observations: Observation[]
  /** The wanted version and its pods, for those who decide on it. */
  current: Together | null
  /** It is complete: an older version may go. */
  isComplete: boolean
  /** The wanted version did not get ready in time, and this older one serves. */
  late: Place | null
  /** The version that was given up while pods of it are still being stopped: its end is not told yet. */
  leaving: string | null
}

export type AroundPod = (pod: PodResource, wanted: Workload | null) => Surroundings & { printed: string[] }

export const workloadIn = (object: { metadata: { annotations?: Record<string, string> } }): Workload | null => parsed<Workload>(object.metadata.annotations?.[annotation.workload])

function parsed<T>(text: string | undefined): T | null {
  if (!text) return null
  try { return JSON.parse(text) as T } catch { return null }
}

/** Of several Deployments of a lambda, which it has while it moves to another namespace, the newest. */
function newestDeployment(objects: LambdaObjects): { deployment: DeploymentResource | null; wanted: Workload | null } {
  const all = [...objects.deployments.values()].filter((one) => !one.metadata.deletionTimestamp).map((deployment) => ({ deployment, wanted: workloadIn(deployment) })).filter(({ wanted }) => wanted !== null)
  return all.reduce<{ deployment: DeploymentResource | null; wanted: Workload | null }>((a, b) => (!a.wanted || isOlder(a.wanted, b.wanted!) ? b : a), { deployment: null, wanted: null })
}

export function sightOf(id: string, objects: LambdaObjects, around: AroundPod): Sight {
  const { deployment, wanted } = newestDeployment(objects)
  const groups = groupsOf(objects)
  // Without a Deployment nothing is wanted: what is left of its pods says nothing any more.
  const older = wanted ? [...groups.values()].filter((group) => keyOf(group.place) !== keyOf(wanted)) : []
  const serving = older.find(({ live }) => live.some(isReady))
  const current = wanted && deployment ? togetherOf(wanted, deployment, groups.get(keyOf(wanted)), serving?.place.version ?? null, around) : null
  const isComplete = current !== null && current.pods.filter((one) => one.ready).length >= current.wanted
  const givenUp = deployment ? parsed<GivenUp>(deployment.metadata.annotations?.[annotation.givenUp]) : null
  return {
    wanted, deployment, current, isComplete,
    leaving: givenUp && groups.get(keyOf(givenUp))?.live.length ? keyOf(givenUp) : null,
    late: deployment && serving && !isComplete && isPastDeadline(deployment, wanted!, objects) ? serving.place : null,
    observations: [
      ...(current ? [observationOf(current, deployment!, wanted!)] : []),
      ...older.filter(({ live, place }) => live.length > 0 && !(givenUp && keyOf(givenUp) === keyOf(place))).map((group) => olderSight(id, group, workloadOf(group.place, objects), isComplete, around)),
      ...(givenUp && !groups.get(keyOf(givenUp))?.live.length ? [failedSight(id, wanted!, givenUp)] : []),
    ],
  }
}

interface Group {
  place: Place
  account: string
  /** Those that are not on their way out, oldest first. */
  live: PodResource[]
  ended: PodResource[]
}

function groupsOf({ pods }: LambdaObjects): Map<string, Group> {
  const groups = new Map<string, Group>()
  for (const pod of [...pods.values()].sort((a, b) => (a.metadata.creationTimestamp < b.metadata.creationTimestamp ? -1 : 1))) {
    const labels = pod.metadata.labels ?? {}
    const place = { version: Number(labels[label.version]), epoch: Number(labels[label.epoch]) }
    const group = groups.get(keyOf(place)) ?? { place, account: labels[label.account] ?? '', live: [], ended: [] }
    if (!pod.metadata.deletionTimestamp) (isOver(pod) ? group.ended : group.live).push(pod)
    groups.set(keyOf(place), group)
  }
  return groups
}

const originsOf = (pods: PodResource[]): string[] => pods.filter((pod) => isReady(pod) && pod.status?.podIP).map((pod) => `http://${pod.status!.podIP}:${port}`)

function togetherOf(wanted: Workload, deployment: DeploymentResource, group: Group | undefined, beside: number | null, around: AroundPod): Together {
  const count = deployment.spec.replicas ?? 1
  // A pod that was evicted stays behind: it speaks only while its place is empty.
  const { live, ended } = group ?? { live: [], ended: [] }
  const shown = [...live, ...ended.slice(Math.min(ended.length, ended.length + live.length - count))]
  const pods = shown.map((pod) => named(podOf(pod, around(pod, wanted)), wanted))
  const log = shown.map((pod) => around(pod, wanted).lastLines).find((lines) => lines.length > 0)
  return { of: wanted, wanted: count, pods, endpoints: originsOf(live), beside, log }
}

/** The cluster says that no node matches; what the lambda asks for is known here. */
function named(pod: Pod, { deploy }: Workload): Pod {
  if (pod.reason !== 'Unschedulable') return pod
  const asked = [...Object.entries(deploy.selector).map(([name, value]) => `${name}=${value}`), ...(deploy.enable_gpu ? ['a GPU'] : [])]
  return asked.length === 0 ? pod : { ...pod, message: `${pod.message} It asks for ${asked.join(', ')}.` }
}

/** Pods that the cluster does not even make, by its quota or its admission, show on the Deployment only. */
function observationOf(current: Together, deployment: DeploymentResource, wanted: Workload): Observation {
  const refused = condition(deployment, 'ReplicaFailure')
  if (refused?.status === 'True' && !servesAlready(current) && current.wanted > current.pods.length) {
    return observed(current, 'pending', refused.reason ?? 'FailedCreate', `The cluster does not make its pods: ${refused.message ?? ''}`)
  }
  const seen = together(current)
  const isLate = seen.shows === 'waiting' && seen.reason === 'Starting' && condition(deployment, 'Progressing')?.reason === 'ProgressDeadlineExceeded' && isCurrent(deployment)
  if (!isLate) return seen
  const how = 'It must answer GET /healthz with 200 on LAMBDA_HOST and LAMBDA_PORT; what it prints is in its logs.'
  return { ...seen, reason: 'ProgressDeadlineExceeded', message: `Version ${wanted.version} has not got ready in time. ${how}` }
}

/** What an older version was made from: its ReplicaSet still says so. */
const workloadOf = (place: Place, { replicaSets }: LambdaObjects): Workload | null =>
  [...replicaSets.values()].map(workloadIn).find((one) => one !== null && keyOf(one) === keyOf(place)) ?? null

function olderSight(id: string, group: Group, workload: Workload | null, isReplaced: boolean, around: AroundPod): Observation {
  const { place, account, live } = group
  const pods = live.map((pod) => podOf(pod, around(pod, workload))).map((pod) => (workload ? named(pod, workload) : pod))
  const of = { id, account, ...place }
  return together({ of, wanted: live.length, pods, endpoints: isReplaced ? [] : originsOf(live), beside: null })
}

const failedSight = (id: string, { account }: Workload, { version, epoch, reason, message, cause, log }: GivenUp): Observation =>
  observed({ of: { id, account, version, epoch }, pods: [], log }, 'failed', reason, message, { ...(cause && { cause }) })

/** The conditions speak of what is wanted now, not of what was wanted before. */
const isCurrent = ({ metadata, status }: DeploymentResource): boolean => (status?.observedGeneration ?? 0) >= (metadata.generation ?? 0)

/** After a rollback the old verdict stands for a moment: it counts only if it names the wanted version's ReplicaSet. */
function isPastDeadline(deployment: DeploymentResource, wanted: Workload, { replicaSets }: LambdaObjects): boolean {
  const progressing = condition(deployment, 'Progressing')
  if (progressing?.reason !== 'ProgressDeadlineExceeded' || !isCurrent(deployment)) return false
  const named = /ReplicaSet "([^"]+)"/.exec(progressing.message ?? '')?.[1]
  const labels = replicaSets.get(`${deployment.metadata.namespace}/${named}`)?.metadata.labels
  return labels?.[label.version] === String(wanted.version) && labels?.[label.epoch] === String(wanted.epoch)
}
