// A container registry, over the HTTP API of the OCI distribution specification.
import { createHash } from 'node:crypto'
import { Unavailable } from '../trouble.ts'
import { authorization, type Right } from './authorization.ts'
import type { Credentials } from './credentials.ts'
import { isDigest, isRepository, isTag, registryOf } from './image-name.ts'
import { requests, type Answer, type Request } from './requests.ts'

export { credentialsFrom, type Credentials } from './credentials.ts'
export { imageName, type ImageName } from './image-name.ts'

export interface Registry {
  /** The digest that the tag (or digest) names, or null when there is none. Throws Unavailable when the registry cannot be asked: unreachable, 401/403 (named as such), 5xx, 429. */
  digest(repository: string, reference: string): Promise<string | null>
  /** Removes a manifest. `refused` when the registry does not allow it: a sentence for the operator. */
  remove(repository: string, digest: string): Promise<'removed' | 'missing' | { refused: string }>
  /** Tags of a repository; empty when there is none. */
  tags(repository: string): Promise<string[]>
}

const manifests = [
  'application/vnd.oci.image.index.v1+json', 'application/vnd.oci.image.manifest.v1+json',
  'application/vnd.docker.distribution.manifest.list.v2+json', 'application/vnd.docker.distribution.manifest.v2+json',
]
/** As large as registries take them. */
const manifestBytes = 4 << 20
const tagsBytes = 8 << 20
const errorBytes = 64 << 10

/** A client for each host: those of one host share its tokens. `insecure`: hosts that may speak plain http, or https with a certificate of their own. */
export function registries({ insecure, credentials }: { insecure: ReadonlySet<string>; credentials: Credentials }): (host: string) => Registry {
  const made = new Map<string, Registry>()
  const shared = requests(new Set([...insecure].map(registryOf)))
  return (given) => {
    const host = registryOf(given)
    const known = made.get(host) ?? registry(host, credentials, authorization(host, shared, credentials).send)
    made.set(host, known)
    return known
  }
}

type Send = (path: string, right: Right, request: Request) => Promise<Answer>

