// The base image that FROM names, read from its registry: its manifest, its config, and its layers when they are wanted.
import { createHash } from 'node:crypto'
import { ask, away, isPlain, NoAnswer, noTls, referenceOf, refusalOf, type Answer, type Plain, type Reference } from '../registry-talk.ts'
import { BuildTrouble } from './build-trouble.ts'
import type { Authorization } from './credentials.ts'

export interface Descriptor {
  mediaType: string
  digest: string
  size: number
}

export interface Manifest {
  mediaType?: string
  config: Descriptor
  layers: Descriptor[]
  annotations?: Record<string, string>
}

interface Index {
  manifests: Array<Descriptor & { platform?: { os: string; architecture: string } }>
}

/** What is known of the config of an image; the rest is handed on. */
export interface ConfigFile {
  config?: Record<string, unknown> | null
  rootfs: { type: string; diff_ids: string[] }
  history?: object[]
  [field: string]: unknown
}

export interface Base {
  /** Where its layers are. */
  from: Reference
  mediaType: string
  manifest: Manifest
  config: ConfigFile
  /** The bytes of a layer, as the registry keeps it. */
  layer(digest: string): Promise<Buffer>
}

export interface BaseParts extends Plain {
  authorization: Authorization
  /** How often it is asked again. */
  retries: number
  info(line: string): void
  warn(line: string): void
}

const types = {
  manifests: ['application/vnd.docker.distribution.manifest.v2+json', 'application/vnd.oci.image.manifest.v1+json'],
  indexes: ['application/vnd.docker.distribution.manifest.list.v2+json', 'application/vnd.oci.image.index.v1+json'],
}
const wanted = { os: 'linux', architecture: 'amd64' }

/** null: an image with nothing in it, which `scratch` is, and whatever names no registry: Docker's own is not reached from here. Throws BuildTrouble. */
export async function baseOf(image: string, parts: BaseParts): Promise<Base | null> {
  if (image === 'scratch') {
    parts.info('No base image, nothing to extract')
    return null
  }
  parts.info(`Retrieving image manifest ${image}`)
  const from = referenceOf(image, 'index.docker.io')
  if (from === null) throw failed(`could not parse reference: ${image}`)
  if (from.repository === from.name) return null
  parts.info(`Retrieving image ${image} from registry ${from.host}`)
  const registry = talk(from, parts)
  for (let left = parts.retries; ; left--) {
    try {
      return await read(image, from, registry)
    } catch (error) {
      if (!(error instanceof BaseTrouble)) throw error
      if (left <= 0) throw failed(`unable to complete operation after ${parts.retries} attempts, last error: ${error.message}`)
      // A real builder waits so long; there is nothing here to wait for.
      parts.warn(`Retrying operation after ${2 ** (parts.retries - left)}s due to ${error.message}`)
    }
  }
}

/** It cannot be read now, in these words. */
class BaseTrouble extends Error {}

const failed = (why: string): BuildTrouble => new BuildTrouble(`error building image: ${why}`)

async function read(image: string, from: Reference, registry: Registry): Promise<Base> {
  const { mediaType, manifest } = await manifestOf(image, from.version, registry)
  const config = JSON.parse((await registry.blob(manifest.config.digest)).toString()) as ConfigFile
  return {
    from, mediaType, manifest, config,
    async layer(digest) {
      try {
        return await registry.blob(digest)
      } catch (error) {
        if (!(error instanceof BaseTrouble)) throw error
        throw failed(`error building stage: failed to get filesystem from image: ${error.message}`)
      }
    },
  }
}

/** Of an index, the manifest for this kind of machine; one that does not say for which it is, is for this. */
async function manifestOf(image: string, version: string, registry: Registry): Promise<{ mediaType: string; manifest: Manifest }> {
  const { headers, body } = await registry.get(`manifests/${version}`, { accept: [...types.manifests, ...types.indexes].join(',') })
  const mediaType = String(headers['content-type'])
  if (version.startsWith('sha256:')) check(version, body, `manifest digest: "${digestOf(body)}" does not match requested digest: "${version}" for "${image}"`)
  if (mediaType.includes('manifest.v1+prettyjws') || mediaType === 'application/vnd.docker.distribution.manifest.v1+json') {
    throw new BaseTrouble(`unsupported MediaType: "${mediaType}", see https://github.com/google/go-containerregistry/issues/377`)
  }
  if (!types.indexes.includes(mediaType)) return { mediaType, manifest: JSON.parse(body.toString()) as Manifest }
  const { manifests } = JSON.parse(body.toString()) as Index
  const fitting = manifests.find(({ platform = wanted }) => platform.os === wanted.os && platform.architecture === wanted.architecture)
  if (!fitting) throw new BaseTrouble(`no child with platform ${wanted.os}/${wanted.architecture} in index ${image}`)
  return manifestOf(image, fitting.digest, registry)
}

const digestOf = (bytes: Buffer): string => `sha256:${createHash('sha256').update(bytes).digest('hex')}`

function check(digest: string, bytes: Buffer, words: string): void {
  if (digestOf(bytes) !== digest) throw new BaseTrouble(words)
}

interface Registry {
  get(path: string, headers?: Record<string, string>): Promise<Answer>
  blob(digest: string): Promise<Buffer>
}

function talk({ host, name }: Reference, parts: BaseParts): Registry {
  async function get(path: string, headers: Record<string, string> = {}): Promise<Answer> {
    if (!isPlain(host, parts)) throw new BaseTrouble(noTls(host))
    const url = `http://${host}/v2/${name}/${path}`
    try {
      const answer = await ask('GET', url, { headers: { ...headers, ...parts.authorization(host) } })
      if (answer.status === 200) return answer
      throw new BaseTrouble(`GET ${url}: ${refusalOf(answer)}`)
    } catch (error) {
      if (!(error instanceof NoAnswer)) throw error
      throw new BaseTrouble(away(host, error), { cause: error })
    }
  }
  return {
    get,
    async blob(digest) {
      const { body } = await get(`blobs/${digest}`)
      check(digest, body, `error verifying sha256 checksum after reading ${body.length} bytes; got "${digestOf(body)}", want "${digest}"`)
      return body
    },
  }
}
