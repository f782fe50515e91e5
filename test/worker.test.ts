import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import type { Bus, Delivery, Settlement, Wish } from '../shared/bus.ts'
import { nextFact, type Fact, type Heard } from '../shared/events.ts'
import { jsonLog, silentLog } from '../shared/log.ts'
import { metrics } from '../shared/metrics.ts'
import { done, later, refuse, type Verdict } from '../shared/verdict.ts'
import { backoffMs, work } from '../shared/worker.ts'

const heard = { fact: 'context.packaged', id: 'i', account: 'a', version: 2, epoch: 0, seq: 7, time: 't', source: 's', cause: 'c', traceparent: null, data: {} } as unknown as Heard<'context.packaged'>
const failure = { cause: 'dependency' as const, reason: 'Bad', message: 'It is bad.' }

/** The worker over a bus that only remembers: what JetStream makes of it is tested in nats.test.ts. */
async function settle(verdict: Verdict | Error, delivery: Delivery = { attempt: 1 }) {
  const stated: Fact[] = []
  let handle = async (_: Heard, __: Delivery): Promise<Settlement> => 'settled'
  const bus = { state: async (fact: Fact) => { stated.push(fact) }, hear: async (_: Wish, h: typeof handle) => { handle = h; return { stop: async () => undefined } } } as unknown as Bus
  const figures = metrics({ processFigures: false })
  await work({ bus, log: silentLog, metrics: figures }, {
    service: 'builder-watcher', name: 'builder-watcher', fact: 'context.packaged', limit: 1, failure: 'image.failed',
    handle: async () => { if (verdict instanceof Error) throw verdict; return verdict },
  })
  return { settlement: await handle(heard, delivery), stated, figures: await figures.text() }
}

const worker = suite('the worker')
worker('done: states the facts, then settles', async () => {
  const { settlement, stated } = await settle(done(nextFact(heard, 'image.started', { context: 'c', attempt: 1 })))
  assert.is(settlement, 'settled')
  assert.equal(stated.map(({ fact, source, version, cause }) => ({ fact, source, version, cause })), [{ fact: 'image.started', source: 'kiln/builder-watcher', version: 2, cause: 'c' }])
})
worker('refuse: becomes the failure of the stage, never retried', async () => {
  const { settlement, stated, figures } = await settle(refuse(failure))
  assert.is(settlement, 'settled')
  assert.equal(stated[0]!.data, { stage: 'builder-watcher', ...failure })
  assert.match(figures, 'kiln_failed_total{stage="builder-watcher",cause="dependency"} 1')
})
worker('later: heard again after a back-off, nothing is stated', async () => {
  const { settlement, stated } = await settle(later(1_000, failure), { attempt: 3 })
  assert.equal(settlement, { againInMs: 4_000 })
  assert.is(stated.length, 0)
})
worker('later, with the budget spent: the failure names the cause', async () => {
  const { settlement, stated } = await settle(later(1_000, failure), { attempt: 12 })
  assert.is(settlement, 'settled')
  assert.is((stated[0]!.data as typeof failure).cause, 'dependency')
})
worker('a bug: heard again, then a failure that says it is ours', async () => {
  assert.equal((await settle(new Error('oops'))).settlement, { againInMs: 1_000 })
  const { stated } = await settle(new Error('oops'), { attempt: 12 })
  assert.is((stated[0]!.data as typeof failure).reason, 'KilnError')
})
worker('back-off doubles up to two minutes', () => { assert.equal([1, 2, 3, 20].map((n) => backoffMs(1_000, n)), [1_000, 2_000, 4_000, 120_000]) })
worker.run()

// ---
const log = suite('the log')
log('one JSON object a line, errors with their causes, nothing below the level', () => {
  const lines: string[] = []
  const json = jsonLog('info', (line) => lines.push(line), {}, () => new Date(0)).with({ lambda_id: 'i' })
  json.debug('no')
  json.error('yes', { error: new Error('a', { cause: new Error('b') }) })
  assert.is(lines.length, 1)
  const { time, message, lambda_id, error } = JSON.parse(lines[0]!)
  assert.equal([time, message, lambda_id, error.message, error.cause.message], ['1970-01-01T00:00:00.000Z', 'yes', 'i', 'a', 'b'])
})
log.run()
