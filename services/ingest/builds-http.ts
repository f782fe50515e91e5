// ingest of builds over HTTP: POST /builds, cancel and DELETE.
import type { Context, Hono } from 'hono'
import { uuidFrom } from '../../shared/events.ts'
import type { HttpEnv } from '../../shared/http.ts'
import { invalid, unknownBuild } from '../../shared/trouble.ts'
import type { OwnBuilds } from './builds.ts'
import type { Ingest } from './index.ts'
import { askerOf, idIn, wishIn } from './sent.ts'

export function buildsHttp(app: Hono<HttpEnv>, builds: OwnBuilds, archives: Pick<Ingest, 'fetchArchive'>): void {
  app.post('/builds', async (c) => {
    const { archive, parameters } = await wishIn(c, archives, ['archive', 'parameters'])
    if (!archive) throw invalid([{ code: 'NoArchive', field: 'archive', message: 'There is no archive.', fix: 'Send multipart/form-data with a file field `archive`, or JSON with `archive` as an address.' }], 'build')
    const key = c.req.header('idempotency-key')
    const asker = askerOf(c)
    return answer(c, await builds.create(asker, { archive, parameters, ...(key && { id: uuidFrom(asker.account, 'build', key) }) }))
  })
  app.post('/builds/:id/cancel', async (c) => answer(c, await builds.cancel(askerOf(c), idIn(c, unknownBuild))))
  app.delete('/builds/:id', async (c) => answer(c, await builds.remove(askerOf(c), idIn(c, unknownBuild))))
}

const answer = (c: Context<HttpEnv>, id: string): Response => c.json({ build_id: id }, 202, { location: `/builds/${id}` })
