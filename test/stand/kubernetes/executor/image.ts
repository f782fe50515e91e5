// The image that a build makes: one layer with all files, a config, and a manifest. Same files, same digests.
import { createHash } from 'node:crypto'
import { lstat, readdir, readFile, readlink } from 'node:fs/promises'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import { pack } from 'tar-stream'

export interface ImageSettings {
  Env: string[]
  Entrypoint?: string[]
  Cmd?: string[]
  WorkingDir?: string
  User?: string
  Labels?: Record<string, string>
  ExposedPorts?: Record<string, object>
}

export interface Blob {
  digest: string
  bytes: Buffer
}

export interface BuiltImage {
  blobs: Blob[]
  manifest: Blob
}

export const manifestType = 'application/vnd.oci.image.manifest.v1+json'
const epoch = new Date(0)
const digestOf = (bytes: Buffer): string => `sha256:${createHash('sha256').update(bytes).digest('hex')}`
const blobOf = (bytes: Buffer): Blob => ({ digest: digestOf(bytes), bytes })
const json = (value: unknown): Buffer => Buffer.from(JSON.stringify(value))

export async function imageOf(root: string, settings: ImageSettings): Promise<BuiltImage> {
  const tar = await tarOf(root)
  const packed = gzipSync(tar, { level: 1 })
  // The tenth byte names the operating system.
  packed[9] = 255
  const layer = blobOf(packed)
  const config = blobOf(json({
    architecture: 'amd64', os: 'linux', created: '1970-01-01T00:00:00Z', config: settings,
    rootfs: { type: 'layers', diff_ids: [digestOf(tar)] }, history: [{ created: '1970-01-01T00:00:00Z', created_by: 'kaniko' }],
  }))
  const manifest = blobOf(json({
    schemaVersion: 2, mediaType: manifestType,
    config: { mediaType: 'application/vnd.oci.image.config.v1+json', digest: config.digest, size: config.bytes.length },
    layers: [{ mediaType: 'application/vnd.oci.image.layer.v1.tar+gzip', digest: layer.digest, size: layer.bytes.length }],
  }))
  return { blobs: [layer, config], manifest }
}

async function tarOf(root: string): Promise<Buffer> {
  const archive = pack()
  const chunks: Buffer[] = []
  const read = (async () => { for await (const chunk of archive) chunks.push(chunk as Buffer) })()
  const common = { mtime: epoch, uid: 0, gid: 0 }
  for (const name of (await readdir(root, { recursive: true })).filter((name) => !/(^|\/)__pycache__(\/|$)/.test(name)).sort()) {
    const path = join(root, name)
    const is = await lstat(path)
    if (is.isDirectory()) archive.entry({ ...common, name: `${name}/`, type: 'directory', mode: 0o755 })
    else if (is.isSymbolicLink()) archive.entry({ ...common, name, type: 'symlink', linkname: await readlink(path), mode: 0o777 })
    else if (is.isFile()) archive.entry({ ...common, name, mode: is.mode & 0o111 ? 0o755 : 0o644 }, await readFile(path))
  }
  archive.finalize()
  await read
  return Buffer.concat(chunks)
}
