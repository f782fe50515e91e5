// Garbage: what stays and why, stores that refuse or are away, and collections at intervals.
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { Unavailable } from '../shared/trouble.ts'
import { collectRegularly, type Garbage } from '../services/builder-watcher/garbage.ts'
import { gate } from './stand/await.ts'
import { archive, due, garbageStand, names, packagedOn, type GarbageStand } from './stand/garbage.ts'
import { digestFor } from './stand/lives.ts'
import { standImage } from './stand/stored.ts'

const test = suite<{ on: GarbageStand }>('garbage that stays, and collections')
test.before.each(async (context) => { context.on = await garbageStand() })
test.after.each(({ on }) => on.close())

const refusal = { why: 'The registry registry.example does not allow kiln to remove images: 405.', remedy: 'Set REGISTRY_STORAGE_DELETE_ENABLED=true.' }

test('what a registry refuses stays, with the reason and the remedy, which are said once; when it may go it goes', async ({ on }) => {
  const record = await on.built({ archive: 'a', context: 'c' })
  const images = ['x', 'y'].map((word) => standImage(record.id, digestFor(word)))
  for (const image of images) on.ports.stored.hold(image, [{ name: image.key, bytes: 5 }])
  await on.put(archive('left'))
  await due(on)
  on.ports.stored.refuse(refusal)
  const said = `${refusal.why} ${refusal.remedy}`
  assert.equal(await on.collector.collect(), {
    removed: [{ kind: 'archive', name: archive('left'), bytes: archive('left').length }], kept: images.map(({ name }) => ({ name, why: said })), bytes: archive('left').length,
  })
  for (const _ of [1, 2]) await on.collector.collect()
  assert.equal((await on.collector.lookFor()).unneeded.map(({ kept }) => kept), [said, said])
  assert.equal(on.lines.map((line) => JSON.parse(line)).map(({ level, message, images }) => ({ level, message, images })), [{ level: 'warn', message: `Garbage stays: ${said}`, images: 2 }])
  on.ports.stored.refuse({ ...refusal, why: 'Another.' })
  await on.collector.collect()
  assert.is(on.lines.length, 2)
  on.ports.stored.refuse(null)
  assert.equal(names((await on.collector.collect()).removed), names(images))
  assert.equal(on.ports.stored.names(), [])
})

test('the reason is forgotten when it is needed again', async ({ on }) => {
  const record = await on.built({ archive: 'a', context: 'c' })
  const image = standImage(record.id, digestFor('x'))
  on.ports.stored.hold(image, [])
  await due(on)
  on.ports.stored.refuse(refusal)
  await on.collector.collect()
  const { id } = record
  const held = (await on.ports.statuses.get(id))!
  await on.tell(record, 'context.packaged', packagedOn('x'))
  await on.collector.collect()
  await on.ports.statuses.put(held.value, (await on.ports.statuses.get(id))!.revision)
  assert.equal((await on.collector.lookFor()).unneeded.map(({ name, kept }) => [name, kept]), [[image.name, null]])
})

test('a kiln that stops ends what is under way, and begins nothing more', async ({ on }) => {
  const records = [await on.built({ archive: 'a', context: 'c' }), await on.built({ archive: 'a', context: 'c' })]
  for (const { id } of records) on.ports.stored.hold(standImage(id, digestFor('x')), [])
  await due(on)
  const { remove } = on.ports.stored
  const closings: Array<Promise<void>> = []
  on.ports.stored.remove = async (images) => {
    closings.push(on.collector.close())
    return remove(images)
  }
  assert.is((await on.collector.collect()).removed.length, 1)
  await Promise.all(closings)
  assert.is(closings.length, 1)
})

test('what stays for a reason that is nobody\'s fault is not complained of', async ({ on }) => {
  const record = await on.built({ archive: 'a', context: 'c' })
  on.ports.stored.hold(standImage(record.id, digestFor('x')), [])
  await due(on)
  on.ports.stored.refuse({ why: 'A build needs it.', remedy: null })
  assert.equal((await on.collector.collect()).kept.map(({ why }) => why), ['A build needs it.'])
  assert.equal(on.lines, [])
})

