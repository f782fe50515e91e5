// Names and labels of everything that kiln makes in a cluster, and where the API has it.

/** What all objects of one kiln carry; `installation` tells it from another kiln in the same cluster. */
export type Component = 'build' | 'lambda'

export const label = {
  managedBy: 'app.kubernetes.io/managed-by', instance: 'app.kubernetes.io/instance', component: 'app.kubernetes.io/component',
  id: 'kiln/lambda-id', account: 'kiln/account', version: 'kiln/version', epoch: 'kiln/epoch', context: 'kiln/context',
} as const

export const annotation = {
  /** The whole workload as it was applied: what a rollback applies again. */
  workload: 'kiln/workload',
  /** The version that did not get ready beside this one, and why. */
  givenUp: 'kiln/given-up',
  context: 'kiln/context',
} as const

export const ownLabels = (installation: string, component: Component): Record<string, string> =>
  ({ [label.managedBy]: 'kiln', [label.instance]: installation, [label.component]: component })

export const selectorOf = (labels: Record<string, string>): string => Object.entries(labels).map(([name, value]) => `${name}=${value}`).join(',')

/** A label holds 63 characters, a SHA-256 has 64: the annotation of the same name has all of it. */
export const contextLabel = (digest: string): string => digest.slice(0, 63)

export const buildName = (id: string): string => `kaniko-lambda-${id}`
/** Of a build of its own. */
export const imageBuildName = (id: string): string => `kaniko-build-${id}`
export const lambdaName = (id: string): string => `lambda-${id}`
export const configName = (id: string, version: number): string => `lambda-${id}-v${version}`

const core = (kind: string) => (namespace: string, name?: string): string => `/api/v1/namespaces/${namespace}/${kind}${name ? `/${name}` : ''}`
const apps = (kind: string) => (namespace: string, name?: string): string => `/apis/apps/v1/namespaces/${namespace}/${kind}${name ? `/${name}` : ''}`

export const path = {
  pods: core('pods'), services: core('services'), configMaps: core('configmaps'), events: core('events'),
  deployments: apps('deployments'), replicaSets: apps('replicasets'),
  autoscalers: (namespace: string, name?: string): string => `/apis/autoscaling/v2/namespaces/${namespace}/horizontalpodautoscalers${name ? `/${name}` : ''}`,
  log: (namespace: string, pod: string): string => `${core('pods')(namespace, pod)}/log`,
}
