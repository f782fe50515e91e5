// labelSelector and fieldSelector: how they are read, what they match, and the complaints about those that cannot be read.
import { badRequest } from './errors.ts'
import { kinds } from './kinds.ts'
import type { Kind, Thing } from './store.ts'

export type Matches = (thing: Thing) => boolean
type Labels = Record<string, string>

export function selectorOf(kind: Kind, labelSelector: string, fieldSelector: string): Matches {
  const labels = labelMatch(labelSelector)
  const fields = fieldMatch(kind, fieldSelector)
  return (thing) => labels(thing.metadata.labels ?? {}) && fields(thing)
}

/** `a=1,b!=2,c in (x,y),d notin (z),e,!f`. */
export function labelMatch(text: string): (labels: Labels) => boolean {
  const tokens = text.match(/[^\s(),=!]+|==|!=|[(),=!]/g) ?? []
  const requirements: Array<(labels: Labels) => boolean> = []
  while (tokens.length > 0) {
    requirements.push(requirement(tokens))
    const next = tokens.shift()
    if (next === undefined) break
    if (next !== ',') throw badRequest(`found '${next}', expected: ',' or 'end of string'`)
    if (tokens.length === 0) throw badRequest("found '', expected: identifier after ','")
  }
  return (labels) => requirements.every((holds) => holds(labels))
}

function requirement(tokens: string[]): (labels: Labels) => boolean {
  const absent = tokens[0] === '!'
  if (absent) tokens.shift()
  const key = tokens.shift()
  if (key === undefined || !isWord(key)) throw unreadable(key, 'identifier')
  if (absent) return (labels) => !(key in labels)
  const operator = tokens[0]
  if (operator === undefined || operator === ',') return (labels) => key in labels
  tokens.shift()
  if (operator === '=' || operator === '==' || operator === '!=') {
    const value = isWord(tokens[0]) ? tokens.shift()! : ''
    return operator === '!=' ? (labels) => labels[key] !== value : (labels) => labels[key] === value
  }
  if (operator !== 'in' && operator !== 'notin') throw unreadable(operator, "in', 'notin', '=', '==', '!=', 'gt', 'lt")
  const values = valuesIn(tokens)
  return operator === 'in' ? (labels) => key in labels && values.has(labels[key]!) : (labels) => !(key in labels) || !values.has(labels[key]!)
}

function valuesIn(tokens: string[]): Set<string> {
  const open = tokens.shift()
  if (open !== '(') throw badRequest(`unable to parse requirement: found '${open ?? ''}' expected: '('`)
  const values = new Set<string>()
  for (;;) {
    const token = tokens.shift()
    if (token === ')') return values
    if (token === undefined) throw badRequest("unable to parse requirement: found '', expected: ',', ')' or identifier")
    if (token !== ',') values.add(token)
  }
}

const isWord = (token: string | undefined): boolean => token !== undefined && !/^([(),=!]|==|!=)$/.test(token)
const unreadable = (token: string | undefined, wanted: string): Error => badRequest(`unable to parse requirement: found '${token ?? ''}', expected: '${wanted}'`)

/** `metadata.name=x,status.phase!=Running`. */
function fieldMatch(kind: Kind, text: string): Matches {
  const parts = text.split(',').filter((part) => part !== '').map((part) => fieldPart(kind, text, part))
  return (thing) => parts.every((holds) => holds(thing))
}

function fieldPart(kind: Kind, text: string, part: string): Matches {
  const [, name, operator, value] = /^([^=!]+?)(==|!=|=)(.*)$/.exec(part) ?? []
  if (name === undefined || value === undefined) throw badRequest(`invalid selector: '${text}'; can't understand '${part}'`)
  const read = fieldOf(kind, name)
  return operator === '!=' ? (thing) => read(thing) !== value : (thing) => read(thing) === value
}

function fieldOf(kind: Kind, name: string): (thing: Thing) => string {
  const { fields } = kinds[kind]
  if (name === 'metadata.name') return (thing) => thing.metadata.name
  if (name === 'metadata.namespace') return (thing) => thing.metadata.namespace
  const known = fields[name]
  if (known !== undefined) return known
  if (Object.keys(fields).length > 0) throw badRequest(`field label not supported: ${name}`)
  throw badRequest(`"${name}" is not a known field selector: only "metadata.name", "metadata.namespace"`)
}

/** The object that a fieldSelector asks for by name, as rights by name need it. */
export const selectedName = (fieldSelector: string): string => /(?:^|,)metadata\.name==?([^,]+)/.exec(fieldSelector)?.[1] ?? ''
