// What was sent over HTTP: who asks, about what, and an archive with parameters, as multipart or as JSON.
import type { Context } from 'hono'
import type { Asker } from '../../shared/asker.ts'
import type { HttpEnv } from '../../shared/http.ts'
import { Refusal, invalid, unknownLambda } from '../../shared/trouble.ts'
import type { Ingest } from './index.ts'

export const askerOf = (c: Context<HttpEnv>): Asker => ({ account: c.get('account'), cause: c.get('requestId'), traceparent: c.req.header('traceparent') ?? null, priority: 'person' })

/** An id that is no uuid names nothing. */
export function idIn(c: Context<HttpEnv>, unknown = unknownLambda): string {
  const id = c.req.param('id') ?? ''
  if (!/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i.test(id)) throw unknown(id)
  return id.toLowerCase()
}

export interface Wish {
  archive: Buffer | null
  parameters: unknown
  rebase: boolean
}

/** `fields`: what a JSON body may have. Throws a Refusal that names whatever is wrong. */
export async function wishIn(c: Context<HttpEnv>, { fetchArchive }: Pick<Ingest, 'fetchArchive'>, fields: string[]): Promise<Wish> {
  const type = (c.req.header('content-type') ?? '').split(';')[0]!.trim().toLowerCase()
  if (type === 'multipart/form-data') return wishInForm(await form(c))
  if (type !== 'application/json') throw new Refusal(415, null, 'Send multipart/form-data with `archive` and `parameters`, or application/json.')
  const body = jsonObject(await c.req.text(), 'the body')
  const unknown = Object.keys(body).filter((key) => !fields.includes(key))
  if (unknown.length > 0) throw unknownFields(unknown, fields)
  const rebase = flagIn(body.rebase, 'rebase')
  return { archive: body.archive === undefined ? null : await fetchArchive(body.archive), parameters: body.parameters, rebase }
}

async function form(c: Context<HttpEnv>): Promise<FormData> {
  try {
    return await c.req.formData()
  } catch (error) {
    if (error instanceof Refusal) throw error
    throw invalid([{ code: 'BadMultipart', message: 'The multipart body cannot be read; it may be incomplete.', fix: 'Send it again, with a boundary in Content-Type that the body uses.' }])
  }
}

async function wishInForm(fields: FormData): Promise<Wish> {
  const unknown = [...fields.keys()].filter((key) => key !== 'archive' && key !== 'parameters')
  if (unknown.length > 0) throw unknownFields(unknown, ['archive', 'parameters'])
  const archive = fields.get('archive')
  const parameters = fields.get('parameters')
  if (typeof archive === 'string') throw invalid([{ code: 'NoArchive', field: 'archive', message: '`archive` is text, not a file.', fix: 'Send the zip as a file, e.g. with curl -F archive=@lambda.zip.' }])
  const text = parameters === null ? null : typeof parameters === 'string' ? parameters : await parameters.text()
  return { archive: archive === null ? null : Buffer.from(await archive.arrayBuffer()), parameters: text === null ? undefined : jsonObject(text, '`parameters`'), rebase: false }
}

/** Left out it is false. */
export function flagIn(given: unknown, field: string): boolean {
  if (given === undefined || typeof given === 'boolean') return given ?? false
  throw invalid([{ code: 'BadParameter', field, message: `${field} must be true or false.`, fix: 'Correct it, or leave it out.' }])
}

function unknownFields(names: string[], known: string[]): Refusal {
  return invalid(names.map((field) => ({ code: 'UnknownField', field, message: `There is no field ${field}.`, fix: `Only ${known.join(', ')} are taken; all else goes into parameters.` })))
}

function jsonObject(text: string, what: string): Record<string, unknown> {
  const wrong = (message: string): Refusal => invalid([{ code: 'BadJson', field: 'parameters', message, fix: 'Send a JSON object.' }])
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch (error) {
    throw wrong(`${what} is not JSON: ${(error as Error).message}.`)
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw wrong(`${what} is not a JSON object.`)
  return value as Record<string, unknown>
}
