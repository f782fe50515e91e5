// What fields the kinds have, as far as kiln writes them: their types, and for lists whether entries are known by a key or the list is one value.
import type { Kind } from './store.ts'

/** `any` is one value to whoever owns it: nothing below it is looked at. */
export type Leaf = 'string' | 'int32' | 'int64' | 'bool' | 'quantity' | 'intOrString' | 'any'

export interface Struct {
  /** The name that complaints about types give. */
  struct: string
  fields: Record<string, Shape>
  /** Owned as one value. */
  atomic?: true
  /** The object always has it, even when empty, so nobody owns it for itself. */
  always?: true
}
export interface MapOf {
  map: Leaf
  atomic?: true
}
/** Without keys and without `set`, the list is one value. */
export interface ListOf {
  list: Shape
  keys?: string[]
  set?: true
  always?: true
}
export type Shape = Leaf | Struct | MapOf | ListOf

export const isStruct = (shape: Shape): shape is Struct => typeof shape === 'object' && 'struct' in shape
export const isMap = (shape: Shape): shape is MapOf => typeof shape === 'object' && 'map' in shape
export const isList = (shape: Shape): shape is ListOf => typeof shape === 'object' && 'list' in shape

const all = <Type extends Shape>(type: Type, ...names: string[]): Record<string, Type> => Object.fromEntries(names.map((name) => [name, type]))
const strings: MapOf = { map: 'string' }
const quantities: MapOf = { map: 'quantity' }
const words: ListOf = { list: 'string' }

const ownerReference: Struct = {
  struct: 'OwnerReference', atomic: true, fields: { ...all('string', 'apiVersion', 'kind', 'name', 'uid'), ...all('bool', 'controller', 'blockOwnerDeletion') },
}
const metadata: Struct = {
  struct: 'ObjectMeta', always: true,
  fields: {
    ...all('string', 'name', 'generateName', 'namespace', 'selfLink', 'uid', 'resourceVersion', 'creationTimestamp', 'deletionTimestamp'),
    ...all('int64', 'generation', 'deletionGracePeriodSeconds'),
    labels: strings, annotations: strings, finalizers: { list: 'string', set: true }, ownerReferences: { list: ownerReference, keys: ['uid'] }, managedFields: 'any',
  },
}

const labelSelector: Struct = { struct: 'LabelSelector', atomic: true, fields: { matchLabels: strings, matchExpressions: { list: 'any' } } }
const keyOf = (name: string): Struct => ({ struct: name, atomic: true, fields: { ...all('string', 'name', 'key'), optional: 'bool' } })
const fieldRef: Struct = { struct: 'ObjectFieldSelector', atomic: true, fields: all('string', 'apiVersion', 'fieldPath') }
const resourceFieldRef: Struct = { struct: 'ResourceFieldSelector', atomic: true, fields: { ...all('string', 'containerName', 'resource'), divisor: 'quantity' } }

