// Creates and changes objects as the API server does: reads the body, fills in defaults, checks, notes who owns what, and stores.
import { randomInt, randomUUID } from 'node:crypto'
import { isDeepStrictEqual } from 'node:util'
import { applied, ownedAfter, ownedAfterScale } from './apply.ts'
import { checkApplied, decoded, isObject, warningsFor } from './decoding.ts'
import { admittedPod, firstStatus, generationAfter, withAddress, withDefaults } from './defaults.ts'
import {
  alreadyExists, badRequest, beingDeleted, conflict, invalidOptions, invalidValue, namespaceTerminating, notFound, required, unexpected, unsupportedPatch,
} from './errors.ts'
import { kinds } from './kinds.ts'
import { now } from './memory.ts'
import { jsonPatched, mergePatched, strategicPatched } from './patches.ts'
import { schema } from './schema.ts'
import type { Kind, Store, Thing } from './store.ts'
import { refuseInvalid } from './validity.ts'

/** Where a request writes, and how. */
export interface Target {
  kind: Kind
  /** '' for a kind that has no namespaces. */
  namespace: string
  name: string
  manager: string
  /** Checks everything, stores nothing. */
  dryRun: boolean
  /** fieldValidation: Strict, Warn or Ignore. */
  validation: string
}

export interface Written {
  thing: Thing
  created: boolean
  warnings: string[]
}

export interface Writing {
  create(target: Target, body: Record<string, unknown>): Written
  /** PUT. */
  replace(target: Target, body: Record<string, unknown>): Written
  /** PATCH of the older kinds, by their content type. */
  patch(target: Target, contentType: string, patch: unknown): Written
  /** Server-side apply. `mayCreate` throws when the caller may not create what does not exist. */
  apply(target: Target, body: Record<string, unknown>, force: boolean, mayCreate: () => void): Written
  /** spec.replicas, through the scale subresource. */
  scale(target: Target, patch: unknown): Thing
}

export function writing(store: Store): Writing {
  const freeAddress = addresses(store)
  const stored = (target: Target, thing: Thing): Thing =>
    (target.dryRun ? { ...thing, metadata: { ...thing.metadata, uid: thing.metadata.uid || randomUUID() } } : store.put(target.kind, thing))

  const add = (target: Target, thing: Thing): Thing => {
    const { kind } = target
    const { namespace, name } = thing.metadata
    const addressed = kind === 'services' ? withAddress(thing, freeAddress) : kind === 'pods' ? admittedPod(thing) : thing
    refuseInvalid(kind, addressed, null)
    const found = store.get(kind, namespace, name)
    if (found !== null) throw found.metadata.deletionTimestamp === undefined ? alreadyExists(kind, name) : beingDeleted(kind, name)
    return stored(target, addressed)
  }
  const change = (target: Target, live: Thing, next: Thing): Thing => {
    refuseInvalid(target.kind, next, live)
    const generation = generationAfter(target.kind, live, raises(target.kind, live, next))
    return stored(target, { ...next, metadata: { ...next.metadata, generation } })
  }
  const existing = ({ kind, namespace, name }: Target): Thing => {
    const live = store.get(kind, namespace, name)
    if (live === null) throw notFound(kind, name)
    return live
  }
  const update = (target: Target, live: Thing, body: Record<string, unknown>): Written => {
    const { thing, unknown } = decoded(target.kind, body)
    const warnings = warningsFor(target.kind, unknown, target.validation)
    refuseOthers(target, live, thing)
    const next = withDefaults(target.kind, withFixed(target.kind, live, thing))
    const managedFields = ownedAfter(target.kind, live, next, { name: target.manager, operation: 'Update' })
    return { thing: change(target, live, { ...next, metadata: { ...next.metadata, managedFields } }), created: false, warnings }
  }

  return {
    create(target, body) {
      const { thing, unknown } = decoded(target.kind, body)
      const warnings = warningsFor(target.kind, unknown, target.validation)
      const named = asNew(store, target, thing)
      const managedFields = ownedAfter(target.kind, null, named, { name: target.manager, operation: 'Update' })
      return { thing: add(target, { ...named, metadata: { ...named.metadata, managedFields } }), created: true, warnings }
    },
    replace(target, body) {
      const given = isObject(body['metadata']) ? body['metadata']['name'] : undefined
      if (given !== undefined && given !== target.name) throw badRequest(`the name of the object (${given}) does not match the name on the URL (${target.name})`)
      return update(target, existing(target), body)
    },
    patch(target, contentType, patch) {
      const live = existing(target)
      return update(target, live, patched(target.kind, live, contentType, patch))
    },
    apply(target, body, force, mayCreate) {
      const config = readConfig(target, body)
      const live = store.get(target.kind, target.namespace, target.name)
      if (live !== null) {
        refuseOthers(target, live, config)
        const next = withFixed(target.kind, live, applied(target.kind, live, config, target.manager, force))
        return { thing: change(target, live, withDefaults(target.kind, next)), created: false, warnings: [] }
      }
      mayCreate()
      const next = applied(target.kind, null, config, target.manager, force)
      return { thing: add(target, asNew(store, target, next)), created: true, warnings: [] }
    },
    scale(target, patch) {
      const live = existing(target)
      const replicas = replicasOf(patch) ?? live.spec.replicas
      if (replicas < 0) throw invalidOptions('Scale', 'autoscaling', target.name, [invalidValue('spec.replicas', replicas, 'must be greater than or equal to 0')])
      return scaled(store, target.kind, live, replicas, target.manager)
    },
  }
}

