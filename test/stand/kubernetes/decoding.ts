// Reads a body as the kind that it should be: unknown fields and wrong types are found here, as the API server's decoder finds them.
import { badRequest, notDecodable, unexpected, unsupportedBody, type ApiError } from './errors.ts'
import { apiVersionOf, kinds } from './kinds.ts'
import { isQuantity, quantityComplaint, shownQuantity } from './quantities.ts'
import { isList, isMap, isStruct, schema, type Leaf, type Shape, type Struct } from './schema.ts'
import type { Kind, Thing } from './store.ts'

export interface Decoded {
  thing: Thing
  /** `spec.restartPolcy`: left out of the thing. */
  unknown: string[]
}

interface Place {
  /** `spec.containers[0].env`. */
  path: string
  /** `spec.containers.env`: how complaints about types write it. */
  plain: string
  owner: string
}

const goTypes: Record<Leaf, string> = { string: 'string', int32: 'int32', int64: 'int64', bool: 'bool', quantity: 'string', intOrString: 'string', any: 'string' }

export const isObject = (value: unknown): value is Record<string, unknown> => typeof value === 'object' && value !== null && !Array.isArray(value)

/** The body of a POST or PUT, as JSON. */
export function parsedBody(kind: Kind, text: string, contentType: string): Record<string, unknown> {
  if (contentType !== '' && contentType !== 'application/json') throw unsupportedBody()
  const body = parsed(text)
  if (isObject(body)) return body
  const why = body === undefined ? `unexpected end of JSON input (${text})` : `json: cannot unmarshal ${jsonType(body)} into Go value of type struct`
  throw badRequest(`the object provided is unrecognized (must be of type ${kinds[kind].kind}): couldn't get version/kind; json parse error: ${why}`)
}

