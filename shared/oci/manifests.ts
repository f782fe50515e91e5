// Manifests of a registry: read, written, removed, and listed by their tags.
import { Unavailable } from '../trouble.ts'
import { digestIn, isRefusal, json, nothing, refusedIn, trouble, unavailable, type Host } from './answers.ts'
import { digestOf } from './digests.ts'
import { isDigest, isRepository, isTag } from './image-name.ts'
import { manifestTypes } from './media-types.ts'
import type { Answer } from './requests.ts'

export interface Manifest {
  digest: string
  mediaType: string
  bytes: Buffer
}

export interface Manifests {
  /** The digest that the tag (or digest) names, or null when there is none. Throws Unavailable when the registry cannot be asked: unreachable, 401/403 (named as such), 5xx, 429. */
  digest(repository: string, reference: string): Promise<string | null>
  /** The manifest itself; null: there is none. Its digest is made from its bytes, and Unavailable is thrown when the registry, or the reference, names another. */
  manifest(repository: string, reference: string): Promise<Manifest | null>
  /** Puts a manifest under a tag: its digest. Throws BlobsMissing when the registry lacks what it names. */
  put(repository: string, tag: string, manifest: { mediaType: string; bytes: Buffer }): Promise<string>
  /** Removes a manifest. `refused` when the registry does not allow it: a sentence for the operator. */
  remove(repository: string, digest: string): Promise<'removed' | 'missing' | { refused: string }>
  /** Tags of a repository; empty when there is none. */
  tags(repository: string): Promise<string[]>
}

/** A manifest that names what the registry does not have. */
export class BlobsMissing extends Unavailable {
  constructor(
    message: string,
    /** Their digests, as far as the registry says. */
    readonly missing: string[],
  ) {
    super(message)
    this.name = 'BlobsMissing'
  }
}

/** As large as registries take them. */
const manifestBytes = 4 << 20
const tagsBytes = 8 << 20
const accept = manifestTypes.join(', ')

