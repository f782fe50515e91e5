// Pod templates: which ReplicaSet has which, the hash in its name, and the objects that are made from them.
import { createHash, randomInt } from 'node:crypto'
import { isDeepStrictEqual } from 'node:util'
import { newPod } from './defaults.ts'
import { bounds, replicasOf, revisionAnnotation } from './replicas.ts'
import type { Thing } from './store.ts'

const hashLabel = 'pod-template-hash'
/** The letters of generated names: no vowels, no digits that look like them. */
const letters = 'bcdfghjklmnpqrstvwxz2456789'
const desired = 'deployment.kubernetes.io/desired-replicas'
const most = 'deployment.kubernetes.io/max-replicas'
const history = 'deployment.kubernetes.io/revision-history'
/** Annotations of a Deployment that are its own: all others its ReplicaSets have too. */
const notCopied = ['kubectl.kubernetes.io/last-applied-configuration', revisionAnnotation, history, desired, most, 'deprecated.deployment.rollback.to']

export const randomSuffix = (): string => Array.from({ length: 5 }, () => letters[randomInt(letters.length)]!).join('')

export function hashOf(template: unknown, collisions: number): string {
  const bytes = createHash('sha256').update(JSON.stringify(template)).update(String(collisions)).digest()
  return [...bytes.subarray(0, 10)].map((byte) => letters[byte % letters.length]!).join('')
}

export function sameTemplate(deployment: Thing, set: Thing): boolean {
  const { [hashLabel]: _, ...labels } = set.spec.template.metadata?.labels ?? {}
  return isDeepStrictEqual({ ...deployment.spec.template.metadata, labels: deployment.spec.template.metadata?.labels ?? {} }, { ...set.spec.template.metadata, labels })
    && isDeepStrictEqual(deployment.spec.template.spec, set.spec.template.spec)
}

/** The annotations of a ReplicaSet of this Deployment. A revision that rises leaves the one before in the history. */
export function setAnnotations(deployment: Thing, set: Thing | null, revision: number): Record<string, string> {
  const before = set?.metadata.annotations ?? {}
  const copied = Object.entries(deployment.metadata.annotations ?? {}).filter(([name]) => !notCopied.includes(name))
  const past = before[revisionAnnotation]
  const rises = past !== undefined && Number(past) < revision
  return {
    ...before, ...Object.fromEntries(copied), ...(set === null && sizes(deployment)), [revisionAnnotation]: rises || past === undefined ? String(revision) : past,
    ...(rises && { [history]: before[history] ? `${before[history]},${past}` : past }),
  }
}

/** What a ReplicaSet remembers of its Deployment's size: a difference tells that the Deployment was scaled. */
export const sizes = (deployment: Thing): Record<string, string> => ({ [desired]: String(replicasOf(deployment)), [most]: String(replicasOf(deployment) + bounds(deployment).surge) })

export const wasScaled = (deployment: Thing, set: Thing): boolean => replicasOf(set) > 0 && set.metadata.annotations?.[desired] !== String(replicasOf(deployment))

export function newSet(deployment: Thing, hash: string, revision: number, replicas: number): Thing {
  const { template, selector, minReadySeconds } = deployment.spec
  const labels = { ...template.metadata?.labels, [hashLabel]: hash }
  const { name, namespace } = deployment.metadata
  return {
    kind: 'ReplicaSet', apiVersion: 'apps/v1',
    metadata: {
      name: `${name}-${hash}`, namespace, uid: '', resourceVersion: '', generation: 1, creationTimestamp: '',
      labels, annotations: setAnnotations(deployment, null, revision), ownerReferences: [ownedBy(deployment)],
    },
    spec: {
      replicas, ...(minReadySeconds && { minReadySeconds }), selector: { ...selector, matchLabels: { ...selector.matchLabels, [hashLabel]: hash } },
      template: { ...template, metadata: { ...template.metadata, labels } },
    },
    status: { replicas: 0 },
  }
}

export function podOf(set: Thing, name: string): Thing {
  const { labels, annotations } = set.spec.template.metadata ?? {}
  return newPod({
    kind: 'Pod', apiVersion: 'v1',
    metadata: {
      name, generateName: `${set.metadata.name}-`, namespace: set.metadata.namespace, uid: '', resourceVersion: '', creationTimestamp: '',
      labels, ...(annotations && { annotations }), ownerReferences: [ownedBy(set)],
    } as Thing['metadata'],
    spec: set.spec.template.spec,
  })
}

const ownedBy = ({ apiVersion, kind, metadata: { name, uid } }: Thing): NonNullable<Thing['metadata']['ownerReferences']>[number] =>
  ({ apiVersion, kind, name, uid, controller: true, blockOwnerDeletion: true })

/** Without a controller, in this namespace, and with all labels that the owner's selector names: it is adopted. */
export const adopted = (owner: Thing, thing: Thing): Thing | null => {
  const wanted = Object.entries((owner.spec.selector?.matchLabels ?? {}) as Record<string, string>)
  const fits = wanted.length > 0 && wanted.every(([label, value]) => thing.metadata.labels?.[label] === value)
  if (!fits || thing.metadata.deletionTimestamp || thing.metadata.ownerReferences?.some(({ controller }) => controller)) return null
  return { ...thing, metadata: { ...thing.metadata, ownerReferences: [...(thing.metadata.ownerReferences ?? []), ownedBy(owner)] } }
}
