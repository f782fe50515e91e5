// The environment of a container: what its image sets, then what the pod sets, each value from where it says.
import type { Store, Thing } from './store.ts'
import { dataOf } from './volumes.ts'

/** What a value comes from is not there: CreateContainerConfigError, with these words. */
export class ConfigTrouble extends Error {}

interface KeyRef { name: string; key: string; optional?: boolean }
interface EnvVar { name: string; value?: string; valueFrom?: { secretKeyRef?: KeyRef; configMapKeyRef?: KeyRef; fieldRef?: { fieldPath: string } } }
interface EnvFrom { prefix?: string; secretRef?: { name: string; optional?: boolean }; configMapRef?: { name: string; optional?: boolean } }

export interface EnvironmentOf {
  store: Store
  pod: Thing
  podIP: string
  /** `NAME=value` of the image. */
  imageEnv: string[]
}

export function environment({ store, pod, podIP, imageEnv }: EnvironmentOf, container: { env?: EnvVar[]; envFrom?: EnvFrom[] }): Record<string, string> {
  const { namespace } = pod.metadata
  const values: Record<string, string> = {}
  for (const line of imageEnv) values[line.slice(0, line.indexOf('='))] = line.slice(line.indexOf('=') + 1)
  values['HOSTNAME'] = pod.metadata.name
  for (const { prefix = '', secretRef, configMapRef } of container.envFrom ?? []) {
    const content = contentOf(store, namespace, secretRef ? 'secret' : 'configmap', secretRef ?? configMapRef!)
    for (const [name, value] of content) values[prefix + name] = value.toString()
  }
  for (const { name, value, valueFrom } of container.env ?? []) {
    const given = valueFrom ? referred(store, pod, podIP, valueFrom) : expand(value ?? '', values)
    if (given !== null) values[name] = given
  }
  return values
}

/** `$(NAME)` is replaced where NAME is known; `$$(NAME)` means the text itself. */
export const expand = (text: string, values: Record<string, string>): string =>
  text.replace(/\$\$|\$\(([^)]*)\)/g, (found, name?: string) => (name === undefined ? '$' : values[name] ?? found))

/** null: it is not there, and need not be. */
function referred(store: Store, pod: Thing, podIP: string, { secretKeyRef, configMapKeyRef, fieldRef }: NonNullable<EnvVar['valueFrom']>): string | null {
  if (fieldRef) return fieldOf(pod, podIP, fieldRef.fieldPath)
  const reference = secretKeyRef ?? configMapKeyRef
  if (!reference) throw new Error('The stand-in knows no such source of a value')
  const { namespace } = pod.metadata
  const content = contentOf(store, namespace, secretKeyRef ? 'secret' : 'configmap', reference)
  const value = content.get(reference.key)
  if (value) return value.toString()
  if (reference.optional) return null
  throw new ConfigTrouble(`couldn't find key ${reference.key} in ${secretKeyRef ? 'Secret' : 'ConfigMap'} ${namespace}/${reference.name}`)
}

function contentOf(store: Store, namespace: string, kind: 'secret' | 'configmap', { name, optional }: { name: string; optional?: boolean }): Map<string, Buffer> {
  const thing = store.get(kind === 'secret' ? 'secrets' : 'configmaps', namespace, name)
  if (thing) return dataOf(thing)
  if (optional) return new Map()
  throw new ConfigTrouble(`${kind} "${name}" not found`)
}

function fieldOf(pod: Thing, podIP: string, path: string): string {
  const [, map, key] = /^metadata\.(labels|annotations)\['(.+)'\]$/.exec(path) ?? []
  if (map) return pod.metadata[map as 'labels' | 'annotations']?.[key!] ?? ''
  const fields: Record<string, string | undefined> = {
    'metadata.name': pod.metadata.name, 'metadata.namespace': pod.metadata.namespace, 'metadata.uid': pod.metadata.uid,
    'status.podIP': podIP, 'status.podIPs': podIP, 'status.hostIP': '127.0.0.1', 'spec.nodeName': pod.spec.nodeName, 'spec.serviceAccountName': pod.spec.serviceAccountName,
  }
  const value = fields[path]
  if (value === undefined) throw new Error(`The stand-in knows no field ${path}`)
  return value
}
