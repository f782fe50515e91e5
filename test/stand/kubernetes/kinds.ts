// The kinds that the stand-in for Kubernetes knows: their group, their name in paths and in bodies, and what may be selected by field.
import type { Kind, Thing } from './store.ts'

export interface KindFacts {
  plural: Kind
  group: string
  version: string
  kind: string
  namespaced: boolean
  /** What a fieldSelector may name, beside metadata.name and metadata.namespace: how it is read from an object. */
  fields: Record<string, (thing: Thing) => string>
  /** metadata.generation is kept. */
  counted: boolean
}

const involved = (field: string): ((thing: Thing) => string) => (thing) => String(thing['involvedObject']?.[field] ?? '')

const podFields: KindFacts['fields'] = {
  'spec.nodeName': (pod) => pod.spec?.nodeName ?? '',
  'spec.restartPolicy': (pod) => pod.spec?.restartPolicy ?? '',
  'spec.schedulerName': (pod) => pod.spec?.schedulerName ?? '',
  'spec.serviceAccountName': (pod) => pod.spec?.serviceAccountName ?? '',
  'status.phase': (pod) => pod.status?.phase ?? '',
  'status.podIP': (pod) => pod.status?.podIP ?? '',
}

const eventFields: KindFacts['fields'] = {
  'involvedObject.kind': involved('kind'),
  'involvedObject.name': involved('name'),
  'involvedObject.namespace': involved('namespace'),
  'involvedObject.uid': involved('uid'),
  'involvedObject.apiVersion': involved('apiVersion'),
  'involvedObject.resourceVersion': involved('resourceVersion'),
  'involvedObject.fieldPath': involved('fieldPath'),
  'reason': (event) => event['reason'] ?? '',
  'reportingComponent': (event) => event['reportingComponent'] ?? '',
  'source': (event) => event['source']?.component ?? '',
  'type': (event) => event['type'] ?? '',
}

const core = { group: '', version: 'v1', namespaced: true, fields: {}, counted: false }
const apps = { ...core, group: 'apps', counted: true }

export const kinds: Record<Kind, KindFacts> = {
  pods: { ...core, plural: 'pods', kind: 'Pod', fields: podFields, counted: true },
  events: { ...core, plural: 'events', kind: 'Event', fields: eventFields },
  services: { ...core, plural: 'services', kind: 'Service' },
  configmaps: { ...core, plural: 'configmaps', kind: 'ConfigMap' },
  secrets: { ...core, plural: 'secrets', kind: 'Secret', fields: { type: (secret) => secret['type'] ?? '' } },
  namespaces: { ...core, plural: 'namespaces', kind: 'Namespace', namespaced: false, fields: { 'status.phase': (space) => space.status?.phase ?? '' } },
  deployments: { ...apps, plural: 'deployments', kind: 'Deployment' },
  replicasets: { ...apps, plural: 'replicasets', kind: 'ReplicaSet' },
  horizontalpodautoscalers: { ...core, plural: 'horizontalpodautoscalers', group: 'autoscaling', version: 'v2', kind: 'HorizontalPodAutoscaler' },
  leases: { ...core, plural: 'leases', group: 'coordination.k8s.io', kind: 'Lease' },
}

export const apiVersionOf = ({ group, version }: KindFacts): string => (group === '' ? version : `${group}/${version}`)

/** `deployments.apps`, `pods`: how messages name a resource. */
export const resourceName = ({ plural, group }: KindFacts): string => (group === '' ? plural : `${plural}.${group}`)

/** `Deployment.apps`, `Pod`: how messages name a kind. */
export const kindName = ({ kind, group }: KindFacts): string => (group === '' ? kind : `${kind}.${group}`)

/** The plural of what an ownerReference names, or null when the stand-in does not know it. */
export const pluralOf = (apiVersion: string, kind: string): Kind | null =>
  Object.values(kinds).find((facts) => facts.kind === kind && apiVersionOf(facts) === apiVersion)?.plural ?? null
