// Watches: changes as lines of JSON, from a version on, as one selector sees them.
import type { ServerResponse } from 'node:http'
import { tooOld } from './errors.ts'
import { apiVersionOf, kinds } from './kinds.ts'
import { shown, versionOf } from './listing.ts'
import { selectorOf, type Matches } from './selectors.ts'
import type { Change, Kind, Store, Thing } from './store.ts'

export interface WatchOptions {
  bookmarkMs: number
}

/** Writes into the response until the time that the caller asked for is over, or until it is closed. */
export function watch(store: Store, kind: Kind, namespace: string | null, query: URLSearchParams, response: ServerResponse, { bookmarkMs }: WatchOptions): void {
  const matches = selectorOf(kind, query.get('labelSelector') ?? '', query.get('fieldSelector') ?? '')
  const within: Matches = (thing) => namespace === null || thing.metadata.namespace === namespace
  const asked = query.get('resourceVersion') ?? ''
  const initial = query.get('sendInitialEvents') === 'true'
  const version = asked === '' ? 0 : versionOf(asked)
  const fromNow = initial || version === 0
  const start = fromNow ? store.version() : version
  response.writeHead(200, { 'Content-Type': 'application/json', 'Cache-Control': 'no-cache, private' })
  response.flushHeaders()

  const backlog = store.since(start)
  if (backlog === null) {
    response.end(line('ERROR', tooOld(asked, oldest(store, version)).body))
    return
  }
  const say = (text: string): void => {
    if (!response.writableEnded) response.write(text)
  }
  const bookmark = (annotations?: object): void => say(line('BOOKMARK', emptyShell(kind, store.version(), annotations)))
  const tell = (changed: Kind, change: Change, at: number): void => {
    if (changed !== kind || at <= start || !within(change.object)) return
    const seen = asSeen(change, matches)
    if (seen !== null) say(textOf(seen.type, seen.object))
  }
  if (fromNow) for (const thing of store.list(kind, namespace)) if (matches(thing)) say(textOf('ADDED', thing))
  const wanted = query.get('allowWatchBookmarks') === 'true' || query.get('allowWatchBookmarks') === '1'
  if (initial && wanted) bookmark({ 'k8s.io/initial-events-end': 'true' })
  for (const { kind: changed, change, version: at } of backlog) tell(changed, change, at)
  const stop = store.hear((changed, change) => tell(changed, change, Number(change.object.metadata.resourceVersion)))
  const timers = timersOf(query, response, wanted ? bookmark : null, bookmarkMs)
  response.once('close', () => {
    stop()
    timers.forEach(clearTimeout)
  })
}

/** The end that was asked for, and bookmarks: now and then, and shortly before that end. */
function timersOf(query: URLSearchParams, response: ServerResponse, bookmark: ((annotations?: object) => void) | null, bookmarkMs: number): NodeJS.Timeout[] {
  const seconds = Number(query.get('timeoutSeconds') ?? 0)
  const end = seconds > 0 ? [setTimeout(() => response.end(), seconds * 1000)] : []
  if (bookmark === null) return end
  const before = seconds > 2 ? [setTimeout(() => bookmark(), (seconds - 2) * 1000)] : []
  return [...end, ...before, setInterval(() => bookmark(), bookmarkMs)]
}

/** The first version that a watch can still go on from: what the refusal of an older one names. */
function oldest(store: Store, version: number): number {
  let [low, high] = [version, store.version()]
  while (low < high) {
    const middle = (low + high) >> 1
    if (store.since(middle) === null) low = middle + 1
    else high = middle
  }
  return low
}

/** What enters a selector is ADDED to it, what leaves it is DELETED from it, as it was when it still matched. */
function asSeen({ type, object, previous }: Change, matches: Matches): { type: Change['type']; object: Thing } | null {
  const was = previous !== undefined && matches(previous)
  const is = type !== 'DELETED' && matches(object)
  if (is) return { type: was ? 'MODIFIED' : 'ADDED', object }
  if (!was) return null
  return { type: 'DELETED', object: type === 'DELETED' ? object : { ...previous!, metadata: { ...previous!.metadata, resourceVersion: object.metadata.resourceVersion } } }
}

const line = (type: string, object: unknown): string => `${JSON.stringify({ type, object })}\n`

/** Several watches show the same object: its text is made once. */
const texts = new WeakMap<Thing, string>()
function textOf(type: string, thing: Thing): string {
  const text = texts.get(thing) ?? JSON.stringify(shown(thing))
  texts.set(thing, text)
  return `{"type":"${type}","object":${text}}\n`
}

const noTemplate = { metadata: {}, spec: { containers: null } }
const shells: Partial<Record<Kind, object>> = {
  pods: { spec: { containers: null }, status: {} },
  deployments: { spec: { replicas: 0, selector: null, template: noTemplate, strategy: {} }, status: {} },
  replicasets: { spec: { replicas: 0, selector: null, template: noTemplate }, status: { replicas: 0 } },
  services: { spec: {}, status: { loadBalancer: {} } },
  horizontalpodautoscalers: { spec: { scaleTargetRef: { kind: '', name: '' }, maxReplicas: 0 }, status: { desiredReplicas: 0, currentMetrics: null } },
}

/** A bookmark has an object without a name: only its version means something. */
function emptyShell(kind: Kind, version: number, annotations?: object): object {
  const facts = kinds[kind]
  return { kind: facts.kind, apiVersion: apiVersionOf(facts), metadata: { resourceVersion: String(version), ...(annotations && { annotations }) }, ...shells[kind] }
}
