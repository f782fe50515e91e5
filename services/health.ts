// How a service in a process of its own says how it is: /healthz, /readyz, /metrics, beside its HTTP interface if it has one.
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { getRequestListener } from '@hono/node-server'
import { Hono } from 'hono'
import type { Config } from '../shared/config.ts'
import { withManners, type HttpEnv } from '../shared/http.ts'
import type { Wired } from '../shared/wire.ts'

export async function healthServer({ config, wired }: { config: Config; wired: Wired }, service?: Hono<HttpEnv>): Promise<{ port: number; open: Array<{ close(): Promise<void> }> }> {
  const { bus, log, metrics } = wired.ports
  const app = withManners(new Hono<HttpEnv>(), log)
  app.get('/healthz', (c) => c.json({ status: 'ok' }))
  app.get('/readyz', (c) => c.json({ nats: bus.address() }, bus.isConnected() ? 200 : 503))
  app.get('/metrics', async (c) => c.text(await metrics.text(), 200, { 'content-type': metrics.contentType }))
  if (service) app.all('*', (c) => service.fetch(c.req.raw))
  const server = createServer(getRequestListener(app.fetch))
  await new Promise<void>((resolve, reject) => { server.once('error', reject); server.listen(config.port, config.host, resolve) })
  const close = (): Promise<void> => new Promise((resolve) => { server.close(() => resolve()); server.closeAllConnections() })
  return { port: (server.address() as AddressInfo).port, open: [{ close }] }
}
