// An image as a registry has it, read by plain requests: its manifest, its config, its layers, and the files that whoever runs it finds.
import { createHash } from 'node:crypto'
import type { Login } from './base-image.ts'
import { entriesOf, plainTar, type TarEntry } from './kubernetes/tar-entries.ts'

export interface ImageFile {
  type: string
  mode: number
  uid: number
  gid: number
  /** Of a file: digest of what it holds. Of a link: where it leads. */
  content: string
}

export interface ReadImage {
  mediaType: string
  digest: string
  manifest: { config: { mediaType: string }; layers: Array<{ mediaType: string; digest: string; size: number }>; [field: string]: unknown }
  config: { config: Record<string, any>; rootfs: { diff_ids: string[] }; history: Array<Record<string, unknown>>; [field: string]: unknown }
  /** Of each layer, lowest first. */
  layers: TarEntry[][]
  /** By path without a slash at either end; all layers over each other. Times are left out. */
  files: Map<string, ImageFile>
}

const accepted = ['application/vnd.oci.image.manifest.v1+json', 'application/vnd.docker.distribution.manifest.v2+json'].join(', ')

/** `host/repository:tag` or `host/repository@sha256:…` of an image, not of an index. Throws where anything is not what its digest says. */
export async function readImage(reference: string, login?: Login): Promise<ReadImage> {
  const [, host = '', name = '', version = ''] = /^([^/]+)\/(.+?)[:@]((?:sha256:)?[^:/@]+)$/.exec(reference) ?? []
  const headers: Record<string, string> = { accept: accepted, ...(login && { authorization: `Basic ${Buffer.from(`${login.username}:${login.password}`).toString('base64')}` }) }

  async function get(path: string, digest?: string): Promise<{ bytes: Buffer; mediaType: string }> {
    const response = await fetch(`http://${host}/v2/${name}/${path}`, { headers })
    if (response.status !== 200) throw new Error(`${path} of ${name}: ${response.status} ${await response.text()}`)
    const bytes = Buffer.from(await response.arrayBuffer())
    if (digest !== undefined && sha256(bytes) !== digest) throw new Error(`${path} of ${name} is ${sha256(bytes)}`)
    return { bytes, mediaType: response.headers.get('content-type')! }
  }

  const { bytes, mediaType } = await get(`manifests/${version}`, version.startsWith('sha256:') ? version : undefined)
  const manifest = JSON.parse(bytes.toString())
  const config = JSON.parse((await get(`blobs/${manifest.config.digest}`, manifest.config.digest)).bytes.toString())
  const layers: TarEntry[][] = []
  for (const [index, { digest, size }] of manifest.layers.entries()) {
    const packed = (await get(`blobs/${digest}`, digest)).bytes
    const tar = plainTar(packed)
    if (packed.length !== size || sha256(tar) !== config.rootfs.diff_ids[index]) throw new Error(`layer ${index} of ${reference} is not what is said of it`)
    layers.push([])
    for await (const entry of entriesOf(tar)) layers[index]!.push(entry)
  }
  return { mediaType, digest: sha256(bytes), manifest, config, layers, files: filesOf(layers) }
}

function filesOf(layers: TarEntry[][]): Map<string, ImageFile> {
  const files = new Map<string, ImageFile>()
  const isBelow = (path: string, folder: string): boolean => folder === '' || path.startsWith(`${folder}/`)
  const remove = (gone: (path: string) => boolean): void => { for (const path of [...files.keys()]) if (gone(path)) files.delete(path) }
  for (const layer of layers) {
    const entries = layer.map(({ header, content }) => ({ header, content, path: header.name.replace(/^(\.?\/)+|\/+$/g, '').replace(/^\.$/, '') }))
    const whiteouts = entries.map(({ path }) => /^(?:(.*)\/)?\.wh\.([^/]+)$/.exec(path)).filter((found) => found !== null)
    for (const [, folder = '', name] of whiteouts) {
      const hidden = folder === '' ? name! : `${folder}/${name}`
      remove((path) => (name === '.wh..opq' ? isBelow(path, folder) : path === hidden || isBelow(path, hidden)))
    }
    for (const { header: { type, mode, uid, gid, linkname }, content, path } of entries) {
      if (path === '' || /(^|\/)\.wh\.[^/]+$/.test(path)) continue
      if (type !== 'directory') remove((below) => isBelow(below, path))
      files.set(path, { type, mode, uid, gid, content: type === 'file' ? sha256(content) : linkname ?? '' })
    }
  }
  return files
}

export const sha256 = (bytes: Buffer | string): string => `sha256:${createHash('sha256').update(bytes).digest('hex')}`
