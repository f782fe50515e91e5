// What an image holds, read from its registry: every file as a container would see it, and its configuration.
import { createHash } from 'node:crypto'
import { imageName } from '../../shared/oci/image-name.ts'
import { entriesOf, plainTar } from './kubernetes/tar-entries.ts'

export interface ImageContent {
  /** Path -> kind, mode, owner and what it holds. Times do not count; of compiled Python, which holds a time, only that it is there. */
  files: Map<string, string>
  /** What decides how a container runs. */
  config: Record<string, unknown>
  layers: string[]
}

type Entry = { name: string; said: string; hides: string | null }
const layersRead = new Map<string, Promise<Entry[]>>()

/** `reference`: with its registry, by tag or digest; the registry speaks http and asks for no credentials. */
export async function imageContent(reference: string): Promise<ImageContent> {
  const { registry, repository, tag, digest } = imageName(reference)
  const at = `http://${registry}/v2/${repository}`
  const accept = ['application/vnd.oci.image.manifest.v1+json', 'application/vnd.docker.distribution.manifest.v2+json'].join(', ')
  const manifest = JSON.parse((await got(`${at}/manifests/${digest ?? tag}`, { accept })).toString()) as { config: { digest: string }; layers: Array<{ digest: string }> }
  const config = JSON.parse((await got(`${at}/blobs/${manifest.config.digest}`)).toString()) as { config: Record<string, unknown>; architecture: string; os: string; rootfs: { diff_ids: string[] } }
  const files = new Map<string, string>()
  for (const layer of manifest.layers) {
    const read = layersRead.get(layer.digest) ?? got(`${at}/blobs/${layer.digest}`).then(entriesIn)
    layersRead.set(layer.digest, read)
    put(files, await read)
  }
  const { architecture, os } = config
  const { Env = [], ...others } = config.config as { Env?: string[] }
  return { files, config: { ...withoutEmpty(others), Env: [...Env].sort(), architecture, os, layers: config.rootfs.diff_ids.length }, layers: manifest.layers.map((one) => one.digest) }
}

async function got(url: string, headers: Record<string, string> = {}): Promise<Buffer> {
  const answer = await fetch(url, { headers })
  if (!answer.ok) throw new Error(`${url}: ${answer.status}`)
  return Buffer.from(await answer.arrayBuffer())
}

async function entriesIn(layer: Buffer): Promise<Entry[]> {
  const entries: Entry[] = []
  for await (const { header: { name, type, mode, uid, gid, linkname }, content } of entriesOf(plainTar(layer))) {
    const path = name.replace(/^(\.?\/)+/, '').replace(/\/+$/, '')
    const last = path.split('/').at(-1)!
    const hides = last.startsWith('.wh.') ? [...path.split('/').slice(0, -1), last.slice(4)].join('/') : null
    const holds = type === 'file' && !path.endsWith('.pyc') ? createHash('sha256').update(content).digest('hex').slice(0, 12) : (linkname ?? '')
    entries.push({ name: path, hides, said: `${type} ${((mode ?? 0) & 0o7777).toString(8)} ${uid}:${gid} ${holds}` })
  }
  return entries
}

function put(files: Map<string, string>, entries: Entry[]): void {
  for (const { hides } of entries) if (hides !== null) for (const path of [...files.keys()]) if (path === hides || path.startsWith(`${hides}/`)) files.delete(path)
  for (const { name, said, hides } of entries) if (hides === null && name !== '') files.set(name, said)
}

/** What is not set is written as nothing, as null or as an empty list, as each builder likes. */
function withoutEmpty(config: Record<string, unknown>): Record<string, unknown> {
  const isEmpty = (value: unknown): boolean => value === null || value === undefined || value === '' || value === false || (typeof value === 'object' && Object.keys(value).length === 0)
  return Object.fromEntries(Object.entries(config).filter(([, value]) => !isEmpty(value)))
}
