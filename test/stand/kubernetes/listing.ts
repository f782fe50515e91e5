// Lists: selectors, pages that stay consistent, and versions of the past.
import { badRequest, continueTooOld, listTooOld, unexpected, versionTooLarge } from './errors.ts'
import { apiVersionOf, kinds } from './kinds.ts'
import { selectorOf } from './selectors.ts'
import type { Kind, Store, Thing } from './store.ts'

interface Place {
  version: number
  /** The key of the last object that was given. */
  after: string
}

export interface ListBody {
  kind: string
  apiVersion: string
  metadata: { resourceVersion: string; continue?: string; remainingItemCount?: number }
  items: unknown[]
}

export function listed(store: Store, kind: Kind, namespace: string | null, query: URLSearchParams): ListBody {
  const [labels, fields] = [query.get('labelSelector') ?? '', query.get('fieldSelector') ?? '']
  const matches = selectorOf(kind, labels, fields)
  const place = placeOf(store, query, namespace)
  const things = (place.version === store.version() ? store.list(kind, namespace) : listedAt(store, kind, namespace, place.version)!)
  const left = things.filter((thing) => matches(thing) && (place.after === '' || keyOf(thing, namespace) > place.after))
  const limit = query.get('resourceVersion') === '0' ? 0 : Number(query.get('limit') ?? 0)
  const page = limit > 0 ? left.slice(0, limit) : left
  const metadata: ListBody['metadata'] = { resourceVersion: String(place.version) }
  if (page.length < left.length) {
    metadata.continue = token({ version: place.version, after: keyOf(page.at(-1)!, namespace) })
    if (labels === '' && fields === '') metadata.remainingItemCount = left.length - page.length
  }
  return { kind: `${kinds[kind].kind}List`, apiVersion: apiVersionOf(kinds[kind]), metadata, items: page.map(asItem) }
}

/** In a list, items do not say what they are. */
export function asItem(thing: Thing): unknown {
  const { apiVersion: _version, kind: _kind, ...rest } = shown(thing)
  return rest
}

/** As it goes over the wire: what has no namespace does not say so. */
export function shown(thing: Thing): Thing {
  const { apiVersion, kind, metadata, ...rest } = thing
  if (metadata.namespace !== '') return { kind, apiVersion, metadata, ...rest }
  const { namespace: _namespace, ...named } = metadata
  return { kind, apiVersion, metadata: named as Thing['metadata'], ...rest }
}

const keyOf = ({ metadata: { namespace, name } }: Thing, within: string | null): string => (within === null ? `${namespace}/${name}` : `/${name}`)

function placeOf(store: Store, query: URLSearchParams, namespace: string | null): Place {
  const asked = query.get('resourceVersion') ?? ''
  const given = query.get('continue') ?? ''
  if (given !== '' && asked !== '' && asked !== '0') throw badRequest('specifying resource version is not allowed when using continue')
  if (given !== '') return continued(store, given, namespace)
  const current = store.version()
  if (asked === '') return { version: current, after: '' }
  const version = versionOf(asked)
  if (version > current) throw versionTooLarge(asked, current)
  if (query.get('resourceVersionMatch') !== 'Exact') return { version: current, after: '' }
  if (store.since(version) === null) throw listTooOld()
  return { version, after: '' }
}

/** Also for watches: a version is a number. */
export function versionOf(text: string): number {
  if (!/^\d+$/.test(text)) throw unexpected(`resourceVersion: Invalid value: ${JSON.stringify(text)}: strconv.ParseUint: parsing ${JSON.stringify(text)}: invalid syntax`)
  return Number(text)
}

/** A version of -1 goes on in the present state. */
const token = ({ version, after }: Place): string => Buffer.from(JSON.stringify({ v: 'meta.k8s.io/v1', rv: version, start: `${after}\u0000` })).toString('base64url')

function continued(store: Store, text: string, namespace: string | null): Place {
  const { rv, start } = readToken(text)
  const bare = start.replace(/\u0000$/, '')
  // A token that goes on in the present state names the object without the slash before it.
  const after = namespace !== null && !bare.startsWith('/') ? `/${bare}` : bare
  if (rv === -1) return { version: store.version(), after }
  if (store.since(rv) === null) throw continueTooOld(token({ version: -1, after: after.replace(/^\//, '') }))
  return { version: rv, after }
}

function readToken(text: string): { rv: number; start: string } {
  const json = Buffer.from(text, 'base64url').toString('latin1')
  try {
    const { v, rv, start } = JSON.parse(json) as { v?: string; rv?: number; start?: string }
    if (v === 'meta.k8s.io/v1' && typeof rv === 'number' && typeof start === 'string') return { rv, start }
  } catch {
    // What it cannot be read as is said below.
  }
  const code = json.charCodeAt(0)
  const first = code > 32 && code < 127 ? json[0]! : `\\u${(code || 0).toString(16).padStart(4, '0')}`
  throw badRequest(`invalid continue token: continue key is not valid: invalid character '${first}' looking for beginning of value`)
}

/** The list as it was at a version, or null when that is forgotten. */
export function listedAt(store: Store, kind: Kind, namespace: string | null, version: number): Thing[] | null {
  const changes = store.since(version)
  if (changes === null) return null
  const things = new Map(store.list(kind, namespace).map((thing) => [`${thing.metadata.namespace}/${thing.metadata.name}`, thing]))
  for (const { kind: changed, change: { type, object, previous } } of changes.reverse()) {
    if (changed !== kind || (namespace !== null && object.metadata.namespace !== namespace)) continue
    const key = `${object.metadata.namespace}/${object.metadata.name}`
    if (type === 'ADDED') things.delete(key)
    else things.set(key, previous!)
  }
  return [...things].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, thing]) => thing)
}
