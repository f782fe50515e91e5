// Builds of their own, through the services: whether a small account waits behind a large one, what kiln adds to each build, and what ten thousand that wait cost.
import { startBuilderWatcher } from '../../services/builder-watcher/index.ts'
import { ownBuilds, type OwnBuilds } from '../../services/ingest/builds.ts'
import { statusHttp } from '../../services/status-api/http.ts'
import { startProjection } from '../../services/status-api/index.ts'
import { view } from '../../services/status-api/view.ts'
import { writeZip } from '../../shared/zip.ts'
import { folded } from '../stand/caller.ts'
import { testNats } from '../stand/nats.ts'
import { standPorts, type StandPorts } from '../stand/ports.ts'
import { buildRules } from '../stand/site.ts'
import { each, median, quantile, type Line } from './line.ts'

const limit = 8
const buildMs = 50
const counts = { large: 450, small: 50 }
const all = counts.large + counts.small
const many = 10_000

export const benchBuilds = async (): Promise<Line[]> => [...(await turns()), ...(await line())]

const archive = writeZip(new Map([['Dockerfile', 'FROM scratch\n']]))

function sent(builds: OwnBuilds, account: string, n: number): Promise<string> {
  return builds.create({ account, cause: 'bench', traceparent: null, priority: 'person' }, { archive, parameters: { image_name: `app-${n}` } })
}

/** All wait before the first begins. */
async function turns(): Promise<Line[]> {
  const nats = await testNats()
  const ports = await standPorts(nats.url)
  ports.imageBuilds.decide(async ({ image: { name }, context: { digest } }) => {
    await new Promise((resolve) => setTimeout(resolve, buildMs))
    return { built: true, image: { reference: `stand/${name}@sha256:${digest}`, digest: `sha256:${digest}` } }
  })
  const builds = await ownBuilds(ports, buildRules)
  const projection = await startProjection(ports)
  const ids = new Map<string, string[]>()
  for (const [account, count] of Object.entries(counts)) {
    const own: string[] = []
    ids.set(account, own)
    await each(Array(count).keys(), 16, async (n) => { own.push(await sent(builds, account, n)) })
  }
  const began = Date.now()
  const watcher = await startBuilderWatcher(ports, { concurrency: limit, perAccount: limit, timeoutMs: 60_000, builder: 'auto', namespace: 'default' })
  const waits: Record<string, number[]> = { large: [], small: [] }
  let [ended, built] = [began, 0]
  for (const [account, own] of ids) for (const id of own) {
    for await (const { fact, time } of ports.bus.follow(id, 0, AbortSignal.timeout(120_000))) {
      if (fact === 'image.started') waits[account]!.push(Date.parse(time) - began)
      if (fact !== 'image.built') continue
      built += 1
      ended = Math.max(ended, Date.parse(time))
      break
    }
  }
  await watcher.stop()
  builds.close()
  await projection.stop()
  const once = ports.imageBuilds.ran.length === all && built === all
  await ports.close()
  await nats.close()
  const [large, small] = [median(waits['large']!), median(waits['small']!)]
  const added = ((ended - began) - (all / limit) * buildMs) / (all / limit)
  return [
    { what: '500 builds through ingest and builder-watcher, 450 of one account and 50 of another, 50 ms each, 8 at once: built', value: `${built}, each once: ${once ? 'yes' : 'no'}`, reach: '500', met: once },
    { what: 'the small account\'s median wait, of the large one\'s', value: `${small.toFixed(0)} ms of ${large.toFixed(0)} ms, ${(small / large).toFixed(3)}`, reach: '<= 0.2', met: small / large <= 0.2 },
    { what: 'what taking turns, facts and logs add to each build in its place', value: `${added.toFixed(1)} ms`, reach: '–', met: true },
  ]
}

/** As status-api has them, and answers for one. */
async function line(): Promise<Line[]> {
  const nats = await testNats()
  const [ports, reading] = [await standPorts(nats.url), await standPorts(nats.url)]
  const builds = await ownBuilds(ports, { ...buildRules, mostWaiting: many })
  const projection = await startProjection(ports)
  const ids: string[] = []
  await each(Array(many).keys(), 64, async (n) => { ids.push(await sent(builds, `account-${n % 20}`, n)) })
  await allFolded(ports, ids)
  const before = memory()
  const live = await view(reading, { atOnce: limit })
  const grown = (memory() - before) / many
  const app = statusHttp(reading, live, { maxUnpackedBytes: 1, maxEntries: 1 })
  const times: number[] = []
  for (let i = 0; i < 220; i++) {
    const id = ids[(i * 45) % many]!
    const from = performance.now()
    const answer = await app.request(`/builds/${id}/status`, { headers: { 'luna-account-id': accountOf(reading, id) } })
    const { queue_position: place } = (await answer.json()) as { queue_position: number }
    if (i >= 20) times.push(performance.now() - from)
    if (!(place > 0)) throw new Error(`${id} has no place`)
  }
  live.close()
  builds.close()
  await projection.stop()
  await Promise.all([ports.close(), reading.close()])
  await nats.close()
  return [
    { what: '10,000 builds wait: memory of status-api for each', value: `${(grown / 1_024).toFixed(1)} KiB`, reach: '<= 10 KiB', met: grown <= 10 * 1_024 },
    { what: 'GET /builds/{id}/status of one of them, with its place', value: `p50 ${median(times).toFixed(1)} ms, p99 ${quantile(times, 0.99).toFixed(1)} ms`, reach: 'p99 <= 20 ms', met: quantile(times, 0.99) <= 20 },
  ]
}

const accountOf = ({ buildRecords }: StandPorts, id: string): string => buildRecords.known(id)!.account

async function allFolded(ports: StandPorts, ids: string[]): Promise<void> {
  for (const id of ids.slice(-200)) await folded(ports, id, 1)
}

function memory(): number {
  for (let i = 0; i < 3; i++) (globalThis as { gc?: () => void }).gc?.()
  return process.memoryUsage().rss
}
