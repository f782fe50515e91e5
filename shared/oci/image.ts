// Images, as registries keep them: what a manifest and a configuration say, checked as far as kiln relies on it.
import { isDigest } from './image-name.ts'
import { isImageConfig, isLayer, isManifest } from './media-types.ts'
import type { Platform } from './platforms.ts'

export interface Descriptor {
  mediaType: string
  digest: string
  size: number
  /** Where a foreign layer is got from. */
  urls?: string[]
  [field: string]: unknown
}

export interface ImageConfig {
  created?: string
  os: string
  architecture: string
  variant?: string
  config?: RunConfig | null
  rootfs: { type: string; diff_ids: string[]; [field: string]: unknown }
  history?: HistoryEntry[] | null
  [field: string]: unknown
}

export interface RunConfig {
  Env?: string[] | null
  Entrypoint?: string[] | null
  Cmd?: string[] | null
  WorkingDir?: string
  ExposedPorts?: Record<string, object> | null
  Labels?: Record<string, string> | null
  OnBuild?: string[] | null
  [field: string]: unknown
}

export interface HistoryEntry {
  created?: string
  created_by?: string
  comment?: string
  empty_layer?: boolean
  [field: string]: unknown
}

/** Of an index: what there is, and for which platform. */
export interface IndexEntry extends Descriptor {
  platform?: Platform
}

/** Why what a registry holds is no image for kiln: a clause that completes "The image cannot be used: …". */
export class NotUsable extends Error {}

/** The largest that is read; real ones have some kilobytes. */
export const configBytesAtMost = 8 << 20

export function indexIn(mediaType: string, bytes: Buffer): IndexEntry[] {
  const { manifests } = objectIn(mediaType, bytes, 'its index')
  if (!Array.isArray(manifests) || !manifests.every(isDescriptor)) throw new NotUsable('its index names no manifests')
  return (manifests as IndexEntry[]).map((entry) => (isPlatform(entry.platform) ? entry : { ...entry, platform: undefined })) as IndexEntry[]
}

export function manifestIn(mediaType: string, bytes: Buffer): { config: Descriptor; layers: Descriptor[] } {
  if (!isManifest(mediaType)) throw new NotUsable(`it is a ${mediaType || 'manifest without a media type'}${/manifest\.v1\+/.test(mediaType) ? ', which is the format that Docker had before 2016' : ''}`)
  const { config, layers, manifests } = objectIn(mediaType, bytes, 'its manifest')
  if (manifests !== undefined || !isDescriptor(config) || !Array.isArray(layers) || !layers.every(isDescriptor)) throw new NotUsable('its manifest names no configuration and layers')
  if (!isImageConfig(config.mediaType)) throw new NotUsable(`it is no image but an artifact with a configuration of type ${config.mediaType}`)
  const strange = layers.find((layer) => !isLayer(layer.mediaType))
  if (strange) throw new NotUsable(`it has a layer of type ${strange.mediaType}`)
  if (config.size > configBytesAtMost) throw new NotUsable(`its configuration has ${config.size} bytes`)
  return { config, layers }
}

export function configIn(bytes: Buffer, layers: number): ImageConfig {
  const config = objectIn(null, bytes, 'its configuration') as unknown as ImageConfig
  if (!isPlatform(config)) throw new NotUsable('its configuration does not say for which platform it is')
  const ids: unknown = config.rootfs?.diff_ids
  if (!Array.isArray(ids) || !ids.every((id) => typeof id === 'string')) throw new NotUsable('its configuration does not name its layers')
  if (ids.length !== layers) throw new NotUsable(`its configuration tells of ${ids.length} layers, and its manifest of ${layers}`)
  return config
}

function objectIn(mediaType: string | null, bytes: Buffer, what: string): Record<string, unknown> {
  const value = ((): unknown => { try { return JSON.parse(bytes.toString()) } catch { return null } })()
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw new NotUsable(`${what} is no JSON object`)
  const own = (value as { mediaType?: unknown }).mediaType
  // Two programs could take it for two things.
  if (mediaType !== null && own !== undefined && own !== mediaType) throw new NotUsable(`${what} says that it is a ${String(own)}, and the registry that it is a ${mediaType}`)
  return value as Record<string, unknown>
}

function isDescriptor(given: unknown): given is Descriptor {
  const { mediaType, digest, size } = (given ?? {}) as Partial<Descriptor>
  return typeof mediaType === 'string' && typeof digest === 'string' && isDigest(digest) && Number.isSafeInteger(size) && size! >= 0
}

function isPlatform(given: unknown): given is Platform {
  const { os, architecture, variant } = (given ?? {}) as Partial<Platform>
  return typeof os === 'string' && os !== '' && typeof architecture === 'string' && architecture !== '' && (variant === undefined || typeof variant === 'string')
}
