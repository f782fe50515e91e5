// One request to the API: which verb it is, whether the caller may, and what answers it.
import type { IncomingMessage, ServerResponse } from 'node:http'
import { isObject, parsedBody } from './decoding.ts'
import { readDeleteOptions, refusePreconditions, type DeleteOptions, type Remove } from './deletion.ts'
import { ApiError, badRequest, entityTooLarge, methodNotAllowed, notAcceptable, notFound, unsupportedPatch } from './errors.ts'
import { apiVersionOf, kinds } from './kinds.ts'
import { asItem, listed, shown } from './listing.ts'
import { streamLog, type ReadLog } from './log-requests.ts'
import { discovered, placeOf, type Place } from './paths.ts'
import { callerOf, type Caller, type Rule } from './rights.ts'
import { selectedName } from './selectors.ts'
import type { Kind, Store, Thing } from './store.ts'
import { watch } from './watching.ts'
import type { Target, Writing, Written } from './writing.ts'

export interface Answer {
  status: number
  body: unknown
  headers?: Record<string, string | string[]>
}

export interface Parts {
  store: Store
  writing: Writing
  remove: Remove
  log: ReadLog
  roles: ReadonlyMap<string, Rule[]> | undefined
  bookmarkMs: number
  /** A watch that is open, so that it can be broken. */
  opened(response: ServerResponse): void
  /** The server is closing. */
  ending: AbortSignal
}

const version = {
  major: '1', minor: '34', emulationMajor: '1', emulationMinor: '34', minCompatibilityMajor: '1', minCompatibilityMinor: '33',
  gitVersion: 'v1.34.2', gitCommit: '$Format:%H$',
  gitTreeState: '', buildDate: '1970-01-01T00:00:00Z', goVersion: 'go1.24.4', compiler: 'gc', platform: 'linux/amd64',
}
const largestBody = 3_145_728
const applyType = 'application/apply-patch+yaml'

interface Asked {
  place: Place
  query: URLSearchParams
  request: IncomingMessage
  response: ServerResponse
  caller: Caller
}

/** null: the answer is a stream, and already on its way. */
export async function answer(parts: Parts, request: IncomingMessage, response: ServerResponse): Promise<Answer | null> {
  const caller = callerOf(request, parts.roles)
  const url = new URL(request.url!, 'http://api')
  if (url.pathname === '/version') return { status: 200, body: version }
  if (['/readyz', '/livez', '/healthz'].includes(url.pathname)) return { status: 200, body: 'ok' }
  const known = request.method === 'GET' ? discovered(url.pathname) : null
  if (known !== null) return { status: 200, body: known }
  if (!/application\/(json|yaml|\*)|\*\/\*/.test(request.headers.accept ?? '*/*')) throw notAcceptable()
  const asked = { place: placeOf(url.pathname), query: url.searchParams, request, response, caller }
  if (asked.place.subresource === 'log') return readLog(parts, asked)
  if (asked.place.subresource === 'scale') return scale(parts, asked)
  return asked.place.name === null ? answerCollection(parts, asked) : answerObject(parts, asked)
}

async function answerCollection(parts: Parts, asked: Asked): Promise<Answer | null> {
  const { place: { kind, namespace }, query, request, response, caller } = asked
  const { method } = request
  const watched = ['1', 'true'].includes(query.get('watch') ?? '')
  const verb = method === 'GET' ? (watched ? 'watch' : 'list') : method === 'POST' ? 'create' : method === 'DELETE' ? 'deletecollection' : null
  if (verb === null || (verb !== 'list' && verb !== 'watch' && namespace === null && kinds[kind].namespaced)) throw methodNotAllowed()
  caller.allow(verb, kind, '', verb === 'create' ? '' : selectedName(query.get('fieldSelector') ?? ''), namespace)
  if (verb === 'list') return { status: 200, body: listed(parts.store, kind, namespace, query) }
  if (verb === 'create') return create(parts, asked)
  if (verb === 'deletecollection') return deleteCollection(parts, asked)
  parts.opened(response)
  watch(parts.store, kind, namespace, query, response, parts)
  return null
}

async function answerObject(parts: Parts, asked: Asked): Promise<Answer> {
  const { place: { kind, namespace, name }, request: { method }, caller } = asked
  const verb = { GET: 'get', PUT: 'update', PATCH: 'patch', DELETE: 'delete' }[method!]
  if (verb === undefined) throw methodNotAllowed()
  caller.allow(verb, kind, '', name!, namespace)
  if (verb === 'get') return { status: 200, body: shown(existing(parts.store, asked.place)) }
  if (verb === 'delete') return deleteObject(parts, asked)
  const text = await bodyOf(asked.request)
  if (verb === 'update') return written(parts.writing.replace(targetOf(asked), parsedBody(kind, text, contentType(asked.request))))
  return written(patched(parts, asked, text))
}

async function create({ writing }: Parts, asked: Asked): Promise<Answer> {
  const text = await bodyOf(asked.request)
  return written(writing.create(targetOf(asked), parsedBody(asked.place.kind, text, contentType(asked.request))))
}

