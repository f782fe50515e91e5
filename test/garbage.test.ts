// Garbage: what is unneeded, since when, and what of it goes.
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import type { LambdaRecord } from '../shared/records.ts'
import { archive, context, due, garbageStand, graceMs, hourMs, imageFor, names, packagedOn, type GarbageStand } from './stand/garbage.ts'
import { digestFor, recordFor, versionFor, write } from './stand/lives.ts'
import { standEnvironment, standImage } from './stand/stored.ts'

const test = suite<{ on: GarbageStand }>('garbage')
test.before.each(async (context) => { context.on = await garbageStand() })
test.after.each(({ on }) => on.close())

const part = (name: string, bytes = 10) => ({ name, bytes })

/** Looks, and collects when the grace period is over. */
async function collectAll(on: GarbageStand): Promise<string[]> {
  await due(on)
  return names((await on.collector.collect()).removed)
}

test('is what no version refers to: archives, contexts of images and of environments, images, environments', async ({ on }) => {
  const record = await on.built({ archive: 'a', context: 'c', environment: 'e' })
  const [mine, own] = [standImage(record.id, digestFor('c')), standEnvironment(digestFor('e'))]
  const [left, foreign] = [standImage(record.id, digestFor('left')), standEnvironment(digestFor('left'))]
  for (const image of [mine, own, left, foreign]) on.ports.stored.hold(image, [part(image.name)])
  await on.put(archive('left'), context('left'), context('context of left'))
  const { unneeded } = await on.collector.lookFor()
  assert.equal(unneeded.map(({ kind, name }) => `${kind} ${name}`).sort(), [
    `archive ${archive('left')}`, `context ${context('context of left')}`, `context ${context('left')}`, `environment ${foreign.name}`, `image ${left.name}`,
  ].sort())
  assert.equal(await collectAll(on), names(unneeded))
  assert.equal(await on.objects(), [archive('a'), context('c'), context('context of e')].sort())
  assert.equal(on.ports.stored.names(), names([mine, own]))
})

test('goes when it has been unneeded for the grace period since it was first seen so, whichever process saw it', async ({ on }) => {
  await on.built({ archive: 'a', context: 'c' })
  await on.put(archive('left'))
  on.pass(10 * graceMs)
  const first = on.clock.now
  assert.equal((await on.collector.collect()).removed, [])
  on.clock.now = first + graceMs - 1
  const restarted = on.again()
  assert.equal((await restarted.collect()).removed, [])
  assert.equal((await restarted.lookFor()).unneeded.map(({ since, removedAfter }) => [since, removedAfter]), [[first, first + graceMs]])
  on.clock.now = first + graceMs
  assert.equal(await on.again().collect(), { removed: [{ kind: 'archive', name: archive('left'), bytes: archive('left').length }], kept: [], bytes: archive('left').length })
  assert.equal(await on.unneeded(), [])
})

test('that is needed again is forgotten: should it be unneeded once more, it counts from then', async ({ on }) => {
  const record = await on.built({ archive: 'a', context: 'c' })
  await on.put(archive('b'))
  await on.collector.collect()
  on.pass(graceMs - 1)
  const second = await write(on.ports, { ...record, version: 2, versions: [...record.versions, versionFor(2, digestFor('b'))] })
  await on.tell(second, 'context.packaged', packagedOn('c'))
  await on.collector.collect()
  assert.equal(await on.unneeded(), [])
  await write(on.ports, record)
  on.pass()
  assert.equal((await on.collector.collect()).removed, [])
  on.pass(graceMs - 1)
  assert.equal((await on.collector.collect()).removed, [])
  on.pass(1)
  assert.equal(names((await on.collector.collect()).removed), [archive('b')])
})

test('counts anew when nobody can tell any more since when', async ({ on }) => {
  await on.built({ archive: 'a', context: 'c' })
  await on.put(archive('b'))
  const long = new Date(on.clock.now).toISOString()
  on.pass(10 * graceMs)
  const damaged = [null, '', '{', '[]', '7', 'null', JSON.stringify({ [archive('b')]: 'long ago' }), JSON.stringify({ [archive('b')]: null }), JSON.stringify([archive('b')]), JSON.stringify({ [archive('b')]: new Date(on.clock.now + 1_000 * graceMs).toISOString() })]
  for (const text of damaged) {
    if (text === null) await on.ports.objects.remove('garbage/unneeded.json')
    else await on.ports.objects.put('garbage/unneeded.json', Buffer.from(text))
    assert.equal((await on.collector.collect()).removed, [], String(text))
    assert.is((await on.collector.lookFor()).unneeded[0]!.since, on.clock.now, String(text))
  }
  await on.ports.objects.put('garbage/unneeded.json', Buffer.from(JSON.stringify({ [archive('b')]: long })))
  assert.equal(names((await on.collector.collect()).removed), [archive('b')])
})

