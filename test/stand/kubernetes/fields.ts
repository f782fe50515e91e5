// Sets of fields: what of an object a manager owns, what changed between two objects, and how managedFields writes it.
import { isDeepStrictEqual } from 'node:util'
import { isObject, keysOf } from './decoding.ts'
import { isList, isMap, isStruct, type ListOf, type Shape } from './schema.ts'

/** A path is its elements, joined: `f:spec`, `f:containers`, `k:{"name":"lambda"}`, `f:image`. */
export type FieldSet = ReadonlySet<string>
export type FieldTree = { [element: string]: FieldTree }

const joint = '\u0001'
export const at = (path: string, element: string): string => (path === '' ? element : path + joint + element)

export type Children = Array<{ element: string; value: unknown; shape: Shape }>

/** What lies below a value, each with the element that leads to it; null when it is owned as one value. */
export function childrenOf(value: unknown, shape: Shape): Children | null {
  if (isStruct(shape) && !shape.atomic && isObject(value)) {
    return Object.entries(value).filter(([, one]) => one !== undefined && one !== null)
      .map(([name, one]) => ({ element: `f:${name}`, value: one, shape: shape.fields[name] ?? 'any' }))
  }
  if (isMap(shape) && !shape.atomic && isObject(value)) return Object.entries(value).map(([name, one]) => ({ element: `f:${name}`, value: one, shape: shape.map }))
  if (isList(shape) && Array.isArray(value) && (shape.keys !== undefined || shape.set)) {
    return value.map((one) => ({ element: itemElement(one, shape), value: one, shape: shape.list }))
  }
  return null
}

export const itemElement = (item: unknown, { keys }: ListOf): string => (keys === undefined ? `v:${JSON.stringify(item)}` : `k:${JSON.stringify(keysOf(item, keys))}`)
const isItem = (element: string): boolean => !element.startsWith('f:')

/** What one owns who applied this value: its leaves, and the entries of keyed lists. */
export function appliedFields(value: unknown, shape: Shape, path = '', found = new Set<string>()): Set<string> {
  const children = childrenOf(value, shape)
  if (children === null || children.length === 0) {
    if (path !== '') found.add(path)
    return found
  }
  for (const { element, value: child, shape: below } of children) {
    const place = at(path, element)
    if (isItem(element)) found.add(place)
    appliedFields(child, below, place, found)
  }
  return found
}

export interface Difference {
  /** Added, or with another value. */
  changed: Set<string>
  removed: Set<string>
}

/** From one object to the next. Here maps and structs that came count for themselves too. */
export function differenceOf(before: unknown, after: unknown, shape: Shape, path = '', found: Difference = { changed: new Set(), removed: new Set() }): Difference {
  if (isDeepStrictEqual(before, after)) return found
  const old = before === undefined || before === null ? [] : childrenOf(before, shape)
  const next = after === undefined || after === null ? [] : childrenOf(after, shape)
  if (old === null || next === null) {
    (after === undefined || after === null ? found.removed : found.changed).add(path)
    return found
  }
  const always = typeof shape === 'object' && 'always' in shape
  if (path !== '' && !always && (before ?? null) === null) found.changed.add(path)
  if (path !== '' && (after ?? null) === null) found.removed.add(path)
  const was = new Map(old.map((child) => [child.element, child]))
  const is = new Map(next.map((child) => [child.element, child]))
  for (const [element, child] of is) differenceOf(was.get(element)?.value, child.value, child.shape, at(path, element), found)
  for (const [element, child] of was) if (!is.has(element)) differenceOf(child.value, undefined, child.shape, at(path, element), found)
  return found
}

export const union = (...sets: FieldSet[]): Set<string> => new Set(sets.flatMap((set) => [...set]))
export const without = (set: FieldSet, other: FieldSet): Set<string> => new Set([...set].filter((path) => !other.has(path)))
export const both = (set: FieldSet, other: FieldSet): Set<string> => new Set([...set].filter((path) => other.has(path)))
export const sameSet = (set: FieldSet, other: FieldSet): boolean => set.size === other.size && [...set].every((path) => other.has(path))

/** The paths with all that leads to them: whoever dropped the whole of a probe dropped the probe, with what was filled in by default. */
export function withParents(set: FieldSet): Set<string> {
  const found = new Set<string>()
  for (const path of set) {
    for (let end = path.length; end !== -1; end = path.lastIndexOf(joint, end - 1)) {
      const parent = path.slice(0, end)
      if (found.has(parent)) break
      found.add(parent)
    }
  }
  return found
}

/** As managedFields holds it: `{"f:spec":{"f:replicas":{}}}`, with "." where something is owned besides what lies below. */
export function treeOf(set: FieldSet): FieldTree {
  const root: FieldTree = {}
  for (const path of [...set].sort()) {
    const elements = path.split(joint)
    const place = elements.reduce<FieldTree>((tree, element) => (tree[element] ??= {}), root)
    place['.'] = {}
  }
  return leavesBare(root)
}

function leavesBare(tree: FieldTree): FieldTree {
  const elements = Object.keys(tree)
  if (elements.length === 1 && elements[0] === '.') return {}
  return Object.fromEntries(elements.sort().map((element) => [element, element === '.' ? {} : leavesBare(tree[element]!)]))
}

export function setOf(tree: FieldTree, path = '', found = new Set<string>()): Set<string> {
  const elements = Object.keys(tree)
  if (path !== '' && (elements.length === 0 || '.' in tree)) found.add(path)
  for (const element of elements) if (element !== '.') setOf(tree[element]!, at(path, element), found)
  return found
}

/** As a message names it: `.spec.template.spec.containers[name="lambda"].image`. */
export const pathText = (path: string): string => path.split(joint).map((element) => {
  if (element.startsWith('f:')) return `.${element.slice(2)}`
  if (element.startsWith('v:')) return `[=${element.slice(2)}]`
  const keys = JSON.parse(element.slice(2)) as Record<string, unknown>
  return `[${Object.entries(keys).map(([key, value]) => `${key}=${JSON.stringify(value)}`).join(',')}]`
}).join('')