function patched({ writing }: Parts, asked: Asked, text: string): Written {
  const { place: { kind, name, namespace }, query, request, caller } = asked
  const type = contentType(request)
  if (type !== applyType) return writing.patch(targetOf(asked), type, type.endsWith('patch+json') ? json(text) : fail(unsupportedPatch()))
  const body = json(text)
  if (!isObject(body)) throw badRequest('error decoding YAML: json: cannot unmarshal into Go value of type map[string]interface {}')
  const target = { ...targetOf(asked), manager: query.get('fieldManager') ?? '' }
  return writing.apply(target, body, query.get('force') === 'true', () => caller.allow('create', kind, '', name!, namespace))
}

const written = ({ thing, created, warnings }: Written): Answer => {
  const texts = warnings.map((text) => `299 - ${JSON.stringify(text)}`)
  return { status: created ? 201 : 200, body: shown(withoutEmpty(thing)), ...(texts.length > 0 && { headers: { Warning: texts } }) }
}

/** A dry run has given it no uid and no version. */
const withoutEmpty = (thing: Thing): Thing => {
  const { resourceVersion, ...metadata } = thing.metadata
  return resourceVersion === '' ? { ...thing, metadata: metadata as Thing['metadata'] } : thing
}

async function deleteObject({ store, remove }: Parts, { place, query, request }: Asked): Promise<Answer> {
  const options = readDeleteOptions(query, await bodyOf(request))
  const thing = existing(store, place)
  refusePreconditions(place.kind, thing, options)
  const { thing: left, gone } = options.dryRun ? { thing, gone: true } : remove(place.kind, thing, options.policy, options.graceSeconds)
  return { status: 200, body: gone && !answersWithObject.has(place.kind) ? success(place.kind, thing) : shown(left) }
}

/** The other kinds answer with a Status once they are gone. */
const answersWithObject = new Set<Kind>(['pods', 'services', 'namespaces'])

function success(kind: Kind, { metadata: { name, uid } }: Thing): object {
  const { group } = kinds[kind]
  return { kind: 'Status', apiVersion: 'v1', metadata: {}, status: 'Success', details: { name, ...(group && { group }), kind, uid } }
}

async function deleteCollection({ store, remove }: Parts, { place: { kind, namespace }, query, request }: Asked): Promise<Answer> {
  const options: DeleteOptions = readDeleteOptions(query, await bodyOf(request))
  const found = listed(store, kind, namespace, query).items as Thing[]
  const things = found.map(({ metadata }) => store.get(kind, metadata.namespace ?? '', metadata.name)!)
  if (!options.dryRun) for (const thing of things) remove(kind, thing, options.policy, options.graceSeconds)
  const facts = kinds[kind]
  const metadata = { resourceVersion: String(store.version()) }
  return { status: 200, body: { kind: `${facts.kind}List`, apiVersion: apiVersionOf(facts), metadata, items: things.map(asItem) } }
}

async function readLog(parts: Parts, { place, query, request, response, caller }: Asked): Promise<null> {
  if (request.method !== 'GET') throw methodNotAllowed()
  caller.allow('get', place.kind, 'log', place.name!, place.namespace)
  await streamLog(parts.log, existing(parts.store, place), query, response, parts.ending)
  return null
}

async function scale({ store, writing }: Parts, asked: Asked): Promise<Answer> {
  const { place, request, caller } = asked
  const verb = { GET: 'get', PUT: 'update', PATCH: 'patch' }[request.method!]
  if (verb === undefined) throw methodNotAllowed()
  caller.allow(verb, place.kind, 'scale', place.name!, place.namespace)
  const text = verb === 'get' ? '' : await bodyOf(request)
  const thing = verb === 'get' ? existing(store, place) : writing.scale(targetOf(asked), json(text))
  const { name, namespace, uid, resourceVersion, creationTimestamp } = thing.metadata
  const selector = Object.entries((thing.spec.selector?.matchLabels ?? {}) as Record<string, string>).sort().map(([key, value]) => `${key}=${value}`).join(',')
  const metadata = { name, namespace, uid, resourceVersion, creationTimestamp }
  const status = { replicas: thing.status?.replicas ?? 0, selector }
  return { status: 200, body: { kind: 'Scale', apiVersion: 'autoscaling/v1', metadata, spec: { replicas: thing.spec.replicas }, status } }
}

function existing(store: Store, { kind, namespace, name }: Place): Thing {
  const thing = store.get(kind, namespace ?? '', name!)
  if (thing === null) throw notFound(kind, name!)
  return thing
}

function targetOf({ place: { kind, namespace, name }, query, request }: Asked): Target {
  const agent = /^[^/\s]+/.exec(request.headers['user-agent'] ?? '')?.[0] ?? 'unknown'
  const manager = query.get('fieldManager') || agent
  return { kind, namespace: namespace ?? '', name: name ?? '', manager, dryRun: query.get('dryRun') === 'All', validation: query.get('fieldValidation') ?? 'Warn' }
}

const contentType = (request: IncomingMessage): string => (request.headers['content-type'] ?? '').split(';')[0]!.trim()
const fail = (error: ApiError): never => {
  throw error
}

function json(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch (cause) {
    throw Object.assign(badRequest(`error decoding patch: ${(cause as Error).message}`), { cause })
  }
}

async function bodyOf(request: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = []
  let bytes = 0
  for await (const chunk of request as AsyncIterable<Buffer>) {
    bytes += chunk.length
    // What is too large is read to its end, so that the client hears the answer.
    if (bytes <= largestBody) chunks.push(chunk)
  }
  if (bytes > largestBody) throw entityTooLarge(largestBody)
  return Buffer.concat(chunks).toString('utf8')
}
