// A recorded step of a rollout, shown on the objects of a lambda: as the controllers and the kubelet of a real cluster made them, from what kiln has applied.
import { showEvent, showPod, type DeploymentStep, type EventStep, type PodStep, type ReplicaSetStep } from './situations.ts'
import { now } from './memory.ts'
import type { Store, Thing } from './store.ts'

/** Names in the step are those of the objects here. What is not there any more is shown no more. */
export function showRollout(store: Store, namespace: string, lambda: string, step: DeploymentStep | ReplicaSetStep | PodStep | EventStep): void {
  if ('deployment' in step) showDeployment(store, namespace, step)
  else if ('replicaset' in step) showReplicaSet(store, namespace, lambda, step)
  else if ('pod' in step) showPodOf(store, namespace, lambda, step)
  else showEvent(store, namespace, step)
}

/** An observed generation is as far behind here as it was there. */
const behind = ({ status, generation }: DeploymentStep | ReplicaSetStep, present: number): object =>
  ({ ...status, ...('observedGeneration' in status && { observedGeneration: present - (generation - status.observedGeneration) }) })

function showDeployment(store: Store, namespace: string, step: DeploymentStep): void {
  const there = store.get('deployments', namespace, step.name)
  if (there === null) return
  if (step.deployment === 'DELETED') return store.drop('deployments', namespace, step.name)
  // Somebody, or the autoscaler, has scaled it.
  const isScaled = there.spec.replicas !== step.replicas
  const generation = there.metadata.generation! + (isScaled ? 1 : 0)
  store.put('deployments', { ...there, metadata: { ...there.metadata, generation }, spec: { ...there.spec, replicas: step.replicas }, status: behind(step, generation) })
}

const owner = (kind: string, { apiVersion, metadata: { name, uid } }: Thing): NonNullable<Thing['metadata']['ownerReferences']> =>
  [{ apiVersion, kind, name, uid, controller: true, blockOwnerDeletion: true }]
const hashIn = (name: string, lambda: string): string => name.slice(lambda.length + 1).split('-')[0]!
const own = (annotations: Record<string, string> = {}): Record<string, string> => Object.fromEntries(Object.entries(annotations).filter(([name]) => name.startsWith('kiln/')))

/** It is made of the template that the Deployment has just then, and carries the annotations of a Deployment that wants it. */
function showReplicaSet(store: Store, namespace: string, lambda: string, step: ReplicaSetStep): void {
  const deployment = store.get('deployments', namespace, lambda)
  const isNew = step.replicaset === 'ADDED' && deployment !== null
  const there = isNew ? newReplicaSet(deployment, namespace, step.name, hashIn(step.name, lambda)) : store.get('replicasets', namespace, step.name)
  if (there === null) return
  if (step.replicaset === 'DELETED') return store.drop('replicasets', namespace, step.name)
  const isWanted = deployment?.spec.template.metadata.labels['kiln/version'] === there.metadata.labels!['kiln/version']
  const annotations = { ...there.metadata.annotations, ...(isWanted && own(deployment!.metadata.annotations)), 'deployment.kubernetes.io/revision': step.revision }
  store.put('replicasets', { ...there, metadata: { ...there.metadata, annotations }, spec: { ...there.spec, replicas: step.replicas }, status: behind(step, there.metadata.generation!) })
}

function newReplicaSet(deployment: Thing, namespace: string, name: string, hash: string): Thing {
  const { metadata: { labels, ...metadata }, ...template } = deployment.spec.template
  const all = { ...labels, 'pod-template-hash': hash }
  return {
    apiVersion: 'apps/v1', kind: 'ReplicaSet',
    metadata: { name, namespace, uid: '', resourceVersion: '', creationTimestamp: now(), generation: 1, labels: all, annotations: {}, ownerReferences: owner('Deployment', deployment) },
    spec: { selector: { matchLabels: all }, template: { metadata: { ...metadata, labels: all }, ...template } },
  }
}

/** The streams of different kinds are in no order: a pod may be seen before its ReplicaSet. */
function showPodOf(store: Store, namespace: string, lambda: string, step: PodStep): void {
  const hash = hashIn(step.name, lambda)
  const parent = store.get('replicasets', namespace, `${lambda}-${hash}`)
  const template = parent?.spec.template ?? store.get('deployments', namespace, lambda)?.spec.template
  const there = store.get('pods', namespace, step.name)
  const references = parent && !there?.metadata.ownerReferences ? { ownerReferences: owner('ReplicaSet', parent) } : {}
  if (step.pod === 'ADDED') {
    const labels = { ...template.metadata.labels, 'pod-template-hash': hash }
    const metadata = { name: step.name, namespace, uid: '', resourceVersion: '', creationTimestamp: now(), labels, ...references }
    store.put('pods', { apiVersion: 'v1', kind: 'Pod', metadata, spec: template.spec, status: step.status })
  } else if (there && 'ownerReferences' in references) {
    store.put('pods', { ...there, metadata: { ...there.metadata, ...references } })
  }
  showPod(store, namespace, step)
}
