// What the API server fills in: the defaults of each kind, what admission adds to a pod, and the status that a new object has.
import { kinds } from './kinds.ts'
import { quantityOf } from './quantities.ts'
import type { Kind, Thing } from './store.ts'

type Fields = Record<string, any>

/** The object with the defaults of its kind; what is there stays. Also for objects that a controller makes. */
export function withDefaults(kind: Kind, thing: Thing): Thing {
  const spec = (thing.spec ?? {}) as Fields
  if (kind === 'pods') return { ...thing, spec: withRequests(podDefaults(spec)) }
  if (kind === 'deployments') return { ...thing, spec: deploymentDefaults(spec) }
  if (kind === 'replicasets') return { ...thing, spec: { replicas: 1, ...spec, template: templateDefaults(spec['template']) } }
  if (kind === 'services') return { ...thing, spec: serviceDefaults(spec) }
  if (kind === 'horizontalpodautoscalers') return { ...thing, spec: { minReplicas: 1, metrics: [halfBusy], ...spec } }
  if (kind === 'secrets') return secretDefaults(thing)
  if (kind === 'events') return { source: {}, firstTimestamp: null, lastTimestamp: null, eventTime: null, reportingComponent: '', reportingInstance: '', ...thing }
  if (kind === 'namespaces') return namespaceDefaults(thing)
  return thing
}

function namespaceDefaults(thing: Thing): Thing {
  const labels = { 'kubernetes.io/metadata.name': thing.metadata.name, ...thing.metadata.labels }
  return { ...thing, metadata: { ...thing.metadata, labels }, spec: { finalizers: ['kubernetes'] } }
}

const halfBusy = { type: 'Resource', resource: { name: 'cpu', target: { type: 'Utilization', averageUtilization: 80 } } }

/** The status of an object that was just made: the rest is for controllers and the kubelet to write. */
export function firstStatus(kind: Kind, thing: Thing): Fields | undefined {
  if (kind === 'pods') return { phase: 'Pending', qosClass: qosClass(thing.spec) }
  if (kind === 'deployments') return {}
  if (kind === 'replicasets') return { replicas: 0 }
  if (kind === 'services') return { loadBalancer: {} }
  if (kind === 'horizontalpodautoscalers') return { desiredReplicas: 0, currentMetrics: null }
  if (kind === 'namespaces') return { phase: 'Active' }
  return undefined
}

/** A pod as it is stored when it is made: with what admission adds to every pod. */
export function admittedPod(pod: Thing): Thing {
  const account = pod.spec.serviceAccountName ?? pod.spec.serviceAccount ?? 'default'
  const given: Fields[] = pod.spec.tolerations ?? []
  const usual = ['node.kubernetes.io/not-ready', 'node.kubernetes.io/unreachable'].map((key) => ({ key, operator: 'Exists', effect: 'NoExecute', tolerationSeconds: 300 }))
  const tolerations = [...given, ...usual.filter(({ key }) => !given.some((one) => one['key'] === key || (one['key'] === undefined && one['operator'] === 'Exists')))]
  const { priority = 0, preemptionPolicy = 'PreemptLowerPriority' } = pod.spec
  return { ...pod, spec: { ...pod.spec, serviceAccountName: account, serviceAccount: account, tolerations, priority, preemptionPolicy } }
}

/** A whole new pod, for a controller that has no HTTP between itself and the store: defaults, admission, status, generation. */
export function newPod(pod: Thing): Thing {
  const made = admittedPod(withDefaults('pods', pod))
  return { ...made, metadata: { ...made.metadata, generation: 1 }, status: firstStatus('pods', made) }
}

const isCounted = (kind: Kind): boolean => kinds[kind].counted
/** metadata.generation: rises with each change of the spec. */
export const generationAfter = (kind: Kind, before: Thing | null, specChanged: boolean): number | undefined =>
  (isCounted(kind) ? (before?.metadata.generation ?? 0) + (before === null || specChanged ? 1 : 0) : undefined)

function podDefaults(spec: Fields): Fields {
  const { containers, initContainers, volumes } = spec
  return {
    restartPolicy: 'Always', terminationGracePeriodSeconds: 30, dnsPolicy: 'ClusterFirst', securityContext: {}, schedulerName: 'default-scheduler',
    enableServiceLinks: true, ...spec,
    ...(containers && { containers: containers.map(containerDefaults) }), ...(initContainers && { initContainers: initContainers.map(containerDefaults) }),
    ...(volumes && { volumes: volumes.map(volumeDefaults) }), ...(spec['serviceAccountName'] && { serviceAccount: spec['serviceAccountName'] }),
  }
}

const templateDefaults = (template: Fields | undefined): Fields => ({ ...template, metadata: template?.['metadata'] ?? {}, spec: podDefaults(template?.['spec'] ?? {}) })

function containerDefaults(container: Fields): Fields {
  const probes = ['livenessProbe', 'readinessProbe', 'startupProbe'].flatMap((name) => (container[name] === undefined ? [] : [[name, probeDefaults(container[name])]]))
  return {
    resources: {}, terminationMessagePath: '/dev/termination-log', terminationMessagePolicy: 'File', imagePullPolicy: pullPolicy(container['image'] ?? ''), ...container,
    ...(container['ports'] && { ports: container['ports'].map((port: Fields) => ({ protocol: 'TCP', ...port })) }),
    ...(container['env'] && { env: container['env'].map(envDefaults) }), ...Object.fromEntries(probes),
    ...(container['lifecycle'] && { lifecycle: lifecycleDefaults(container['lifecycle']) }),
  }
}