test('is not what was put lately, since whenever it is unneeded', async ({ on }) => {
  await on.built({ archive: 'a', context: 'c' })
  const long = new Date(on.clock.now - 10 * graceMs).toISOString()
  await on.ports.objects.put('garbage/unneeded.json', Buffer.from(JSON.stringify({ [archive('b')]: long })))
  await on.put(archive('b'))
  const [{ modifiedMs } = { modifiedMs: 0 }] = await on.ports.objects.list(archive('b'))
  on.clock.now = modifiedMs + graceMs - 1
  assert.is((await on.collector.lookFor()).unneeded[0]!.removedAfter, modifiedMs + graceMs)
  assert.equal((await on.collector.collect()).removed, [])
  on.clock.now = modifiedMs + graceMs
  assert.equal(names((await on.collector.collect()).removed), [archive('b')])
})

test('is only told of by a look: it changes nothing', async ({ on }) => {
  await on.built({ archive: 'a', context: 'c' })
  await on.put(archive('b'))
  on.ports.stored.hold(standEnvironment(digestFor('left')), [part('x')])
  const all = (): Promise<unknown> => on.ports.objects.list('')
  const before = await all()
  on.pass(10 * graceMs)
  for (const _ of [1, 2]) assert.is((await on.collector.lookFor()).unneeded.length, 2)
  assert.equal(await all(), before)
  assert.is(on.ports.stored.names().length, 1)
})

/** A version of the lambda with this image. */
async function version(on: GarbageStand, record: LambdaRecord, number: number, more: { imageOf?: number } = {}): Promise<LambdaRecord> {
  const wanted = { ...versionFor(number, digestFor(`a${number}`)), imageOf: more.imageOf ?? null }
  const written = await write(on.ports, { ...record, version: number, versions: [...record.versions, wanted].slice(-20) })
  if (more.imageOf) await on.tell(written, 'lambda.accepted', { archive: wanted.archive, name: '', image: imageFor(`c${more.imageOf}`) })
  else {
    await on.tell(written, 'context.packaged', packagedOn(`c${number}`))
    await on.tell(written, 'image.built', { image: imageFor(`c${number}`), context: digestFor(`c${number}`), reused: false, seconds: 1 })
  }
  on.ports.stored.hold(standImage(record.id, digestFor(`c${more.imageOf ?? number}`)), [part(`layer ${number}`)], imageFor(`c${more.imageOf ?? number}`).digest)
  return written
}
const images = (on: GarbageStand): string[] => on.ports.stored.names().map((name) => name.replace(/^.*:/, ''))

test('are not the images of versions that can be gone back to; one that the record has forgotten is', async ({ on }) => {
  let record = await write(on.ports, recordFor({ versions: [], version: 0 }))
  for (let number = 1; number <= 21; number++) record = await version(on, record, number)
  assert.equal(await collectAll(on), [standImage(record.id, digestFor('c1')).name])
  assert.is(images(on).length, 20)
})

test('is not the image that serves, however many versions have failed since', async ({ on }) => {
  let record = await version(on, await write(on.ports, recordFor({ versions: [], version: 0 })), 1)
  await on.tell(record, 'workload.running', { reason: '', message: '', pods: [], endpoints: ['http://127.0.0.1:9'] })
  for (let number = 2; number <= 23; number++) record = await version(on, record, number)
  assert.equal(await collectAll(on), [standImage(record.id, digestFor('c2')).name, standImage(record.id, digestFor('c3')).name].sort())
  assert.ok(images(on).includes(digestFor('c1')))
})

for (const [what, said] of [['', true], [', though that has not said so yet', false]] as const) {
  test(`is not the image of a version that a later one runs, nor its context${what}`, async ({ on }) => {
    let record = await version(on, await write(on.ports, recordFor({ versions: [], version: 0 })), 1)
    record = await version(on, record, 2)
    // By way of another that runs the same.
    if (said) record = await version(on, record, 3, { imageOf: 1 })
    const last = { ...versionFor(4, digestFor('a4')), imageOf: said ? 3 : 1 }
    await write(on.ports, { ...record, version: 4, versions: [last] })
    if (said) await on.tell({ ...record, version: 4 }, 'lambda.accepted', { archive: last.archive, name: '', image: imageFor('c1') })
    await on.put(context('c1'), context('c2'))
    assert.equal(await collectAll(on), [standImage(record.id, digestFor('c2')).name, context('c2')].sort())
    assert.equal(images(on), [digestFor('c1')])
  })
}

