// The configuration of an image that is another one with a layer more: all that is not set stays as it is, and the same changes make the same bytes.
import type { HistoryEntry, ImageConfig, RunConfig } from './image.ts'

/** What the image says beyond its parent. */
export interface Changes {
  workingDir: string
  env: Record<string, string>
  /** `8000/tcp` */
  ports: string[]
  entrypoint: string[]
  labels: Record<string, string>
  createdBy: string
}

/** `diffId`: the digest of the layer's tar. */
export function appendedConfig(parent: ImageConfig, diffId: string, changes: Changes): ImageConfig {
  // The time of the parent: a time of its own would make each image another one.
  const created = typeof parent.created === 'string' ? { created: parent.created } : {}
  const { rootfs } = parent
  return {
    ...parent,
    config: runConfig(parent.config ?? {}, changes),
    rootfs: { ...rootfs, diff_ids: [...rootfs.diff_ids, diffId] },
    history: [...wholeHistory(parent), { ...created, created_by: changes.createdBy }],
  }
}

/** As ENTRYPOINT in a Dockerfile does it: a command of the parent was meant for the parent's entrypoint. */
function runConfig({ Cmd: _, ...parent }: RunConfig, { workingDir, env, ports, entrypoint, labels }: Changes): RunConfig {
  const exposed = { ...parent.ExposedPorts, ...Object.fromEntries(ports.map((port) => [port, {}])) }
  const labelled = { ...parent.Labels, ...labels }
  return {
    ...parent,
    ...(Object.keys(exposed).length > 0 && { ExposedPorts: sorted(exposed) }),
    ...(Object.keys(labelled).length > 0 && { Labels: sorted(labelled) }),
    Env: withEnv(parent.Env ?? [], env),
    Entrypoint: [...entrypoint],
    WorkingDir: workingDir,
  }
}

/** Each variable once: in the place of the one that it replaces, the new ones behind the others. */
function withEnv(parent: string[], env: Record<string, string>): string[] {
  const left = new Map(Object.entries(env).sort(byName))
  const replaced = parent.flatMap((entry) => {
    const [name] = entry.split('=', 1) as [string]
    if (!Object.hasOwn(env, name)) return [entry]
    const value = left.get(name)
    left.delete(name)
    return value === undefined ? [] : [`${name}=${value}`]
  })
  return [...replaced, ...[...left].map(([name, value]) => `${name}=${value}`)]
}

/** An entry for each layer: what counts one along the other would else take the new entry for an older layer. */
function wholeHistory({ history, rootfs }: ImageConfig): HistoryEntry[] {
  const told = history ?? []
  const lacking = rootfs.diff_ids.length - told.filter((entry) => !entry.empty_layer).length
  return [...told, ...Array.from({ length: Math.max(0, lacking) }, () => ({ comment: 'a layer of the parent, of which it tells nothing' }))]
}

const byName = ([a]: [string, unknown], [b]: [string, unknown]): number => (a < b ? -1 : a > b ? 1 : 0)
const sorted = <T>(given: Record<string, T>): Record<string, T> => Object.fromEntries(Object.entries(given).sort(byName))
