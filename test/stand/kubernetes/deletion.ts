// DELETE: what is gone at once, what waits for the kubelet, and what waits for finalizers and dependents.
import { badRequest, invalidOptions, preconditionFailed, unsupportedValue } from './errors.ts'
import { isObject } from './decoding.ts'
import { kinds } from './kinds.ts'
import { now } from './memory.ts'
import type { Kind, Store, Thing } from './store.ts'

export type Policy = 'Background' | 'Foreground' | 'Orphan'

export interface DeleteOptions {
  policy: Policy
  /** null: as long as the pod itself says. */
  graceSeconds: number | null
  uid: string | null
  resourceVersion: string | null
  dryRun: boolean
}

/** Ends what is to be deleted. Returns the object as it is stored then, or, when it is gone, as it was at last. */
export type Remove = (kind: Kind, thing: Thing, policy: Policy, graceSeconds: number | null) => { thing: Thing; gone: boolean }

/** The kubelet's part: ends the processes of a pod, which is dropped when they have ended. */
type DeletePod = (pod: Thing, graceSeconds: number) => Thing

export const atOnce: Omit<DeleteOptions, 'dryRun'> = { policy: 'Background', graceSeconds: null, uid: null, resourceVersion: null }

export function readDeleteOptions(query: URLSearchParams, text: string): DeleteOptions {
  const body = text === '' ? {} : parsed(text)
  const preconditions = isObject(body['preconditions']) ? body['preconditions'] : {}
  const policy = body['propagationPolicy'] ?? query.get('propagationPolicy') ?? (body['orphanDependents'] === true ? 'Orphan' : 'Background')
  if (!['Background', 'Foreground', 'Orphan'].includes(String(policy))) {
    throw invalidOptions('DeleteOptions', 'meta.k8s.io', '', [unsupportedValue('propagationPolicy', policy, ['Foreground', 'Background', 'Orphan', 'nil'])])
  }
  const grace = body['gracePeriodSeconds'] ?? query.get('gracePeriodSeconds')
  return {
    policy: policy as Policy, graceSeconds: grace === null || grace === undefined ? null : Math.max(0, Number(grace)),
    dryRun: query.has('dryRun') || body['dryRun'] !== undefined,
    uid: (preconditions['uid'] as string | undefined) ?? null, resourceVersion: (preconditions['resourceVersion'] as string | undefined) ?? null,
  }
}

function parsed(text: string): Record<string, unknown> {
  try {
    const body: unknown = JSON.parse(text)
    if (isObject(body)) return body
  } catch (cause) {
    throw Object.assign(badRequest(`couldn't get version/kind; json parse error: ${(cause as Error).message}`), { cause })
  }
  throw badRequest('couldn\'t get version/kind; json parse error: json: cannot unmarshal into Go value of type struct')
}

export function refusePreconditions(kind: Kind, { metadata }: Thing, { uid, resourceVersion }: DeleteOptions): void {
  if (uid !== null && uid !== metadata.uid) {
    throw preconditionFailed(kind, metadata.name,
      `the UID in the precondition (${uid}) does not match the UID in record (${metadata.uid}). The object might have been deleted and then recreated`)
  }
  if (resourceVersion !== null && resourceVersion !== metadata.resourceVersion) {
    const record = metadata.resourceVersion
    throw preconditionFailed(kind, metadata.name,
      `the ResourceVersion in the precondition (${resourceVersion}) does not match the ResourceVersion in record (${record}). The object might have been modified`)
  }
}

export function removing(store: Store, deletePod: DeletePod): Remove {
  const dropped = (kind: Kind, thing: Thing): { thing: Thing; gone: boolean } => {
    store.drop(kind, thing.metadata.namespace, thing.metadata.name)
    return { thing, gone: true }
  }
  const removePod = (pod: Thing, graceSeconds: number | null): { thing: Thing; gone: boolean } => {
    const grace = graceSeconds ?? pod.spec?.terminationGracePeriodSeconds ?? 30
    const ended = ['Succeeded', 'Failed'].includes(pod.status?.phase)
    const waiting = pod.metadata.deletionTimestamp !== undefined && grace >= (pod.metadata.deletionGracePeriodSeconds ?? 0)
    if (pod.spec?.nodeName && !ended) return { thing: waiting ? pod : deletePod(pod, grace), gone: false }
    if (waiting && hasFinalizers(pod)) return { thing: pod, gone: false }
    const marked = store.put('pods', marking('pods', pod, []))
    return hasFinalizers(marked) ? { thing: marked, gone: false } : dropped('pods', marked)
  }
  return (kind, thing, policy, graceSeconds) => {
    if (kind === 'pods') return removePod(thing, graceSeconds)
    if (thing.metadata.deletionTimestamp !== undefined) return { thing, gone: false }
    const own = policy === 'Foreground' ? ['foregroundDeletion'] : policy === 'Orphan' ? ['orphan'] : []
    if (own.length === 0 && !hasFinalizers(thing) && kind !== 'namespaces') return dropped(kind, thing)
    return { thing: store.put(kind, marking(kind, thing, own)), gone: false }
  }
}

export const hasFinalizers = ({ metadata }: Thing): boolean => (metadata.finalizers ?? []).length > 0

/** On its way out. For the API server that counts as a change of the spec. */
function marking(kind: Kind, thing: Thing, finalizers: string[]): Thing {
  const { generation } = thing.metadata
  const all = [...new Set([...(thing.metadata.finalizers ?? []), ...finalizers])]
  return {
    ...thing, ...(kind === 'namespaces' && { status: { ...thing.status, phase: 'Terminating' } }),
    metadata: {
      ...thing.metadata, ...(generation !== undefined && kinds[kind].counted && { generation: generation + 1 }),
      deletionTimestamp: now(), ...(kind !== 'namespaces' && { deletionGracePeriodSeconds: 0 }), ...(all.length > 0 && { finalizers: all }),
    },
  }
}
