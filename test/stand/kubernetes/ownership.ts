// The garbage collector of the stand-in: dependents go with their owner, before it or after it, and a namespace goes with what was in it.
import { hasFinalizers, type Remove } from './deletion.ts'
import { kinds, pluralOf } from './kinds.ts'
import type { Change, Kind, Store, Thing } from './store.ts'

/** Hears the store from now on; returns how to stop. */
export function collectGarbage(store: Store, remove: Remove): () => void {
  const family = families(store)
  const drop = (kind: Kind, thing: Thing): void => store.drop(kind, thing.metadata.namespace, thing.metadata.name)
  const withoutOwners = (thing: Thing): boolean => hasOwners(thing) && family.owners(thing).every((one) => one !== 'unknown' && one.thing === null)

  /** Deletes the dependents of an owner that waits for them, or lets go of them; without any left it is gone itself. */
  const finish = (kind: Kind, owner: Thing): void => {
    const finalizers = owner.metadata.finalizers ?? []
    const { uid, namespace, name } = owner.metadata
    if (finalizers.includes('orphan')) for (const dependent of family.dependents(uid)) release(store, dependent, uid)
    if (finalizers.includes('foregroundDeletion')) {
      for (const { kind: below, thing } of family.dependents(uid)) {
        remove(below, thing, family.dependents(thing.metadata.uid).length > 0 ? 'Foreground' : 'Background', null)
      }
      if (family.dependents(uid).length > 0) return
    }
    const present = store.get(kind, namespace, name)
    if (present?.metadata.uid !== uid) return
    const left = finalizers.filter((one) => one !== 'foregroundDeletion' && one !== 'orphan')
    if (left.length === 0) drop(kind, present)
    else if (left.length < finalizers.length) store.put(kind, { ...present, metadata: { ...present.metadata, finalizers: left } })
  }
  const emptied = (namespace: string): void => {
    const space = store.get('namespaces', '', namespace)
    if (space !== null && isLeaving(space) && family.count(namespace) === 0) drop('namespaces', space)
  }
  const added = (kind: Kind, { metadata: { namespace, name, uid } }: Thing): void => {
    const thing = store.get(kind, namespace, name)
    if (thing?.metadata.uid !== uid) return
    const space = store.get('namespaces', '', namespace)
    const late = family.owners(thing).some((one) => one !== 'unknown' && one.thing?.metadata.finalizers?.includes('foregroundDeletion'))
    if (withoutOwners(thing) || late || (space !== null && isLeaving(space))) remove(kind, thing, 'Background', null)
  }
  const deleted = (thing: Thing): void => {
    for (const { kind, thing: dependent } of family.dependents(thing.metadata.uid)) if (withoutOwners(dependent)) remove(kind, dependent, 'Background', null)
    for (const one of family.owners(thing)) if (one !== 'unknown' && one.thing !== null && isLeaving(one.thing)) finish(one.kind, one.thing)
    emptied(thing.metadata.namespace)
  }
  const changed = (kind: Kind, before: Thing, after: Thing): void => {
    const marked = isLeaving(after) && !isLeaving(before)
    const freed = isLeaving(after) && hasFinalizers(before) && !hasFinalizers(after)
    if (kind === 'namespaces' && marked) emptySpace(store, remove, after.metadata.name, emptied)
    // The kubelet ends a pod, unless only a finalizer held it.
    else if (kind === 'pods' ? freed && after.metadata.deletionGracePeriodSeconds === 0 : marked || freed) finish(kind, after)
  }
  return store.hear((kind, change) => {
    family.note(kind, change)
    if (change.type === 'ADDED') added(kind, change.object)
    else if (change.type === 'DELETED') deleted(change.object)
    else changed(kind, change.previous!, change.object)
  })
}

const isLeaving = (thing: Thing): boolean => thing.metadata.deletionTimestamp !== undefined

function emptySpace(store: Store, remove: Remove, namespace: string, emptied: (namespace: string) => void): void {
  for (const { plural, namespaced } of Object.values(kinds)) {
    if (namespaced) for (const thing of store.list(plural, namespace)) remove(plural, thing, 'Background', null)
  }
  emptied(namespace)
}

interface Member {
  kind: Kind
  thing: Thing
}
type Owner = { kind: Kind; thing: Thing | null }

interface Families {
  note(kind: Kind, change: Change): void
  dependents(uid: string): Member[]
  /** null: gone. `unknown`: of a kind that the stand-in does not have, and so taken to be there. */
  owners(thing: Thing): Array<Owner | 'unknown'>
  /** How many objects a namespace has. */
  count(namespace: string): number
}

function families(store: Store): Families {
  /** By the uid of the owner, then by the uid of the dependent. */
  const children = new Map<string, Map<string, { kind: Kind; namespace: string; name: string }>>()
  const counts = new Map<string, number>()
  const link = (kind: Kind, { metadata: { uid, namespace, name } }: Thing, owner: string): void => {
    const mine = children.get(owner) ?? new Map<string, { kind: Kind; namespace: string; name: string }>()
    children.set(owner, mine.set(uid, { kind, namespace, name }))
  }
  const unlink = (uid: string, owner: string): void => {
    const mine = children.get(owner)
    mine?.delete(uid)
    if (mine?.size === 0) children.delete(owner)
  }
  const note = (kind: Kind, { type, object, previous }: Change): void => {
    const { uid, namespace } = object.metadata
    const after = type === 'DELETED' ? [] : ownerIds(object)
    for (const owner of previous === undefined ? [] : ownerIds(previous)) if (!after.includes(owner)) unlink(uid, owner)
    for (const owner of after) link(kind, object, owner)
    if (type !== 'MODIFIED') counts.set(namespace, (counts.get(namespace) ?? 0) + (type === 'ADDED' ? 1 : -1))
  }
  for (const { plural } of Object.values(kinds)) for (const object of store.list(plural, null)) note(plural, { type: 'ADDED', object })
  return {
    note,
    dependents: (owner) => [...(children.get(owner) ?? [])].flatMap(([uid, { kind, namespace, name }]) => {
      const thing = store.get(kind, namespace, name)
      return thing?.metadata.uid === uid ? [{ kind, thing }] : []
    }),
    owners: (thing) => (thing.metadata.ownerReferences ?? []).map(({ apiVersion, kind: name, name: owner, uid }) => {
      const kind = pluralOf(apiVersion, name)
      if (kind === null) return 'unknown'
      const found = store.get(kind, kinds[kind].namespaced ? thing.metadata.namespace : '', owner)
      return { kind, thing: found?.metadata.uid === uid ? found : null }
    }),
    count: (namespace) => counts.get(namespace) ?? 0,
  }
}

const ownerIds = (thing: Thing): string[] => (thing.metadata.ownerReferences ?? []).map(({ uid }) => uid)
const hasOwners = (thing: Thing): boolean => ownerIds(thing).length > 0

/** The dependent stays, and has one owner less. */
function release(store: Store, { kind, thing }: Member, uid: string): void {
  const { ownerReferences = [], ...metadata } = thing.metadata
  const left = ownerReferences.filter((one) => one.uid !== uid)
  store.put(kind, { ...thing, metadata: { ...metadata, ...(left.length > 0 && { ownerReferences: left }) } })
}
