// The three older kinds of PATCH: merge, strategic merge, and JSON patch. Each makes a new body out of an object.
import { isDeepStrictEqual } from 'node:util'
import { isObject } from './decoding.ts'
import { badRequest, patchRejected } from './errors.ts'
import { isList, isMap, isStruct, type Shape } from './schema.ts'

type Fields = Record<string, unknown>

/** null removes, objects are merged, everything else replaces. */
export function mergePatched(target: unknown, patch: unknown): unknown {
  if (!isObject(patch)) return patch
  const base = isObject(target) ? target : {}
  const entries = Object.entries(patch).map(([name, value]) => [name, value === null ? undefined : mergePatched(base[name], value)] as const)
  return withoutUndefined({ ...base, ...Object.fromEntries(entries) })
}

/** As a merge, but lists whose entries have a key are merged by it. */
export function strategicPatched(target: unknown, patch: unknown, shape: Shape): unknown {
  if (isList(shape) && Array.isArray(patch)) {
    const [key] = shape.keys ?? []
    if (key !== undefined) return listPatched(Array.isArray(target) ? target : [], patch as Fields[], key, shape.list)
    return shape.set && Array.isArray(target) ? [...new Set([...target, ...patch])] : patch
  }
  if (!isObject(patch)) return patch
  const { $patch: directive, ...rest } = patch
  const base = isObject(target) && directive !== 'replace' ? target : {}
  const below = (name: string): Shape => (isStruct(shape) ? shape.fields[name] ?? 'any' : isMap(shape) ? shape.map : 'any')
  const fields = Object.entries(rest).filter(([name]) => !name.startsWith('$'))
  const entries = fields.map(([name, value]) => [name, value === null ? undefined : strategicPatched(base[name], value, below(name))] as const)
  return withoutUndefined({ ...base, ...Object.fromEntries(entries) })
}

function listPatched(target: unknown[], patch: Fields[], key: string, shape: Shape): unknown[] {
  const result = [...target] as Fields[]
  for (const item of patch) {
    const index = result.findIndex((one) => isDeepStrictEqual(one[key], item[key]))
    if (item['$patch'] === 'delete') result.splice(index === -1 ? result.length : index, 1)
    else if (index === -1) result.push(strategicPatched({}, item, shape) as Fields)
    else result[index] = strategicPatched(result[index], item, shape) as Fields
  }
  return result
}

const withoutUndefined = (fields: Fields): Fields => Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined))

interface Operation {
  op: string
  path: string
  value?: unknown
}

/** test, add, replace and remove. */
export function jsonPatched(target: unknown, operations: unknown): unknown {
  if (!Array.isArray(operations)) throw badRequest('json: cannot unmarshal object into Go value of type jsonpatch.Patch')
  return (operations as Operation[]).reduce(patchedOnce, structuredClone(target))
}

function patchedOnce(target: unknown, { op, path, value }: Operation): unknown {
  const names = path.split('/').slice(1).map((name) => name.replaceAll('~1', '/').replaceAll('~0', '~'))
  const last = names.pop()
  if (last === undefined) throw patchRejected()
  const place = names.reduce<unknown>((below, name) => (below as Fields | undefined)?.[name], target)
  if (typeof place !== 'object' || place === null) throw patchRejected()
  const fields = place as Fields
  if (op === 'test' && !isDeepStrictEqual(fields[last], value)) throw patchRejected()
  if ((op === 'replace' || op === 'remove') && !(last in fields)) throw patchRejected()
  if (Array.isArray(place)) patchList(place, op, last === '-' ? place.length : Number(last), value)
  else if (op === 'remove') delete fields[last]
  else if (op !== 'test') fields[last] = value
  return target
}

function patchList(list: unknown[], op: string, index: number, value: unknown): void {
  if (op === 'remove') list.splice(index, 1)
  else if (op === 'add') list.splice(index, 0, value)
  else if (op === 'replace') list[index] = value
}
