// status-api over HTTP: the reading half of design's table, answered from memory.
import { Hono, type Context } from 'hono'
import { withManners, type HttpEnv } from '../../shared/http.ts'
import { archiveName } from '../../shared/objects.ts'
import type { Ports } from '../../shared/ports.ts'
import { versionOf, type LambdaRecord } from '../../shared/records.ts'
import { Refusal, unknownLambda } from '../../shared/trouble.ts'
import type { Life } from '../../shared/lifecycle.ts'
import { readZip, type ZipLimits } from '../../shared/zip.ts'
import { details, imageDetails, podsStatus, summary } from './answers.ts'
import { buildsHttp } from './builds-http.ts'
import { pageAsked, pageOf } from './pages.ts'
import { eventsAnswer, logsAnswer } from './streams.ts'
import type { View } from './view.ts'

const statuses = ['running', 'waiting', 'terminated', 'not_found', 'pending']

export function statusHttp(ports: Pick<Ports, 'bus' | 'log' | 'logs' | 'objects' | 'queue'>, view: View, limits: ZipLimits): Hono<HttpEnv> {
  const app = withManners(new Hono<HttpEnv>(), ports.log)
  const one = async (c: Context<HttpEnv>): Promise<{ record: LambdaRecord; life: Life | null }> => {
    const id = (c.req.param('id') ?? '').toLowerCase()
    await view.caughtUp()
    const found = view.find(c.get('account'), id)
    if (!found) throw unknownLambda(c.req.param('id') ?? '')
    return found
  }

  app.get('/lambdas', async (c) => {
    await view.caughtUp()
    return c.json(list(c, view))
  })
  app.get('/lambdas/:id', async (c) => {
    const { record, life } = await one(c)
    return c.json(details(record, life, view.inLine(record.id)))
  })
  app.get('/lambdas/:id/status', async (c) => {
    const { record, life } = await one(c)
    return c.json(podsStatus(record, life))
  })
  app.get('/lambdas/:id/image/status', async (c) => {
    const { record, life } = await one(c)
    return c.json(imageDetails(record, life, view.inLine(record.id)))
  })
  app.get('/lambdas/:id/logs', async (c) => {
    const { record, life } = await one(c)
    const shown = Object.entries(life?.versions ?? {}).filter(([, v]) => v.sight).map(([n]) => Number(n))
    return logsAnswer(c, ports, { account: record.account, id: record.id, version: versionAsked(c, record, shown.length > 0 ? Math.max(...shown) : record.version), kind: 'run' })
  })
  app.get('/lambdas/:id/image/logs', async (c) => {
    const { record } = await one(c)
    const built = versionOf(record, record.version)?.imageOf ?? record.version
    return logsAnswer(c, ports, { account: record.account, id: record.id, version: versionAsked(c, record, built), kind: 'build' })
  })
  app.get('/lambdas/:id/events', async (c) => {
    const { record } = await one(c)
    return eventsAnswer(c, ports, record, view)
  })
  // For autoscalers: how much work a stage has. JetStream itself is asked; the monitoring page of a follower shows other numbers. Builds wait in a queue of their own.
  app.get('/queues/:consumer', async (c) => {
    const consumer = c.req.param('consumer')
    const depth = await (consumer === 'builder-watcher' ? ports.queue.depth(null) : ports.bus.depth(consumer)).catch(() => null)
    if (!depth) throw new Refusal(404, null, `There is no stage ${consumer}, or it has not begun to work yet.`)
    return c.json({ consumer, waiting: depth.waiting, unacknowledged: depth.inFlight, depth: depth.waiting + depth.inFlight })
  })
  app.get('/lambdas/:id/docs', async (c) => docs(c, ports, (await one(c)).record, limits))
  buildsHttp(app, ports, view)
  return app
}

function versionAsked(c: Context<HttpEnv>, record: LambdaRecord, otherwise: number): number {
  const given = c.req.query('version')
  if (given === undefined) return otherwise
  const version = Number(given)
  if (!versionOf(record, version)) throw new Refusal(404, 42001, `Lambda ${record.id} has no version ${given.slice(0, 40)}.`)
  return version
}

function list(c: Context<HttpEnv>, view: View) {
  const page = pageAsked(c, statuses, 'name')
  const { rows, cursor } = pageOf(view.idsAfter('lambda', c.get('account'), page.after), page, (id) => {
    const { record, life } = view.find(c.get('account'), id)!
    const row = summary(record, life)
    return page.name !== undefined && row.name !== page.name ? null : row
  })
  return { lambdas: rows, cursor }
}

/** The zip's own docs: html for browsers, yml for programs. */
async function docs(c: Context<HttpEnv>, { objects }: Pick<Ports, 'objects'>, record: LambdaRecord, limits: ZipLimits): Promise<Response> {
  const archive = await objects.get(archiveName(versionOf(record, record.version)!.archive.digest))
  if (!archive) throw new Refusal(410, 42012, 'The archive of this lambda is gone, and its docs with it.')
  const zip = await readZip(archive, limits)
  const accept = c.req.header('accept') ?? ''
  const isYaml = /ya?ml/.test(accept) || (accept.includes('text/plain') && !accept.includes('text/html'))
  const file = zip.ok ? zip.files.get(isYaml ? 'docs/lambda.yml' : 'docs/lambda.html') : undefined
  if (!file) throw new Refusal(404, null, 'This lambda brought no docs: its zip has no docs/lambda.html and docs/lambda.yml.')
  // A user's page: it must not act in kiln's name.
  const headers = { 'content-type': isYaml ? 'application/yaml; charset=utf-8' : 'text/html; charset=utf-8', 'content-security-policy': 'sandbox allow-scripts', 'x-content-type-options': 'nosniff' }
  return new Response(new Uint8Array(file), { headers })
}
