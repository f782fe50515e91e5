// Images for tests: made of random layers, and put into a registry by plain requests, as any other client would.
import { createHash, randomBytes } from 'node:crypto'
import { gunzipSync, gzipSync } from 'node:zlib'
import type { Blob } from '../../shared/oci/reading.ts'

export const sha256 = (bytes: string | Buffer): string => `sha256:${createHash('sha256').update(bytes).digest('hex')}`

export const families = {
  oci: {
    index: 'application/vnd.oci.image.index.v1+json', manifest: 'application/vnd.oci.image.manifest.v1+json',
    config: 'application/vnd.oci.image.config.v1+json', layer: 'application/vnd.oci.image.layer.v1.tar+gzip',
  },
  docker: {
    index: 'application/vnd.docker.distribution.manifest.list.v2+json', manifest: 'application/vnd.docker.distribution.manifest.v2+json',
    config: 'application/vnd.docker.container.image.v1+json', layer: 'application/vnd.docker.image.rootfs.diff.tar.gzip',
  },
} as const
export type Family = keyof typeof families

/** A blob of these bytes, which counts how many of them were read, and tells at each piece. */
export function blobOf(bytes: Buffer, onPiece: (read: number) => void = () => undefined, pieceBytes = 64 << 10): Blob & { opened: number[]; read: number; closed: number } {
  const blob = {
    digest: sha256(bytes), bytes: bytes.length, opened: [] as number[], read: 0, closed: 0,
    async *open(from: number) {
      blob.opened.push(from)
      try {
        for (let at = from; at < bytes.length; at += pieceBytes) {
          const piece = bytes.subarray(at, at + pieceBytes)
          blob.read += piece.length
          onPiece(blob.read)
          yield piece
        }
      } finally {
        blob.closed++
      }
    },
  }
  return blob
}

/** A gzipped layer of so many bytes before that; nobody unpacks it here. */
export function layerOf(bytes: number): { blob: Buffer; digest: string; diffId: string } {
  const tar = randomBytes(bytes)
  const blob = gzipSync(tar)
  return { blob, digest: sha256(blob), diffId: sha256(tar) }
}
export const diffIdOf = (blob: Buffer): string => sha256(gunzipSync(blob))

export interface Origin {
  /** `http://host:port` */
  url: string
  headers?: Record<string, string>
}

export async function pushBlob({ url, headers = {} }: Origin, repository: string, bytes: Buffer): Promise<string> {
  const opened = await fetch(`${url}/v2/${repository}/blobs/uploads/`, { method: 'POST', headers })
  const place = new URL(opened.headers.get('location')!, url)
  place.searchParams.set('digest', sha256(bytes))
  await done(await fetch(place, { method: 'PUT', body: bytes, headers: { ...headers, 'content-type': 'application/octet-stream' } }), 201)
  return sha256(bytes)
}

/** `content`: a string stays as it is. */
export async function pushManifest({ url, headers = {} }: Origin, repository: string, tag: string, mediaType: string, content: object | string): Promise<string> {
  const text = typeof content === 'string' ? content : JSON.stringify(content)
  await done(await fetch(`${url}/v2/${repository}/manifests/${tag}`, { method: 'PUT', body: text, headers: { ...headers, 'content-type': mediaType } }), 201)
  return sha256(text)
}

export interface ImageWish {
  repository?: string
  tag?: string
  family?: Family
  layers?: number
  layerBytes?: number
  /** Beside or instead of what an ordinary configuration has. */
  config?: Record<string, unknown>
  /** Beside or instead of what an ordinary manifest has. */
  manifest?: Record<string, unknown>
}

export interface PushedImage {
  digest: string
  size: number
  config: Record<string, unknown>
  layers: Array<{ mediaType: string; digest: string; size: number }>
  /** What its layers hold, by their digests. */
  blobs: Map<string, Buffer>
}

/** An image in a registry. */
export async function pushImage(origin: Origin, { repository = 'base', tag = 'v1', family = 'oci', layers: count = 2, layerBytes = 1_000, config: more = {}, manifest: extra = {} }: ImageWish = {}): Promise<PushedImage> {
  const types = families[family]
  const made = Array.from({ length: count }, () => layerOf(layerBytes))
  const config = { created: '2024-01-02T03:04:05.678901234Z', os: 'linux', architecture: 'amd64', config: {}, rootfs: { type: 'layers', diff_ids: made.map(({ diffId }) => diffId) }, ...more }
  const content = Buffer.from(JSON.stringify(config))
  await Promise.all([...made.map(({ blob }) => blob), content].map((blob) => pushBlob(origin, repository, blob)))
  const layers = made.map(({ blob, digest }) => ({ mediaType: types.layer, digest, size: blob.length }))
  const manifest = { schemaVersion: 2, mediaType: types.manifest, config: { mediaType: types.config, digest: sha256(content), size: content.length }, layers, ...extra }
  const digest = await pushManifest(origin, repository, tag, types.manifest, manifest)
  return { digest, size: Buffer.byteLength(JSON.stringify(manifest)), config, layers, blobs: new Map(made.map(({ digest, blob }) => [digest, blob])) }
}

/** What lies under a reference, as it is; null: nothing. */
export async function manifestAt({ url, headers = {} }: Origin, repository: string, reference: string): Promise<{ mediaType: string; text: string; content: Record<string, any> } | null> {
  const response = await fetch(`${url}/v2/${repository}/manifests/${reference}`, { headers: { ...headers, accept: Object.values(families).flatMap(({ index, manifest }) => [index, manifest]).join(', ') } })
  const text = await response.text()
  if (response.status === 404) return null
  await done(response, 200, text)
  return { mediaType: response.headers.get('content-type')!, text, content: JSON.parse(text) }
}

export async function blobAt({ url, headers = {} }: Origin, repository: string, digest: string): Promise<Buffer> {
  const response = await fetch(`${url}/v2/${repository}/blobs/${digest}`, { headers })
  await done(response, 200, '')
  return Buffer.from(await response.arrayBuffer())
}

async function done(response: Response, status: number, text?: string): Promise<void> {
  if (response.status !== status) throw new Error(`${response.url}: ${response.status} ${text ?? (await response.text())}`)
  if (text === undefined) await response.arrayBuffer()
}
