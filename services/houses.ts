// Which parts make up each service, and all of them in one process.
import { join } from 'node:path'
import type { Hono } from 'hono'
import type { Config } from '../shared/config.ts'
import type { HttpEnv } from '../shared/http.ts'
import type { Wired } from '../shared/wire.ts'
import { startBuilderWatcher } from './builder-watcher/index.ts'
import { watchBases } from './builder-watcher/bases.ts'
import { startCleaner } from './builder-watcher/clean.ts'
import { collectRegularly, garbage } from './builder-watcher/garbage.ts'
import { builderHttp } from './builder-watcher/http.ts'
import { startDeployer } from './deployer/index.ts'
import { keepInAgreement, startObserver } from './deployer/observe.ts'
import { forwardTo, listen } from './gateway/index.ts'
import { places } from './gateway/places.ts'
import { proxy } from './gateway/proxy.ts'
import { accountsBy } from './gateway/tokens.ts'
import { examine } from './ingest/archive.ts'
import { ownBuilds } from './ingest/builds.ts'
import { obeyCommands } from './ingest/commands.ts'
import { ingestHttp } from './ingest/http.ts'
import { ingest } from './ingest/index.ts'
import { pythonCheck } from './ingest/python.ts'
import { healthServer } from './health.ts'
import { readRuntime } from './packager/context.ts'
import { startPackager } from './packager/index.ts'
import { statusHttp } from './status-api/http.ts'
import { startProjection } from './status-api/index.ts'
import { view } from './status-api/view.ts'

export interface Open {
  close(): Promise<void>
}

export interface Site {
  config: Config
  wired: Wired
  /** The checkout: the runtime's files lie in it. */
  root: string
  say(line: string): void
}

export type House = (site: Site) => Promise<{ port: number; open: Open[] }>

type Part = (site: Site) => Promise<{ open: Open; app?: Hono<HttpEnv> }>

const closing = (hearing: { stop(): Promise<void> }): Open => ({ close: () => hearing.stop() })
const zipLimits = ({ maxUnpackedBytes, maxArchiveEntries }: Config) => ({ maxUnpackedBytes, maxEntries: maxArchiveEntries })

const ingestPart: Part = async ({ config, wired, say }) => {
  const { ports } = wired
  const check = pythonCheck({ python: await wired.runtimePython(say) })
  const service = ingest(ports, {
    can: config.can, maxArchiveBytes: config.maxArchiveBytes, mostWaiting: config.buildsOfAccount.waiting,
    examine: async (archive) => {
      const examination = await examine(archive, { ...zipLimits(config), python: check })
      return examination.ok ? [] : examination.findings
    },
  })
  const builds = await ownBuilds(ports, { maxArchiveBytes: config.maxArchiveBytes, limits: zipLimits(config), namespaces: config.kubernetes?.namespaces ?? null, mostWaiting: config.buildsOfAccount.waiting })
  await Promise.all([service.makeGood(), builds.makeGood()])
  const hearing = await obeyCommands(ports, service, builds)
  return {
    app: ingestHttp(service, builds, { maxArchiveBytes: config.maxArchiveBytes, log: ports.log }),
    open: { close: async () => { await hearing.stop(); builds.close(); await check.close() } },
  }
}

const packagerPart: Part = async ({ config, wired, root }) => {
  const runtime = await readRuntime(join(root, 'services/packager/runtime'))
  return { open: closing(await startPackager(wired.ports, { runtime, baseImage: config.baseImage, limits: zipLimits(config) })) }
}

const builderPart: Part = async ({ config, wired }) => {
  const { log } = wired.ports
  const builder = await startBuilderWatcher(wired.ports, { concurrency: config.buildConcurrency, perAccount: config.buildsOfAccount.running, timeoutMs: config.buildTimeoutMs, builder: config.imageBuilder, namespace: config.kubernetes?.namespaces[0] ?? 'default' })
  const cleaner = await startCleaner(wired.ports)
  const bases = watchBases(wired.ports, { intervalMs: config.baseIntervalMs })
  const collector = garbage(wired.ports, { graceMs: config.garbageGraceMs })
  const collecting = collectRegularly(collector, { intervalMs: config.garbageIntervalMs, log })
  return {
    app: builderHttp(collector, { graceMs: config.garbageGraceMs, log }),
    open: { close: async () => { await Promise.all([builder.stop(), cleaner.stop(), bases.close(), collecting.stop()]) } },
  }
}

const deployerPart: Part = async ({ wired: { ports } }) => {
  const observing = await startObserver(ports)
  const agreeing = await keepInAgreement(ports, observing)
  const hearing = await startDeployer(ports)
  return { open: { close: async () => { agreeing.close(); await hearing.stop(); await observing.close() } } }
}

const statusPart: Part = async ({ config, wired: { ports } }) => {
  const hearing = await startProjection(ports)
  const live = await view(ports, { atOnce: config.buildConcurrency })
  return { app: statusHttp(ports, live, zipLimits(config)), open: { close: async () => { await hearing.stop(); live.close() } } }
}

type Handler = (request: Request) => Response | Promise<Response>

async function openGateway({ config, wired: { ports } }: Site, handlers: { ingest: Handler; statusApi: Handler; builder: Handler | null }): Promise<{ port: number; open: Open[] }> {
  const listening = await listen(ports, {
    ...handlers, places: await places(ports), proxy: proxy({ timeoutMs: config.proxyTimeoutMs }), accountOf: accountsBy(config.tokens),
  }, config)
  return { port: listening.port, open: [listening] }
}

const alone = (part: Part): House => async (site) => {
  const { app, open } = await part(site)
  const health = await healthServer(site, app)
  return { port: health.port, open: [open, ...health.open] }
}

/** In this order: who hears a fact is there before it is stated. */
const all: House = async (site) => {
  const status = await statusPart(site)
  const deploying = await deployerPart(site)
  const building = await builderPart(site)
  const parts = [status, deploying, building, await packagerPart(site)]
  const accepting = await ingestPart(site)
  const { port, open } = await openGateway(site, { ingest: accepting.app!.fetch, statusApi: status.app!.fetch, builder: building.app!.fetch })
  return { port, open: [...parts.map((part) => part.open), accepting.open, ...open] }
}

const gatewayAlone: House = (site) => {
  const { ingestUrl, statusApiUrl, builderUrl } = site.config
  if (!ingestUrl || !statusApiUrl) throw new Error('The gateway in a process of its own needs INGEST_URL and STATUS_API_URL.')
  return openGateway(site, { ingest: forwardTo(ingestUrl), statusApi: forwardTo(statusApiUrl), builder: builderUrl ? forwardTo(builderUrl) : null })
}

export const houses: Record<string, House> = {
  all, gateway: gatewayAlone, ingest: alone(ingestPart), packager: alone(packagerPart), 'builder-watcher': alone(builderPart),
  deployer: alone(deployerPart), 'status-api': alone(statusPart),
}
