// Situations as a real cluster showed them: what each recording holds, and how a step of it is shown in a store, on objects that are named otherwise there.
import { readFileSync } from 'node:fs'
import type { Store, Thing } from './store.ts'

type Shown = 'ADDED' | 'MODIFIED' | 'DELETED'
interface OfObject {
  name: string
  deletionTimestamp?: string
  deletionGracePeriodSeconds?: number
  status: any
}

export interface PodStep extends OfObject {
  pod: Shown
  nodeName?: string
}
export interface DeploymentStep extends OfObject {
  deployment: Shown
  generation: number
  replicas: number
}
export interface ReplicaSetStep extends OfObject {
  replicaset: Shown
  generation: number
  replicas: number
  revision: string
}
export interface EventStep {
  event: 'ADDED' | 'MODIFIED'
  name: string
  type: string
  reason: string
  message: string
  /** `Pod/<name>` */
  of: string
  count?: number
}
/** What was asked of the API to make the situation. `path`: its last two parts. */
export interface CallStep {
  call: 'POST' | 'PATCH' | 'DELETE'
  path: string
  label: string
  status: number
  options?: { propagationPolicy?: 'Background' | 'Foreground' | 'Orphan'; gracePeriodSeconds?: number }
  body?: any
}
export type Step = PodStep | DeploymentStep | ReplicaSetStep | EventStep | CallStep

export interface Situation {
  name: string
  steps: Step[]
  /** The answer to a question for the log at the end. */
  log?: { status: number; body: string }
}

export function situations(name: 'builds' | 'lambdas'): Situation[] {
  const lines = readFileSync(new URL(`../../recordings/${name}.jsonl`, import.meta.url), 'utf8').trimEnd().split('\n')
  return lines.map((line) => JSON.parse(line) as Situation)
}

/** All names in it are these instead, also inside of messages. */
export const renamed = <Value>(value: Value, from: string, to: string): Value => JSON.parse(JSON.stringify(value).replaceAll(from, to)) as Value

const leaving = ({ deletionTimestamp, deletionGracePeriodSeconds }: OfObject): object => ({ ...(deletionTimestamp && { deletionTimestamp, deletionGracePeriodSeconds }) })

/** The pod that is there becomes as it was recorded; what is not there any more is shown no more. */
export function showPod(store: Store, namespace: string, step: PodStep): void {
  const pod = store.get('pods', namespace, step.name)
  if (pod === null) return
  store.put('pods', { ...pod, metadata: { ...pod.metadata, ...leaving(step) }, spec: { ...pod.spec, ...(step.nodeName && { nodeName: step.nodeName }) }, status: step.status })
  if (step.pod === 'DELETED') store.drop('pods', namespace, step.name)
}

export function showEvent(store: Store, namespace: string, { name, type, reason, message, of, count }: EventStep): void {
  const [kind, involved] = of.split('/') as [string, string]
  const uid = kind === 'Pod' ? store.get('pods', namespace, involved)?.metadata.uid : undefined
  store.put('events', {
    apiVersion: 'v1', kind: 'Event', metadata: { name, namespace, uid: '', resourceVersion: '', creationTimestamp: '' },
    involvedObject: { kind, namespace, name: involved, ...(uid && { uid }) }, type, reason, message, ...(count && { count }),
  } satisfies Thing)
}
