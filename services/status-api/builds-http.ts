// status-api of builds: what became of an archive and its image, its logs and its facts.
import type { Context, Hono } from 'hono'
import type { BuildRecord } from '../../shared/build-records.ts'
import type { HttpEnv } from '../../shared/http.ts'
import { buildState, buildStatus, type Life } from '../../shared/lifecycle.ts'
import type { Ports } from '../../shared/ports.ts'
import { unknownBuild } from '../../shared/trouble.ts'
import { momentsOf, placeIn, why, withoutSeq } from './answers.ts'
import type { InLine } from './line.ts'
import { pageAsked, pageOf } from './pages.ts'
import { eventsAnswer, logsAnswer } from './streams.ts'
import type { View } from './view.ts'

const statuses = ['in_progress', 'pending', 'error', 'completed', 'not_found']

export function buildsHttp(app: Hono<HttpEnv>, ports: Pick<Ports, 'bus' | 'logs'>, view: View): void {
  const one = async (c: Context<HttpEnv>): Promise<{ record: BuildRecord; life: Life | null }> => {
    await view.caughtUp()
    const found = view.findBuild(c.get('account'), (c.req.param('id') ?? '').toLowerCase())
    if (!found) throw unknownBuild(c.req.param('id') ?? '')
    return found
  }

  app.get('/builds', async (c) => {
    await view.caughtUp()
    const page = pageAsked(c, statuses, 'image_name')
    const { rows, cursor } = pageOf(view.idsAfter('build', c.get('account'), page.after), page, (id) => {
      const { record, life } = view.findBuild(c.get('account'), id)!
      return page.name !== undefined && record.parameters.image_name !== page.name ? null : summary(record, life)
    })
    return c.json({ builds: rows, cursor })
  })
  app.get('/builds/:id', async (c) => {
    const { record, life } = await one(c)
    return c.json(details(record, life, view.inLine(record.id)))
  })
  app.get('/builds/:id/status', async (c) => {
    const { record, life } = await one(c)
    return c.json(statusOf(record, life, view.inLine(record.id)))
  })
  app.get('/builds/:id/logs', async (c) => {
    const { record: { account, id } } = await one(c)
    return logsAnswer(c, ports, { account, id, version: 1, kind: 'build' }, 'build_id')
  })
  app.get('/builds/:id/events', async (c) => eventsAnswer(c, ports, (await one(c)).record, view))
}

function summary(record: BuildRecord, life: Life | null) {
  const { id, account, parameters: { image_name, tag }, cancelled, created, updated } = record
  const state = buildState(record, life)
  const { reason, message } = cancelled ?? why(state, life?.versions[1])
  return { build_id: id, account, image_name, tag, status: buildStatus(record, life), state, reason, message: state === 'built' ? 'The image is made and pushed.' : message, created, updated }
}

function statusOf(record: BuildRecord, life: Life | null, inLine: InLine | null) {
  const { build_id, status, state, reason, message } = summary(record, life)
  const v = life?.versions[1]
  return {
    build_id, status, state, reason, message: inLine ? `It waits for a builder at place ${inLine.place}.` : message, ...placeIn(inLine),
    reference: v?.image?.reference ?? null, digest: v?.image?.digest ?? null, failure: v?.failure ? withoutSeq(v.failure) : null,
  }
}

const details = (record: BuildRecord, life: Life | null, inLine: InLine | null) => ({
  ...summary(record, life), ...statusOf(record, life, inLine), priority: record.priority, archive: record.archive, parameters: record.parameters, timeline: momentsOf(life),
})
