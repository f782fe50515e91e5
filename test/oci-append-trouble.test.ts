// Appending when things go wrong: registries that mount nothing, lie elsewhere, end, or forget; whoever does not want it any more.
import { randomBytes } from 'node:crypto'
import { gzipSync } from 'node:zlib'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { abreast } from '../shared/oci/abreast.ts'
import { appending, type Changes, type CodeLayer, type Wish } from '../shared/oci/append.ts'
import { knownBlobs } from '../shared/oci/known-blobs.ts'
import { platformOf, pulling, type Pulled } from '../shared/oci/pull.ts'
import { BlobsMissing, WrongDigest, type Registry } from '../shared/oci/registry.ts'
import { Unavailable } from '../shared/trouble.ts'
import { gate } from './stand/await.ts'
import { blobAt, blobOf, diffIdOf, manifestAt, pushBlob, pushImage, sha256, type PushedImage } from './stand/oci-images.ts'
import type { Fault, Talk } from './stand/oci-faults.ts'
import { failure, isUnavailable, world, type World } from './stand/oci-world.ts'
import { registryServer } from './stand/registry.ts'

const changes: Changes = { workingDir: '/lambda', env: {}, ports: ['8000/tcp'], entrypoint: ['/kiln/run'], labels: {}, createdBy: 'kiln' }
const layerOf = (bytes: number): CodeLayer & ReturnType<typeof blobOf> => { const blob = gzipSync(randomBytes(bytes)); return Object.assign(blobOf(blob), { diffId: diffIdOf(blob) }) }
const isMount = ({ query }: Talk): boolean => 'mount' in query
const each = (kind: (talk: Talk) => boolean, fault: Fault) => (talk: Talk): Fault | null => (kind(talk) ? fault : null)
const lines = ({ proxy }: World): string[] => proxy.lines().map((line) => line.replace(/ \/v2\//, ' ').replace(/sha256:[0-9a-f]{6}/, '…'))
const count = (at: World, line: string): number => lines(at).filter((one) => one === line).length

interface Ready {
  pushed: PushedImage
  parent: Pulled
  append: (more?: Partial<Wish>) => Promise<string>
  to: (repository: string, tag?: string) => Pick<Wish, 'to'>
}
/** A parent in the registry of `source`, and what appends to it in that of `at`. */
async function ready(at: World, source: World = at, layerBytes = 5_000): Promise<Ready> {
  const pushed = await pushImage(source.origin, { layers: 3, layerBytes })
  const registryOf: (host: string) => Registry = at.client({ hosts: [source.proxy.address] })
  const pull = await pulling(registryOf, platformOf('linux/amd64'))(`${source.proxy.address}/base:v1`)
  if ('refused' in pull) throw new Error(pull.refused.message)
  const append = appending(registryOf)
  const to: Ready['to'] = (repository, tag = 'v1') => ({ to: { registry: at.proxy.address, repository, tag } })
  for (const one of [at, source]) one.proxy.talks.length = 0
  return { pushed, parent: pull.image, to, append: (more) => append({ parent: pull.image, layer: layerOf(10_000), changes, ...to('app'), ...more }) }
}
/** It is there, and so is all that it names. */
async function isWhole({ origin }: World, digest: string, repository = 'app', tag = 'v1'): Promise<void> {
  const { text, content } = (await manifestAt(origin, repository, tag))!
  assert.is(sha256(text), digest)
  for (const one of [content['config'], ...content['layers']]) assert.is(sha256(await blobAt(origin, repository, one.digest)), one.digest)
}

const refused = suite('when nothing is mounted')
refused('the parent\'s layers are uploaded, in the sessions that are opened instead', () => world({}, async (at) => {
  const { append } = await ready(at)
  at.proxy.fault = (talk) => (isMount(talk) ? { answer: { status: 404 } } : null)
  await isWhole(at, await append())
  assert.equal([count(at, 'POST app/blobs/uploads/?mount 404'), count(at, 'GET base/blobs/… 200'), count(at, 'PUT app/blobs/uploads/… 201')], [3, 3, 5])
  assert.is(at.proxy.talks.filter(({ method }) => method === 'DELETE').length, 0)
}))
refused('because the registry answers with a session each time, none of them is left', () => world({}, async (at) => {
  const { append, parent } = await ready(at)
  // The question for a mount becomes one for a session.
  at.proxy.rewrite = (path) => path.replace(/\?mount=.*/, '')
  await isWhole(at, await append())
  const opened = at.proxy.talks.filter(({ method, status }) => method === 'POST' && status === 202).length
  assert.equal([opened, count(at, 'PUT app/blobs/uploads/… 201'), count(at, 'GET base/blobs/… 200')], [5, 5, 3])
  at.proxy.talks.length = 0
  // Nobody knows any more that they are there.
  await isWhole(at, await appending(at.client())({ parent, layer: layerOf(10), changes, to: { registry: at.proxy.address, repository: 'app', tag: 'v1' } }))
  assert.equal([count(at, 'HEAD app/blobs/… 200'), count(at, 'DELETE app/blobs/uploads/… 204'), count(at, 'GET base/blobs/… 200')], [3, 3, 0])
}))
refused.run()

const elsewhere = suite('a parent in another registry')
elsewhere('is copied from there, and for the next lambda mounted from the first', () => world({}, (source) => world({}, async (at) => {
  const { append, to } = await ready(at, source)
  await isWhole(at, await append())
  assert.equal(lines(source), Array(3).fill('GET base/blobs/… 200'))
  assert.equal(lines(at).filter((line) => line.includes('mount')), [])
  for (const one of [at, source]) one.proxy.talks.length = 0
  await isWhole(at, await append(to('next')), 'next')
  assert.equal([lines(source), count(at, 'POST next/blobs/uploads/?mount 201')], [[], 3])
  assert.equal(at.proxy.talks.filter(isMount).map(({ query }) => query['from']), ['app', 'app', 'app'])
})))
elsewhere('is copied also to where it has the same name', () => world({}, (source) => world({}, async (at) => {
  const { append, to } = await ready(at, source)
  await isWhole(at, await append(to('base')), 'base')
})))
elsewhere('is copied again when it is not where it was thought to be', () => world({}, (source) => world({}, async (at) => {
  const { append, to } = await ready(at, source)
  await append()
  await at.server.close()
  const again = await registryServer({ address: at.server.address })
  try {
    await isWhole(at, await append(to('next')), 'next')
    assert.is(count(at, 'POST next/blobs/uploads/?mount 202'), 3)
  } finally {
    await again.close()
  }
})))
elsewhere('goes on where reading it broke off', () => world({}, (source) => world({}, async (at) => {
  const { append } = await ready(at, source, 6 << 20)
  // More often than it is tried without getting any further.
  source.proxy.fault = each(({ method }) => method === 'GET', { breakAnswerAfter: 1 << 20 })
  await isWhole(at, await append())
  const ranges = source.proxy.talks.flatMap(({ headers }) => headers['range'] ?? [])
  assert.ok(ranges.length >= 3 * 6, 'it was asked for the rest')
  assert.ok(ranges.every((range) => Number(/\d+/.exec(range)![0]) > 0), ranges.join(' '))
  assert.is(at.proxy.talks.reduce((sum, { method, bytes }) => sum + (method === 'PATCH' ? bytes : 0), 0), 3 * ((await manifestAt(at.origin, 'app', 'v1'))!.content['layers'][0].size as number), 'and what had come was not sent twice')
})))
elsewhere('that cannot be read to its end is the world\'s trouble', () => world({}, (source) => world({}, async (at) => {
  const { append, parent } = await ready(at, source)
  const isOne = ({ path }: Talk): boolean => path.endsWith(parent.layers[1]!.digest)
  const about = `${parent.layers[1]!.digest} of base`
  const cases: Array<[Fault, string | RegExp]> = [
    [{ answer: { status: 404 } }, `The registry ${source.proxy.address} has no blob ${parent.layers[1]!.digest} in base any more.`],
    [{ answer: { status: 200, body: randomBytes(parent.layers[1]!.size) } }, `The registry ${source.proxy.address} answers for the blob ${about} with something else.`],
    [{ answer: { status: 200, body: '' } }, `The registry ${source.proxy.address} has ended the blob ${about} after 0 of`],
    [{ answer: { status: 403 } }, `The registry ${source.proxy.address} forbids kiln to show the blob ${about}: 403.`],
    [{ breakAnswerAfter: 0 }, `The registry ${source.proxy.address} cannot be reached: `],
  ]
  for (const [fault, words] of cases) {
    source.proxy.talks.length = 0
    source.proxy.fault = each(isOne, fault)
    await isUnavailable(append(), words)
    assert.ok(source.proxy.talks.filter(isOne).length <= (fault.answer?.status === 404 ? 1 : 5))
    assert.is(await manifestAt(at.origin, 'app', 'v1'), null)
  }
})))
elsewhere.run()

const trouble = suite('an append')
trouble('of which the registry goes away leaves nothing under the tag, and works when it is back', () => world({}, async (at) => {
  const { append } = await ready(at)
  const layer = layerOf(20 << 20)
  let chunks = 0
  at.proxy.fault = ({ method }) => {
    if (method === 'PATCH') chunks++
    return chunks > 1 ? { cut: true } : null
  }
  await isUnavailable(append({ layer }), `The blob ${layer.digest} does not get into app of the registry ${at.proxy.address}, in 5 tries: The registry ${at.proxy.address} cannot be reached: `)
  assert.is(await manifestAt(at.origin, 'app', 'v1'), null)
  assert.is(count(at, 'PUT app/manifests/v1 null'), 0)
  at.proxy.fault = () => null
  await isWhole(at, await append({ layer }))
}))
trouble('whose registry ends in the middle works with the one that stands in its place', () => world({}, async (at) => {
  const { append, pushed } = await ready(at)
  const layer = layerOf(20 << 20)
  let ended: Promise<void> | null = null
  at.proxy.fault = ({ method }) => (method === 'PATCH' ? { piece: () => { ended ??= at.server.close() } } : null)
  await isUnavailable(append({ layer }), `The registry ${at.proxy.address} cannot be reached: `)
  await ended
  at.proxy.fault = () => null
  const again = await registryServer({ address: at.server.address })
  try {
    assert.is(await manifestAt(at.origin, 'app', 'v1'), null)
    // The parent is another's business, and there; the lambda's own repository is not.
    await Promise.all(pushed.layers.map(({ digest }) => pushBlob(at.origin, 'base', pushed.blobs.get(digest)!)))
    await isWhole(at, await append({ layer }))
  } finally {
    await again.close()
  }
}))
trouble('whose blobs have vanished behind its back does it all once more', () => world({}, async (at) => {
  const { append, pushed, to } = await ready(at)
  await append()
  await at.server.close()
  const again = await registryServer({ address: at.server.address })
  try {
    await Promise.all(pushed.layers.map(({ digest }) => pushBlob(at.origin, 'base', pushed.blobs.get(digest)!)))
    at.proxy.talks.length = 0
    await isWhole(at, await append(to('app', 'v2')), 'app', 'v2')
    assert.equal([count(at, 'PUT app/manifests/v2 400'), count(at, 'PUT app/manifests/v2 201'), count(at, 'POST app/blobs/uploads/?mount 201')], [1, 1, 3])
    at.proxy.talks.length = 0
    await append(to('app', 'v3'))
    assert.is(count(at, 'POST app/blobs/uploads/?mount 201'), 0, 'and is remembered again')
  } finally {
    await again.close()
  }
}))
trouble('that the registry refuses again is given up', () => world({}, async (at) => {
  const { append } = await ready(at)
  at.proxy.fault = each(({ method, path }) => method === 'PUT' && path.includes('/manifests/'), { answer: { status: 400, body: JSON.stringify({ errors: [{ code: 'MANIFEST_BLOB_UNKNOWN' }] }) } })
  assert.instance(await isUnavailable(append(), 'does not store the image v1 of app: 400 MANIFEST_BLOB_UNKNOWN'), BlobsMissing)
  assert.is(count(at, 'PUT app/manifests/v1 400'), 2)
  at.proxy.talks.length = 0
  at.proxy.fault = each(({ method, path }) => method === 'PUT' && path.includes('/manifests/'), { answer: { status: 500 } })
  await isUnavailable(append(), 'does not store the image v1 of app: 500')
  assert.is(count(at, 'PUT app/manifests/v1 500'), 1)
}))
trouble('of a layer that is not what it says, or cannot be read, is no trouble of the world', () => world({}, async (at) => {
  const { append } = await ready(at)
  const wrong = await failure(append({ layer: { ...layerOf(100), digest: sha256('else') } }))
  assert.instance(wrong, WrongDigest)
  assert.not.instance(wrong, Unavailable)
  const lost = new RangeError('the archive is gone')
  assert.is(await failure(append({ layer: { ...layerOf(100), open: async function* () { throw lost } } })), lost)
  assert.is(await manifestAt(at.origin, 'app', 'v1'), null)
}))
trouble('that nobody wants any more ends with the reason, and nothing lies under the tag', () => world({}, async (at) => {
  const { append } = await ready(at)
  const [over, reason] = [new AbortController(), new Error('nobody wants it')]
  at.proxy.fault = each(({ path }) => path.includes('/uploads/'), { before() { over.abort(reason) } })
  assert.is(await failure(append({ signal: over.signal })), reason)
  assert.is(lines(at).filter((line) => line.includes('/manifests/')).length, 0)
  at.proxy.talks.length = 0
  assert.is(await failure(append({ signal: over.signal })), reason)
  assert.equal(at.proxy.talks, [])
}))
trouble.run()

const parts = suite('side by side')
parts('the first failure stops the rest, and is told when nothing goes on any more', async () => {
  const [begun, end] = [gate(), gate()]
  const seen: string[] = []
  const work = abreast(2, [
    async (signal) => { begun.open(); await end.promise; seen.push(`told: ${signal.aborted}`) },
    async () => { await begun.promise; throw new RangeError('first') },
    async () => { seen.push('never begins') },
  ])
  work.catch(() => seen.push('ended'))
  await begun.promise
  setImmediate(() => end.open())
  assert.instance(await failure(work), RangeError)
  assert.equal(seen, ['told: true', 'ended'])
})
parts('what is known of a repository is forgotten with it, and what is old of itself', () => {
  const known = knownBlobs(3)
  const [a, b, c] = [{ registry: 'r', repository: 'a' }, { registry: 'r', repository: 'b' }, { registry: 'r', repository: 'a/b' }]
  for (const one of [a, b, c]) known.add(one, 'x')
  assert.equal([known.has(a, 'x'), known.has(a, 'y'), known.has({ ...a, registry: 's' }, 'x'), known.somewhere('r', 'x'), known.somewhere('s', 'x')], [true, false, false, 'a/b', null])
  known.forget(a)
  assert.equal([known.has(a, 'x'), known.has(b, 'x'), known.has(c, 'x'), known.somewhere('r', 'x')], [false, true, true, 'a/b'])
  known.add(a, 'x')
  known.add(c, 'x')
  known.forget(c)
  assert.equal([known.has(a, 'x'), known.has(b, 'x'), known.has(c, 'x'), known.somewhere('r', 'x')], [true, true, false, null])
  known.add(a, 'y')
  assert.is(known.has(a, 'x'), true)
  known.add(a, 'z')
  assert.equal([known.has(b, 'x'), known.has(a, 'x'), known.has(a, 'y'), known.has(a, 'z')], [false, true, true, true])
})
parts.run()
