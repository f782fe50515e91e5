// Stored, in a registry: tags in the repositories that kiln's images lie in.
import { fewAtOnce } from '../few-at-once.ts'
import { groupsOf } from '../groups.ts'
import type { Log } from '../log.ts'
import { environmentRepository, repositoryOf } from '../repositories.ts'
import type { Staying, StoredImage, StoredImages, StoredPart } from '../stored.ts'
import { Unavailable } from '../trouble.ts'
import { manifestIn, NotUsable } from './image.ts'
import { isForeignLayer } from './media-types.ts'
import { recent } from './recent.ts'
import { imageName, type Manifest, type Registry } from './registry.ts'

/** Of so many images the parts are remembered: what a tag of kiln's stands for does not change while it is there. */
const imagesRemembered = 5_000
const remedy = 'For the distribution registry set REGISTRY_STORAGE_DELETE_ENABLED=true; for others give kiln\'s credentials (REGISTRY_AUTH_FILE) the right to delete. '
  + 'What is deleted gives its space back when the registry\'s own garbage collection has run.'

interface Place {
  kind: StoredImage['kind']
  lambda: string | null
  /** Registry and repository. */
  repository: string
}

/** `at`: registry, and path in it. */
export function ociStored(registryOf: (host: string) => Registry, at: string, log: Log): StoredImages {
  const known = recent<StoredPart[]>(imagesRemembered)
  let hasSaid = false

  const placed = (repository: string): { registry: Registry; path: string } => {
    const name = imageName(repository)
    return { registry: registryOf(name.registry), path: name.repository }
  }
  const tagged = ({ name, key }: StoredImage): { registry: Registry; path: string; tag: string } => ({ ...placed(name.slice(0, -key.length - 1)), tag: key })

  async function imagesIn({ kind, lambda, repository }: Place): Promise<StoredImage[]> {
    const { registry, path } = placed(repository)
    const tags = await registry.tags(path)
    return tags.filter(isKilns).map((key) => ({ kind, name: `${repository}:${key}`, key, lambda, uses: null }))
  }

  function sayOnce(unlisted: number, error: Unavailable): void {
    if (!hasSaid) log.warn('some repositories cannot be listed: no garbage is looked for in them (this is said once)', { repositories: unlisted, error })
    hasSaid = true
  }

  async function removeFrom(repository: string, images: readonly StoredImage[]): Promise<Staying[]> {
    const { registry, path } = placed(repository)
    const tags = [...new Set([...(await registry.tags(path)), ...images.map(({ key }) => key)])]
    const digests = await fewAtOnce(tags, (tag) => registry.digest(path, tag))
    const given = new Map(images.map((image) => [image.key, image]))
    const staying: Staying[] = []
    for (const digest of new Set(digests)) {
      if (digest === null) continue
      const names = tags.filter((_, i) => digests[i] === digest)
      const going = names.flatMap((tag) => given.get(tag) ?? [])
      const other = names.find((tag) => !given.has(tag))
      const stay = other === undefined ? await removeManifest(registry, path, digest) : { why: `It is the same image as ${repository}:${other}, which stays.`, remedy: null }
      if (stay) staying.push(...going.map(({ name }) => ({ name, ...stay })))
    }
    for (const { name } of images) known.delete(name)
    return staying
  }

  return {
    async list(lambdas) {
      const places: Place[] = [
        { kind: 'environment', lambda: null, repository: environmentRepository(at) },
        ...lambdas.map((id): Place => ({ kind: 'image', lambda: id, repository: repositoryOf(at, id) })),
      ]
      // A registry may refuse to tell of a repository that nothing was ever pushed to.
      const found = await fewAtOnce(places, (place) => imagesIn(place).catch((error: unknown) => {
        if (error instanceof Unavailable) return error
        throw error
      }))
      const failures = found.filter((one) => one instanceof Unavailable)
      if (failures.length === places.length) throw failures[0]!
      if (failures.length > 0) sayOnce(failures.length, failures[0]!)
      return found.flatMap((one) => (one instanceof Unavailable ? [] : one))
    },
    async digest(image) {
      const { registry, path, tag } = tagged(image)
      return registry.digest(path, tag)
    },
    async parts(image) {
      const remembered = known.get(image.name)
      if (remembered) return remembered
      const { registry, path, tag } = tagged(image)
      const manifest = await registry.manifest(path, tag)
      if (manifest === null) return null
      const parts = partsIn(manifest)
      known.set(image.name, parts)
      return parts
    },
    async remove(images) {
      const repositories = groupsOf(images, ({ name, key }) => name.slice(0, -key.length - 1))
      const staying: Staying[] = []
      for (const [repository, own] of repositories) staying.push(...(await removeFrom(repository, own)))
      return staying
    },
  }
}

/** Whatever else somebody tags there is none of kiln's. */
const isKilns = (tag: string): boolean => /^[0-9a-f]{64}$/.test(tag)

async function removeManifest(registry: Registry, path: string, digest: string): Promise<{ why: string; remedy: string } | null> {
  const answer = await registry.remove(path, digest)
  // One reason, however many repositories it holds for.
  return typeof answer === 'string' ? null : { why: answer.refused.replace(` of ${path}`, ''), remedy }
}

/** Of what is no image the manifest itself is all that is known. */
function partsIn({ digest, mediaType, bytes }: Manifest): StoredPart[] {
  try {
    const { config, layers } = manifestIn(mediaType, bytes)
    const blobs = [config, ...layers.filter((layer) => !isForeignLayer(layer.mediaType))]
    return [...new Map(blobs.map((blob) => [blob.digest, { name: blob.digest, bytes: blob.size }])).values()]
  } catch (error) {
    if (error instanceof NotUsable) return [{ name: digest, bytes: bytes.length }]
    throw error
  }
}
