// Images for tests to build on, small and always the same, pushed to a registry by plain requests: what kiln's own client makes of them is held against this.
import { createCipheriv, createHash } from 'node:crypto'
import { gzipSync } from 'node:zlib'
import { pack, type Header } from 'tar-stream'

export interface Login {
  username: string
  password: string
}

export interface BaseOptions {
  repository?: string
  tag?: string
  labels?: Record<string, string>
  /** `NAME=value`, beside the PATH that every base has. */
  env?: string[]
  /** Merged into the config's `config`. */
  config?: object
  /** Merged into the top of the config. */
  top?: object
  /** Path -> text. */
  files?: Record<string, string>
  /** A layer more, with so many bytes that no packing makes fewer. */
  bytes?: number
  /** How many layers there are without that one; each has a file of its own. */
  layers?: number
  kind?: ImageKind
  architecture?: string
  login?: Login
}

export type ImageKind = keyof typeof types

export interface PushedImage {
  /** `host/repository:tag` */
  reference: string
  /** `host/repository@sha256:…` */
  pinned: string
  digest: string
}

const types = {
  oci: { manifest: 'application/vnd.oci.image.manifest.v1+json', config: 'application/vnd.oci.image.config.v1+json', layer: 'application/vnd.oci.image.layer.v1.tar+gzip', index: 'application/vnd.oci.image.index.v1+json' },
  docker: {
    manifest: 'application/vnd.docker.distribution.manifest.v2+json', config: 'application/vnd.docker.container.image.v1+json', layer: 'application/vnd.docker.image.rootfs.diff.tar.gzip',
    index: 'application/vnd.docker.distribution.manifest.list.v2+json',
  },
}

const epoch = new Date(0)
const created = '1970-01-01T00:00:00Z'

/** Like kiln's own base image in its config and in what is where; there is no program in it. The same options give the same digest. */
export async function pushBase(registry: string, options: BaseOptions = {}): Promise<PushedImage> {
  const { repository = 'lpa-lambda-base', tag = 'latest', labels, env = [], config, top = {}, files = {}, bytes = 0, layers = 1, kind, architecture = 'amd64', login } = options
  const more = Array.from({ length: layers - 1 }, (_, index) => layerOf(entriesFor({ [`opt/layer-${index + 2}`]: `of layer ${index + 2}\n` })))
  const all = await Promise.all([
    layerOf([
      ...usualEntries, ...entriesFor({ 'etc/base-release': 'a base for tests\n', ...files }).filter(({ name }) => !usualEntries.some((usual) => usual.name === name)),
    ]),
    ...more, ...(bytes > 0 ? [layerOf([{ name: 'opt/random', content: randomBytes(bytes) }], 0)] : []),
  ])
  return pushImage(`${registry}/${repository}:${tag}`, {
    layers: all, kind, login,
    config: {
      architecture, os: 'linux', created, ...top,
      config: { Env: ['PATH=/opt/luna/bin:/usr/local/bin:/usr/bin:/bin', ...env], Cmd: ['python3'], WorkingDir: '/lambda', ...(labels && { Labels: labels }), ...config },
    },
  })
}

export interface LayerEntry extends Partial<Header> {
  name: string
  /** A file has one. */
  content?: string | Buffer
}

/** As in kiln's own: a folder for all, and one that is another user's. */
const usualEntries: LayerEntry[] = [
  { name: 'etc/', type: 'directory', mode: 0o755 }, { name: 'lambda/', type: 'directory', mode: 0o755 }, { name: 'opt/', type: 'directory', mode: 0o755 },
  { name: 'opt/luna/', type: 'directory', mode: 0o755, uid: 1000, gid: 1000 }, { name: 'tmp/', type: 'directory', mode: 0o1777 },
]

/** Files, after the folders that they are in. */
function entriesFor(files: Record<string, string>): LayerEntry[] {
  const foldersOf = (path: string): string[] => path.split('/').slice(0, -1).map((_, index, parts) => `${parts.slice(0, index + 1).join('/')}/`)
  const folders = [...new Set(Object.keys(files).flatMap(foldersOf))].sort()
  return [...folders.map((name): LayerEntry => ({ name, type: 'directory', mode: 0o755 })), ...Object.entries(files).map(([name, content]) => ({ name, content }))]
}

const randomBytes = (bytes: number): Buffer => createCipheriv('aes-256-ctr', Buffer.alloc(32), Buffer.alloc(16)).update(Buffer.alloc(bytes))

export interface Layer {
  /** As the registry keeps it. */
  packed: Buffer
  /** Digest of the tar. */
  unpacked: string
}

