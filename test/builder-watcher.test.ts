// builder-watcher: a few builds at a time, over all replicas, and none that nobody wants.
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import type { Build, BuildEnd } from '../shared/builds.ts'
import type { Hearing } from '../shared/bus.ts'
import type { LambdaRecord } from '../shared/records.ts'
import { startBuilderWatcher } from '../services/builder-watcher/index.ts'
import { fact, gate } from './stand/await.ts'
import { digestFor, packaged, recordFor, state, versionFor, write } from './stand/lives.ts'
import { testNats, type TestNats } from './stand/nats.ts'
import { imageOf } from './stand/platform.ts'
import { standPorts, type StandPorts } from './stand/ports.ts'

const test = suite('builder-watcher')
let nats: TestNats
let ports: StandPorts
let hearings: Hearing[] = []
let others: StandPorts[] = []

test.before.each(async () => {
  nats = await testNats()
  ports = await standPorts(nats.url)
})
test.after.each(async () => {
  ports.builds.decide(async (build) => ({ built: true, image: imageOf(build) }))
  await Promise.all(hearings.map((hearing) => hearing.stop()))
  hearings = []
  await Promise.all([ports, ...others].map((one) => one.close()))
  others = []
  await nats.close()
})

async function start(concurrency = 2, on = ports): Promise<Hearing> {
  const hearing = await startBuilderWatcher(on, { concurrency, perAccount: 100, timeoutMs: 60_000, builder: 'auto', namespace: 'default' })
  hearings.push(hearing)
  return hearing
}

async function wanted(word: string, more: Partial<LambdaRecord> = {}): Promise<LambdaRecord> {
  const record = await write(ports, recordFor(more))
  await state(ports, record, 'context.packaged', packaged(word))
  return record
}

/** Builds that end when the test says so; `begun` resolves when that many are under way. */
function held(): { ends: Map<string, (end: BuildEnd) => void>; aborted: Set<string>; begun(n: number): Promise<void> } {
  const ends = new Map<string, (end: BuildEnd) => void>()
  const aborted = new Set<string>()
  const waiting: Array<{ n: number; open: () => void }> = []
  ports.builds.decide((build, { signal }) => new Promise((resolve) => {
    ends.set(build.context.digest, resolve)
    signal.addEventListener('abort', () => aborted.add(build.context.digest))
    for (const one of waiting) if (ends.size >= one.n) one.open()
  }))
  return { ends, aborted, begun: (n) => within(new Promise((open) => { waiting.push({ n, open }); if (ends.size >= n) open() }), `build ${n}`) }
}

/** What never comes is a failure, not a test that hangs. */
async function within<T>(promise: Promise<T>, what: string): Promise<T> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_, reject) => { timer = setTimeout(() => reject(new Error(`${what} did not come`)), 8_000) })
  return Promise.race([promise, late]).finally(() => clearTimeout(timer))
}

const good = (word: string): BuildEnd => ({ built: true, image: imageOf({ context: packaged(word).context }) })

test('an image is queued, then started, then built, and its log is kept', async () => {
  await start()
  const record = await wanted('one')
  const { files: _, ...whatIsMade } = packaged('one')
  assert.equal((await fact(ports, record.id, 'image.queued')).data, { ...whatIsMade, priority: 'person' })
  const started = await fact(ports, record.id, 'image.started')
  assert.equal([started.data, started.source], [{ context: digestFor('one'), attempt: 1 }, 'kiln/builder-watcher'])
  const built = await fact(ports, record.id, 'image.built')
  assert.equal([built.data.image, built.data.context, built.data.reused], [imageOf({ context: packaged('one').context }), digestFor('one'), false])
  const entries = await ports.logs.read({ account: 'default', id: record.id, version: 1, kind: 'build' })
  assert.equal(entries.flatMap((e) => e.lines), [`building ${digestFor('one').slice(0, 8)}`])
})

test('an image that is there is reused and nothing is started', async () => {
  await start()
  await fact(ports, (await wanted('same')).id, 'image.built')
  const second = await wanted('same')
  assert.is((await fact(ports, second.id, 'image.built')).data.reused, true)
  assert.equal((await ports.bus.history(second.id, 0, 10)).map((f) => f.fact), ['context.packaged', 'image.built'])
  assert.is(ports.builds.ran.length, 1)
})

