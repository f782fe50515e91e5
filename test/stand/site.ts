// All services in this process over real NATS and the stand-in platform: for tests of what they do together.
import type { Hono } from 'hono'
import type { HttpEnv } from '../../shared/http.ts'
import type { Capabilities } from '../../shared/config.ts'
import type { Finding } from '../../shared/finding.ts'
import { startCleaner } from '../../services/builder-watcher/clean.ts'
import { garbage, type Garbage } from '../../services/builder-watcher/garbage.ts'
import { builderHttp } from '../../services/builder-watcher/http.ts'
import { startBuilderWatcher } from '../../services/builder-watcher/index.ts'
import { startDeployer } from '../../services/deployer/index.ts'
import { startObserver } from '../../services/deployer/observe.ts'
import { listen, type Listening } from '../../services/gateway/index.ts'
import { places } from '../../services/gateway/places.ts'
import { proxy } from '../../services/gateway/proxy.ts'
import { accountsBy } from '../../services/gateway/tokens.ts'
import { ownBuilds, type OwnBuildRules } from '../../services/ingest/builds.ts'
import { obeyCommands } from '../../services/ingest/commands.ts'
import { ingestHttp } from '../../services/ingest/http.ts'
import { ingest, type Ingest } from '../../services/ingest/index.ts'
import { startPackager } from '../../services/packager/index.ts'
import { statusHttp } from '../../services/status-api/http.ts'
import { startProjection } from '../../services/status-api/index.ts'
import { view } from '../../services/status-api/view.ts'
import { writeZip } from '../../shared/zip.ts'
import { testNats, type TestNats } from './nats.ts'
import { standBuilds, standWorkloads, type StandImageBuilds } from './platform.ts'
import { standPorts, type StandPorts } from './ports.ts'

export interface Site {
  nats: TestNats
  ports: StandPorts
  service: Ingest
  ingest: Hono<HttpEnv>
  statusApi: Hono<HttpEnv>
  garbage: Garbage
  gateway: Listening
  /** `http://127.0.0.1:<port>` */
  address: string
  close(): Promise<void>
}

export interface SiteOptions {
  buildConcurrency?: number
  maxArchiveBytes?: number
  tokens?: Map<string, string>
  proxyTimeoutMs?: number
  /** As for garbage to be collected; it is, when a test asks for it. */
  graceMs?: number
  /** Findings about an archive, instead of the Python checks. */
  examine?: (archive: Buffer) => Promise<Finding[]>
  can?: Partial<Capabilities>
  /** Builds of one account that may wait. */
  mostWaiting?: number
  /** What makes images of archives with a Dockerfile. */
  imageBuilds?: StandImageBuilds
}

export const helloZip = (main = 'async def main(request):\n    return {}\n', more: Record<string, string> = {}): Buffer =>
  writeZip(new Map(Object.entries({ 'lambda_main.py': main, ...more })))

/** What the stand-in platform can do for a lambda. */
export const capabilities: Capabilities = { runDockerCommands: false, readSecrets: false, namespaces: null, imageBuilders: ['auto'] }

export const buildRules: OwnBuildRules = { maxArchiveBytes: 2 ** 20, limits: { maxUnpackedBytes: 2 ** 24, maxEntries: 1_000 }, namespaces: null, mostWaiting: 1_000 }

export async function site(options: SiteOptions = {}): Promise<Site> {
  const nats = await testNats()
  const ports = await standPorts(nats.url, { builds: standBuilds(), workloads: standWorkloads(), ...(options.imageBuilds && { imageBuilds: options.imageBuilds }) })
  const limits = { maxUnpackedBytes: 64 * 2 ** 20, maxEntries: 1_000 }
  const maxArchiveBytes = options.maxArchiveBytes ?? 2 ** 20
  const mostWaiting = options.mostWaiting ?? buildRules.mostWaiting
  const service = ingest(ports, { can: { ...capabilities, ...options.can }, maxArchiveBytes, mostWaiting, examine: options.examine ?? (async () => []) })
  const builds = await ownBuilds(ports, { ...buildRules, mostWaiting, namespaces: options.can?.namespaces ?? null })
  const projection = await startProjection(ports)
  const observing = await startObserver(ports)
  const hearings = [
    projection, await startDeployer(ports), await startCleaner(ports),
    await startBuilderWatcher(ports, { concurrency: options.buildConcurrency ?? 2, perAccount: 100, timeoutMs: 60_000, builder: 'auto', namespace: 'default' }),
    await startPackager(ports, { runtime: { files: new Map([['run.py', Buffer.from('')]]), requirements: Buffer.from(''), digest: 'test' }, baseImage: 'base', limits }),
    await obeyCommands(ports, service, builds),
  ]
  const live = await view(ports, { atOnce: options.buildConcurrency ?? 2 })
  const apps = { ingest: ingestHttp(service, builds, { maxArchiveBytes, log: ports.log }), statusApi: statusHttp(ports, live, limits) }
  const graceMs = options.graceMs ?? 60_000
  const collector = garbage(ports, { graceMs })
  const gateway = await listen(ports, {
    ingest: apps.ingest.fetch, statusApi: apps.statusApi.fetch, builder: builderHttp(collector, { graceMs, log: ports.log }).fetch, places: await places(ports), proxy: proxy({ timeoutMs: options.proxyTimeoutMs ?? 5_000 }),
    accountOf: accountsBy(options.tokens ?? new Map()),
  }, { host: '127.0.0.1', port: 0 })
  return {
    nats, ports, service, ...apps, garbage: collector, gateway, address: `http://127.0.0.1:${gateway.port}`,
    async close() {
      await gateway.close()
      live.close()
      builds.close()
      await Promise.all(hearings.map((hearing) => hearing.stop()))
      await observing.close()
      await ports.close()
      await nats.close()
    },
  }
}