test('is not an image of which nobody knows any more what it was made from, while a version runs it', async ({ on }) => {
  let record = await version(on, await write(on.ports, recordFor({ versions: [], version: 0 })), 1)
  record = await version(on, record, 2)
  for (let number = 3; number <= 23; number++) record = await version(on, record, number, { imageOf: 1 })
  assert.is((await on.ports.statuses.get(record.id))!.value.versions[1], undefined)
  assert.equal(await collectAll(on), [standImage(record.id, digestFor('c2')).name])
  assert.equal(images(on), [digestFor('c1')])
})

test('is not an environment that one of two lambdas still needs', async ({ on }) => {
  const [one, other] = [await on.built({ archive: 'a', context: 'c', environment: 'e' }), await on.built({ archive: 'b', context: 'd', environment: 'e' })]
  const environment = standEnvironment(digestFor('e'))
  on.ports.stored.hold(environment, [part('environment')])
  await write(on.ports, { ...one, deleted: true })
  assert.equal(await collectAll(on), [archive('a'), context('c')].sort())
  await write(on.ports, { ...other, deleted: true })
  assert.equal(await collectAll(on), [archive('b'), context('d'), context('context of e'), environment.name].sort())
})

test('is not an environment that an image lies on which stays, whatever the lives say of it', async ({ on }) => {
  const record = await on.built({ archive: 'a', context: 'c' })
  for (const key of ['lain on', 'left']) on.ports.stored.hold(standEnvironment(digestFor(key)), [part(key)])
  const [staying, going] = [standImage(record.id, digestFor('c')), standImage(record.id, digestFor('x'))]
  on.ports.stored.hold({ ...staying, uses: digestFor('lain on') }, [part('lain on'), part('code')])
  on.ports.stored.hold({ ...going, uses: digestFor('left') }, [part('left'), part('code')])
  assert.equal(await collectAll(on), [going.name, standEnvironment(digestFor('left')).name].sort())
})

test('is of everyone where an image is nobody\'s own', async ({ on }) => {
  await on.built({ archive: 'a', context: 'c' })
  for (const word of ['c', 'left']) on.ports.stored.hold({ ...standImage('all', digestFor(word)), lambda: null }, [part(word)])
  assert.equal(await collectAll(on), [standImage('all', digestFor('left')).name])
})

test('frees what nothing that stays is made of, and what several share once', async ({ on }) => {
  const record = await on.built({ archive: 'a', context: 'c' })
  on.ports.stored.hold(standImage(record.id, digestFor('c')), [part('base', 1_000), part('code', 1)])
  on.ports.stored.hold(standImage(record.id, digestFor('x')), [part('base', 1_000), part('packages', 100), part('x', 2)])
  on.ports.stored.hold(standImage(record.id, digestFor('y')), [part('base', 1_000), part('packages', 100), part('y', 3)])
  const bytesOf = (things: ReadonlyArray<{ bytes: number }>): number[] => things.map(({ bytes }) => bytes)
  const { unneeded, bytes } = await on.collector.lookFor()
  assert.equal([bytesOf(unneeded), bytes], [[102, 103], 105])
  await on.collector.collect()
  // What is not due yet stays, too.
  on.pass(hourMs)
  on.ports.stored.hold(standImage(record.id, digestFor('z')), [part('packages', 100), part('z', 4)])
  await on.collector.collect()
  on.pass(graceMs - hourMs)
  const first = await on.collector.collect()
  assert.equal([bytesOf(first.removed), first.bytes], [[2, 3], 5])
  on.pass(graceMs)
  const second = await on.collector.collect()
  assert.equal([bytesOf(second.removed), second.bytes], [[104], 104])
})

test('of a deleted lambda that its registry did not let go is looked for as long as a week', async ({ on }) => {
  await on.built({ archive: 'a', context: 'c' })
  const [late, old] = [await on.built({ archive: 'a', context: 'c' }), await on.built({ archive: 'a', context: 'c' })]
  for (const [record, days] of [[late, 6], [old, 8]] as const) {
    await write(on.ports, { ...record, deleted: true, updated: new Date(Date.now() - days * 24 * hourMs).toISOString() })
    on.ports.stored.hold(standImage(record.id, digestFor('c')), [part('code')])
  }
  assert.equal(await collectAll(on), [standImage(late.id, digestFor('c')).name])
})

test('is nothing where kiln knows of no lambda at all: such a store has more likely been lost', async ({ on }) => {
  await on.put(archive('a'), context('c'))
  on.ports.stored.hold(standEnvironment(digestFor('e')), [part('x')])
  assert.equal(await on.collector.lookFor(), { unneeded: [], bytes: 0 })
  assert.equal(await collectAll(on), [])
  assert.equal([(await on.objects()).length, on.ports.stored.names().length], [2, 1])
  assert.match(on.lines[0]!, 'Is this the right NATS')
})

test('is looked for where the only lambda was deleted', async ({ on }) => {
  await write(on.ports, recordFor({ deleted: true }))
  await on.put(archive('a'))
  assert.equal(await collectAll(on), [archive('a')])
})

test.run()
