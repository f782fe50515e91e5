// What the API server refuses although it can read it: 422, with one cause for each field.
import { isDeepStrictEqual } from 'node:util'
import { forbiddenValue, invalid, invalidValue, required, tooLong, unsupportedValue, type Cause } from './errors.ts'
import { quantityOf } from './quantities.ts'
import type { Kind, Thing } from './store.ts'

type Fields = Record<string, any>

const subdomain = /^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$/
const subdomainText = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character "
  + "(e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
const label = /^[a-z0-9]([-a-z0-9]*[a-z0-9])?$/
const labelText = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character "
  + "(e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
const dns1035 = /^[a-z]([-a-z0-9]*[a-z0-9])?$/
const dns1035Text = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character "
  + "(e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')"
const labelValue = /^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$/
const labelValueText = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character "
  + "(e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
const envNameText = "a valid environment variable name must consist only of printable ASCII characters other than '='"
const notNegative = 'must be greater than or equal to 0'
const bytesOfData = 1_048_576

/** Throws what is wrong with an object that is to be stored. `before` is what it replaces. */
export function refuseInvalid(kind: Kind, thing: Thing, before: Thing | null): void {
  const own = [...nameCauses(kind, thing), ...labelCauses(thing.metadata.labels, 'metadata.labels'), ...specCauses(kind, thing)]
  const causes = [...own, ...(before === null ? [] : changeCauses(kind, before, thing))]
  if (causes.length > 0) throw invalid(kind, thing.metadata.name, causes)
}

function nameCauses(kind: Kind, { metadata: { name } }: Thing): Cause[] {
  if (name === '') return [required('metadata.name', 'name or generateName is required')]
  const short = { services: [dns1035, dns1035Text], namespaces: [label, labelText] } as const
  const [form, text] = kind === 'services' || kind === 'namespaces' ? short[kind] : [subdomain, subdomainText] as const
  const most = kind in short ? 63 : 253
  const long = name.length > most ? [invalidValue('metadata.name', name, `must be no more than ${most} characters`)] : []
  return [...long, ...(form.test(name) ? [] : [invalidValue('metadata.name', name, text)])]
}

function labelCauses(labels: Record<string, string> | undefined, field: string): Cause[] {
  return Object.values(labels ?? {}).flatMap((value) => {
    if (value.length > 63) return [invalidValue(field, value, 'must be no more than 63 characters')]
    return labelValue.test(value) ? [] : [invalidValue(field, value, labelValueText)]
  })
}

function specCauses(kind: Kind, thing: Thing): Cause[] {
  if (kind === 'pods') return podCauses(thing.spec, 'spec')
  if (kind === 'deployments' || kind === 'replicasets') return workloadCauses(thing.spec)
  if (kind === 'services') return serviceCauses(thing.spec)
  if (kind === 'horizontalpodautoscalers') return autoscalerCauses(thing.spec)
  if (kind === 'configmaps' || kind === 'secrets') return dataCauses(kind, thing)
  return []
}

function podCauses(spec: Fields, field: string, policies = ['Always', 'OnFailure', 'Never']): Cause[] {
  const containers: Fields[] = spec['containers'] ?? []
  const none = containers.length === 0 ? [required(`${field}.containers`)] : []
  const policy = policies.includes(spec['restartPolicy']) ? [] : [unsupportedValue(`${field}.restartPolicy`, spec['restartPolicy'], policies)]
  const volumes = new Set<string>((spec['volumes'] ?? []).map((volume: Fields) => volume['name']))
  return [...none, ...containers.flatMap((container, index) => containerCauses(container, `${field}.containers[${index}]`, volumes)), ...policy]
}

function containerCauses(container: Fields, field: string, volumes: Set<string>): Cause[] {
  const name = container['name'] ?? ''
  const named = name === '' ? [required(`${field}.name`)] : label.test(name) ? [] : [invalidValue(`${field}.name`, name, labelText)]
  const image = (container['image'] ?? '') === '' ? [required(`${field}.image`)] : []
  const env = (container['env'] ?? []).flatMap((variable: Fields, index: number) => {
    if ((variable['name'] ?? '') === '') return [required(`${field}.env[${index}].name`)]
    return /^[ -<>-~]+$/.test(variable['name']) ? [] : [invalidValue(`${field}.env[${index}].name`, variable['name'], envNameText)]
  })
  const mounts = (container['volumeMounts'] ?? []).flatMap((mount: Fields, index: number): Cause[] =>
    (volumes.has(mount['name']) ? [] : [{ reason: 'FieldValueNotFound', message: `Not found: ${JSON.stringify(mount['name'])}`, field: `${field}.volumeMounts[${index}].name` }]))
  return [...named, ...image, ...env, ...mounts, ...resourceCauses(container['resources'] ?? {}, `${field}.resources`)]
}

