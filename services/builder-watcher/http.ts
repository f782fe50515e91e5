// builder-watcher over HTTP, for operators: what is garbage, and away with it.
import { Hono } from 'hono'
import { withManners, type HttpEnv } from '../../shared/http.ts'
import type { Log } from '../../shared/log.ts'
import type { Garbage } from './garbage.ts'

export function builderHttp(garbage: Garbage, { graceMs, log }: { graceMs: number; log: Log }): Hono<HttpEnv> {
  const app = withManners(new Hono<HttpEnv>(), log)
  app.get('/garbage', async (c) => {
    const { unneeded, bytes } = await garbage.lookFor()
    const shown = unneeded.map(({ kind, name, bytes, since, removedAfter, kept }) => ({ kind, name, bytes, since: iso(since), removed_after: iso(removedAfter), ...(kept && { kept }) }))
    return c.json({ unneeded: shown, bytes, grace_seconds: graceMs / 1_000 })
  })
  app.post('/garbage', async (c) => c.json(await garbage.collect()))
  return app
}

const iso = (ms: number): string => new Date(ms).toISOString()
