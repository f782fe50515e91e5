// The store of the stand-in for Kubernetes: what its HTTP side and its world (scheduler, controllers, kubelet) share.
// It holds objects by kind, namespace and name, gives each change a resourceVersion, and tells watchers in that order.

/** An object as the API shows it. Plain JSON; whoever changes one hands a changed copy to `put`. */
export interface Thing {
  apiVersion: string
  kind: string
  metadata: {
    name: string
    namespace: string
    uid: string
    resourceVersion: string
    generation?: number
    creationTimestamp: string
    deletionTimestamp?: string
    deletionGracePeriodSeconds?: number
    labels?: Record<string, string>
    annotations?: Record<string, string>
    ownerReferences?: Array<{ apiVersion: string; kind: string; name: string; uid: string; controller?: boolean; blockOwnerDeletion?: boolean }>
    finalizers?: string[]
    managedFields?: unknown[]
  }
  spec?: any
  status?: any
  [more: string]: any
}

/** The plural names of the API: what the stand-in knows. */
export type Kind = 'pods' | 'events' | 'services' | 'configmaps' | 'secrets' | 'namespaces' | 'deployments' | 'replicasets' | 'horizontalpodautoscalers' | 'leases'

export interface Change {
  type: 'ADDED' | 'MODIFIED' | 'DELETED'
  object: Thing
  /** What was stored before; absent when it was ADDED. */
  previous?: Thing
}

export interface Store {
  get(kind: Kind, namespace: string, name: string): Thing | null
  list(kind: Kind, namespace: string | null): Thing[]
  /** Adds or replaces: sets uid and creationTimestamp when they are missing, and a new resourceVersion. An unchanged object changes nothing and tells nobody. Returns what is stored. */
  put(kind: Kind, object: Thing): Thing
  /** Takes it out at once and tells DELETED. */
  drop(kind: Kind, namespace: string, name: string): void
  /** Hears every change from now on, in order; returns how to stop. */
  hear(listener: (kind: Kind, change: Change) => void): () => void
  /** The resourceVersion of the last change. */
  version(): number
  /** Changes after this version, oldest first; null: too old, they are forgotten. */
  since(version: number): Array<{ kind: Kind; change: Change; version: number }> | null
  /** Forgets the history up to now: a watch from before it is answered 410. */
  compact(): void
}