function resourceCauses({ limits = {}, requests = {} }: Fields, field: string): Cause[] {
  return Object.entries(requests as Record<string, string>).flatMap(([name, asked]) => {
    const limit = limits[name]
    const extended = name.includes('/')
    if (limit === undefined) return extended ? [required(`${field}.limits`, 'Limit must be set for non overcommitable resources')] : []
    if (extended && quantityOf(asked) !== quantityOf(limit)) return [invalidValue(`${field}.requests`, asked, `must be equal to ${name} limit of ${limit}`)]
    return quantityOf(asked) <= quantityOf(limit) ? [] : [invalidValue(`${field}.requests`, asked, `must be less than or equal to ${name} limit of ${limit}`)]
  })
}

function workloadCauses(spec: Fields): Cause[] {
  const { replicas, selector, template } = spec
  const labels: Record<string, string> = template?.metadata?.labels ?? {}
  const wanted: Record<string, string> = selector?.matchLabels ?? {}
  const count = replicas < 0 ? [invalidValue('spec.replicas', replicas, notNegative)] : []
  const choice = selector === undefined ? [required('spec.selector')] : []
  const sorted = Object.fromEntries(Object.entries(labels).sort(([a], [b]) => (a < b ? -1 : 1)))
  const matches = Object.entries(wanted).every(([key, value]) => labels[key] === value)
  const match = selector !== undefined && !matches ? [invalidValue('spec.template.metadata.labels', sorted, '`selector` does not match template `labels`')] : []
  return [...count, ...choice, ...match, ...labelCauses(labels, 'spec.template.labels'), ...podCauses(template?.spec ?? {}, 'spec.template.spec', ['Always'])]
}

function serviceCauses(spec: Fields): Cause[] {
  const ports: Fields[] = spec['ports'] ?? []
  const headless = spec['clusterIP'] === 'None' || spec['type'] === 'ExternalName'
  const none = ports.length === 0 && !headless ? [required('spec.ports')] : []
  const isPort = (port: unknown): boolean => typeof port === 'number' && port >= 1 && port <= 65_535
  const bad = ports.flatMap(({ port }, index) => (isPort(port) ? [] : [invalidValue(`spec.ports[${index}].port`, port ?? 0, 'must be between 1 and 65535, inclusive')]))
  return [...none, ...bad]
}

function autoscalerCauses({ minReplicas, maxReplicas }: Fields): Cause[] {
  if (minReplicas < 1) {
    return [invalidValue('spec.minReplicas', minReplicas, 'must be greater than or equal to 1'),
      forbiddenValue('spec.metrics', 'must specify at least one Object or External metric to support scaling to zero replicas')]
  }
  if ((maxReplicas ?? 0) < 1) return [invalidValue('spec.maxReplicas', maxReplicas ?? 0, 'must be greater than 0')]
  return maxReplicas < minReplicas ? [invalidValue('spec.maxReplicas', maxReplicas, 'must be greater than or equal to `minReplicas`')] : []
}

function dataCauses(kind: Kind, thing: Thing): Cause[] {
  const values = (data: unknown): string[] => Object.values((data ?? {}) as Record<string, string>)
  const bytes = (kind === 'configmaps' ? values(thing['data']) : []).reduce((sum, text) => sum + Buffer.byteLength(text), 0)
    + [...(kind === 'secrets' ? values(thing['data']) : []), ...values(thing['binaryData'])].reduce((sum, text) => sum + Buffer.byteLength(text, 'base64'), 0)
  return bytes > bytesOfData ? [tooLong(kind === 'configmaps' ? '[]' : 'data', bytesOfData, 'bytes')] : []
}

const podFields = 'pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,'
  + '`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)'

/** What cannot be changed once it is set. The real server adds what differs in a pod, in a form of its own. */
function changeCauses(kind: Kind, before: Thing, after: Thing): Cause[] {
  if (kind === 'deployments' || kind === 'replicasets') {
    return isDeepStrictEqual(before.spec.selector, after.spec.selector) ? [] : [invalidValue('spec.selector', sortedSelector(after.spec.selector), 'field is immutable')]
  }
  if (kind === 'services' && before.spec.clusterIP && before.spec.clusterIP !== after.spec.clusterIP) {
    return [invalidValue('spec.clusterIPs[0]', [after.spec.clusterIP], 'may not change once set')]
  }
  if (kind === 'pods' && !isDeepStrictEqual(fixed(before.spec), fixed(after.spec))) return [forbiddenValue('spec', podFields)]
  return []
}

const sortedSelector = (selector: Fields): Fields =>
  (selector?.['matchLabels'] ? { ...selector, matchLabels: Object.fromEntries(Object.entries(selector['matchLabels']).sort(([a], [b]) => (a < b ? -1 : 1))) } : selector)

/** The part of a pod's spec that may not change. */
function fixed(spec: Fields): Fields {
  const { activeDeadlineSeconds: _deadline, tolerations: _tolerations, containers, initContainers, ...rest } = spec
  const imageless = (list: Fields[] | undefined): Fields[] | undefined => list?.map(({ image: _image, ...container }) => container)
  return JSON.parse(JSON.stringify({ ...rest, containers: imageless(containers), initContainers: imageless(initContainers) })) as Fields
}
