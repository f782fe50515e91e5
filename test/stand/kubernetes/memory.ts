// The store of the stand-in, in memory: an index by kind, namespace and name, and the last changes for watches that resume.
import { randomUUID } from 'node:crypto'
import { isDeepStrictEqual } from 'node:util'
import { apiVersionOf, kinds } from './kinds.ts'
import type { Change, Kind, Store, Thing } from './store.ts'

interface Heard {
  kind: Kind
  change: Change
  version: number
}

/** As on a real cluster, nobody can ask for what was before the first object that a test makes. */
const firstVersion = 1_000
const kept = 20_000

export function memoryStore(): Store {
  const spaces = new Map<string, Map<string, Thing>>()
  /** The objects of a space in order of names, until one of them changes. */
  const ordered = new Map<string, Thing[]>()
  const listeners = new Set<(kind: Kind, change: Change) => void>()
  let history: Heard[] = []
  let forgotten = firstVersion
  let latest = firstVersion
  const tell = inOrder<Heard>(({ kind, change }) => listeners.forEach((listener) => listener(kind, change)))

  const space = (kind: Kind, namespace: string): Map<string, Thing> => {
    const key = `${kind}/${namespace}`
    const found = spaces.get(key) ?? new Map<string, Thing>()
    spaces.set(key, found)
    return found
  }
  const inNames = (key: string): Thing[] => {
    const found = ordered.get(key) ?? sorted(spaces.get(key))
    ordered.set(key, found)
    return found
  }
  const record = (kind: Kind, change: Change): void => {
    ordered.delete(`${kind}/${change.object.metadata.namespace}`)
    const heard = { kind, change, version: latest }
    history.push(heard)
    if (history.length > kept * 2) {
      history = history.slice(-kept)
      forgotten = history[0]!.version - 1
    }
    tell(heard)
  }

  const store: Store = {
    get: (kind, namespace, name) => spaces.get(`${kind}/${namespace}`)?.get(name) ?? null,
    list(kind, namespace) {
      if (namespace !== null) return inNames(`${kind}/${namespace}`).slice()
      const keys = [...spaces.keys()].filter((key) => key.startsWith(`${kind}/`)).sort()
      return keys.flatMap(inNames)
    },
    put(kind, object) {
      const { namespace, name } = object.metadata
      const previous = store.get(kind, namespace, name)
      const next = completed(object, previous)
      if (previous !== null && isDeepStrictEqual(next, previous)) return previous
      latest += 1
      next.metadata.resourceVersion = String(latest)
      freeze(next)
      space(kind, namespace).set(name, next)
      record(kind, previous === null ? { type: 'ADDED', object: next } : { type: 'MODIFIED', object: next, previous })
      return next
    },
    drop(kind, namespace, name) {
      const previous = store.get(kind, namespace, name)
      if (previous === null) return
      latest += 1
      space(kind, namespace).delete(name)
      const object = freeze({ ...previous, metadata: { ...previous.metadata, resourceVersion: String(latest) } })
      record(kind, { type: 'DELETED', object, previous })
    },
    hear(listener) {
      listeners.add(listener)
      return () => listeners.delete(listener)
    },
    version: () => latest,
    since: (version) => (version < forgotten ? null : history.slice(firstAfter(history, version))),
    compact() {
      history = []
      forgotten = latest
    },
  }
  for (const name of ['default', 'kube-system']) store.put('namespaces', namespaceNamed(name))
  store.compact()
  return store
}

/** A copy that is plain JSON, with what every stored object has. The resourceVersion is still that of the previous one. */
function completed(object: Thing, previous: Thing | null): Thing {
  const copy = JSON.parse(JSON.stringify(object)) as Thing
  copy.metadata.uid ||= previous?.metadata.uid ?? randomUUID()
  copy.metadata.creationTimestamp ||= previous?.metadata.creationTimestamp ?? now()
  copy.metadata.resourceVersion = previous?.metadata.resourceVersion ?? ''
  return copy
}

/** Times of the API have whole seconds. */
export const now = (): string => `${new Date().toISOString().slice(0, 19)}Z`

export const namespaceNamed = (name: string): Thing => ({
  apiVersion: apiVersionOf(kinds.namespaces), kind: 'Namespace',
  metadata: { name, namespace: '', uid: '', resourceVersion: '', creationTimestamp: '', labels: { 'kubernetes.io/metadata.name': name } },
  spec: { finalizers: ['kubernetes'] }, status: { phase: 'Active' },
})

const sorted = (things: Map<string, Thing> | undefined): Thing[] =>
  [...(things?.values() ?? [])].sort((a, b) => (a.metadata.name < b.metadata.name ? -1 : 1))

function firstAfter(history: Heard[], version: number): number {
  let low = 0
  let high = history.length
  while (low < high) {
    const middle = (low + high) >> 1
    if (history[middle]!.version > version) high = middle
    else low = middle + 1
  }
  return low
}

/** Stored objects are shared by everybody: whoever changes one in place is told at once, by a TypeError. */
function freeze<Value>(value: Value): Value {
  if (typeof value !== 'object' || value === null || Object.isFrozen(value)) return value
  Object.values(value).forEach(freeze)
  return Object.freeze(value)
}

/** A listener that changes something while it is told of a change: all others hear the first change before the second. */
function inOrder<Item>(hear: (item: Item) => void): (item: Item) => void {
  const waiting: Item[] = []
  let busy = false
  return (item) => {
    waiting.push(item)
    if (busy) return
    busy = true
    try {
      for (let next = waiting.shift(); next !== undefined; next = waiting.shift()) hear(next)
    } finally {
      busy = false
    }
  }
}
