// The image that a build makes: the base's layers and one with what has changed, a config, and a manifest. Same files, same digests.
import { createHash } from 'node:crypto'
import { readFile, readlink } from 'node:fs/promises'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import { pack } from 'tar-stream'
import type { Reference } from '../registry-talk.ts'
import type { Base, ConfigFile, Descriptor, Manifest } from './base.ts'
import { changesIn, type Before, type Changes } from './root.ts'

/** The `config` of an image's config. */
export interface ImageSettings {
  Env?: string[]
  Entrypoint?: string[]
  Cmd?: string[]
  WorkingDir?: string
  User?: string
  Labels?: Record<string, string>
  ExposedPorts?: Record<string, object>
  Volumes?: Record<string, object>
  OnBuild?: string[]
  Shell?: string[]
  StopSignal?: string
}

export interface Blob {
  digest: string
  bytes: Buffer
}

/** A layer that is in a registry already. */
export interface InheritedLayer {
  digest: string
  from: Reference
  bytes(): Promise<Buffer>
}

export interface BuiltImage {
  inherited: InheritedLayer[]
  blobs: Blob[]
  manifest: Blob
  mediaType: string
}

export interface MadeOn {
  base: Base | null
  /** What its layers left in the root. */
  before: Before
  /** Full paths of what was copied in. */
  touched: ReadonlySet<string>
}

export const manifestType = 'application/vnd.oci.image.manifest.v1+json'
const layerTypes = { oci: 'application/vnd.oci.image.layer.v1.tar+gzip', docker: 'application/vnd.docker.image.rootfs.diff.tar.gzip' }
const epoch = '1970-01-01T00:00:00Z'
/** Of a config, the fields that the builder knows; it forgets the others. */
const kept = ['author', 'container', 'docker_version', 'os.version', 'variant', 'os.features']
const keptSettings = [
  'AttachStderr', 'AttachStdin', 'AttachStdout', 'Cmd', 'Healthcheck', 'Domainname', 'Entrypoint', 'Env', 'Hostname', 'Image', 'Labels', 'OnBuild', 'OpenStdin', 'StdinOnce', 'Tty', 'User',
  'Volumes', 'WorkingDir', 'ExposedPorts', 'ArgsEscaped', 'NetworkDisabled', 'MacAddress', 'StopSignal', 'Shell',
]

const digestOf = (bytes: Buffer): string => `sha256:${createHash('sha256').update(bytes).digest('hex')}`
const blobOf = (bytes: Buffer): Blob => ({ digest: digestOf(bytes), bytes })
const json = (value: unknown): Buffer => Buffer.from(JSON.stringify(value))

const isEmpty = (value: unknown): boolean => !value || (typeof value === 'object' && Object.keys(value).length === 0)
const fieldsOf = (given: Record<string, unknown>, fields: string[]): Record<string, unknown> =>
  Object.fromEntries(fields.filter((field) => !isEmpty(given[field])).map((field) => [field, given[field]]))
/** What a base's config says and the builder hands on. */
export const settingsOf = ({ config }: ConfigFile): ImageSettings => structuredClone(fieldsOf(config ?? {}, keptSettings)) as ImageSettings

const scratch: Pick<Base, 'mediaType' | 'config'> & { manifest: Manifest } = {
  mediaType: manifestType, config: { rootfs: { type: 'layers', diff_ids: [] } },
  manifest: { mediaType: manifestType, config: { mediaType: 'application/vnd.oci.image.config.v1+json', digest: '', size: 0 }, layers: [] },
}

/** A base's config is what `settings` began with. */
export async function imageOf(root: string, settings: ImageSettings, { base, before, touched }: MadeOn = { base: null, before: new Map(), touched: new Set() }): Promise<BuiltImage> {
  const changes = await changesIn(root, before, touched)
  const tar = changes.files.length + changes.removed.length > 0 ? await tarOf(root, changes) : null
  const { mediaType, manifest, config: given } = base ?? scratch
  const layer = tar && blobOf(gzip(tar))
  const config = blobOf(json({
    ...fieldsOf(given, kept), architecture: 'amd64', os: 'linux', created: epoch, config: fieldsOf({ ...settings }, keptSettings),
    rootfs: { type: 'layers', diff_ids: [...given.rootfs.diff_ids, ...(tar ? [digestOf(tar)] : [])] },
    history: [...(given.history ?? []), ...(tar ? [{ author: 'kaniko', created: epoch, created_by: 'kaniko' }] : [])],
  }))
  const layers: Descriptor[] = [...manifest.layers, ...(layer ? [{ mediaType: layerTypes[/vnd\.oci\./.test(mediaType) ? 'oci' : 'docker'], digest: layer.digest, size: layer.bytes.length }] : [])]
  const { annotations } = manifest
  return {
    mediaType, blobs: [...(layer ? [layer] : []), config],
    manifest: blobOf(json({
      schemaVersion: 2, mediaType: manifest.mediaType, config: { mediaType: manifest.config.mediaType, digest: config.digest, size: config.bytes.length }, layers, annotations,
    })),
    inherited: base ? manifest.layers.map(({ digest }) => ({ digest, from: base.from, bytes: () => base.layer(digest) })) : [],
  }
}

function gzip(tar: Buffer): Buffer {
  const packed = gzipSync(tar, { level: 1 })
  // The tenth byte names the operating system.
  packed[9] = 255
  return packed
}

async function tarOf(root: string, { files, removed }: Changes): Promise<Buffer> {
  const archive = pack()
  const chunks: Buffer[] = []
  const read = (async () => { for await (const chunk of archive) chunks.push(chunk as Buffer) })()
  const mtime = new Date(0)
  for (const name of removed) archive.entry({ name: name.replace(/[^/]+$/, '.wh.$&'), mtime, uid: 0, gid: 0, mode: 0 }, '')
  for (const { name, is, uid, gid, mode } of files) {
    const path = join(root, name)
    const common = { name, mtime, uid, gid, mode }
    if (is.isDirectory()) archive.entry({ ...common, name: `${name}/`, type: 'directory' })
    else if (is.isSymbolicLink()) archive.entry({ ...common, type: 'symlink', linkname: (await readlink(path)).replace(`${root}/`, '/'), mode: 0o777 })
    else if (is.isFile()) archive.entry(common, await readFile(path))
  }
  archive.finalize()
  await read
  return Buffer.concat(chunks)
}
