// builder-watcher: what takes a moment is made at once; what takes its time waits in the queue, and is told so once.
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { kilnStops, type Build, type BuildEnd } from '../shared/builds.ts'
import type { Hearing } from '../shared/bus.ts'
import type { LambdaRecord } from '../shared/records.ts'
import { Unavailable } from '../shared/trouble.ts'
import { build, startBuilderWatcher, type BuilderSettings, type InTheWorks } from '../services/builder-watcher/index.ts'
import { fact, gate } from './stand/await.ts'
import { digestFor, packaged, recordFor, state, versionFor, write } from './stand/lives.ts'
import { testNats, type TestNats } from './stand/nats.ts'
import { imageOf } from './stand/platform.ts'
import { standPorts, type StandPorts } from './stand/ports.ts'

const test = suite('the build queue')
let nats: TestNats
let ports: StandPorts
let hearings: Hearing[] = []
const settings: BuilderSettings = { concurrency: 2, perAccount: 100, timeoutMs: 60_000, builder: 'auto', namespace: 'default' }

test.before.each(async () => {
  nats = await testNats()
  ports = await standPorts(nats.url)
})
test.after.each(async () => {
  await Promise.all(hearings.splice(0).map((hearing) => hearing.stop()))
  await ports.close()
  await nats.close()
})

async function start(more: Partial<BuilderSettings> = {}): Promise<Hearing> {
  const hearing = await startBuilderWatcher(ports, { ...settings, ...more })
  hearings.push(hearing)
  return hearing
}

async function wanted(word: string, more: Partial<LambdaRecord> = {}): Promise<LambdaRecord> {
  const record = await write(ports, recordFor(more))
  await state(ports, record, 'context.packaged', packaged(word))
  return record
}

const quick = (...words: string[]): void => words.forEach((word) => ports.builds.quick.add(digestFor(word)))
const factsOf = async ({ id }: LambdaRecord): Promise<string[]> => (await ports.bus.history(id, 0, 20)).map((one) => one.fact)
const down: BuildEnd = { built: false, again: true, failure: { cause: 'registry', reason: 'Down', message: 'Down.' } }

interface HeldBuild { end(end: BuildEnd): void; aborted: Promise<unknown> }

/** Builds of these words end when the test says so, the others at once. Each is there when it has begun. */
function hold(...words: string[]): (word: string) => Promise<HeldBuild> {
  const held = new Map(words.map((word) => [digestFor(word), gate<HeldBuild>()]))
  ports.builds.decide((one, { signal }) => {
    const begun = held.get(one.context.digest)
    if (!begun) return Promise.resolve({ built: true, image: imageOf(one) })
    const aborted = new Promise<unknown>((resolve) => {
      if (signal.aborted) resolve(signal.reason)
      signal.addEventListener('abort', () => resolve(signal.reason))
    })
    return new Promise((end) => begun.open({ end, aborted }))
  })
  return (word) => held.get(digestFor(word))!.promise
}

const good = (word: string): BuildEnd => ({ built: true, image: imageOf(packaged(word)) })

test('what is quick is never queued, and goes on while every place of the queue is taken', async () => {
  await start()
  const held = hold('long 1', 'long 2', 'long 3')
  const long = [await wanted('long 1'), await wanted('long 2')]
  for (const record of long) await fact(ports, record.id, 'image.started')
  const third = await wanted('long 3')
  await fact(ports, third.id, 'image.queued')
  quick('quick 1', 'quick 2', 'quick 3')
  for (const word of ['quick 1', 'quick 2', 'quick 3']) {
    const record = await wanted(word)
    await fact(ports, record.id, 'image.built')
    assert.equal(await factsOf(record), ['context.packaged', 'image.started', 'image.built'])
  }
  assert.equal([ports.builds.under.most, await ports.queue.depth(null), await factsOf(third)], [3, { waiting: 1, inFlight: 2 }, ['context.packaged', 'image.queued']])
  for (const word of ['long 1', 'long 2']) (await held(word)).end(good(word))
  await fact(ports, third.id, 'image.started')
  ;(await held('long 3')).end(good('long 3'))
  for (const record of [...long, third]) await fact(ports, record.id, 'image.built')
})