/** Sets spec.replicas as the scale subresource does, which is how an autoscaler does it. */
export function scaled(store: Store, kind: Kind, live: Thing, replicas: number, manager: string): Thing {
  if (live.spec.replicas === replicas) return live
  const metadata = { ...live.metadata, generation: generationAfter(kind, live, true), managedFields: ownedAfterScale(kind, live, manager) }
  return store.put(kind, { ...live, metadata, spec: { ...live.spec, replicas } })
}

const replicasOf = (patch: unknown): number | undefined => (patch as { spec?: { replicas?: number } } | null)?.spec?.replicas

/** A new object: in a namespace that takes new ones, with a name, defaults and its first status. */
function asNew(store: Store, target: Target, thing: Thing): Thing {
  const { kind, namespace } = target
  const { resourceVersion, generateName } = thing.metadata as Thing['metadata'] & { generateName?: string }
  const given = thing.metadata.namespace ?? ''
  const isElsewhere = kinds[kind].namespaced && given !== '' && given !== namespace
  if (isElsewhere) throw badRequest('the namespace of the provided object does not match the namespace sent on the request')
  if (resourceVersion !== undefined && resourceVersion !== '') throw unexpected('resourceVersion should not be set on objects to be created')
  const name = thing.metadata.name || (generateName ? generateName + suffix() : '')
  refuseNamespace(store, kind, namespace, name)
  const { labels, annotations, finalizers, ownerReferences, managedFields } = thing.metadata
  const generation = generationAfter(kind, null, true)
  const metadata = { name, ...(generateName && { generateName }), namespace, uid: '', resourceVersion: '', generation, creationTimestamp: now() }
  const made = withDefaults(kind, { ...thing, status: undefined, metadata: { ...metadata, labels, annotations, finalizers, ownerReferences, managedFields } })
  return { ...made, status: firstStatus(kind, made) }
}

function refuseNamespace(store: Store, kind: Kind, namespace: string, name: string): void {
  if (!kinds[kind].namespaced) return
  const space = store.get('namespaces', '', namespace)
  if (space === null) throw notFound('namespaces', namespace)
  if (space.metadata.deletionTimestamp !== undefined) throw namespaceTerminating(kind, name, namespace)
}