export function manifests(host: Host): Manifests {
  const { name, send } = host

  async function body(repository: string, reference: string): Promise<{ answer: Answer; bytes: Buffer } | null> {
    const answer = await send(pathOf(repository, reference), { repository, actions: 'pull' }, { method: 'GET', headers: { accept } })
    if (answer.status === 404) return nothing(answer)
    if (answer.status !== 200) throw await trouble(host, answer, repository, 'tell of an image')
    return { answer, bytes: await answer.bytes(manifestBytes) }
  }

  async function pageOfTags(repository: string, path: string): Promise<{ tags: string[]; next: string | null }> {
    const answer = await send(path, { repository, actions: 'pull' }, { method: 'GET', headers: { accept: 'application/json' } })
    if (answer.status === 404) return { tags: await answer.drop().then(() => []), next: null }
    if (answer.status !== 200) throw await trouble(host, answer, repository, 'list tags')
    const { tags } = (await json(answer, tagsBytes)) as { tags?: unknown }
    if (tags != null && !(Array.isArray(tags) && tags.every((tag) => typeof tag === 'string'))) throw new Unavailable(`The registry ${name} answered with no list of tags of ${repository}.`)
    return { tags: tags ?? [], next: nextPage(answer) }
  }

  return {
    async manifest(repository, reference) {
      const found = await body(repository, reference)
      if (found === null) return null
      const { answer, bytes } = found
      const told = digestIn(answer)
      const digest = isDigest(reference) ? reference : (told ?? digestOf(bytes))
      const other = [digest, told ?? digest].find((one) => one !== digestOf(bytes, one))
      if (other) throw new Unavailable(`The registry ${name} answers for ${reference} of ${repository} with a manifest that is not ${other}: its digest is ${digestOf(bytes, other)}.`)
      return { digest, mediaType: typeOf(answer, bytes), bytes }
    },
    async digest(repository, reference) {
      const answer = await send(pathOf(repository, reference), { repository, actions: 'pull' }, { method: 'HEAD', headers: { accept } })
      if (answer.status === 404) return nothing(answer)
      if (answer.status !== 200 && answer.status !== 405) throw await trouble(host, answer, repository, 'tell of an image')
      await answer.drop()
      const told = digestIn(answer)
      if (told !== null) return told
      const found = await body(repository, reference)
      return found && (digestIn(found.answer) ?? digestOf(found.bytes))
    },
    async put(repository, tag, { mediaType, bytes }) {
      const answer = await send(pathOf(repository, tag), { repository, actions: 'pull,push' }, { method: 'PUT', headers: { 'content-type': mediaType }, body: bytes })
      const own = digestOf(bytes)
      if (answer.status >= 200 && answer.status < 300) {
        await answer.drop()
        const told = digestIn(answer) ?? own
        if (told !== digestOf(bytes, told)) throw new Unavailable(`The registry ${name} says that ${told} lies under ${tag} of ${repository}, where kiln put ${own}: it is something else.`)
        return own
      }
      const refused = await refusedIn(answer)
      const { message } = unavailable(host, answer, refused, repository, `store the image ${tag}`)
      const lacks = refused.codes.some((code) => code === 'MANIFEST_BLOB_UNKNOWN' || code === 'BLOB_UNKNOWN')
      throw lacks ? new BlobsMissing(message, digestsIn(refused.details)) : new Unavailable(message)
    },
    async remove(repository, digest) {
      if (!isDigest(digest)) throw new Error(`${digest} is no digest: only a digest names one image`)
      const answer = await send(pathOf(repository, digest), { repository, actions: 'delete' }, { method: 'DELETE', headers: {} })
      const removed = answer.status >= 200 && answer.status < 300
      if (removed || answer.status === 404) {
        await answer.drop()
        return removed ? 'removed' : 'missing'
      }
      if (!isRefusal(answer)) throw await trouble(host, answer, repository, 'remove an image')
      return { refused: `The registry ${name} does not allow kiln to remove images of ${repository}: ${(await refusedIn(answer)).reason}.` }
    },
    async tags(repository) {
      const all = new Set<string>()
      let next: string | null = `${repositoryPath(repository)}/tags/list?n=1000`
      while (next !== null) {
        const page = await pageOfTags(repository, next)
        const before = all.size
        for (const tag of page.tags) all.add(tag)
        // A page without anything new leads nowhere.
        next = all.size > before ? page.next : null
      }
      return [...all]
    },
  }
}

/** Throws for what no registry can have: that is kiln's own mistake. */
export function repositoryPath(repository: string): string {
  if (!isRepository(repository)) throw new Error(`${repository} is no repository`)
  return `/v2/${repository}`
}

function pathOf(repository: string, reference: string): string {
  if (!isDigest(reference) && !isTag(reference)) throw new Error(`${reference} is neither tag nor digest`)
  return `${repositoryPath(repository)}/manifests/${reference}`
}

/** Of the header; of the manifest itself where that says nothing in particular. */
function typeOf(answer: Answer, bytes: Buffer): string {
  const told = answer.header('content-type')?.split(';')[0]!.trim().toLowerCase() ?? ''
  if (!['', 'application/json', 'application/octet-stream', 'text/plain'].includes(told)) return told
  try {
    const { mediaType } = JSON.parse(bytes.toString()) as { mediaType?: unknown }
    return typeof mediaType === 'string' ? mediaType : told
  } catch {
    return told
  }
}

/** Some registries give the digest itself, some an object around it. */
function digestsIn(details: unknown[]): string[] {
  const given = details.map((detail) => (typeof detail === 'object' && detail !== null ? (detail as { digest?: unknown }).digest : detail))
  return given.filter((digest): digest is string => typeof digest === 'string' && isDigest(digest))
}

/** `Link: </v2/…/tags/list?last=…>; rel="next"`, of the same registry. */
function nextPage(answer: Answer): string | null {
  const [, target] = /<([^>]+)>\s*;\s*rel="?next"?/.exec(answer.header('link') ?? '') ?? []
  if (target === undefined || !URL.canParse(target, answer.url.href)) return null
  const url = new URL(target, answer.url)
  return url.host === answer.url.host ? `${url.pathname}${url.search}` : null
}