test('quick ones are made beside each other, however few places the queue has', async () => {
  const words = ['beside 1', 'beside 2', 'beside 3', 'beside 4']
  const held = hold(...words)
  quick(...words)
  await start({ concurrency: 1 })
  const records = await Promise.all(words.map((word) => wanted(word)))
  const all = await Promise.all(words.map(held))
  assert.is(ports.builds.under.now, 4)
  for (const [i, { end }] of all.entries()) end(good(words[i]!))
  for (const record of records) await fact(ports, record.id, 'image.built')
})

test('what is queued waits in the order in which it was queued', async () => {
  const words = ['q1', 'q2', 'q3', 'q4']
  const held = hold('q1')
  await start({ concurrency: 1 })
  const records: LambdaRecord[] = []
  for (const word of words) {
    records.push(await wanted(word))
    await fact(ports, records.at(-1)!.id, 'image.queued')
  }
  await fact(ports, records[0]!.id, 'image.started')
  ;(await held('q1')).end(good('q1'))
  for (const record of records) await fact(ports, record.id, 'image.built')
  assert.equal(ports.builds.ran.map((one) => one.context.digest), words.map(digestFor))
})

test('that it is queued is said once, however often it is heard that it is packaged, and it is built once', async () => {
  const held = hold('twice')
  const { find } = ports.builds
  const looked = gate()
  let looks = 0
  ports.builds.find = async (one) => {
    const found = await find(one)
    if (++looks === 3) looked.open()
    return found
  }
  await start()
  const record = await wanted('twice')
  await fact(ports, record.id, 'image.started')
  await state(ports, record, 'context.packaged', packaged('twice'), { nth: 'again' })
  // Once for each time that it was heard, once for its turn.
  await looked.promise
  ;(await held('twice')).end(good('twice'))
  await fact(ports, record.id, 'image.built')
  await Promise.all(hearings.splice(0).map((hearing) => hearing.stop()))
  assert.equal((await factsOf(record)).filter((name) => name !== 'context.packaged'), ['image.queued', 'image.started', 'image.built'])
  assert.is(ports.builds.ran.length, 1)
})

test('a build that is quick no more when it is heard again is queued; one that is quick by its turn is made in it', async () => {
  const record = await write(ports, recordFor())
  await state(ports, record, 'context.packaged', packaged('not any more'))
  const heard = await fact(ports, record.id, 'context.packaged')
  const inTheWorks: InTheWorks = new Set()
  quick('not any more')
  ports.builds.decide(async () => down)
  assert.is((await build(ports, settings, inTheWorks, heard, { attempt: 1 })).verdict, 'later')
  ports.builds.quick.clear()
  const again = await build(ports, settings, inTheWorks, heard, { attempt: 2 })
  const { files: _, ...whatIsMade } = packaged('not any more')
  assert.equal(again.verdict === 'done' && again.facts.map(({ fact: name, data, nth }) => ({ name, data, nth })), [{ name: 'image.queued', data: { ...whatIsMade, priority: 'person' }, nth: undefined }])
  assert.is(ports.builds.ran.length, 1)
  await state(ports, record, 'image.queued', { ...whatIsMade, priority: 'person' })
  const turn = await fact(ports, record.id, 'image.queued')
  quick('not any more')
  ports.builds.decide(async (one) => ({ built: true, image: imageOf(one) }))
  const made = await build(ports, settings, inTheWorks, turn, { attempt: 1 })
  assert.equal(made.verdict === 'done' && made.facts.map(({ fact: name }) => name), ['image.built'])
  assert.is(inTheWorks.size, 0)
})

test('a registry that cannot be asked whether it is quick is asked again, and nothing is queued for that', async () => {
  let tries = 0
  ports.builds.find = async () => {
    if (++tries === 1) throw new Unavailable('The registry did not answer.')
    return { image: null, quick: tries === 2 }
  }
  await start()
  const record = await wanted('away')
  await fact(ports, record.id, 'image.built')
  assert.equal(await factsOf(record), ['context.packaged', 'image.started', 'image.built'])
})