const env: Struct = {
  struct: 'EnvVar',
  fields: {
    ...all('string', 'name', 'value'),
    valueFrom: {
      struct: 'EnvVarSource', fields: { configMapKeyRef: keyOf('ConfigMapKeySelector'), secretKeyRef: keyOf('SecretKeySelector'), fieldRef, resourceFieldRef, fileKeyRef: 'any' },
    },
  },
}
const resources: Struct = { struct: 'ResourceRequirements', fields: { limits: quantities, requests: quantities, claims: 'any' } }
const handlers: Record<string, Shape> = {
  exec: { struct: 'ExecAction', fields: { command: words } },
  httpGet: { struct: 'HTTPGetAction', fields: { ...all('string', 'host', 'path', 'scheme'), port: 'intOrString', httpHeaders: { list: 'any' } } },
  tcpSocket: { struct: 'TCPSocketAction', fields: { host: 'string', port: 'intOrString' } },
}
const probe: Struct = {
  struct: 'Probe',
  fields: {
    ...handlers, grpc: { struct: 'GRPCAction', fields: { port: 'int32', service: 'string' } }, terminationGracePeriodSeconds: 'int64',
    ...all('int32', 'initialDelaySeconds', 'timeoutSeconds', 'periodSeconds', 'successThreshold', 'failureThreshold'),
  },
}
const lifecycleHandler: Struct = { struct: 'LifecycleHandler', fields: { ...handlers, sleep: 'any' } }
const lifecycle: Struct = { struct: 'Lifecycle', fields: { stopSignal: 'string', postStart: lifecycleHandler, preStop: lifecycleHandler } }
const userFields = {
  ...all('int64', 'runAsUser', 'runAsGroup'), runAsNonRoot: 'bool', ...all('any', 'seccompProfile', 'seLinuxOptions', 'windowsOptions', 'appArmorProfile'),
} as const
const securityContext: Struct = {
  struct: 'SecurityContext',
  fields: {
    ...userFields, ...all('bool', 'allowPrivilegeEscalation', 'privileged', 'readOnlyRootFilesystem'), procMount: 'string',
    capabilities: { struct: 'Capabilities', fields: { add: words, drop: words } },
  },
}
const containerPort: Struct = { struct: 'ContainerPort', fields: { ...all('string', 'name', 'protocol', 'hostIP'), ...all('int32', 'containerPort', 'hostPort') } }
const volumeMount: Struct = {
  struct: 'VolumeMount', fields: { ...all('string', 'name', 'mountPath', 'subPath', 'subPathExpr', 'mountPropagation', 'recursiveReadOnly'), readOnly: 'bool' },
}
const container: Struct = {
  struct: 'Container',
  fields: {
    ...all('string', 'name', 'image', 'imagePullPolicy', 'terminationMessagePath', 'terminationMessagePolicy', 'workingDir', 'restartPolicy'),
    ...all('bool', 'stdin', 'stdinOnce', 'tty'), ...all('any', 'resizePolicy', 'restartPolicyRules'),
    command: words, args: words, env: { list: env, keys: ['name'] }, envFrom: { list: 'any' }, lifecycle, resources, securityContext,
    ports: { list: containerPort, keys: ['containerPort', 'protocol'] }, volumeMounts: { list: volumeMount, keys: ['mountPath'] },
    volumeDevices: { list: 'any', keys: ['devicePath'] }, livenessProbe: probe, readinessProbe: probe, startupProbe: probe,
  },
}
const volume: Struct = {
  struct: 'Volume',
  fields: {
    name: 'string',
    configMap: { struct: 'ConfigMapVolumeSource', fields: { name: 'string', items: { list: 'any' }, defaultMode: 'int32', optional: 'bool' } },
    secret: { struct: 'SecretVolumeSource', fields: { secretName: 'string', items: { list: 'any' }, defaultMode: 'int32', optional: 'bool' } },
    emptyDir: { struct: 'EmptyDirVolumeSource', fields: { medium: 'string', sizeLimit: 'quantity' } },
    hostPath: { struct: 'HostPathVolumeSource', fields: all('string', 'path', 'type') },
    persistentVolumeClaim: { struct: 'PersistentVolumeClaimVolumeSource', fields: { claimName: 'string', readOnly: 'bool' } },
    projected: { struct: 'ProjectedVolumeSource', fields: { sources: { list: 'any' }, defaultMode: 'int32' } },
    ...all('any', 'downwardAPI', 'csi', 'nfs', 'ephemeral', 'image', 'iscsi', 'fc'),
  },
}
const toleration: Struct = { struct: 'Toleration', fields: { ...all('string', 'key', 'operator', 'value', 'effect'), tolerationSeconds: 'int64' } }
const podSpec: Struct = {
  struct: 'PodSpec', always: true,
  fields: {
    ...all('string', 'dnsPolicy', 'hostname', 'hostnameOverride', 'nodeName', 'preemptionPolicy', 'priorityClassName', 'restartPolicy', 'runtimeClassName', 'schedulerName',
      'serviceAccount', 'serviceAccountName', 'subdomain'),
    ...all('int64', 'activeDeadlineSeconds', 'terminationGracePeriodSeconds'), priority: 'int32',
    ...all('bool', 'automountServiceAccountToken', 'enableServiceLinks', 'hostIPC', 'hostNetwork', 'hostPID', 'hostUsers', 'setHostnameAsFQDN', 'shareProcessNamespace'),
    ...all('any', 'affinity', 'dnsConfig', 'ephemeralContainers', 'hostAliases', 'os', 'readinessGates', 'resourceClaims', 'schedulingGates', 'topologySpreadConstraints'),
    containers: { list: container, keys: ['name'], always: true }, initContainers: { list: container, keys: ['name'] },
    imagePullSecrets: { list: { struct: 'LocalObjectReference', fields: { name: 'string' } }, keys: ['name'] },
    nodeSelector: { map: 'string', atomic: true }, overhead: quantities, resources, tolerations: { list: toleration }, volumes: { list: volume, keys: ['name'] },
    securityContext: {
      struct: 'PodSecurityContext',
      fields: { ...userFields, fsGroup: 'int64', ...all('string', 'fsGroupChangePolicy', 'supplementalGroupsPolicy'), ...all('any', 'supplementalGroups', 'sysctls') },
    },
  },
}
const template: Struct = { struct: 'PodTemplateSpec', always: true, fields: { metadata, spec: podSpec } }

