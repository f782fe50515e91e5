// A user of the HTTP interface: asks, and reads the whole answer. And waiting until what was stated can be read.
import { helloZip, type Site } from './site.ts'
import { fact } from './await.ts'
import type { FactName, Heard } from '../../shared/events.ts'
import type { Ports } from '../../shared/ports.ts'

export interface Answer {
  status: number
  headers: Headers
  text: string
  /** The JSON in it; undefined when it is none. */
  body: any
}

export interface Question {
  headers?: Record<string, string>
  json?: unknown
  body?: string | FormData
}

export interface Caller {
  ask(method: string, path: string, question?: Question): Promise<Answer>
  get(path: string, headers?: Record<string, string>): Promise<Answer>
  post(path: string, question?: Question): Promise<Answer>
  /** POST /lambdas as multipart; null sends no such part. */
  create(parameters?: unknown, archive?: Buffer | null, headers?: Record<string, string>): Promise<Answer>
  /** PUT /lambdas/{id} as multipart. */
  change(id: string, wish: { archive?: Buffer; parameters?: unknown }): Promise<Answer>
}

export function form({ archive, parameters }: { archive?: Buffer | null; parameters?: unknown }): FormData {
  const fields = new FormData()
  if (archive) fields.set('archive', new Blob([new Uint8Array(archive)], { type: 'application/zip' }), 'lambda.zip')
  if (parameters !== undefined && parameters !== null) fields.set('parameters', typeof parameters === 'string' ? parameters : JSON.stringify(parameters))
  return fields
}

export function caller(address: string, always: Record<string, string> = {}): Caller {
  const ask = async (method: string, path: string, { headers = {}, json, body }: Question = {}): Promise<Answer> => {
    const answer = await fetch(address + path, {
      method, headers: { ...always, ...headers, ...(json !== undefined && { 'content-type': 'application/json' }) },
      ...(json !== undefined ? { body: typeof json === 'string' ? json : JSON.stringify(json) } : body !== undefined ? { body } : {}),
    })
    const text = await answer.text()
    return { status: answer.status, headers: answer.headers, text, body: jsonIn(text) }
  }
  return {
    ask,
    get: (path, headers = {}) => ask('GET', path, { headers }),
    post: (path, question) => ask('POST', path, question),
    create: (parameters = {}, archive = helloZip(), headers = {}) => ask('POST', '/lambdas', { headers, body: form({ archive, parameters }) }),
    change: (id, wish) => ask('PUT', `/lambdas/${id}`, { body: form(wish) }),
  }
}

function jsonIn(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

/** Resolves when this fact was stated and every read shows it. */
export async function seen<N extends FactName>({ ports }: Pick<Site, 'ports'>, id: string, name: N, version?: number): Promise<Heard<N>> {
  const heard = await fact(ports, id, name, version)
  await folded(ports, id, heard.seq)
  return heard
}

/** Resolves when the status of this lambda holds everything up to `seq`. */
export async function folded({ statuses }: Pick<Ports, 'statuses'>, id: string, seq: number): Promise<void> {
  let open = (): void => undefined
  const there = new Promise<void>((resolve) => { open = resolve })
  const following = await statuses.follow((life) => { if (life.id === id && life.seq >= seq) open() })
  await there
  following.close()
}

/** The first fact of a life after `from` that is meant. One that never comes is a failure. */
export async function first({ bus }: Pick<Ports, 'bus'>, id: string, from: number, is: (heard: Heard) => boolean): Promise<Heard> {
  for await (const heard of bus.follow(id, from, AbortSignal.timeout(10_000))) if (is(heard)) return heard
  throw new Error(`no such fact of ${id} came`)
}

/** A main of its own, so that its zip and image are nobody else's. */
export const ownZip = (word: string, more: Record<string, string> = {}): Buffer => helloZip(`# ${word}\nasync def main(request):\n    return {}\n`, more)

/** The names of a life's facts so far, each with its version. */
export const factsOf = async ({ ports }: Pick<Site, 'ports'>, id: string): Promise<string[]> =>
  (await ports.bus.history(id, 0, 1_000)).map(({ fact: name, version }) => `${name} ${version}`)
