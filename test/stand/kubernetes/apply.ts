// Server-side apply: who owns which field, what an apply changes, removes and collides with.
import { fieldConflicts } from './errors.ts'
import {
  appliedFields, at, both, childrenOf, differenceOf, itemElement, pathText, sameSet, setOf, treeOf, union, without, withParents, type FieldSet, type FieldTree,
} from './fields.ts'
import { isObject } from './decoding.ts'
import { apiVersionOf, kinds } from './kinds.ts'
import { now } from './memory.ts'
import { isList, isMap, isStruct, schema, type ListOf, type Shape } from './schema.ts'
import type { Kind, Thing } from './store.ts'

export interface Manager {
  name: string
  operation: 'Apply' | 'Update'
  subresource?: string
}

interface Entry {
  manager: string
  operation: 'Apply' | 'Update'
  apiVersion: string
  time?: string
  fieldsType: 'FieldsV1'
  fieldsV1: FieldTree
  subresource?: string
}

interface Owner extends Manager {
  fields: FieldSet
  time?: string
}

/** The object after an apply, before defaults are filled in. Throws 409 when others own what it would change, unless it is forced. */
export function applied(kind: Kind, live: Thing | null, config: Thing, manager: string, force: boolean): Thing {
  const shape = schema[kind]
  const me: Manager = { name: manager, operation: 'Apply' }
  const wanted = ownable(config)
  const mine = appliedFields(wanted, shape)
  const before = live === null ? {} : ownable(live)
  const owners = live === null ? [] : ownersOf(live)
  const others = owners.filter((owner) => !isSame(owner, me))
  const last = owners.find((owner) => isSame(owner, me))?.fields ?? new Set<string>()
  const dropped = without(withParents(last), withParents(mine))
  const kept = withParents(union(mine, ...others.map(({ fields }) => fields)))
  const next = (pruned(merged(before, wanted, shape), shape, '', dropped, kept) ?? {}) as Partial<Thing>
  const { changed, removed } = differenceOf(before, next, shape)
  refuseConflicts(kind, others, changed, force)
  const left = others.map((owner) => ({ ...owner, fields: without(without(owner.fields, changed), removed) }))
  const metadata = { ...(live ?? config).metadata, labels: undefined, annotations: undefined, ownerReferences: undefined, finalizers: undefined, ...next.metadata }
  const managedFields = written(kind, [...left, { ...me, fields: mine }], owners)
  return { ...live, ...withoutOwnable(live), ...next, apiVersion: config.apiVersion, kind: config.kind, metadata: { ...metadata, managedFields } } as Thing
}

/** managedFields after a POST, PUT or PATCH: whoever changed a field owns it, and nobody else does. */
export function ownedAfter(kind: Kind, before: Thing | null, after: Thing, manager: Manager): Entry[] {
  const owners = before === null ? [] : ownersOf(before)
  const { changed, removed } = differenceOf(before === null ? {} : ownable(before), ownable(after), schema[kind])
  const mine = owners.find((owner) => isSame(owner, manager))?.fields ?? new Set<string>()
  const others = owners.filter((owner) => !isSame(owner, manager)).map((owner) => ({ ...owner, fields: without(without(owner.fields, changed), removed) }))
  return written(kind, [...others, { ...manager, fields: without(union(mine, changed), removed) }], owners)
}

/** spec.replicas set through the scale subresource: it has a new owner only if it had one. */
export function ownedAfterScale(kind: Kind, before: Thing, manager: string): Entry[] {
  const replicas = at('f:spec', 'f:replicas')
  const owners = ownersOf(before)
  if (!owners.some(({ fields }) => fields.has(replicas))) return written(kind, owners, owners)
  const left = owners.map((owner) => ({ ...owner, fields: without(owner.fields, new Set([replicas])) }))
  const me: Manager = { name: manager, operation: 'Update', subresource: 'scale' }
  return written(kind, [...left.filter((owner) => !isSame(owner, me)), { ...me, fields: new Set([replicas]) }], owners)
}

const isSame = (a: Manager, b: Manager): boolean => a.name === b.name && a.operation === b.operation && a.subresource === b.subresource

/** Without what no manager owns: what names the object, what the server itself sets, and the status. */
function ownable(thing: Thing): Partial<Thing> {
  const { apiVersion: _version, kind: _kind, status: _status, metadata, ...rest } = thing
  const { labels, annotations, finalizers, ownerReferences, generateName } = metadata as Thing['metadata'] & { generateName?: string }
  const owned = Object.fromEntries(Object.entries({ labels, annotations, finalizers, ownerReferences, generateName }).filter(([, value]) => value !== undefined))
  return { ...rest, metadata: owned as unknown as Thing['metadata'] }
}