const strategy: Struct = {
  struct: 'DeploymentStrategy', always: true,
  fields: { type: 'string', rollingUpdate: { struct: 'RollingUpdateDeployment', fields: all('intOrString', 'maxSurge', 'maxUnavailable') } },
}
const deploymentSpec: Struct = {
  struct: 'DeploymentSpec', always: true,
  fields: {
    ...all('int32', 'replicas', 'minReadySeconds', 'revisionHistoryLimit', 'progressDeadlineSeconds'), paused: 'bool', selector: labelSelector, template, strategy,
  },
}
const replicaSetSpec: Struct = { struct: 'ReplicaSetSpec', always: true, fields: { ...all('int32', 'replicas', 'minReadySeconds'), selector: labelSelector, template } }
const servicePort: Struct = {
  struct: 'ServicePort', fields: { ...all('string', 'name', 'protocol', 'appProtocol'), ...all('int32', 'port', 'nodePort'), targetPort: 'intOrString' },
}
const serviceSpec: Struct = {
  struct: 'ServiceSpec', always: true,
  fields: {
    ...all('string', 'clusterIP', 'externalName', 'externalTrafficPolicy', 'internalTrafficPolicy', 'ipFamilyPolicy', 'loadBalancerClass', 'loadBalancerIP',
      'sessionAffinity', 'trafficDistribution', 'type'),
    ...all('bool', 'allocateLoadBalancerNodePorts', 'publishNotReadyAddresses'), healthCheckNodePort: 'int32', sessionAffinityConfig: 'any',
    ...all(words, 'clusterIPs', 'externalIPs', 'ipFamilies', 'loadBalancerSourceRanges'),
    selector: { map: 'string', atomic: true }, ports: { list: servicePort, keys: ['port', 'protocol'] },
  },
}
const autoscalerSpec: Struct = {
  struct: 'HorizontalPodAutoscalerSpec', always: true,
  fields: {
    ...all('int32', 'minReplicas', 'maxReplicas'), metrics: { list: 'any' }, behavior: 'any',
    scaleTargetRef: { struct: 'CrossVersionObjectReference', always: true, fields: all('string', 'apiVersion', 'kind', 'name') },
  },
}
const leaseSpec: Struct = {
  struct: 'LeaseSpec',
  fields: { ...all('string', 'holderIdentity', 'acquireTime', 'renewTime', 'strategy', 'preferredHolder'), ...all('int32', 'leaseDurationSeconds', 'leaseTransitions') },
}

const object = (name: string, fields: Record<string, Shape>): Struct =>
  ({ struct: name, always: true, fields: { apiVersion: 'string', kind: 'string', metadata, ...fields } })

export const schema: Record<Kind, Struct> = {
  pods: object('Pod', { spec: podSpec, status: 'any' }),
  events: object('Event', {
    ...all('string', 'action', 'message', 'reason', 'reportingComponent', 'reportingInstance', 'type', 'eventTime', 'firstTimestamp', 'lastTimestamp'), count: 'int32',
    ...all('any', 'involvedObject', 'related', 'series', 'source'),
  }),
  services: object('Service', { spec: serviceSpec, status: 'any' }),
  configmaps: object('ConfigMap', { data: strings, binaryData: strings, immutable: 'bool' }),
  secrets: object('Secret', { data: strings, stringData: strings, immutable: 'bool', type: 'string' }),
  namespaces: object('Namespace', { spec: { struct: 'NamespaceSpec', always: true, fields: { finalizers: { list: 'string' } } }, status: 'any' }),
  deployments: object('Deployment', { spec: deploymentSpec, status: 'any' }),
  replicasets: object('ReplicaSet', { spec: replicaSetSpec, status: 'any' }),
  horizontalpodautoscalers: object('HorizontalPodAutoscaler', { spec: autoscalerSpec, status: 'any' }),
  leases: object('Lease', { spec: leaseSpec }),
}
