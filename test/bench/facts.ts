// The pipeline itself: how long from accepted to the last fact, and how many lambdas a second, on a platform that answers at once.
import { randomUUID } from 'node:crypto'
import { AckPolicy, connect, type JsMsg, type NatsConnection } from 'nats'
import { helloZip, site, type Site } from '../stand/site.ts'
import { testNats } from '../stand/nats.ts'
import { each, quantile, type Line } from './line.ts'

const asker = { account: 'default', cause: 'bench', traceparent: null, priority: 'person' as const }
const lastFact = 'workload.running'

/** Milliseconds from `lambda.accepted` to the last fact of each life, by the server's own clock. */
async function roadTimes(nc: NatsConnection): Promise<number[]> {
  const accepted = new Map<string, number>()
  const last = new Map<string, number>()
  await readAll(nc, (message) => {
    const [, , , id = '', ...fact] = message.subject.split('.')
    const at = message.info.timestampNanos / 1e6
    if (fact.join('.') === 'lambda.accepted') accepted.set(id, at)
    else last.set(id, Math.max(at, last.get(id) ?? 0))
  })
  return [...accepted].map(([id, at]) => last.get(id)! - at)
}

async function readAll(nc: NatsConnection, tell: (message: JsMsg) => void): Promise<void> {
  const consumer = await nc.jetstream().consumers.get('EVENTS')
  const { num_pending } = await consumer.info()
  if (num_pending === 0) return
  const messages = await consumer.fetch({ max_messages: num_pending })
  for await (const message of messages) tell(message)
}

/** Resolves when so many lives were seen to end. */
function ends(one: Site, count: number): Promise<void> {
  const seen = new Set<string>()
  return new Promise((resolve) => {
    void one.ports.statuses.follow((life) => {
      if (life.timeline.some((m) => m.fact === lastFact)) seen.add(life.id)
      if (seen.size >= count) resolve()
    })
  })
}

export async function benchFacts(): Promise<Line[]> {
  const one = await site({ buildConcurrency: 64 })
  const archive = helloZip()
  const count = 300
  const warm = ends(one, 100)
  for (let i = 0; i < 100; i++) await one.service.create(asker, { archive, parameters: {} })
  await warm
  const over = ends(one, 100 + count)
  for (let i = 0; i < count; i++) {
    await one.service.create(asker, { archive, parameters: {} })
    // One at a time: this row is about latency.
    await new Promise((resolve) => setTimeout(resolve, 5))
  }
  await over
  const nc = await connect({ servers: one.nats.url })
  const times = (await roadTimes(nc)).slice(100)
  await nc.close()
  await one.close()
  const [p50, p99] = [quantile(times, 0.5), quantile(times, 0.99)]
  return [{ what: 'accepted to last fact, every service, platform that answers at once', value: `p50 ${p50.toFixed(1)} ms, p99 ${p99.toFixed(1)} ms`, reach: 'p50 <= 10 ms, p99 <= 50 ms', met: p50 <= 10 && p99 <= 50 }]
}

const lambdas = 5_000

export async function benchThroughput(): Promise<Line[]> {
  const bare: number[] = []
  const kiln: number[] = []
  for (let round = 0; round < 3; round++) {
    bare.push(await bareLoop())
    kiln.push(await throughKiln())
  }
  const [b, k] = [quantile(bare, 0.5), quantile(kiln, 0.5)]
  return [
    { what: 'bare loop: publish, consume, KV update for each of five facts', value: `${b.toFixed(0)} lambdas/s`, reach: '–', met: true },
    { what: '5,000 lambdas (of the same zip) through every service', value: `${k.toFixed(0)} lambdas/s, ${(k / b).toFixed(2)} of the bare loop`, reach: '>= 0.6 of the bare loop', met: k / b >= 0.6 },
  ]
}

async function throughKiln(): Promise<number> {
  const one = await site({ buildConcurrency: 64 })
  const archive = helloZip()
  const over = ends(one, lambdas)
  const from = performance.now()
  await each(Array(lambdas).keys(), 64, async () => { await one.service.create(asker, { archive, parameters: {} }) })
  await over
  const seconds = (performance.now() - from) / 1_000
  await one.close()
  return lambdas / seconds
}

/** The same number of facts, each published, consumed and folded into a KV entry by compare-and-set, and nothing else. */
async function bareLoop(): Promise<number> {
  const nats = await testNats()
  const nc = await connect({ servers: nats.url, noAsyncTraces: true })
  const [js, jsm] = [nc.jetstream(), await nc.jetstreamManager()]
  const steps = 5
  await jsm.streams.add({ name: 'BARE', subjects: ['bare.>'], duplicate_window: 600e9 })
  const kv = await js.views.kv('bare', { history: 1 })
  let [ended, resolve] = [0, (): void => undefined]
  const over = new Promise<void>((r) => { resolve = r })
  const revisions = new Map<string, number>()
  const body = JSON.stringify({ x: 'y'.repeat(300) })
  for (let step = 0; step < steps; step++) {
    await jsm.consumers.add('BARE', { durable_name: `step${step}`, filter_subject: `bare.*.${step}`, ack_policy: AckPolicy.Explicit, max_ack_pending: 256 })
    const consumer = await js.consumers.get('BARE', `step${step}`)
    await consumer.consume({ max_messages: 256, callback: async (message) => {
      const id = message.subject.split('.')[1]!
      revisions.set(id, await kv.put(id, body, { previousSeq: revisions.get(id) ?? 0 }))
      if (step + 1 < steps) await js.publish(`bare.${id}.${step + 1}`, body, { msgID: `${id}:${step + 1}` })
      else if (++ended === lambdas) resolve()
      message.ack()
    } })
  }
  const from = performance.now()
  await each(Array(lambdas).keys(), 64, async () => {
    const id = randomUUID()
    await js.publish(`bare.${id}.0`, body, { msgID: `${id}:0` })
  })
  await over
  const seconds = (performance.now() - from) / 1_000
  await nc.close()
  await nats.close()
  return lambdas / seconds
}
