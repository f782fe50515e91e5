// The paths of the API: which kind, where, which object, and what of it.
import { unknownGroup, unknownResource } from './errors.ts'
import { apiVersionOf, kinds } from './kinds.ts'
import type { Kind } from './store.ts'

export interface Place {
  kind: Kind
  /** null: all namespaces, or a kind that has none. */
  namespace: string | null
  /** null: the collection. */
  name: string | null
  /** `log`, `scale`, or ''. */
  subresource: string
}

const subresources: Partial<Record<Kind, string[]>> = { pods: ['log'], deployments: ['scale'], replicasets: ['scale'] }

/** Throws 404 as the real server does: text for an unknown group or version, a Status for an unknown resource. */
export function placeOf(pathname: string): Place {
  const [root, ...parts] = pathname.split('/').filter((part) => part !== '').map(decodeURIComponent)
  const version = root === 'api' ? parts.shift() : root === 'apis' ? parts.splice(0, 2).join('/') : undefined
  const known = Object.values(kinds).filter((facts) => apiVersionOf(facts) === version && (root === 'api') === (facts.group === ''))
  if (known.length === 0) throw unknownGroup()
  const namespace = parts[0] === 'namespaces' && parts.length > 2 ? parts.splice(0, 2)[1]! : null
  const [plural, name = null, subresource = '', ...more] = parts
  const facts = known.find((one) => one.plural === plural)
  if (facts === undefined || more.length > 0 || (namespace === null && name !== null && facts.namespaced)) throw unknownResource()
  if (subresource !== '' && !subresources[facts.plural]?.includes(subresource)) throw unknownResource()
  return { kind: facts.plural, namespace, name, subresource }
}

const verbs = ['create', 'delete', 'deletecollection', 'get', 'list', 'patch', 'update', 'watch']

/** What clients ask to learn the paths by: null for a path that is no such question. */
export function discovered(pathname: string): object | null {
  const path = pathname.replace(/\/$/, '')
  const versions = [...new Set(Object.values(kinds).map(apiVersionOf))]
  if (path === '/api') return { kind: 'APIVersions', versions: ['v1'], serverAddressByClientCIDRs: [] }
  if (path === '/apis') return { kind: 'APIGroupList', apiVersion: 'v1', groups: versions.filter((version) => version !== 'v1').map(groupOf) }
  const version = versions.find((one) => path === (one === 'v1' ? '/api/v1' : `/apis/${one}`))
  if (version === undefined) return null
  const resources = Object.values(kinds).filter((facts) => apiVersionOf(facts) === version)
    .map(({ plural, kind, namespaced }) => ({ name: plural, singularName: kind.toLowerCase(), namespaced, kind, verbs }))
  return { kind: 'APIResourceList', apiVersion: 'v1', groupVersion: version, resources }
}

const groupOf = (groupVersion: string): object => {
  const [name, version] = groupVersion.split('/')
  return { name, versions: [{ groupVersion, version }], preferredVersion: { groupVersion, version } }
}
