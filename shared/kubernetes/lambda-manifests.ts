// What the cluster is to hold of one lambda: a Deployment, a Service, a ConfigMap with user_config, and with autoscaling a HorizontalPodAutoscaler.
// Each holds only the fields that kiln decides on: they are applied by the server, and what a person sets beside them stays.
import type { KubernetesConfig } from '../config.ts'
import type { Workload } from '../workloads.ts'
import { annotation, configName, label, lambdaName, ownLabels } from './names.ts'

export const container = 'lambda'
export const port = 8_000

/** What is given of the operator's settings to each lambda. */
export interface Placement {
  config: Pick<KubernetesConfig, 'installation' | 'registrySecret'>
  readyTimeoutMs: number
}

const configFolder = '/etc/lambda'
/** A pod that is replaced goes on serving for so long, until everybody has heard of the one that replaces it. */
const preStopSeconds = 2
/** What a request that is being answered may still take. */
const drainSeconds = 30
/** Root's files belong to root in every base image: a lambda is somebody else. */
const user = 1_000
/** A start may take long, say for a model that is loaded: it is never ended for that before this. */
const longestSilenceSeconds = 1_800
const liveEverySeconds = 10

/** What never changes between versions: a Deployment's selector cannot. */
export const selectorLabels = ({ id }: Pick<Workload, 'id'>, { config }: Placement): Record<string, string> =>
  ({ ...ownLabels(config.installation, 'lambda'), [label.id]: id })

export const podLabels = (workload: Workload, placement: Placement): Record<string, string> => ({
  ...selectorLabels(workload, placement), [label.account]: workload.account, [label.version]: String(workload.version), [label.epoch]: String(workload.epoch),
})

const meta = (name: string, workload: Workload, placement: Placement) =>
  ({ name, namespace: workload.deploy.namespace, labels: { ...selectorLabels(workload, placement), [label.account]: workload.account } })

/** `resourceVersion`: of the Deployment that this follows on; somebody who was faster makes it a conflict. `givenUp`: what did not get ready beside it. */
export function deployment(workload: Workload, placement: Placement, { resourceVersion, givenUp }: { resourceVersion?: string; givenUp?: string } = {}): object {
  const { deploy } = workload
  return {
    apiVersion: 'apps/v1', kind: 'Deployment',
    metadata: {
      ...meta(lambdaName(workload.id), workload, placement), ...(resourceVersion && { resourceVersion }),
      annotations: { [annotation.workload]: JSON.stringify(workload), ...(givenUp && { [annotation.givenUp]: givenUp }) },
    },
    spec: {
      // With an autoscaler the number of pods is its own to say: naming it here would fight it.
      ...(!deploy.autoscaling && { replicas: deploy.pod_count }),
      selector: { matchLabels: selectorLabels(workload, placement) },
      strategy: { type: 'RollingUpdate', rollingUpdate: { maxUnavailable: 0, maxSurge: '25%' } },
      progressDeadlineSeconds: Math.ceil(placement.readyTimeoutMs / 1_000), revisionHistoryLimit: 2,
      template: { metadata: { labels: podLabels(workload, placement) }, spec: podSpec(workload, placement) },
    },
  }
}

