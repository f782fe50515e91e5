// The volumes of a pod as folders of this machine, and the mounts of a container as a tree of links to them.
import { mkdir, rm, symlink, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import type { Store, Thing } from './store.ts'

/** Something that a volume is made from is not there. It is tried again, for ever. */
export class MountTrouble extends Error {}

interface Source { name?: string; secretName?: string; optional?: boolean; items?: Array<{ key: string; path: string }> }
interface Volume { name: string; configMap?: Source; secret?: Source; emptyDir?: object }
export interface Mount { name: string; mountPath: string; subPath?: string }

/** Volume name -> folder. Throws MountTrouble, in the words of the event that tells it. */
export async function makeVolumes(store: Store, pod: Thing, folder: string): Promise<Map<string, string>> {
  const made = new Map<string, string>()
  for (const volume of (pod.spec.volumes ?? []) as Volume[]) {
    const path = join(folder, volume.name)
    await mkdir(path, { recursive: true })
    for (const [name, content] of contentOf(store, pod.metadata.namespace, volume)) {
      await mkdir(dirname(join(path, name)), { recursive: true })
      await writeFile(join(path, name), content)
    }
    made.set(volume.name, path)
  }
  return made
}

/** Throws at the first volume that cannot be made, before anything is written. */
export function checkVolumes(store: Store, pod: Thing): void {
  for (const volume of (pod.spec.volumes ?? []) as Volume[]) contentOf(store, pod.metadata.namespace, volume)
}

function contentOf(store: Store, namespace: string, volume: Volume): Array<[string, Buffer]> {
  const { configMap, secret, emptyDir } = volume
  if (emptyDir) return []
  if (!configMap && !secret) throw new Error(`The stand-in knows no volume such as ${JSON.stringify(volume)}`)
  const kind = configMap ? 'configmap' : 'secret'
  const source = (configMap ?? secret)!
  const name = source.name ?? source.secretName ?? ''
  const trouble = (why: string): MountTrouble => new MountTrouble(`MountVolume.SetUp failed for volume "${volume.name}" : ${why}`)
  const thing = store.get(configMap ? 'configmaps' : 'secrets', namespace, name)
  if (thing === null && source.optional) return []
  if (thing === null) throw trouble(`${kind} "${name}" not found`)
  const data = dataOf(thing)
  if (!source.items) return [...data]
  return source.items.flatMap(({ key, path }): Array<[string, Buffer]> => {
    const content = data.get(key)
    if (content) return [[path, content]]
    if (source.optional) return []
    throw trouble(configMap ? `configmap references non-existent config key: ${key}` : `references non-existent secret key: ${key}`)
  })
}

/** The content of a ConfigMap or a Secret. */
export function dataOf(thing: Thing): Map<string, Buffer> {
  const of = (field: string, encoding: BufferEncoding): Array<[string, Buffer]> =>
    Object.entries((thing[field] ?? {}) as Record<string, string>).map(([name, text]) => [name, Buffer.from(text, encoding)])
  return new Map(thing.kind === 'Secret' ? [...of('data', 'base64'), ...of('stringData', 'utf8')] : [...of('data', 'utf8'), ...of('binaryData', 'base64')])
}

/** Where each mount of a container really is; below `root` they lie as in the container. */
export async function mountAll(mounts: Mount[], volumes: Map<string, string>, root: string): Promise<Map<string, string>> {
  const made = new Map<string, string>()
  for (const { name, mountPath, subPath } of mounts) {
    const volume = volumes.get(name)
    if (volume === undefined) throw new Error(`There is no volume ${name} to mount at ${mountPath}`)
    const at = mountPath.replace(/\/+$/, '')
    const source = subPath ? join(volume, subPath) : volume
    await mkdir(dirname(join(root, at)), { recursive: true })
    await rm(join(root, at), { recursive: true, force: true })
    await symlink(source, join(root, at))
    made.set(at, source)
  }
  return made
}