test('a registry that goes away in the middle keeps what is left of it, and is not asked for long', async ({ on }) => {
  const records = []
  for (let i = 0; i < 6; i++) records.push(await on.built({ archive: 'a', context: 'c' }))
  for (const { id } of records) on.ports.stored.hold(standImage(id, digestFor('x')), [])
  await due(on)
  const { remove } = on.ports.stored
  let asked = 0
  on.ports.stored.remove = async (images) => {
    if (++asked === 1) return remove(images)
    throw new Unavailable('The registry is away.')
  }
  const { removed, kept } = await on.collector.collect()
  assert.equal([removed.length, kept.map(({ why }) => why), asked], [1, Array(3).fill('The registry is away.'), 4])
  assert.is(on.lines.filter((line) => line.includes('The registry is away.')).length, 1)
  on.ports.stored.remove = remove
  assert.is((await on.collector.collect()).removed.length, 5)
})

test('a store that cannot be listed forgets nothing of what is known', async ({ on }) => {
  const record = await on.built({ archive: 'a', context: 'c' })
  on.ports.stored.hold(standImage(record.id, digestFor('x')), [])
  await due(on)
  const { list } = on.ports.stored
  on.ports.stored.list = async () => { throw new Unavailable('The registry is away.') }
  assert.instance(await on.collector.collect().then(() => null, (error: unknown) => error), Unavailable)
  on.ports.stored.list = list
  assert.is((await on.collector.collect()).removed.length, 1)
})

test('two collections do not run at once', async ({ on }) => {
  await on.built({ archive: 'a', context: 'c' })
  const [begun, go] = [gate(), gate()]
  let under = 0
  const { list } = on.ports.stored
  on.ports.stored.list = async (lambdas) => {
    assert.is(++under, 1)
    begun.open()
    await go.promise
    under--
    return list(lambdas)
  }
  const both = [on.collector.collect(), on.collector.collect()]
  await begun.promise
  // Whoever only looks need not wait.
  on.ports.stored.list = list
  await on.collector.lookFor()
  go.open()
  await Promise.all(both)
})

// ---- at intervals

/** A collector that answers, each time, as the test says; `called` resolves when it was asked so often. */
function fake(answers: Array<() => Promise<Awaited<ReturnType<Garbage['collect']>>>>): Garbage & { called(times: number): Promise<void>; calls: number } {
  const gates = answers.map(() => gate())
  const collector = {
    calls: 0,
    async lookFor() { return { unneeded: [], bytes: 0 } },
    async collect() {
      const at = collector.calls++
      gates[at]?.open()
      return (answers[at] ?? nothing)()
    },
    async close() {},
    called: (times: number) => gates[times - 1]!.promise,
  }
  return collector
}
const nothing = async () => ({ removed: [], kept: [], bytes: 0 })
const something = async () => ({ removed: [{ kind: 'archive' as const, name: 'x', bytes: 3 }], kept: [], bytes: 3 })

test('at intervals: what was removed is said, what fails is said and tried again, never two at once', async ({ on }) => {
  const go = gate()
  const collector = fake([
    async () => { throw new Error('a bug') }, nothing, something,
    async () => { await go.promise; return nothing() }, nothing,
  ])
  const regular = collectRegularly(collector, { intervalMs: 1, log: on.ports.log })
  assert.is(collector.calls, 0)
  await collector.called(4)
  const said = on.lines.map((line) => JSON.parse(line)).map(({ level, things, bytes, error }) => ({ level, things, bytes, error: error?.message }))
  assert.equal(said, [{ level: 'error', things: undefined, bytes: undefined, error: 'a bug' }, { level: 'info', things: 1, bytes: 3, error: undefined }])
  assert.is(collector.calls, 4)
  go.open()
  await collector.called(5)
  await regular.stop()
})

test('at intervals: after the stop no other begins', async ({ on }) => {
  const go = gate()
  const collector = fake([async () => { await go.promise; return nothing() }, nothing])
  const regular = collectRegularly(collector, { intervalMs: 1, log: on.ports.log })
  await collector.called(1)
  await regular.stop()
  const real = globalThis.setTimeout
  let set = 0
  globalThis.setTimeout = ((...args: Parameters<typeof setTimeout>) => { set++; return real(...args) }) as typeof setTimeout
  go.open()
  await new Promise((resolve) => setImmediate(resolve))
  globalThis.setTimeout = real
  assert.is(set, 0)
  assert.is(collector.calls, 1)
})

test.run()