const withoutOwnable = (thing: Thing | null): Record<string, undefined> =>
  Object.fromEntries(Object.keys(thing === null ? {} : ownable(thing)).map((name) => [name, undefined]))

const ownersOf = (thing: Thing): Owner[] => ((thing.metadata.managedFields ?? []) as Entry[])
  .map(({ manager, operation, subresource, time, fieldsV1 }) => ({ name: manager, operation, subresource, time, fields: setOf(fieldsV1) }))

/** Appliers come first, then by time: the order in which the API shows them. A time stays while the fields do. */
function written(kind: Kind, owners: Owner[], before: Owner[]): Entry[] {
  const entries = owners.filter(({ fields }) => fields.size > 0).map((owner): Entry => {
    const was = before.find((one) => isSame(one, owner))
    const time = was !== undefined && sameSet(was.fields, owner.fields) ? was.time : now()
    const { name, operation, subresource } = owner
    return { manager: name, operation, apiVersion: apiVersionOf(kinds[kind]), time, fieldsType: 'FieldsV1', fieldsV1: treeOf(owner.fields), ...(subresource && { subresource }) }
  })
  const order = ({ operation, time, manager }: Entry): string => `${operation} ${time} ${manager}`
  return entries.sort((a, b) => (order(a) < order(b) ? -1 : 1))
}

function refuseConflicts(kind: Kind, others: Owner[], changed: FieldSet, force: boolean): void {
  if (force) return
  const version = apiVersionOf(kinds[kind])
  const conflicts = others.flatMap((owner) => [...both(owner.fields, changed)].sort().map((path) => ({ owner: ownerText(owner, version), field: pathText(path) })))
  if (conflicts.length > 0) throw fieldConflicts(conflicts)
}

const ownerText = ({ name, operation, subresource }: Manager, version: string): string =>
  (operation === 'Apply' ? `"${name}"` : `"${name}"${subresource ? ` with subresource "${subresource}"` : ''} using ${version}`)

/** Both together: the config wins, and lists with keys are joined by them. */
function merged(live: unknown, config: unknown, shape: Shape): unknown {
  if (live === undefined || config === undefined) return config === undefined ? live : config
  if (childrenOf(live, shape) === null || childrenOf(config, shape) === null) return config
  if (isList(shape)) return mergedList(live as unknown[], config as unknown[], shape)
  const [old, next] = [live as Record<string, unknown>, config as Record<string, unknown>]
  const below = (name: string): Shape => (isStruct(shape) ? shape.fields[name] ?? 'any' : isMap(shape) ? shape.map : 'any')
  return Object.fromEntries([...new Set([...Object.keys(old), ...Object.keys(next)])].map((name) => [name, merged(old[name], next[name], below(name))]))
}

/** In the order of the config; what only the live list has stays before what followed it there. */
function mergedList(live: unknown[], config: unknown[], shape: ListOf): unknown[] {
  const old = new Map(live.map((item) => [itemElement(item, shape), item]))
  const wanted = config.map((item) => ({ element: itemElement(item, shape), item }))
  const names = new Set(wanted.map(({ element }) => element))
  const result: unknown[] = []
  const takeUntil = (end: string | null): void => {
    while (wanted.length > 0) {
      const { element, item } = wanted.shift()!
      result.push(merged(old.get(element), item, shape.list))
      if (element === end) return
    }
  }
  for (const [element, item] of old) {
    if (!names.has(element)) result.push(item)
    else if (wanted.some((one) => one.element === element)) takeUntil(element)
  }
  takeUntil(null)
  return result
}

/** Takes out what was dropped, but for what is kept of it: there, only what somebody owns stays, and what an entry of a list is known by. */
function pruned(value: unknown, shape: Shape, path: string, dropped: FieldSet, kept: FieldSet, within = false, keys: string[] = []): unknown {
  const gone = within || dropped.has(path)
  const children = childrenOf(value, shape)
  if (children === null) return value
  const left = children.flatMap((child) => {
    const place = at(path, child.element)
    if ((gone || dropped.has(place)) && !kept.has(place) && !keys.includes(child.element.slice(2))) return []
    const rest = pruned(child.value, child.shape, place, dropped, kept, gone, isList(shape) ? shape.keys : [])
    return rest === undefined ? [] : [{ ...child, value: rest }]
  })
  if (left.length === 0 && children.length > 0) return undefined
  return isObject(value) ? Object.fromEntries(left.map((child) => [child.element.slice(2), child.value])) : left.map((child) => child.value)
}