const changes: Array<[string, (record: LambdaRecord) => LambdaRecord]> = [
  ['a newer version', (r) => ({ ...r, version: 2, versions: [...r.versions, versionFor(2, digestFor('x'))] })],
  ['a cancel', (r) => ({ ...r, cancelled: [1] })],
  ['a deletion', (r) => ({ ...r, deleted: true, alive: false })],
]
for (const [what, change] of changes) {
  test(`${what} ends a quick build, too`, async () => {
    const held = hold('quick')
    quick('quick')
    await start()
    const record = await wanted('quick')
    await fact(ports, record.id, 'image.started')
    await write(ports, change(record))
    assert.is.not(await (await held('quick')).aborted, kilnStops)
    await Promise.all(hearings.splice(0).map((hearing) => hearing.stop()))
    assert.equal(await factsOf(record), ['context.packaged', 'image.started'])
  })
  test(`${what} while it is queued: nothing is built`, async () => {
    const held = hold('first')
    await start({ concurrency: 1 })
    const first = await wanted('first')
    await fact(ports, first.id, 'image.started')
    const record = await wanted('unwanted')
    await fact(ports, record.id, 'image.queued')
    const after = await wanted('after')
    await fact(ports, after.id, 'image.queued')
    await write(ports, change(record))
    ;(await held('first')).end(good('first'))
    await fact(ports, after.id, 'image.built')
    assert.equal(await factsOf(record), ['context.packaged', 'image.queued'])
    assert.equal(ports.builds.ran.map((one) => one.context.digest), ['first', 'after'].map(digestFor))
  })
}

test('a kiln that stops lets go of quick builds and of those in the queue, and says nothing of them', async () => {
  const held = hold('quick', 'long')
  quick('quick')
  const hearing = await start()
  const records = [await wanted('quick'), await wanted('long')]
  for (const record of records) await fact(ports, record.id, 'image.started')
  await hearing.stop()
  assert.equal(await Promise.all(['quick', 'long'].map(async (word) => (await held(word)).aborted)), [kilnStops, kilnStops])
  assert.equal(await Promise.all(records.map(factsOf)), [['context.packaged', 'image.started'], ['context.packaged', 'image.queued', 'image.started']])
  // What was given back waits, and its place in the works is free.
  assert.equal([await ports.queue.depth(null), (await ports.bus.depth('builder-watcher-context-packaged')).inFlight], [{ waiting: 1, inFlight: 0 }, 1])
})

test('a kiln that has stopped takes nothing more: another makes all of it', async () => {
  const other = await standPorts(nats.url)
  await (await start()).stop()
  hearings.push(await startBuilderWatcher(other, settings))
  const words = Array.from({ length: 12 }, (_, i) => `stopped ${i}`)
  for (const [i, word] of words.entries()) if (i % 2 === 0) other.builds.quick.add(digestFor(word))
  for (const record of await Promise.all(words.map((word) => wanted(word)))) await fact(ports, record.id, 'image.built')
  await Promise.all(hearings.splice(0).map((hearing) => hearing.stop()))
  assert.equal([ports.builds.ran.length, other.builds.ran.length], [0, words.length])
  await other.close()
})

test('it is made by the builder that the lambda asks for, else by the operator\'s', async () => {
  await start({ builder: 'auto' })
  const asks = (image_builder: 'kaniko' | null): Partial<LambdaRecord> => ({ versions: [versionFor(1, digestFor('archive 1'), { image_builder })] })
  const built = [await wanted('asks', asks('kaniko')), await wanted('asks not', asks(null))]
  for (const record of built) await fact(ports, record.id, 'image.built')
  const by = (id: string): Build['builder'] => ports.builds.ran.find((one) => one.id === id)!.builder
  assert.equal(built.map(({ id }) => by(id)), ['kaniko', 'auto'])
})

test.run()
