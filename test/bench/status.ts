// status-api with 10,000 lambdas known: how fast a page is, how much memory each costs.
import { randomUUID } from 'node:crypto'
import { fold, type Life } from '../../shared/lifecycle.ts'
import type { FactName, Heard } from '../../shared/events.ts'
import { parseParameters } from '../../shared/parameters.ts'
import type { LambdaRecord } from '../../shared/records.ts'
import { statusHttp } from '../../services/status-api/http.ts'
import { view } from '../../services/status-api/view.ts'
import { testNats } from '../stand/nats.ts'
import { standPorts, type StandPorts } from '../stand/ports.ts'
import { each, median, type Line } from './line.ts'

const lambdas = 10_000

export async function benchStatus(): Promise<Line[]> {
  const nats = await testNats()
  const ports = await standPorts(nats.url)
  await each(Array(lambdas).keys(), 64, (n) => known(ports, n))
  const before = memory()
  const live = await view(ports, { atOnce: 2 })
  const perLambda = (memory() - before) / lambdas
  const app = statusHttp(ports, live, { maxUnpackedBytes: 1, maxEntries: 1 })
  const times: number[] = []
  for (let i = 0; i < 120; i++) {
    const from = performance.now()
    const answer = await app.request('/lambdas?limit=100')
    await answer.text()
    if (i >= 20) times.push(performance.now() - from)
  }
  const { complaints } = ports
  live.close()
  await ports.close()
  await nats.close()
  if (complaints.length > 0) throw new Error(complaints.join('\n'))
  return [
    { what: '10,000 lambdas known: GET /lambdas?limit=100', value: `p50 ${median(times).toFixed(1)} ms`, reach: '<= 20 ms', met: median(times) <= 20 },
    { what: 'memory for each of them in status-api', value: `${(perLambda / 1024).toFixed(1)} KB`, reach: '<= 4 KB', met: perLambda <= 4_096 },
  ]
}

function memory(): number {
  for (let i = 0; i < 3; i++) (globalThis as { gc?: () => void }).gc?.()
  const { heapUsed, external } = process.memoryUsage()
  return heapUsed + external
}

/** A lambda as it is after its first version came up. */
async function known(ports: StandPorts, n: number): Promise<void> {
  const id = randomUUID()
  const time = new Date(Date.UTC(2026, 0, 1) + n * 1_000).toISOString()
  const parsed = parseParameters({ name: `lambda-${n}` })
  if (!parsed.ok) throw new Error('the defaults are refused')
  const record: LambdaRecord = {
    id, account: 'default', version: 1, epoch: 0, alive: true, deleted: false, cancelled: [], created: time, updated: time,
    versions: [{ version: 1, archive: { digest: 'a'.repeat(64), bytes: 1_000 }, parameters: parsed.parameters, imageOf: null, priority: 'person', created: time }],
    change: { fact: 'lambda.accepted', time, cause: `1767225600,${randomUUID()}` },
  }
  await ports.records.put(record, 0)
  await ports.statuses.put(life(id, n, time), 0)
}

const image = { reference: `local/${'e'.repeat(12)}/${'c'.repeat(64)}`, digest: `sha256:${'c'.repeat(64)}` }

function life(id: string, n: number, time: string): Life {
  const pod = { name: `lambda-${id}-1-0`, state: 'running', ready: true, restarts: 0, reason: null, message: null, exitCode: null, signal: null, startedAt: time }
  const sight = { reason: 'Running', message: '1 of 1 pod is ready.', pods: [pod], endpoints: [`http://127.0.0.1:${20_000 + n}`] }
  const road: Array<[FactName, unknown]> = [
    ['lambda.accepted', { image: null }], ['context.packaged', { context: { digest: 'c'.repeat(64) } }], ['image.started', {}],
    ['image.built', { image, context: 'c'.repeat(64) }], ['workload.applied', { image }], ['workload.waiting', { ...sight, endpoints: [] }], ['workload.running', sight],
  ]
  return road.reduce<Life | null>((sofar, [fact, data], i) => fold(sofar, { fact, id, account: 'default', version: 1, epoch: 0, seq: n * 10 + i + 1, time, source: '', cause: '', traceparent: null, data } as Heard), null)!
}
