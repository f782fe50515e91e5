// ingest over HTTP: the writing half of design's table.
import { Hono, type Context } from 'hono'
import { bodyLimit } from 'hono/body-limit'
import { withManners, type HttpEnv } from '../../shared/http.ts'
import type { Log } from '../../shared/log.ts'
import { Refusal, invalid } from '../../shared/trouble.ts'
import { buildsHttp } from './builds-http.ts'
import type { OwnBuilds } from './builds.ts'
import type { Accepted, Ingest } from './index.ts'
import { askerOf, idIn, wishIn } from './sent.ts'

/** What multipart framing and the parameters may add to an archive. */
const framingBytes = 1024 * 1024

export function ingestHttp(service: Ingest, builds: OwnBuilds, options: { maxArchiveBytes: number; log: Log }): Hono<HttpEnv> {
  const app = withManners(new Hono<HttpEnv>(), options.log)
  app.use(bodyLimit({
    maxSize: options.maxArchiveBytes + framingBytes,
    onError: () => { throw new Refusal(413, 42005, `The request is too large: an archive may have at most ${options.maxArchiveBytes} bytes.`) },
  }))

  app.post('/lambdas', async (c) => {
    const wish = await wishIn(c, service, ['archive', 'parameters'])
    if (!wish.archive) throw invalid([{ code: 'NoArchive', field: 'archive', message: 'There is no archive.', fix: 'Send multipart/form-data with a file field `archive`, or JSON with `archive` as an address.' }])
    const key = c.req.header('idempotency-key')
    const accepted = await service.create(askerOf(c), { archive: wish.archive, parameters: wish.parameters ?? {}, ...(key && { idempotencyKey: key }) })
    // An Idempotency-Key repeats the first answer, whatever happened since.
    return answer(c, accepted, accepted.isNew || key !== undefined ? 202 : 200)
  })

  app.put('/lambdas/:id', async (c) => {
    const wish = await wishIn(c, service, ['archive', 'parameters', 'rebase'])
    if (!wish.archive && wish.parameters === undefined && !wish.rebase) throw invalid([{ code: 'NothingToChange', message: 'There is neither an archive nor parameters, nor is it to be rebased.', fix: 'Send at least one of them.' }])
    const accepted = await service.update(askerOf(c), idIn(c), wish)
    return answer(c, accepted, accepted.isNew ? 202 : 200)
  })

  app.delete('/lambdas/:id', async (c) => answer(c, await service.remove(askerOf(c), idIn(c)), 202))
  app.post('/lambdas/:id/disable', async (c) => answer(c, await service.turn(askerOf(c), idIn(c), false), 202))
  app.post('/lambdas/:id/enable', async (c) => answer(c, await service.turn(askerOf(c), idIn(c), true), 202))
  app.post('/lambdas/:id/cancel', async (c) => answer(c, await service.cancel(askerOf(c), idIn(c)), 202))
  app.post('/lambdas/:id/rollback', async (c) => answer(c, await service.rollback(askerOf(c), idIn(c), versionIn(c.req.query('version'))), 202))
  buildsHttp(app, builds, service)
  return app
}

export function versionIn(given: unknown): number {
  const version = typeof given === 'string' && /^\d+$/.test(given) ? Number(given) : given
  if (Number.isSafeInteger(version) && (version as number) > 0) return version as number
  throw invalid([{ code: 'BadParameter', field: 'version', message: 'version must be the number of a version.', fix: 'GET /lambdas/{id} lists the versions.' }])
}

function answer(c: Context<HttpEnv>, { id, version }: Accepted, status: 200 | 202): Response {
  return c.json({ lambda_id: id, version }, status, { location: `/lambdas/${id}` })
}