/** An image without a tag, or with `latest`, is pulled each time. */
export function pullPolicy(image: string): string {
  const tag = /:([^:/]+)$/.exec(image)?.[1] ?? 'latest'
  return tag === 'latest' ? 'Always' : 'IfNotPresent'
}

const probeDefaults = (probe: Fields): Fields => ({
  timeoutSeconds: 1, periodSeconds: 10, successThreshold: 1, failureThreshold: 3, ...probe,
  ...(probe['httpGet'] && { httpGet: { path: '/', scheme: 'HTTP', ...probe['httpGet'] } }),
})

const lifecycleDefaults = (lifecycle: Fields): Fields => Object.fromEntries(Object.entries(lifecycle)
  .map(([name, handler]) => [name, handler.httpGet ? { ...handler, httpGet: { path: '/', scheme: 'HTTP', ...handler.httpGet } } : handler]))

function envDefaults(variable: Fields): Fields {
  const reference = variable['valueFrom']?.fieldRef
  return reference === undefined ? variable : { ...variable, valueFrom: { ...variable['valueFrom'], fieldRef: { apiVersion: 'v1', ...reference } } }
}

function volumeDefaults(volume: Fields): Fields {
  const withMode = ['configMap', 'secret', 'projected', 'downwardAPI'].filter((name) => volume[name] !== undefined)
  const sources = Object.keys(volume).filter((name) => name !== 'name')
  if (sources.length === 0) return { ...volume, emptyDir: {} }
  const sourced = Object.fromEntries(withMode.map((name) => [name, { defaultMode: 420, ...volume[name] }]))
  return { ...volume, ...sourced, ...(volume['hostPath'] && { hostPath: { type: '', ...volume['hostPath'] } }) }
}

/** In a pod, but not in a template, what is limited and not requested is requested in full. */
function withRequests(spec: Fields): Fields {
  const fill = (container: Fields): Fields => {
    const { limits, requests } = container['resources'] ?? {}
    return limits === undefined ? container : { ...container, resources: { ...container['resources'], requests: { ...limits, ...requests } } }
  }
  const { containers, initContainers } = spec
  return { ...spec, ...(containers && { containers: containers.map(fill) }), ...(initContainers && { initContainers: initContainers.map(fill) }) }
}

function qosClass(spec: Fields): string {
  const resources: Fields[] = [...(spec['containers'] ?? []), ...(spec['initContainers'] ?? [])].map((container: Fields) => container['resources'] ?? {})
  const counted = (amounts: Fields | undefined): Fields => Object.fromEntries(Object.entries(amounts ?? {}).filter(([name]) => ['cpu', 'memory'].includes(name)))
  if (resources.every(({ limits, requests }) => Object.keys({ ...counted(limits), ...counted(requests) }).length === 0)) return 'BestEffort'
  const isFull = ({ limits, requests }: Fields, name: string): boolean => limits?.[name] !== undefined && quantityOf(limits[name]) === quantityOf(requests?.[name] ?? '')
  const full = resources.every((one) => isFull(one, 'cpu') && isFull(one, 'memory'))
  return full ? 'Guaranteed' : 'Burstable'
}

function deploymentDefaults(spec: Fields): Fields {
  const strategy = { type: 'RollingUpdate', ...spec['strategy'] }
  const rolling = strategy.type === 'RollingUpdate' ? { rollingUpdate: { maxUnavailable: '25%', maxSurge: '25%', ...strategy['rollingUpdate'] } } : {}
  return { replicas: 1, revisionHistoryLimit: 10, progressDeadlineSeconds: 600, ...spec, template: templateDefaults(spec['template']), strategy: { ...strategy, ...rolling } }
}

function serviceDefaults(spec: Fields): Fields {
  const type = spec['type'] ?? 'ClusterIP'
  const internal = type === 'ExternalName' ? {} : { internalTrafficPolicy: 'Cluster' }
  const ports = spec['ports'] && { ports: spec['ports'].map((port: Fields) => ({ protocol: 'TCP', targetPort: port['port'], ...port })) }
  return { type, sessionAffinity: 'None', ...internal, ...spec, ...ports }
}

/** What the server gives a new Service beside its defaults; a headless one has no address. */
export function withAddress(service: Thing, free: () => string): Thing {
  if (service.spec.type === 'ExternalName') return service
  const address = service.spec.clusterIP || free()
  return { ...service, spec: { ...service.spec, clusterIP: address, clusterIPs: [address], ipFamilies: ['IPv4'], ipFamilyPolicy: 'SingleStack' } }
}

function secretDefaults(secret: Thing): Thing {
  const { stringData, ...rest } = secret
  if (stringData === undefined) return { type: 'Opaque', ...secret }
  const data = Object.fromEntries(Object.entries(stringData as Record<string, string>).map(([name, text]) => [name, Buffer.from(text).toString('base64')]))
  return { type: 'Opaque', ...rest, data: { ...rest['data'], ...data } } as Thing
}