const parsed = (text: string): unknown => {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

/** The thing without the unknown fields, its quantities written as the API writes them. */
export function decoded(kind: Kind, body: Record<string, unknown>): Decoded {
  const facts = kinds[kind]
  const given = typeof body['kind'] === 'string' ? body['kind'] : ''
  const version = typeof body['apiVersion'] === 'string' ? body['apiVersion'] : ''
  if (given !== '' && given !== facts.kind) {
    const short = version.split('/').at(-1)!
    throw notDecodable(given, short, facts.kind, `converting (${short}.${given}) to (${facts.group === '' ? 'core' : facts.group}.${facts.kind}): unknown conversion`)
  }
  if (version !== '' && version !== apiVersionOf(facts)) {
    throw badRequest(`the API version in the data (${version}) does not match the expected API version (${apiVersionOf(facts)})`)
  }
  const unknown: string[] = []
  const fail = (why: string): ApiError => notDecodable(facts.kind, facts.version, facts.kind, why)
  const thing = read(body, schema[kind], { path: '', plain: '', owner: '' }, unknown, fail) as Thing
  return { thing: { ...thing, kind: facts.kind, apiVersion: apiVersionOf(facts), metadata: { ...thing.metadata } }, unknown }
}

function read(value: unknown, shape: Shape, place: Place, unknown: string[], fail: (why: string) => ApiError): unknown {
  if (value === null || value === undefined) return undefined
  if (isStruct(shape) && isObject(value)) return readStruct(value, shape, place, unknown, fail)
  if (isMap(shape) && isObject(value)) {
    return Object.fromEntries(Object.entries(value).map(([key, one]) => [key, read(one, shape.map, { ...place, path: `${place.path}.${key}` }, unknown, fail)]))
  }
  if (isList(shape) && Array.isArray(value)) {
    return value.map((one, index) => read(one, shape.list, { ...place, path: `${place.path}[${index}]` }, unknown, fail))
  }
  if (typeof shape === 'object') throw fail(wrongType(value, place, isStruct(shape) ? `v1.${shape.struct}` : isMap(shape) ? 'map[string]string' : '[]v1'))
  return readLeaf(value, shape, place, fail)
}

function readStruct(value: Record<string, unknown>, shape: Struct, place: Place, unknown: string[], fail: (why: string) => ApiError): unknown {
  const dot = (before: string, name: string): string => (before === '' ? name : `${before}.${name}`)
  const entries = Object.entries(value).flatMap(([name, one]) => {
    const field = shape.fields[name]
    if (field === undefined) unknown.push(dot(place.path, name))
    if (field === undefined) return []
    const found = read(one, field, { path: dot(place.path, name), plain: dot(place.plain, name), owner: shape.struct }, unknown, fail)
    return found === undefined ? [] : [[name, found] as const]
  })
  return Object.fromEntries(entries)
}

function readLeaf(value: unknown, shape: Leaf, place: Place, fail: (why: string) => ApiError): unknown {
  if (shape === 'any') return value
  if (shape === 'quantity') {
    if (!['string', 'number'].includes(typeof value) || !isQuantity(String(value))) throw fail(quantityComplaint)
    return shownQuantity(value as string | number)
  }
  const fits = { string: typeof value === 'string', bool: typeof value === 'boolean', int32: Number.isInteger(value), int64: Number.isInteger(value),
    intOrString: typeof value === 'string' || Number.isInteger(value) }[shape]
  if (!fits) throw fail(wrongType(value, place, goTypes[shape]))
  return value
}

const jsonType = (value: unknown): string => (Array.isArray(value) ? 'array' : typeof value === 'boolean' ? 'bool' : typeof value)
const wrongType = (value: unknown, { owner, plain }: Place, wanted: string): string =>
  `json: cannot unmarshal ${jsonType(value)} into Go struct field ${owner}.${plain} of type ${wanted}`

/** What a server-side apply does not take: all of it is 500, without a reason. */
export function checkApplied(kind: Kind, name: string, body: Record<string, unknown>): void {
  const found = misfit(body, schema[kind], '')
  if (found === null) return
  const facts = kinds[kind]
  throw unexpected(`failed to create typed patch object (/${name}; ${apiVersionOf(facts)}, Kind=${facts.kind}): ${found}`)
}

function misfit(value: unknown, shape: Shape, path: string): string | null {
  if (value === null || value === undefined || shape === 'any') return null
  if (isStruct(shape)) return isObject(value) ? misfitIn(value, shape, path) : `${path}: expected map, got ${applyType(value)}`
  if (isMap(shape)) {
    return isObject(value) ? first(Object.entries(value), ([key, one]) => misfit(one, shape.map, `${path}.${key}`)) : `${path}: expected map, got ${applyType(value)}`
  }
  if (isList(shape)) {
    if (!Array.isArray(value)) return `${path}: expected list, got ${applyType(value)}`
    const names = value.map((one, index) => (shape.keys === undefined ? `[${index}]` : `[${keyText(one, shape.keys)}]`))
    const twice = shape.keys === undefined ? -1 : names.findIndex((name, index) => names.indexOf(name) !== index)
    if (twice !== -1) return `${path}: duplicate entries for key ${names[twice]}`
    return first(value, (one, index) => misfit(one, shape.list, path + names[index]))
  }
  if (shape === 'string' && typeof value !== 'string') return `${path}: expected string, got ${applyType(value)}`
  if (shape === 'bool' && typeof value !== 'boolean') return `${path}: expected boolean, got ${applyType(value)}`
  if ((shape === 'int32' || shape === 'int64') && typeof value !== 'number') return `${path}: expected numeric (int or float), got ${applyType(value)}`
  return null
}

const misfitIn = (value: Record<string, unknown>, shape: Struct, path: string): string | null =>
  first(Object.entries(value), ([name, one]) => {
    const field = shape.fields[name]
    return field === undefined ? `${path}.${name}: field not declared in schema` : misfit(one, field, `${path}.${name}`)
  })

function first<Item>(items: Item[], check: (item: Item, index: number) => string | null): string | null {
  for (const [index, item] of items.entries()) {
    const found = check(item, index)
    if (found !== null) return found
  }
  return null
}

const applyType = (value: unknown): string =>
  (Array.isArray(value) ? 'list' : isObject(value) ? 'map' : typeof value === 'number' ? (Number.isInteger(value) ? 'int' : 'float') : typeof value)

/** What an entry of a keyed list is known by. A port without a protocol is a TCP port. */
export const keysOf = (item: unknown, keys: string[]): Record<string, unknown> => {
  const fields = isObject(item) ? item : {}
  return Object.fromEntries([...keys].sort().map((key) => [key, fields[key] ?? (key === 'protocol' ? 'TCP' : undefined)]))
}

/** `name="A"`, `containerPort=8000,protocol="TCP"`. */
export const keyText = (item: unknown, keys: string[]): string =>
  Object.entries(keysOf(item, keys)).map(([key, value]) => `${key}=${JSON.stringify(value)}`).join(',')

/** Query fieldValidation: Strict refuses unknown fields, Warn (the default) names them in a header. */
export function warningsFor(kind: Kind, unknown: string[], validation: string): string[] {
  const texts = unknown.map((path) => `unknown field "${path}"`)
  if (validation === 'Ignore' || texts.length === 0) return []
  if (validation !== 'Strict') return texts
  const { kind: name, version } = kinds[kind]
  throw notDecodable(name, version, name, `strict decoding error: ${texts.join(', ')}`)
}
