// Pulls images from the registry that their reference names, and unpacks each once, into a folder under its digest.
import { createHash } from 'node:crypto'
import { mkdir, rename } from 'node:fs/promises'
import { join } from 'node:path'
import { ask, NoAnswer, referenceOf, type Answer, type Reference } from './registry-talk.ts'
import { unpackLayer } from './unpack-layer.ts'

export interface ImageConfig {
  Env?: string[] | null
  Entrypoint?: string[] | null
  Cmd?: string[] | null
  WorkingDir?: string
}

export interface PulledImage {
  /** `<repository>@sha256:…` */
  id: string
  /** Where its files are. */
  folder: string
  config: ImageConfig
  bytes: number
}

/** Why it cannot be pulled, in the words of the container runtime. */
export class PullTrouble extends Error {}

export interface Images {
  /** null: it is not on this machine. */
  present(image: string): PulledImage | null
  pull(image: string): Promise<PulledImage>
}

interface Manifest {
  mediaType?: string
  config?: { digest: string }
  layers?: Array<{ digest: string; mediaType: string; size: number }>
  manifests?: Array<{ digest: string; platform?: { os: string; architecture: string } }>
}

const accepted = [
  'application/vnd.oci.image.manifest.v1+json', 'application/vnd.docker.distribution.manifest.v2+json',
  'application/vnd.oci.image.index.v1+json', 'application/vnd.docker.distribution.manifest.list.v2+json',
].join(', ')

/** The program that builds images is not pulled: a program of this machine stands for it. */
export const isBuilder = (image: string): boolean => image.includes('kaniko')

/** `registry`: where an image is whose reference names no host. */
export function images(folder: string, registry: string): Images {
  const known = new Map<string, PulledImage>()
  const underway = new Map<string, Promise<PulledImage>>()

  async function fetched(image: string, reference: Reference): Promise<PulledImage> {
    const base = `http://${reference.host}/v2/${reference.name}`
    const [digest, manifest] = await manifestOf(image, base, reference.version)
    const layers = manifest.layers ?? []
    const config = JSON.parse((await blob(image, base, manifest.config!.digest)).toString()) as { config?: ImageConfig; rootfs?: { diff_ids?: string[] } }
    const home = join(folder, digest.replace(':', '-'))
    await once(digest, async () => {
      const draft = `${home}.draft`
      const unpacked = config.rootfs?.diff_ids ?? []
      if (unpacked.length !== layers.length) throw notUnpacked(image, `number of layers and diffIDs don't match: ${layers.length} != ${unpacked.length}`)
      await mkdir(draft, { recursive: true })
      for (const [index, layer] of layers.entries()) await unpackOver(image, await blob(image, base, layer.digest), draft, unpacked[index]!)
      await rename(draft, home)
    })
    return { id: `${reference.repository}@${digest}`, folder: home, config: config.config ?? {}, bytes: layers.reduce((total, { size }) => total + size, 0) }
  }

  /** An empty folder, and a digest that is always the same. */
  async function builder(image: string, { repository }: Reference): Promise<PulledImage> {
    const home = join(folder, 'builder')
    await mkdir(home, { recursive: true })
    return { id: `${repository}@sha256:${createHash('sha256').update(image).digest('hex')}`, folder: home, config: {}, bytes: 35_035_358 }
  }

  const unpacked = new Map<string, Promise<void>>()
  function once(digest: string, unpackAll: () => Promise<void>): Promise<void> {
    const work = unpacked.get(digest) ?? unpackAll().catch((error: unknown) => { unpacked.delete(digest); throw error })
    unpacked.set(digest, work)
    return work
  }

  return {
    present: (image) => known.get(image) ?? null,
    pull(image) {
      const reference = referenceOf(image, registry)!
      const fetch = isBuilder(image) ? builder : fetched
      const work = underway.get(image) ?? fetch(image, reference).then((pulled) => { known.set(image, pulled); return pulled }).finally(() => underway.delete(image))
      underway.set(image, work)
      return work
    },
  }
}

/** Of an index, the manifest for this kind of machine. */
async function manifestOf(image: string, base: string, version: string): Promise<[digest: string, Manifest]> {
  const answer = await told(image, 'GET', `${base}/manifests/${version}`)
  const manifest = JSON.parse(answer.body.toString()) as Manifest
  if (!manifest.manifests) return [String(answer.headers['docker-content-digest'] ?? version), manifest]
  const fitting = manifest.manifests.find(({ platform }) => platform?.os === 'linux' && platform.architecture === 'amd64') ?? manifest.manifests.find(({ platform }) => !platform)
  if (!fitting) throw new PullTrouble(`failed to pull and unpack image "${image}": no match for platform in manifest: not found`)
  return manifestOf(image, base, fitting.digest)
}

const blob = async (image: string, base: string, digest: string): Promise<Buffer> => (await told(image, 'GET', `${base}/blobs/${digest}`)).body

async function told(image: string, method: string, url: string): Promise<Answer> {
  const failed = (why: string): string => `failed to pull and unpack image "${image}": failed to resolve reference "${image}": ${why}`
  try {
    const answer = await ask(method, url, { headers: { accept: `${accepted}, */*` } })
    if (answer.status === 200) return answer
    if (answer.status === 307 || answer.status === 302) return await told(image, method, new URL(String(answer.headers['location']), url).href)
    if (answer.status === 404) throw new PullTrouble(`rpc error: code = NotFound desc = ${failed(`${image}: not found`)}`)
    if (answer.status === 401 || answer.status === 403) {
      throw new PullTrouble(failed('pull access denied, repository does not exist or may require authorization: authorization failed: no basic auth credentials'))
    }
    throw new PullTrouble(failed(`unexpected status from HEAD request to ${url}: ${answer.status}`))
  } catch (error) {
    if (!(error instanceof NoAnswer)) throw error
    throw new PullTrouble(failed(`failed to do request: Head "${url}": ${error.message}`), { cause: error })
  }
}

const notUnpacked = (image: string, why: string, cause?: unknown): PullTrouble => new PullTrouble(`failed to pull and unpack image "${image}": ${why}`, { cause })

/** What its config says of a layer must be so. */
async function unpackOver(image: string, layer: Buffer, folder: string, expected: string): Promise<void> {
  const digest = await unpackLayer(layer, folder).catch((error: Error) => { throw notUnpacked(image, `failed to extract layer ${expected}: ${error.message}: unknown`, error) })
  if (digest !== expected) throw notUnpacked(image, `wrong diff id calculated on extraction "${digest}", expected "${expected}"`)
}
