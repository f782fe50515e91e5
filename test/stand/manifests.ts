// The manifests in deploy/kubernetes, read as they are: what is there, and who selects whom.
import { readdirSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { loadAllYaml, type KubernetesObject, type V1Container, type V1Deployment, type V1PodSpec, type V1Probe, type V1StatefulSet } from '@kubernetes/client-node'

export const folder = fileURLToPath(new URL('../../deploy/kubernetes', import.meta.url))
export const text = (name: string): string => readFileSync(join(folder, name), 'utf8')

interface Kustomization extends KubernetesObject {
  resources?: string[]
  components?: string[]
  patches?: Array<{ path?: string; target?: object }>
  configMapGenerator?: Array<{ name: string; envs?: string[]; files?: string[]; literals?: string[] }>
  images?: Array<{ name: string; newTag: string }>
}
export type Workload = V1Deployment | V1StatefulSet

/** Relative to the folder. */
export const files = readdirSync(folder, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile())
  .map((entry) => join(entry.parentPath, entry.name).slice(folder.length + 1)).sort()
/** Every object of every file; of the kinds that the client knows only the fields that it knows, `from` as `_from`. */
export const things = files.filter((name) => name.endsWith('.yaml')).flatMap((file) => loadAllYaml(text(file)).map((thing) => ({ file, thing: thing as KubernetesObject })))
export const kustomizations = things
  .filter(({ thing }) => thing.kind === 'Kustomization' || thing.kind === 'Component').map(({ file, thing }) => ({ at: dirname(file), thing: thing as Kustomization }))
const patches = new Set(kustomizations.flatMap(({ at, thing }) => (thing.patches ?? []).flatMap(({ path }) => (path ? [join(at, path)] : []))))

/** Whole objects; a patch is none. */
export const all = <T extends KubernetesObject>(...kinds: string[]): T[] => things.filter(({ file, thing }) => kinds.includes(thing.kind!) && !patches.has(file)).map(({ thing }) => thing as T)
export const named = <T extends KubernetesObject>(kind: string, name: string): T | undefined => all<T>(kind).find((thing) => thing.metadata?.name === name)
export const nameOf = (thing: KubernetesObject): string => thing.metadata!.name!
export const generated = (name: string) => kustomizations.flatMap(({ thing }) => thing.configMapGenerator ?? []).filter((one) => one.name === name)

export const workloads = all<Workload>('Deployment', 'StatefulSet')
export const podOf = (workload: Workload): V1PodSpec => workload.spec!.template!.spec!
export const containersOf = (workload: Workload): V1Container[] => [...podOf(workload).containers, ...(podOf(workload).initContainers ?? [])]
export const probesOf = ({ startupProbe, livenessProbe, readinessProbe }: V1Container): V1Probe[] => [startupProbe, livenessProbe, readinessProbe].filter((probe) => probe !== undefined)
/** Those that are made of kiln's own image. */
export const kilns = workloads.filter((workload) => containersOf(workload).some(({ image }) => image === 'kiln'))
/** By number and by name; also those that a patch adds. */
export const portsOf = (workload: Workload): Array<string | number> => things.filter(({ thing }) => thing.kind === workload.kind && nameOf(thing) === nameOf(workload))
  .flatMap(({ thing }) => containersOf(thing as Workload)).flatMap(({ ports }) => ports ?? []).flatMap(({ name, containerPort }) => [containerPort, ...(name ? [name] : [])])

export interface Selector {
  matchLabels?: Record<string, string>
  matchExpressions?: Array<{ key: string; operator: string; values?: string[] }>
}
export const isSelected = ({ matchLabels = {}, matchExpressions = [] }: Selector, labels: Record<string, string>): boolean =>
  Object.entries(matchLabels).every(([key, value]) => labels[key] === value) && matchExpressions.every(({ key, operator, values }) => operator === 'In' && values!.includes(labels[key]!))
export const labelsOf = (workload: Workload): Record<string, string> => workload.spec!.template!.metadata!.labels!
export const selectedBy = (selector: Selector): Workload[] => workloads.filter((workload) => isSelected(selector, labelsOf(workload)))
