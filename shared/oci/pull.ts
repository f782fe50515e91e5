// Pulling: what an image's name stands for on one platform. Manifest and configuration are read, the layers never.
import { Unavailable } from '../trouble.ts'
import { digestOf } from './digests.ts'
import { configBytesAtMost, configIn, indexIn, manifestIn, NotUsable, type Descriptor, type ImageConfig, type IndexEntry } from './image.ts'
import { imageName, type ImageName } from './image-name.ts'
import { isIndex } from './media-types.ts'
import { fitting, platformText, runsOn, type Platform } from './platforms.ts'
import { recent } from './recent.ts'
import type { Manifest, Registry } from './registry.ts'

export type { Descriptor, ImageConfig } from './image.ts'
export { platformOf, type Platform } from './platforms.ts'

export interface Pulled {
  /** registry/repository@sha256:… of the manifest for the one platform, as docker would write it. */
  reference: string
  registry: string
  repository: string
  digest: string
  mediaType: string
  config: ImageConfig
  configDescriptor: Descriptor
  layers: Descriptor[]
}

export interface Refused {
  reason: 'BaseImageMissing' | 'BaseImageForAnotherPlatform' | 'BaseImageNotUsable'
  message: string
}

export type Pull = { image: Pulled } | { refused: Refused }

/** It is there, for other platforms. */
class OtherPlatform extends Error {
  constructor(readonly there: string[]) {
    super()
  }
}

const imagesKept = 256
const tagsShown = 8
/** Of an index in an index, or without platforms: so many are looked into. */
const lookedInto = 4

/** What is read by a digest is kept in memory; what a tag stands for is asked each time. Throws Unavailable when the registry is in trouble. */
export function pulling(registryOf: (host: string) => Registry, platform: Platform): (name: string) => Promise<Pull> {
  /** Under way, or read. */
  const kept = recent<Promise<Pulled | null>>(imagesKept)

  function read(at: Place, digest: string): Promise<Pulled | null> {
    const key = `${at.name.registry}/${at.name.repository}@${digest}`
    const known = kept.get(key)
    if (known) return known
    const reading = imageUnder(at, digest, platform)
    kept.set(key, reading)
    // What is not there may come, and what cannot be used is not worth remembering.
    reading.then((image) => { if (image === null) kept.delete(key) }, () => kept.delete(key))
    return reading
  }

  return async (name) => {
    const at = placeOf(name, registryOf)
    if ('refused' in at) return at
    try {
      const image = await found(at, (digest) => read(at, digest))
      return image ? { image } : { refused: { reason: 'BaseImageMissing', message: await missing(name, at) } }
    } catch (error) {
      if (error instanceof OtherPlatform) return { refused: { reason: 'BaseImageForAnotherPlatform', message: `The image ${name} is not for ${platformText(platform)}: ${there(error.there)}.` } }
      if (error instanceof NotUsable) return { refused: { reason: 'BaseImageNotUsable', message: `The image ${name} cannot be used: ${error.message}.` } }
      throw error
    }
  }
}

interface Place { name: ImageName; registry: Registry }

function placeOf(name: string, registryOf: (host: string) => Registry): Place | { refused: Refused } {
  try {
    const taken = imageName(name)
    return { name: taken, registry: registryOf(taken.registry) }
  } catch (error) {
    return { refused: { reason: 'BaseImageNotUsable', message: (error as Error).message } }
  }
}

/** null: there is no such image. */
async function found({ name, registry }: Place, read: (digest: string) => Promise<Pulled | null>): Promise<Pulled | null> {
  if (name.digest !== null) return read(name.digest)
  const tag = name.tag ?? 'latest'
  // What the tag stood for may go away before it is read: then it stands for something else, or for nothing.
  for (let questions = 0; questions < 2; questions++) {
    const digest = await registry.digest(name.repository, tag)
    if (digest === null) return null
    const image = await read(digest)
    if (image !== null) return image
  }
  throw new Unavailable(`The registry ${name.registry} names a digest for ${tag} of ${name.repository}, and has no manifest of that digest.`)
}

