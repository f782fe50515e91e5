// ingest over HTTP: the writing half of design's table.
import { Hono, type Context } from 'hono'
import { bodyLimit } from 'hono/body-limit'
import { withManners, type HttpEnv } from '../../shared/http.ts'
import type { Log } from '../../shared/log.ts'
import { Refusal, invalid, unknownLambda } from '../../shared/trouble.ts'
import type { Accepted, Asker, Ingest } from './index.ts'

/** What multipart framing and the parameters may add to an archive. */
const framingBytes = 1024 * 1024

export function ingestHttp(service: Ingest, options: { maxArchiveBytes: number; log: Log }): Hono<HttpEnv> {
  const app = withManners(new Hono<HttpEnv>(), options.log)
  app.use(bodyLimit({
    maxSize: options.maxArchiveBytes + framingBytes,
    onError: () => { throw new Refusal(413, 42005, `The request is too large: an archive may have at most ${options.maxArchiveBytes} bytes.`) },
  }))

  app.post('/lambdas', async (c) => {
    const wish = await wishIn(c, service, ['archive', 'parameters'])
    if (!wish.archive) throw invalid([{ code: 'NoArchive', field: 'archive', message: 'There is no archive.', fix: 'Send multipart/form-data with a file field `archive`, or JSON with `archive` as an address.' }])
    const key = c.req.header('idempotency-key')
    const accepted = await service.create(asker(c), { archive: wish.archive, parameters: wish.parameters ?? {}, ...(key && { idempotencyKey: key }) })
    // An Idempotency-Key repeats the first answer, whatever happened since.
    return answer(c, accepted, accepted.isNew || key !== undefined ? 202 : 200)
  })

  app.put('/lambdas/:id', async (c) => {
    const wish = await wishIn(c, service, ['archive', 'parameters', 'rebase'])
    if (!wish.archive && wish.parameters === undefined && !wish.rebase) throw invalid([{ code: 'NothingToChange', message: 'There is neither an archive nor parameters, nor is it to be rebased.', fix: 'Send at least one of them.' }])
    const accepted = await service.update(asker(c), idIn(c), wish)
    return answer(c, accepted, accepted.isNew ? 202 : 200)
  })

  app.delete('/lambdas/:id', async (c) => answer(c, await service.remove(asker(c), idIn(c)), 202))
  app.post('/lambdas/:id/disable', async (c) => answer(c, await service.turn(asker(c), idIn(c), false), 202))
  app.post('/lambdas/:id/enable', async (c) => answer(c, await service.turn(asker(c), idIn(c), true), 202))
  app.post('/lambdas/:id/cancel', async (c) => answer(c, await service.cancel(asker(c), idIn(c)), 202))
  app.post('/lambdas/:id/rollback', async (c) => answer(c, await service.rollback(asker(c), idIn(c), versionIn(c.req.query('version'))), 202))
  return app
}

const asker = (c: Context<HttpEnv>): Asker => ({ account: c.get('account'), cause: c.get('requestId'), traceparent: c.req.header('traceparent') ?? null, priority: 'person' })

/** An id that is no uuid names nothing. */
export function idIn(c: Context<HttpEnv>): string {
  const id = c.req.param('id') ?? ''
  if (!/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i.test(id)) throw unknownLambda(id)
  return id.toLowerCase()
}

export function versionIn(given: unknown): number {
  const version = typeof given === 'string' && /^\d+$/.test(given) ? Number(given) : given
  if (Number.isSafeInteger(version) && (version as number) > 0) return version as number
  throw invalid([{ code: 'BadParameter', field: 'version', message: 'version must be the number of a version.', fix: 'GET /lambdas/{id} lists the versions.' }])
}

function answer(c: Context<HttpEnv>, { id, version }: Accepted, status: 200 | 202): Response {
  return c.json({ lambda_id: id, version }, status, { location: `/lambdas/${id}` })
}

interface Wish {
  archive: Buffer | null
  parameters: unknown
  rebase: boolean
}

async function wishIn(c: Context<HttpEnv>, service: Ingest, fields: string[]): Promise<Wish> {
  const type = (c.req.header('content-type') ?? '').split(';')[0]!.trim().toLowerCase()
  if (type === 'multipart/form-data') return wishInForm(await form(c))
  if (type !== 'application/json') throw new Refusal(415, null, 'Send multipart/form-data with `archive` and `parameters`, or application/json.')
  const body = jsonObject(await c.req.text(), 'the body')
  const unknown = Object.keys(body).filter((key) => !fields.includes(key))
  if (unknown.length > 0) throw unknownFields(unknown, fields)
  const rebase = flagIn(body.rebase, 'rebase')
  return { archive: body.archive === undefined ? null : await service.fetchArchive(body.archive), parameters: body.parameters, rebase }
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
  return invalid(names.map((field) => ({ code: 'UnknownField', field, message: `There is no field ${field}.`, fix: `Only ${known.join(', ')} are taken; what a lambda is goes into parameters.` })))
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