/** Root's, and of the epoch, where an entry says nothing else. */
export async function tarOf(entries: LayerEntry[]): Promise<Buffer> {
  const archive = pack()
  for (const { content, ...header } of entries) archive.entry({ mtime: epoch, uid: 0, gid: 0, mode: 0o644, ...header }, content ?? '')
  archive.finalize()
  const chunks: Buffer[] = []
  for await (const chunk of archive) chunks.push(chunk as Buffer)
  return Buffer.concat(chunks)
}

export async function layerOf(entries: LayerEntry[], level = 6): Promise<Layer> {
  const tar = await tarOf(entries)
  return { packed: packed(tar, level), unpacked: sha256(tar) }
}

export function packed(bytes: Buffer, level = 6): Buffer {
  const gzip = gzipSync(bytes, { level })
  // The tenth byte names the operating system.
  gzip[9] = 255
  return gzip
}

export interface ImageParts {
  layers: Layer[]
  /** What the layers say of themselves is added. */
  config?: object
  kind?: ImageKind
  login?: Login
}

/** The manifest goes last. */
export async function pushImage(reference: string, { layers, config = {}, kind = 'oci', login }: ImageParts): Promise<PushedImage> {
  const say = talk(reference, login)
  const media = types[kind]
  const description = { rootfs: { type: 'layers', diff_ids: layers.map(({ unpacked }) => unpacked) }, history: layers.map(() => ({ created, created_by: 'a test' })), ...config }
  const blobs = { config: json(description), layers: layers.map(({ packed }) => packed) }
  for (const blob of [...blobs.layers, blobs.config]) await say.upload(blob)
  const descriptor = (mediaType: string, bytes: Buffer): object => ({ mediaType, digest: sha256(bytes), size: bytes.length })
  const manifest = { schemaVersion: 2, mediaType: media.manifest, config: descriptor(media.config, blobs.config), layers: blobs.layers.map((bytes) => descriptor(media.layer, bytes)) }
  return say.put(media.manifest, json(manifest))
}

/** What a tag means for each kind of machine: images that are in the same repository. */
export async function pushIndex(reference: string, images: Array<{ digest: string; architecture: string }>, kind: ImageKind = 'oci', login?: Login): Promise<PushedImage> {
  const say = talk(reference, login)
  const manifests = await Promise.all(images.map(async ({ digest, architecture }) => ({ ...(await say.describe(types[kind].manifest, digest)), platform: { os: 'linux', architecture } })))
  return say.put(types[kind].index, json({ schemaVersion: 2, mediaType: types[kind].index, manifests }))
}

const sha256 = (bytes: Buffer): string => `sha256:${createHash('sha256').update(bytes).digest('hex')}`
const json = (value: object): Buffer => Buffer.from(JSON.stringify(value))

interface Talk {
  upload(bytes: Buffer): Promise<void>
  put(mediaType: string, manifest: Buffer): Promise<PushedImage>
  describe(mediaType: string, digest: string): Promise<object>
}

function talk(reference: string, login?: Login): Talk {
  const [, host = '', name = '', tag = ''] = /^([^/]+)\/(.+):([^:/]+)$/.exec(reference) ?? []
  const base = `http://${host}/v2/${name}`
  const authorization: Record<string, string> = login ? { authorization: `Basic ${Buffer.from(`${login.username}:${login.password}`).toString('base64')}` } : {}

  async function ask(method: string, url: string, { headers = {}, body }: { headers?: Record<string, string>; body?: Buffer } = {}, fine = [200, 201, 202]): Promise<Response> {
    const response = await fetch(url, { method, headers: { ...authorization, ...headers }, ...(body && { body: new Uint8Array(body) }) })
    if (fine.includes(response.status)) return response
    throw new Error(`${method} ${url}: ${response.status} ${await response.text()}`)
  }

  return {
    async upload(bytes) {
      const digest = sha256(bytes)
      if ((await ask('HEAD', `${base}/blobs/${digest}`, {}, [200, 404])).status === 200) return
      const to = new URL((await ask('POST', `${base}/blobs/uploads/`)).headers.get('location')!, base)
      to.searchParams.set('digest', digest)
      await ask('PUT', to.href, { headers: { 'content-type': 'application/octet-stream' }, body: bytes })
    },
    async put(mediaType, manifest) {
      await ask('PUT', `${base}/manifests/${tag}`, { headers: { 'content-type': mediaType }, body: manifest })
      const digest = sha256(manifest)
      return { reference, pinned: `${host}/${name}@${digest}`, digest }
    },
    async describe(mediaType, digest) {
      const { headers } = await ask('HEAD', `${base}/manifests/${digest}`, { headers: { accept: mediaType } })
      return { mediaType, digest, size: Number(headers.get('content-length')) }
    },
  }
}