function podSpec(workload: Workload, { config }: Placement): object {
  const { deploy } = workload
  const health = { httpGet: { path: '/healthz', port: 'http' } }
  return {
    automountServiceAccountToken: false, enableServiceLinks: false, terminationGracePeriodSeconds: preStopSeconds + drainSeconds + 5,
    nodeSelector: deploy.selector,
    ...(config.registrySecret && { imagePullSecrets: [{ name: config.registrySecret }] }),
    securityContext: { runAsNonRoot: true, runAsUser: user, runAsGroup: user, fsGroup: user, seccompProfile: { type: 'RuntimeDefault' } },
    containers: [{
      name: container, image: workload.image.reference, imagePullPolicy: 'IfNotPresent',
      ports: [{ name: 'http', containerPort: port }], env: environmentOf(workload), resources: resourcesOf(workload),
      securityContext: { allowPrivilegeEscalation: false, capabilities: { drop: ['ALL'] } },
      // No startup probe: the kubelet would look at its own next second, and at the one after that for readiness.
      readinessProbe: { ...health, periodSeconds: 1, timeoutSeconds: 5, failureThreshold: 3 },
      // One that stands still ends itself and says where; this is for what it cannot see itself, such as a port that nobody listens on.
      livenessProbe: { ...health, periodSeconds: liveEverySeconds, timeoutSeconds: 10, failureThreshold: longestSilenceSeconds / liveEverySeconds },
      lifecycle: { preStop: { sleep: { seconds: preStopSeconds } } },
      terminationMessagePolicy: 'FallbackToLogsOnError',
      volumeMounts: [{ name: 'config', mountPath: configFolder, readOnly: true }],
    }],
    volumes: [{ name: 'config', configMap: { name: configName(workload.id, workload.version) } }],
  }
}

function resourcesOf({ deploy: { resources, enable_gpu } }: Workload): object {
  const gpu = enable_gpu ? { 'nvidia.com/gpu': '1' } : {}
  return { requests: resources.requests, limits: { ...resources.limits, ...gpu } }
}

/** kiln's own names win: a name that stands twice would be refused by the API. */
function environmentOf({ id, version, deploy }: Workload): object[] {
  const own: Record<string, string> = {
    LAMBDA_HOST: '0.0.0.0', LAMBDA_PORT: String(port), LAMBDA_WORKERS: String(deploy.workers), LAMBDA_ID: id, LAMBDA_VERSION: String(version),
    LAMBDA_USER_CONFIG: `${configFolder}/user_config.json`, LAMBDA_DRAIN_SECONDS: String(drainSeconds), HOME: '/tmp',
    ...(deploy.enable_gpu && { NVIDIA_DRIVER_CAPABILITIES: 'video,compute,utility' }),
  }
  const secrets = Object.entries(deploy.secrets).filter(([name]) => !(name in own))
  const plain = Object.entries(deploy.env).filter(([name]) => !(name in own) && !(name in deploy.secrets))
  return [
    ...Object.entries(own).map(([name, value]) => ({ name, value })),
    ...plain.map(([name, value]) => ({ name, value: escaped(value) })),
    ...secrets.map(([name, { name: secret, key }]) => ({ name, valueFrom: { secretKeyRef: { name: secret, key } } })),
  ]
}

/** `$(NAME)` in a value would be replaced by the cluster: a lambda gets what its user wrote. */
const escaped = (value: string): string => value.replaceAll('$(', '$$$$(')

/** One for each version: a version that goes on beside a failed one keeps its own. */
export const configMap = (workload: Workload, placement: Placement): object => ({
  apiVersion: 'v1', kind: 'ConfigMap', metadata: meta(configName(workload.id, workload.version), workload, placement),
  data: { 'user_config.json': JSON.stringify(workload.userConfig) },
})

export const service = (workload: Workload, placement: Placement): object => ({
  apiVersion: 'v1', kind: 'Service', metadata: meta(lambdaName(workload.id), workload, placement),
  spec: { selector: selectorLabels(workload, placement), ports: [{ name: 'http', port, targetPort: 'http' }] },
})

export function autoscaler(workload: Workload, placement: Placement): object | null {
  const { autoscaling } = workload.deploy
  return autoscaling && {
    apiVersion: 'autoscaling/v2', kind: 'HorizontalPodAutoscaler', metadata: meta(lambdaName(workload.id), workload, placement),
    spec: {
      scaleTargetRef: { apiVersion: 'apps/v1', kind: 'Deployment', name: lambdaName(workload.id) },
      minReplicas: autoscaling.min, maxReplicas: autoscaling.max,
      metrics: [{ type: 'Resource', resource: { name: 'cpu', target: { type: 'Utilization', averageUtilization: autoscaling.target_cpu } } }],
    },
  }
}
