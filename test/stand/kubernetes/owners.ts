// Owners: which objects name an object as their owner, kept up to date so that a thousand lambdas need no search.
import type { Kind, Store, Thing } from './store.ts'

export interface Owners {
  /** Of one kind, what this uid controls, in order of names. */
  controlled(uid: string, kind: Kind): Thing[]
  /** Of one kind, what nobody controls. */
  strays(kind: Kind, namespace: string): Thing[]
  close(): void
}

/** The kinds that controllers make. */
const made: readonly Kind[] = ['replicasets', 'pods']

export function owners(store: Store): Owners {
  /** By `kind/uid of the controller`, or `kind/namespace` when there is none: names and namespaces. */
  const groups = new Map<string, Map<string, { namespace: string; name: string }>>()
  const groupOf = (kind: Kind, thing: Thing): string => `${kind}/${controllerOf(thing) ?? thing.metadata.namespace}`
  const keyOf = ({ metadata }: Thing): string => `${metadata.namespace}/${metadata.name}`

  function forget(kind: Kind, thing: Thing): void {
    const group = groups.get(groupOf(kind, thing))
    group?.delete(keyOf(thing))
    if (group?.size === 0) groups.delete(groupOf(kind, thing))
  }
  function remember(kind: Kind, thing: Thing): void {
    const group = groups.get(groupOf(kind, thing)) ?? new Map<string, { namespace: string; name: string }>()
    groups.set(groupOf(kind, thing), group.set(keyOf(thing), thing.metadata))
  }
  const membersOf = (kind: Kind, group: string): Thing[] => [...(groups.get(`${kind}/${group}`)?.values() ?? [])]
    .flatMap(({ namespace, name }) => store.get(kind, namespace, name) ?? []).sort((a, b) => (a.metadata.name < b.metadata.name ? -1 : 1))

  const stop = store.hear((kind, { type, object, previous }) => {
    if (!made.includes(kind)) return
    if (previous) forget(kind, previous)
    if (type !== 'DELETED') remember(kind, object)
  })
  for (const kind of made) for (const thing of store.list(kind, null)) remember(kind, thing)

  return {
    controlled: (uid, kind) => membersOf(kind, uid),
    strays: (kind, namespace) => membersOf(kind, namespace),
    close: stop,
  }
}

export const controllerOf = (thing: Thing): string | null => thing.metadata.ownerReferences?.find(({ controller }) => controller)?.uid ?? null
