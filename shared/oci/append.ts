// Appending: a new image that is another one with a layer more. The parent's layers are mounted or copied, never unpacked; the manifest goes last.
import { Unavailable } from '../trouble.ts'
import { abreast, type Work } from './abreast.ts'
import { appendedConfig, type Changes } from './appended-config.ts'
import { digestOf } from './digests.ts'
import { blobElsewhere } from './elsewhere.ts'
import type { Descriptor } from './image.ts'
import { registryOf as nameOf } from './image-name.ts'
import { knownBlobs, type KnownBlobs, type Repository } from './known-blobs.ts'
import { gzippedLayerFor, isForeignLayer } from './media-types.ts'
import type { Pulled } from './pull.ts'
import type { Blob } from './reading.ts'
import { BlobsMissing, WrongDigest, type Registry } from './registry.ts'

export type { Changes } from './appended-config.ts'

export interface CodeLayer extends Blob {
  /** sha256:… of the tar before it was gzipped. */
  diffId: string
}

export interface Wish {
  parent: Pulled
  layer: CodeLayer
  changes: Changes
  to: { registry: string; repository: string; tag: string }
  signal?: AbortSignal
}

/** About 200 bytes each. */
const blobsRemembered = 20_000
/** The layer, the configuration, and so many of the parent's layers at a time. */
const abreastAtMost = 2 + 6

/**
 * Answers the new image's digest: the same for the same parent, layer and changes. Until all that it names is there, nothing lies under the tag.
 * Throws Unavailable when a registry is in trouble, the signal's reason when that aborts, and what the layer's `open` throws.
 */
export function appending(registryOf: (host: string) => Registry): (wish: Wish) => Promise<string> {
  const known = knownBlobs(blobsRemembered)
  return async (wish) => {
    const to: Repository = { registry: nameOf(wish.to.registry), repository: wish.to.repository }
    const image = imageOf(wish)
    const put = async (): Promise<string> => {
      const works = worksOf(wish, image.config, { to, known, registryOf })
      await abreast(abreastAtMost, works, wish.signal)
      return registryOf(to.registry).put(to.repository, wish.to.tag, image.manifest)
    }
    try {
      return await put()
    } catch (error) {
      if (!(error instanceof BlobsMissing)) throw error
      // The registry has let go of something since: all is seen to again, once.
      known.forget(to)
      return put()
    }
  }
}

interface Image {
  config: Blob
  manifest: { mediaType: string; bytes: Buffer }
}

/** What stands in the parent's manifest beside its layers (annotations, a subject) is about the parent, and is left out. */
function imageOf({ parent, layer, changes }: Wish): Image {
  const config = Buffer.from(JSON.stringify(appendedConfig(parent.config, layer.diffId, changes)))
  const digest = digestOf(config)
  const manifest = {
    schemaVersion: 2,
    mediaType: parent.mediaType,
    config: { mediaType: parent.configDescriptor.mediaType, digest, size: config.length },
    layers: [...parent.layers, { mediaType: gzippedLayerFor(parent.mediaType), digest: layer.digest, size: layer.bytes }],
  }
  return {
    config: { digest, bytes: config.length, open: async function* (from) { yield config.subarray(from) } },
    manifest: { mediaType: parent.mediaType, bytes: Buffer.from(JSON.stringify(manifest)) },
  }
}

interface Around { to: Repository; known: KnownBlobs; registryOf: (host: string) => Registry }

function worksOf({ parent, layer }: Wish, config: Blob, around: Around): Work[] {
  const { to, known, registryOf } = around
  const isThere = parent.registry === to.registry && parent.repository === to.repository
  const own = new Map(parent.layers.filter((one) => !(isForeignLayer(one.mediaType) && one.urls?.length)).map((one) => [one.digest, one]))
  const bring = (blob: Blob, isNew: boolean): Work[] => (known.has(to, blob.digest) ? [] : [async (signal) => {
    await registryOf(to.registry).upload(to.repository, blob, signal, { isNew })
    known.add(to, blob.digest)
  }])
  const others = isThere ? [] : [...own.values()].filter(({ digest }) => digest !== layer.digest && !known.has(to, digest))
  return [...bring(layer, false), ...bring(config, true), ...others.map((one): Work => (signal) => bringParents(parent, one, around, signal))]
}

/** From next to it where the registry has it already, be it from the parent or from an image that was made of the same parent; from the parent's registry otherwise. */
async function bringParents(parent: Pulled, { digest, size }: Descriptor, { to, known, registryOf }: Around, signal: AbortSignal): Promise<void> {
  const { registry, repository } = parent
  const from = registry === to.registry ? repository : (known.somewhere(to.registry, digest) ?? undefined)
  const blob = blobElsewhere(registryOf(registry), { registry, repository, digest, size })
  await registryOf(to.registry).upload(to.repository, blob, signal, { from }).catch((error: unknown) => {
    throw error instanceof WrongDigest ? new Unavailable(`The registry ${registry} answers for the blob ${digest} of ${repository} with something else.`, { cause: error }) : error
  })
  known.add(to, digest)
}