async function missing(name: string, { name: { registry, repository }, registry: asked }: Place): Promise<string> {
  const tags = await asked.tags(repository).catch(() => null)
  if (tags === null) return `There is no image ${name} in the registry ${registry}.`
  const others = tags.length > tagsShown ? ` and ${tags.length - tagsShown} more` : ''
  if (tags.length === 0) return `There is no image ${name}: the registry ${registry} knows no tags of ${repository}.`
  return `There is no image ${name}: in the registry ${registry}, ${repository} has the tags ${tags.slice(0, tagsShown).join(', ')}${others}.`
}

const there = (platforms: string[]): string => (platforms.length === 0 ? 'it names no platforms' : `it is for ${platforms.join(', ')}`)

/** null: there is nothing under the digest. */
async function imageUnder(at: Place, digest: string, platform: Platform): Promise<Pulled | null> {
  const manifest = await at.registry.manifest(at.name.repository, digest)
  if (manifest === null) return null
  return isIndex(manifest.mediaType) ? chosen(at, manifest, platform, 1) : single(at, manifest, platform)
}

/** Of an index, what fits the platform. `depth`: so many indexes in indexes are looked into. */
async function chosen(at: Place, index: Manifest, platform: Platform, depth: number): Promise<Pulled> {
  const entries = indexIn(index.mediaType, index.bytes)
  const images = entries.filter(({ mediaType }) => !isIndex(mediaType))
  const [best] = fitting(images, platform)
  if (best) return single(at, await child(at, best), platform)
  const inner = depth > 0 ? entries.filter(({ mediaType, platform: its }) => isIndex(mediaType) && (!its || runsOn(its, platform))) : []
  const nameless = images.filter((entry) => !entry.platform)
  const platforms = entries.flatMap(({ platform: its }) => (its && its.os !== 'unknown' ? [platformText(its)] : []))
  for (const entry of [...inner, ...nameless].slice(0, lookedInto)) {
    try {
      const manifest = await child(at, entry)
      return await (isIndex(manifest.mediaType) ? chosen(at, manifest, platform, depth - 1) : single(at, manifest, platform))
    } catch (error) {
      if (error instanceof OtherPlatform) platforms.push(...error.there)
      else if (!(error instanceof NotUsable)) throw error
    }
  }
  throw new OtherPlatform([...new Set(platforms)])
}

async function child({ name, registry }: Place, { digest, platform }: IndexEntry): Promise<Manifest> {
  const manifest = await registry.manifest(name.repository, digest)
  if (manifest === null) throw new NotUsable(`its index names ${digest}${platform ? ` for ${platformText(platform)}` : ''}, which is not there`)
  return manifest
}

async function single(at: Place, { digest, mediaType, bytes }: Manifest, platform: Platform): Promise<Pulled> {
  const { registry, repository } = at.name
  const { config: configDescriptor, layers } = manifestIn(mediaType, bytes)
  const config = configIn(await configBytes(at, configDescriptor), layers.length)
  // Many do not say which variant they are.
  if (!runsOn({ ...config, variant: config.variant || platform.variant }, platform)) throw new OtherPlatform([platformText(config)])
  return { reference: `${registry}/${repository}@${digest}`, registry, repository, digest, mediaType, config, configDescriptor, layers }
}

async function configBytes({ name, registry }: Place, { digest, size }: Descriptor): Promise<Buffer> {
  const chunks = await registry.blob(name.repository, digest)
  if (chunks === null) throw new NotUsable(`its configuration ${digest} is not there`)
  const parts: Buffer[] = []
  let bytes = 0
  for await (const chunk of chunks) {
    parts.push(chunk)
    bytes += chunk.length
    if (bytes > configBytesAtMost) break
  }
  const whole = Buffer.concat(parts, bytes)
  if (digestOf(whole, digest) !== digest) throw new Unavailable(`The registry ${name.registry} answers for the blob ${digest} of ${name.repository} with ${bytes} bytes of ${size} that are something else.`)
  return whole
}
