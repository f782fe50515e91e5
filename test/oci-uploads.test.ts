// Uploads to a real registry: what is asked of it, how large blobs go in chunks, and how what broke off goes on.
import { randomBytes } from 'node:crypto'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { readingOf } from '../shared/oci/reading.ts'
import { gate } from './stand/await.ts'
import type { Fault, Talk } from './stand/oci-faults.ts'
import { blobAt, blobOf } from './stand/oci-images.ts'
import { shortLimits, world, type World } from './stand/oci-world.ts'

const mebi = 1 << 20
const chunk = 8 * mebi
const large = randomBytes(20 * mebi)
const [all, first, second, third] = [large.length, chunk, chunk, large.length - 2 * chunk]

const isChunk = ({ method }: Talk): boolean => method === 'PATCH'
/** The fault for the n-th request of a kind, counted from 1. */
function nth(kind: (talk: Talk) => boolean, n: number, fault: Fault): (talk: Talk) => Fault | null {
  let seen = 0
  return (talk) => (kind(talk) && ++seen === n ? fault : null)
}
const methods = ({ proxy }: World): string => proxy.talks.map(({ method, status }) => `${method} ${status}`).join(', ')
const sent = ({ proxy }: World): number => proxy.talks.reduce((sum, { bytes }) => sum + bytes, 0)
const lies = async ({ origin }: World, digest: string, bytes: Buffer): Promise<void> => assert.ok((await blobAt(origin, 'app', digest)).equals(bytes), 'it lies there as it is')

