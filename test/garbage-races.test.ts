// Garbage that somebody comes to need while it is collected.
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import type { LambdaRecord } from '../shared/records.ts'
import { Unavailable } from '../shared/trouble.ts'
import { removeObjects } from '../services/builder-watcher/remove-objects.ts'
import { archive, context, due, garbageStand, hourMs, names, once, packagedOn, watching, type GarbageStand } from './stand/garbage.ts'
import { digestFor, recordFor, versionFor, write } from './stand/lives.ts'
import { standEnvironment, standImage } from './stand/stored.ts'

const test = suite<{ on: GarbageStand }>('garbage, while it is collected')
test.before.each(async (context) => { context.on = await garbageStand() })
test.after.each(({ on }) => on.close())

const recordOf = (word: string): LambdaRecord => recordFor({ versions: [versionFor(1, digestFor(word))] })

test('an archive that a record comes to name after the look is not touched', async ({ on }) => {
  await on.built({ archive: 'a', context: 'c' })
  await on.put(archive('b'))
  await due(on)
  const removed: string[] = []
  const { remove } = on.ports.objects
  on.ports.objects.remove = (name) => { removed.push(name); return remove(name) }
  // The last that is read before anything goes.
  once(on.ports.stored, 'list', 'after', () => write(on.ports, recordOf('b')))
  assert.equal((await on.collector.collect()).removed, [])
  assert.equal(removed, [])
  assert.ok(await on.ports.objects.has(archive('b')))
})

for (const when of ['before', 'after'] as const) {
  test(`an archive that a record comes to name ${when} it is removed is there in the end`, async ({ on }) => {
    await on.built({ archive: 'a', context: 'c' })
    await on.put(archive('b'), archive('left'))
    await due(on)
    once(on.ports.objects, 'remove', when, () => write(on.ports, recordOf('b')))
    assert.equal(names((await on.collector.collect()).removed), [archive('left')])
    assert.equal(String(await on.ports.objects.get(archive('b'))), archive('b'))
    assert.equal(await on.unneeded(), [], 'that it was unneeded is forgotten')
  })
}

test('a context that a version on its way has found is put back when that says so', async ({ on }) => {
  await on.built({ archive: 'a', context: 'c' })
  await on.put(context('d'))
  await due(on)
  const record = await write(on.ports, recordOf('a'))
  const watched = watching(on.ports)
  const collection = on.collector.collect()
  await watched
  await on.tell(record, 'context.packaged', packagedOn('d'))
  assert.equal((await collection).removed, [])
  assert.ok(await on.ports.objects.has(context('d')))
})

for (const [what, change] of [
  ['fails', (on: GarbageStand, record: LambdaRecord) => on.tell(record, 'context.refused', { stage: 'packager', cause: 'user', reason: 'BadArchive', message: 'Bad.' })],
  ['is cancelled', (on: GarbageStand, record: LambdaRecord) => write(on.ports, { ...record, cancelled: [1] })],
  ['is deleted', (on: GarbageStand, record: LambdaRecord) => write(on.ports, { ...record, deleted: true })],
  ['is followed by another', (on: GarbageStand, record: LambdaRecord) => write(on.ports, { ...record, version: 2, versions: [...record.versions, versionFor(2, digestFor('a'))] })],
  ['needs another context', (on: GarbageStand, record: LambdaRecord) => on.tell(record, 'context.packaged', packagedOn('c'))],
] as const) {
  test(`a context goes when the version on its way ${what}`, async ({ on }) => {
    await on.built({ archive: 'a', context: 'c' })
    await on.put(context('d'))
    await due(on)
    const record = await write(on.ports, recordOf('a'))
    const watched = watching(on.ports)
    const collection = on.collector.collect()
    await watched
    await change(on, record)
    assert.equal(names((await collection).removed), [context('d')])
  })
}

test('a context is put back when kiln stops before the version on its way has spoken', async ({ on }) => {
  await on.built({ archive: 'a', context: 'c' })
  await on.put(context('d'))
  await due(on)
  await write(on.ports, recordOf('a'))
  const watched = watching(on.ports)
  // It is not for want of patience.
  const { timeout } = AbortSignal
  AbortSignal.timeout = () => new AbortController().signal
  const collection = on.collector.collect()
  await watched
  await on.collector.close()
  AbortSignal.timeout = timeout
  assert.equal((await collection).removed, [])
  assert.ok(await on.ports.objects.has(context('d')))
  assert.equal(await on.unneeded(), [context('d')], 'the next kiln goes on')
})

test('nobody is waited for who has been silent for an hour', async ({ on }) => {
  await on.built({ archive: 'a', context: 'c' })
  const silent = recordOf('a')
  await write(on.ports, { ...silent, versions: silent.versions.map((version) => ({ ...version, created: new Date(Date.now() - hourMs).toISOString() })) })
  await on.put(context('d'))
  await due(on)
  assert.equal(names((await on.collector.collect()).removed), [context('d')])
})

test('everything is put back when it cannot be found out who needs it', async ({ on }) => {
  await on.built({ archive: 'a', context: 'c' })
  await on.put(archive('b'), context('d'))
  const { statuses } = on.ports
  const away = { ...on.ports, statuses: { ...statuses, follow: async () => { throw new Unavailable('NATS is away.') } } }
  const error = await removeObjects(away, [archive('b'), context('d')]).then(() => null, (thrown: unknown) => thrown)
  assert.instance(error, Unavailable)
  assert.equal([await on.ports.objects.has(archive('b')), await on.ports.objects.has(context('d'))], [true, true])
})

test('an image that its lambda comes to need after the look stays', async ({ on }) => {
  const record = await on.built({ archive: 'a', context: 'c' })
  const image = standImage(record.id, digestFor('d'))
  on.ports.stored.hold(image, [])
  await due(on)
  once(on.ports.stored, 'list', 'after', async () => {
    const second = await write(on.ports, { ...record, version: 2, versions: [...record.versions, versionFor(2, digestFor('a'))] })
    await on.tell(second, 'context.packaged', packagedOn('d'))
  })
  assert.equal(await on.collector.collect(), { removed: [], kept: [], bytes: 0 })
  assert.equal([on.ports.stored.names(), await on.unneeded()], [[image.name], []])
})

test('images of a lambda with a version that has not said yet which it needs stay, and why; those of another go', async ({ on }) => {
  const [waiting, other] = [await on.built({ archive: 'a', context: 'c' }), await on.built({ archive: 'a', context: 'c' })]
  const images = [waiting, other].map(({ id }) => standImage(id, digestFor('d')))
  for (const image of images) on.ports.stored.hold(image, [])
  await due(on)
  await write(on.ports, { ...waiting, version: 2, versions: [...waiting.versions, versionFor(2, digestFor('a'))] })
  const { removed, kept } = await on.collector.collect()
  assert.equal(names(removed), [images[1]!.name])
  assert.equal(await on.unneeded(), [images[0]!.name])
  assert.equal(kept, [{ name: images[0]!.name, why: 'A version that is on its way has not said yet what it is made of.' }])
  assert.is((await on.collector.lookFor()).unneeded[0]!.kept, kept[0]!.why)
})

test('nobody\'s own image stays while any version has not said which it needs; an environment does not', async ({ on }) => {
  await on.built({ archive: 'a', context: 'c' })
  const [image, environment] = [{ ...standImage('all', digestFor('d')), lambda: null }, standEnvironment(digestFor('e'))]
  for (const one of [image, environment]) on.ports.stored.hold(one, [])
  await due(on)
  await write(on.ports, recordOf('a'))
  assert.equal(names((await on.collector.collect()).removed), [environment.name])
})

test.run()