function registry(host: string, credentials: Credentials, send: Send): Registry {
  const trouble = (answer: Answer, repository: string, what: string): Promise<Unavailable> => unavailable(answer, { host, what, credentials, repository })

  async function digestByBody(repository: string, path: string): Promise<string | null> {
    const answer = await send(path, { repository, actions: 'pull' }, { method: 'GET', headers: { accept: manifests.join(', ') } })
    if (answer.status === 404) return nothing(answer)
    if (answer.status !== 200) throw await trouble(answer, repository, 'tell of an image')
    const bytes = await answer.bytes(manifestBytes)
    return digestIn(answer) ?? `sha256:${createHash('sha256').update(bytes).digest('hex')}`
  }

  async function pageOfTags(repository: string, path: string): Promise<{ tags: string[]; next: string | null }> {
    const answer = await send(path, { repository, actions: 'pull' }, { method: 'GET', headers: { accept: 'application/json' } })
    if (answer.status === 404) return { tags: await answer.drop().then(() => []), next: null }
    if (answer.status !== 200) throw await trouble(answer, repository, 'list tags')
    const { tags } = (await json(answer, tagsBytes)) as { tags?: unknown }
    if (tags != null && !(Array.isArray(tags) && tags.every((tag) => typeof tag === 'string'))) throw new Unavailable(`The registry ${host} answered with no list of tags of ${repository}.`)
    return { tags: tags ?? [], next: nextPage(answer) }
  }

  return {
    async digest(repository, reference) {
      const path = pathOf(repository, reference)
      const answer = await send(path, { repository, actions: 'pull' }, { method: 'HEAD', headers: { accept: manifests.join(', ') } })
      if (answer.status === 404) return nothing(answer)
      if (answer.status !== 200 && answer.status !== 405) throw await trouble(answer, repository, 'tell of an image')
      await answer.drop()
      return digestIn(answer) ?? digestByBody(repository, path)
    },
    async remove(repository, digest) {
      if (!isDigest(digest)) throw new Error(`${digest} is no digest: only a digest names one image`)
      const answer = await send(pathOf(repository, digest), { repository, actions: 'delete' }, { method: 'DELETE', headers: {} })
      const removed = answer.status >= 200 && answer.status < 300
      if (removed || answer.status === 404) {
        await answer.drop()
        return removed ? 'removed' : 'missing'
      }
      if (!isRefusal(answer)) throw await trouble(answer, repository, 'remove an image')
      return { refused: `The registry ${host} does not allow kiln to remove images of ${repository}: ${await reasonOf(answer)}.` }
    },
    async tags(repository) {
      const all = new Set<string>()
      let next: string | null = `${pathOf(repository)}/tags/list?n=1000`
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
function pathOf(repository: string, reference?: string): string {
  if (!isRepository(repository)) throw new Error(`${repository} is no repository`)
  if (reference === undefined) return `/v2/${repository}`
  if (!isDigest(reference) && !isTag(reference)) throw new Error(`${reference} is neither tag nor digest`)
  return `/v2/${repository}/manifests/${reference}`
}

const nothing = (answer: Answer): Promise<null> => answer.drop().then(() => null)

function digestIn(answer: Answer): string | null {
  const digest = answer.header('docker-content-digest')
  return digest !== null && isDigest(digest) ? digest : null
}

/** `Link: </v2/…/tags/list?last=…>; rel="next"`, of the same registry. */
function nextPage(answer: Answer): string | null {
  const [, target] = /<([^>]+)>\s*;\s*rel="?next"?/.exec(answer.header('link') ?? '') ?? []
  if (target === undefined || !URL.canParse(target, answer.url.href)) return null
  const url = new URL(target, answer.url)
  return url.host === answer.url.host ? `${url.pathname}${url.search}` : null
}

/** It was understood and is not allowed, now or later: 401 with `insufficient_scope` means that the token is good and gives no such right. */
function isRefusal({ status, header }: Answer): boolean {
  if (status === 401) return /insufficient_scope/.test(header('www-authenticate') ?? '')
  return status >= 400 && status < 500 && ![408, 425, 429].includes(status)
}

interface About { host: string; repository: string; what: string; credentials: Credentials }

async function unavailable(answer: Answer, { host, repository, what, credentials }: About): Promise<Unavailable> {
  const reason = await reasonOf(answer)
  const { status } = answer
  const said = `The registry ${host}`
  if (!answer.isOfHost) return new Unavailable(`${said} refers to ${answer.url.host} to ${what} of ${repository}, which answered ${reason}.`)
  if (status === 401 && credentials.of(host, repository) === null) return new Unavailable([`${said} wants credentials to ${what} of ${repository}, and kiln has none: ${reason}.`, credentials.lack(host)].filter(Boolean).join(' '))
  if (status === 401) return new Unavailable(`${said} does not accept kiln's credentials to ${what} of ${repository}: ${reason}.`)
  if (status === 403) return new Unavailable(`${said} forbids kiln to ${what} of ${repository}: ${reason}.`)
  if (status === 429) return new Unavailable(`${said} is asked too often to ${what} of ${repository}: ${reason}.`)
  return new Unavailable(`${said} does not ${what} of ${repository}: ${reason}.`)
}

/** The status and, where the registry says why, its first reason. */
async function reasonOf(answer: Answer): Promise<string> {
  const { errors } = (await json(answer, errorBytes).catch(() => ({}))) as { errors?: Array<{ code?: unknown; message?: unknown }> }
  const [first] = Array.isArray(errors) ? errors : []
  const words = [first?.code, first?.message].filter((text) => typeof text === 'string' && text !== '')
  return [answer.status, ...words].join(' ').replace(/\.$/, '')
}

async function json(answer: Answer, limit: number): Promise<object> {
  const bytes = await answer.bytes(limit)
  try {
    const value: unknown = JSON.parse(bytes.toString())
    if (typeof value === 'object' && value !== null) return value
  } catch { /* told below */ }
  throw new Unavailable(`${answer.url.host} answered with something that is no JSON.`)
}