test('so many builds at once, over two replicas; the others wait their turn', async () => {
  const other = await standPorts(nats.url, ports)
  others.push(other)
  await Promise.all([start(2), start(2, other)])
  const { ends, begun } = held()
  const words = ['c1', 'c2', 'c3', 'c4', 'c5', 'c6']
  const records: LambdaRecord[] = []
  for (const word of words) {
    const record = await wanted(word)
    await fact(ports, record.id, 'image.queued')
    records.push(record)
  }
  for (const [i, word] of words.entries()) {
    await begun(Math.min(i + 2, words.length))
    assert.is(ports.builds.under.now, Math.min(2, words.length - i))
    assert.is((await ports.queue.depth(null)).waiting, Math.max(0, words.length - 2 - i))
    ends.get(digestFor(word))!(good(word))
    await fact(ports, records[i]!.id, 'image.built')
    if (i + 2 < words.length) await begun(i + 3)
  }
  assert.is(ports.builds.under.most, 2)
  // Two replicas may begin two of them in either order.
  assert.equal(ports.builds.ran.map((b) => b.context.digest).sort(), words.map(digestFor).sort())
})

const changes: Array<[string, (record: LambdaRecord) => LambdaRecord]> = [
  ['a newer version', (r) => ({ ...r, version: 2, versions: [...r.versions, versionFor(2, digestFor('x'))] })],
  ['a cancel', (r) => ({ ...r, cancelled: [1] })],
  ['a deletion', (r) => ({ ...r, deleted: true, alive: false })],
]
for (const [what, change] of changes) {
  test(`${what} ends the running build, and makes room for the next`, async () => {
    await start(1)
    const { aborted, begun, ends } = held()
    const record = await wanted('unwanted')
    await begun(1)
    await write(ports, change(record))
    const next = await wanted('next')
    await begun(2)
    ends.get(digestFor('next'))!(good('next'))
    await fact(ports, next.id, 'image.built')
    assert.ok(aborted.has(digestFor('unwanted')))
    assert.equal((await ports.bus.history(record.id, 0, 10)).map((f) => f.fact), ['context.packaged', 'image.queued', 'image.started'])
  })
  test(`${what} before its turn came: nothing is built`, async () => {
    const record = await write(ports, recordFor())
    await state(ports, record, 'context.packaged', packaged('too late'))
    await write(ports, change(record))
    await start(1)
    await fact(ports, (await wanted('after')).id, 'image.built')
    assert.equal((await ports.bus.history(record.id, 0, 10)).map((f) => f.fact), ['context.packaged'])
    assert.equal(ports.builds.ran.map((b) => b.context.digest), [digestFor('after')])
  })
}

test('an old version that is heard again does not hide the build of the new one from its cancel', async () => {
  await start(2)
  const begun = gate()
  const ended = gate()
  ports.builds.decide(async (build, { signal }) => {
    if (build.version === 1) return { built: false, again: true, failure: { cause: 'registry', reason: 'Down', message: 'Down.' } }
    begun.open()
    signal.addEventListener('abort', () => ended.open())
    return new Promise<BuildEnd>(() => undefined)
  })
  const record = await wanted('v1')
  await fact(ports, record.id, 'image.started', 1)
  const second = { ...record, version: 2, versions: [...record.versions, versionFor(2, digestFor('x'))] }
  await write(ports, second)
  await state(ports, second, 'context.packaged', packaged('v2'))
  await within(begun.promise, 'the second build')
  // The first is heard again after its pause, finds that nobody wants it, and is settled.
  const heardAgain = gate()
  const { asOf } = ports.records
  ports.records.asOf = async (heard) => { const found = await asOf(heard); heardAgain.open(); return found }
  await within(heardAgain.promise, 'the first version, again')
  ports.records.asOf = asOf
  await write(ports, { ...second, cancelled: [2] })
  await within(ended.promise, 'the end of the second build')
})

test('the user\'s trouble is said with stage, cause, reason, message and log, and is not tried again', async () => {
  await start()
  const failure = { cause: 'dependency', reason: 'NoSuchPackage', message: 'There is no package nosuch.', log: ['pip', 'said no'] } as const
  ports.builds.decide(async () => ({ built: false, again: false, failure: { ...failure, log: [...failure.log] } }))
  const record = await wanted('bad')
  assert.equal((await fact(ports, record.id, 'image.failed')).data, { stage: 'builder-watcher', ...failure })
  await fact(ports, (await wanted('other')).id, 'image.failed')
  assert.is(ports.builds.ran.filter((b: Build) => b.id === record.id).length, 1)
})

test.run()