const well = suite('an upload')
well('of a small blob is asked for, and goes in one request', () => world({}, async (at) => {
  const bytes = randomBytes(70_000)
  const blob = blobOf(bytes)
  const registry = at.registry()
  await registry.upload('app', blob)
  assert.is(methods(at), 'HEAD 404, POST 202, PUT 201')
  assert.equal([blob.opened, blob.closed, sent(at)], [[0], 1, bytes.length])
  await lies(at, blob.digest, bytes)
  await registry.upload('app', blob)
  assert.is(methods(at), 'HEAD 404, POST 202, PUT 201, HEAD 200', 'what is there is not sent again')
  assert.equal(blob.opened, [0])
}))
well('of what is new is not asked for', () => world({}, async (at) => {
  const blob = blobOf(randomBytes(10))
  await at.registry().upload('app', blob, undefined, { isNew: true })
  assert.is(methods(at), 'POST 202, PUT 201')
  const none = blobOf(Buffer.alloc(0))
  await at.registry().upload('app', none)
  assert.is(await at.registry().hasBlob('app', none.digest), true, 'of nothing, too')
}))
well('of up to four mebibytes is one request, of more it is chunks that are read once', () => world({}, async (at) => {
  await at.registry().upload('app', blobOf(large.subarray(0, 4 * mebi)))
  assert.is(methods(at), 'HEAD 404, POST 202, PUT 201')
  at.proxy.talks.length = 0
  const blob = blobOf(large, undefined, 100_000)
  await at.registry().upload('app', blob)
  assert.is(methods(at), 'HEAD 404, POST 202, PATCH 202, PATCH 202, PATCH 202, PUT 201')
  const chunks = at.proxy.talks.filter(isChunk)
  assert.equal(chunks.map(({ bytes }) => bytes), [first, second, third])
  assert.equal(chunks.map(({ headers }) => headers['content-range']), ['0-8388607', '8388608-16777215', '16777216-20971519'])
  assert.equal(chunks.map(({ headers }) => headers['content-length']), chunks.map(({ bytes }) => String(bytes)))
  assert.equal([blob.opened, blob.read, blob.closed], [[0], all, 1])
  await lies(at, blob.digest, large)
}))
well('keeps to the least that the registry wants a chunk to have', () => world({}, async (at) => {
  at.proxy.fault = nth(({ method }) => method === 'POST', 1, { headers: (headers) => ({ ...headers, 'oci-chunk-min-length': String(9 * mebi) }) })
  await at.registry().upload('app', blobOf(large))
  assert.equal(at.proxy.talks.filter(isChunk).map(({ bytes }) => bytes), [9 * mebi, 9 * mebi, 2 * mebi])
}))
well('goes on where each answer says, with all that stands in the address', () => world({}, async (at) => {
  let answers = 0
  at.proxy.fault = ({ path }) => ({
    headers: (headers) => {
      if (!path.includes('/uploads/') || typeof headers['location'] !== 'string') return headers
      const { pathname, search, host } = new URL(headers['location'])
      answers++
      // Relative, and whole with the wrong scheme, as registries behind proxies have it.
      return { ...headers, location: `${answers % 2 ? '' : `https://${host}`}${pathname}${search}&kept=a%2Bb/c%20d&number=${answers}` }
    },
  })
  const blob = blobOf(large)
  await at.registry().upload('app', blob)
  const [, , ...queries] = at.proxy.talks.map(({ query }) => query)
  assert.equal(queries.map(({ kept, number, digest }) => [kept, number, digest]), [['a+b/c d', '1', undefined], ['a+b/c d', '2', undefined], ['a+b/c d', '3', undefined], ['a+b/c d', '4', blob.digest]])
  await lies(at, blob.digest, large)
}))
well.run()

const broken = suite('an upload that breaks off')
broken('within a chunk goes on at the very byte', () => world({}, async (at) => {
  at.proxy.fault = nth(isChunk, 2, { breakAfter: 1_000_000 })
  const blob = blobOf(large)
  await at.registry().upload('app', blob)
  assert.is(methods(at), 'HEAD 404, POST 202, PATCH 202, PATCH null, GET 204, PATCH 202, PATCH 202, PUT 201')
  assert.is(sent(at), all, 'nothing was sent twice')
  assert.equal(blob.opened, [0, first + 1_000_000])
  await lies(at, blob.digest, large)
}))
broken('after a chunk sends it no second time', () => world({}, async (at) => {
  at.proxy.fault = nth(isChunk, 2, { loseAnswer: true })
  const blob = blobOf(large)
  await at.registry().upload('app', blob)
  assert.is(methods(at), 'HEAD 404, POST 202, PATCH 202, PATCH null, GET 204, PATCH 202, PUT 201')
  assert.equal([sent(at), blob.opened], [all, [0]])
  await lies(at, blob.digest, large)
}))
broken('because the registry is not well for a moment goes on', () => world({}, async (at) => {
  at.proxy.fault = nth(isChunk, 2, { answer: { status: 503 } })
  const blob = blobOf(large)
  await at.registry().upload('app', blob)
  assert.is(methods(at), 'HEAD 404, POST 202, PATCH 202, PATCH 503, GET 204, PATCH 202, PATCH 202, PUT 201')
  assert.is(sent(at), all)
  await lies(at, blob.digest, large)
}))
broken('many times goes on as long as it gets any further', () => world({}, async (at) => {
  let chunks = 0
  // Eight in a row, each with a little of its own.
  at.proxy.fault = (talk) => (isChunk(talk) && ++chunks <= 8 ? { breakAfter: 65_536 } : null)
  const blob = blobOf(large.subarray(0, 9 * mebi))
  await at.registry().upload('app', blob)
  assert.equal([sent(at), at.proxy.talks.filter(isChunk).length], [9 * mebi, 10])
  await lies(at, blob.digest, large.subarray(0, 9 * mebi))
}))
broken('and whose session is gone begins again', () => world({}, async (at) => {
  at.proxy.fault = nth(isChunk, 3, { answer: { status: 404, body: JSON.stringify({ errors: [{ code: 'BLOB_UPLOAD_UNKNOWN' }] }) } })
  const blob = blobOf(large)
  await at.registry().upload('app', blob)
  assert.is(methods(at), 'HEAD 404, POST 202, PATCH 202, PATCH 202, PATCH 404, HEAD 404, POST 202, PATCH 202, PATCH 202, PATCH 202, PUT 201')
  assert.is(sent(at), 2 * chunk + all)
  await lies(at, blob.digest, large)
}))
broken('and of which the registry said too little finds its place', () => world({}, async (at) => {
  const [bytes, cut] = [5 * mebi, 5 * mebi - 50_000]
  const early = nth(({ method }) => method === 'GET', 1, { headers: (headers) => ({ ...headers, range: `0-${cut - 101}` }) })
  const breaks = nth(isChunk, 1, { breakAfter: cut })
  at.proxy.fault = (talk) => breaks(talk) ?? early(talk)
  const blob = blobOf(large.subarray(0, bytes))
  await at.registry().upload('app', blob)
  assert.is(methods(at), 'HEAD 404, POST 202, PATCH null, GET 204, PATCH 416, GET 204, PATCH 202, PUT 201')
  assert.equal(blob.opened, [0, cut - 100, cut])
  await lies(at, blob.digest, large.subarray(0, bytes))
}))
broken('at its end is there all the same: only the answer was lost', async () => {
  for (const [bytes, expected] of [
    [large, 'HEAD 404, POST 202, PATCH 202, PATCH 202, PATCH 202, PUT null, PUT 404, HEAD 200'],
    [large.subarray(0, 100), 'HEAD 404, POST 202, PUT null, DELETE 404, HEAD 200'],
  ] as const) {
    await world({}, async (at) => {
      at.proxy.fault = nth(({ method }) => method === 'PUT', 1, { loseAnswer: true })
      await at.registry().upload('app', blobOf(bytes))
      assert.is(methods(at), expected)
      assert.is(sent(at), bytes.length)
    })
  }
})
broken('because nothing moves any more is given up, and goes on', () => world({}, async (at) => {
  const never = (): Promise<void> => new Promise(() => undefined)
  at.proxy.fault = nth(isChunk, 1, { piece: never })
  const registry = at.client({ limits: shortLimits })(at.proxy.address)
  const blob = blobOf(large)
  await registry.upload('app', blob)
  assert.is(methods(at), 'HEAD 404, POST 202, PATCH null, GET 204, PATCH 202, PATCH 202, PATCH 202, PUT 201')
  await lies(at, blob.digest, large)
  at.proxy.talks.length = 0
  at.proxy.fault = nth(({ method }) => method === 'PUT', 1, { piece: never })
  await registry.upload('app', blobOf(large.subarray(0, 100)))
  assert.is(methods(at), 'HEAD 404, POST 202, PUT null, DELETE 204, HEAD 404, POST 202, PUT 201')
}))
broken('is not what takes long and moves', () => world({}, async (at) => {
  // The time that a whole request has is over before the first piece goes on.
  const beyond = (): Promise<void> => new Promise((resolve) => { setTimeout(resolve, 2 * shortLimits.wholeMs) })
  at.proxy.fault = nth(({ method }) => method === 'PUT', 1, { before: beyond })
  await at.client({ limits: { ...shortLimits, idleMs: 30_000 } })(at.proxy.address).upload('app', blobOf(large.subarray(0, 1_000_000)))
  assert.is(methods(at), 'HEAD 404, POST 202, PUT 201')
}))
broken('with all in one request is never sent again without a question', () => world({}, async (at) => {
  const bytes = large.subarray(0, mebi)
  at.proxy.fault = nth(({ method }) => method === 'PUT', 1, { breakAfter: 500_000 })
  await at.registry().upload('app', blobOf(bytes))
  assert.is(methods(at), 'HEAD 404, POST 202, PUT null, DELETE 416, GET 204, DELETE 204, HEAD 404, POST 202, PUT 201')
  assert.is(sent(at), 500_000 + bytes.length)
}))
broken.run()

const held = suite('a large upload')
/** How much was read beyond what went through, at most. */
async function ahead(at: World, fault: (talk: Talk) => Fault | null): Promise<number> {
  let most = 0
  const blob = blobOf(large, (read) => { most = Math.max(most, read - sent(at)) })
  const slow = (): Promise<void> => new Promise((resolve) => { setImmediate(resolve) })
  at.proxy.fault = (talk) => fault(talk) ?? { piece: slow }
  await at.registry().upload('app', blob)
  await lies(at, blob.digest, large)
  return most
}
held('is read no faster than it goes: a chunk is the most that is ahead', () => world({}, async (at) => {
  const most = await ahead(at, () => null)
  assert.ok(most <= chunk + 65_536, `${most} bytes ahead`)
}))
held('in one request, too: what the two ends of a connection hold is the most', () => world({}, async (at) => {
  const most = await ahead(at, (talk) => (isChunk(talk) ? { answer: { status: 405 } } : null))
  assert.equal(at.proxy.talks.filter(({ bytes }) => bytes > 0).map(({ bytes }) => bytes), [all])
  assert.ok(most < 0.75 * all, `${most} bytes ahead`)
}))
held('is read anew where a reading was left, and goes on where one has ended', async () => {
  const blob = blobOf(large.subarray(0, 100), undefined, 10)
  const reading = readingOf(blob)
  const [left, other] = [reading.part(0, 50).open()[Symbol.asyncIterator](), reading.part(10, 20).open()[Symbol.asyncIterator]()]
  assert.equal((await left.next()).value, large.subarray(0, 10))
  assert.equal([(await other.next()).value, (await other.next()).value, (await other.next()).done], [large.subarray(10, 20), large.subarray(20, 30), true])
  assert.equal((await reading.part(30, 5).open()[Symbol.asyncIterator]().next()).value, large.subarray(30, 35))
  assert.equal((await reading.part(35, 5).open()[Symbol.asyncIterator]().next()).value, large.subarray(35, 40))
  assert.equal([blob.opened, reading.trouble()], [[0, 10], null])
  reading.close()
  await new Promise((resolve) => { setImmediate(resolve) })
  assert.is(blob.closed, 2)
})
held('that was left, and fails when nobody reads it any more, has not failed', async () => {
  const end = gate()
  const blob = { digest: '', bytes: 20, async *open(from: number) { if (from === 0) { await end.promise; throw new Error('too late') } yield Buffer.alloc(10) } }
  const reading = readingOf(blob)
  const left = reading.part(0, 10).open()[Symbol.asyncIterator]().next()
  assert.is((await reading.part(10, 10).open()[Symbol.asyncIterator]().next()).value.length, 10)
  end.open()
  assert.is(await left.catch((error: Error) => error.message), 'too late')
  assert.is(reading.trouble(), null)
  const failing = reading.part(0, 10).open()[Symbol.asyncIterator]().next()
  await failing.catch(() => undefined)
  assert.is((reading.trouble()!.error as Error).message, 'too late')
})
held.run()