/** A body that means another version, or another object of the same name. */
function refuseOthers({ kind, namespace, name }: Target, live: Thing, thing: Thing): void {
  const { resourceVersion, uid } = thing.metadata
  if (uid && uid !== live.metadata.uid) {
    const key = `/registry/${kind === 'services' ? 'services/specs' : kind}/${namespace}/${name}`
    throw conflict(kind, name, `StorageError: invalid object, Code: 4, Key: ${key}, ResourceVersion: 0, `
      + `AdditionalErrorMsg: Precondition failed: UID in precondition: ${uid}, UID in object meta: ${live.metadata.uid}`)
  }
  if (resourceVersion && resourceVersion !== live.metadata.resourceVersion) throw conflict(kind, name)
}

/** What nobody changes by writing the object itself: its identity, its deletion, its status, the address of a Service. */
function withFixed(kind: Kind, live: Thing, next: Thing): Thing {
  const { name, namespace, uid, resourceVersion, creationTimestamp, deletionTimestamp, deletionGracePeriodSeconds } = live.metadata
  const fixed = { name, namespace, uid, resourceVersion, creationTimestamp, deletionTimestamp, deletionGracePeriodSeconds }
  const { clusterIP, clusterIPs, ipFamilies, ipFamilyPolicy } = live.spec ?? {}
  const spec = kind === 'services' ? { spec: { clusterIP, clusterIPs, ipFamilies, ipFamilyPolicy, ...next.spec } } : {}
  return { ...next, ...spec, metadata: { ...next.metadata, ...fixed }, ...('status' in schema[kind].fields && { status: live.status }) }
}

function readConfig(target: Target, body: Record<string, unknown>): Thing {
  const { kind, name, manager, namespace } = target
  const metadata = isObject(body['metadata']) ? body['metadata'] : {}
  const given = metadata['name']
  if (manager === '') throw invalidOptions('PatchOptions', 'meta.k8s.io', '', [required('fieldManager', 'is required for apply patch')])
  if ((metadata['managedFields'] ?? null) !== null) throw badRequest('metadata.managedFields must be nil')
  if (given !== undefined && given !== name) throw badRequest(`the name of the object (${given}) does not match the name on the URL (${name})`)
  checkApplied(kind, name, body)
  const { thing } = decoded(kind, body)
  return { ...thing, metadata: { ...thing.metadata, name, namespace: thing.metadata.namespace ?? namespace } }
}

function patched(kind: Kind, live: Thing, contentType: string, patch: unknown): Record<string, unknown> {
  const base: unknown = structuredClone({ ...live, metadata: { ...live.metadata, resourceVersion: undefined, managedFields: undefined } })
  if (contentType === 'application/merge-patch+json') return mergePatched(base, patch) as Record<string, unknown>
  if (contentType === 'application/strategic-merge-patch+json') return strategicPatched(base, patch, schema[kind]) as Record<string, unknown>
  if (contentType === 'application/json-patch+json') return jsonPatched(base, patch) as Record<string, unknown>
  throw unsupportedPatch()
}

/** A new spec; for a Deployment, new annotations too. */
const raises = (kind: Kind, live: Thing, next: Thing): boolean =>
  !sameJson(live.spec, next.spec) || (kind === 'deployments' && !sameJson(live.metadata.annotations ?? {}, next.metadata.annotations ?? {}))
const sameJson = (a: unknown, b: unknown): boolean => isDeepStrictEqual(plain(a), plain(b))
const plain = (value: unknown): unknown => (value === undefined ? undefined : JSON.parse(JSON.stringify(value)))

const letters = 'bcdfghjklmnpqrstvwxz2456789'
/** Five letters that make no words, as generateName and controllers put behind a name. */
export const suffix = (): string => Array.from({ length: 5 }, () => letters[randomInt(letters.length)]).join('')

/** Addresses for Services, each once. */
function addresses(store: Store): () => string {
  const taken = new Set(store.list('services', null).map((service) => service.spec?.clusterIP))
  let last = 0
  return () => {
    for (;;) {
      last += 1
      const address = `10.96.${last >> 8}.${last & 255}`
      if (!taken.has(address)) return address
    }
  }
}
