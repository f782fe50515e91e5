// Blobs and manifests of a registry: read from any byte, mounted from a neighbour, put under a tag, and never taken for something else.
import { randomBytes } from 'node:crypto'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { BlobsMissing } from '../shared/oci/registry.ts'
import { Unavailable } from '../shared/trouble.ts'
import type { Fault, Talk } from './stand/oci-faults.ts'
import { blobAt, blobOf, families, manifestAt, pushBlob, pushImage, pushManifest, sha256 } from './stand/oci-images.ts'
import { bytesOf, failure, isUnavailable, passwordAt, shortLimits, world, type World } from './stand/oci-world.ts'

const bytes = randomBytes(3 << 20)
const nowhere = sha256('nowhere')
const is = (method: string, path = '') => (talk: Talk): boolean => talk.method === method && talk.path.includes(path)
const each = (kind: (talk: Talk) => boolean, fault: Fault) => (talk: Talk): Fault | null => (kind(talk) ? fault : null)
const methods = ({ proxy }: World): string => proxy.talks.map(({ method, status }) => `${method} ${status}`).join(', ')

const blobs = suite('a blob')
blobs('is read as it is, from any byte on, or is not there', () => world({}, async ({ registry, origin }) => {
  const digest = await pushBlob(origin, 'app', bytes)
  assert.ok((await bytesOf(await registry().blob('app', digest))).equals(bytes))
  for (const from of [0, 1, 1_000_000, bytes.length - 1]) assert.ok((await bytesOf(await registry().blob('app', digest, from))).equals(bytes.subarray(from)), `from ${from}`)
  assert.equal([await registry().blob('app', nowhere), await registry().blob('other', digest)], [null, null])
  assert.equal([await registry().hasBlob('app', digest), await registry().hasBlob('app', nowhere), await registry().hasBlob('other', digest)], [true, false, false])
}))
blobs('is read from the right byte where parts are not given', () => world({}, async ({ proxy, registry }) => {
  proxy.fault = each(is('GET', '/blobs/'), { answer: { status: 200, body: bytes } })
  for (const from of [0, 70_000, bytes.length - 1, bytes.length]) assert.ok((await bytesOf(await registry().blob('app', nowhere, from))).equals(bytes.subarray(from)), `from ${from}`)
}))
blobs('of which other bytes come than were asked for is not taken', async () => {
  for (const headers of [{ 'content-range': 'bytes 0-99/100' }, {} as Record<string, string>]) {
    await world({}, async ({ proxy, registry }) => {
      proxy.fault = each(is('GET', '/blobs/'), { answer: { status: 206, headers, body: bytes } })
      await isUnavailable(registry().blob('app', nowhere, 50), `The registry ${proxy.address} was asked for ${nowhere} of app from byte 50, and answers from byte ${headers['content-range'] ? '0' : 'nobody knows which'}.`)
    })
  }
})
blobs('that breaks off says so, and that nobody reads on goes away', () => world({}, async ({ proxy, registry, origin }) => {
  const digest = await pushBlob(origin, 'app', bytes)
  proxy.fault = each(is('GET', '/blobs/'), { breakAnswerAfter: 500_000 })
  await isUnavailable(bytesOf(await registry().blob('app', digest)), `The registry ${proxy.address} cannot be reached: `)
  let left: Promise<unknown> = Promise.resolve()
  proxy.fault = each(is('GET', '/blobs/'), { leaving: (promise) => { left = promise } })
  for await (const _ of (await registry().blob('app', digest))!) break
  await left
}))
blobs('takes as long as something comes', () => world({}, async ({ proxy, client, origin }) => {
  const digest = await pushBlob(origin, 'app', bytes)
  const registry = client({ limits: { ...shortLimits, idleMs: 30_000 } })(proxy.address)
  let got = 0
  for await (const chunk of (await registry.blob('app', digest))!) {
    // The time that a whole request has is over before the second one is read.
    if (got === 0) await new Promise((resolve) => { setTimeout(resolve, 2 * shortLimits.wholeMs) })
    got += chunk.length
  }
  assert.is(got, bytes.length)
}))
blobs('may lie elsewhere: credentials stay here', () => world({ auth: { username: 'me', password: 'p' } }, (at) => world({}, async (elsewhere) => {
  const digest = await pushBlob(elsewhere.origin, 'stored', bytes)
  const registry = at.client({ config: passwordAt(at.proxy.address, 'me', 'p'), hosts: [elsewhere.proxy.address] })(at.proxy.address)
  at.proxy.fault = (talk) => (talk.headers['authorization'] && talk.path.includes('/blobs/') ? { answer: { status: 307, headers: { location: `${elsewhere.proxy.url}${talk.path.replace('/app/', '/stored/')}` } } } : null)
  assert.ok((await bytesOf(await registry.blob('app', digest, 1_000))).equals(bytes.subarray(1_000)))
  assert.equal([await registry.hasBlob('app', digest), await registry.hasBlob('app', nowhere), await registry.blob('app', nowhere)], [true, false, null])
  // An address that is good for reading only.
  elsewhere.proxy.fault = each(is('HEAD'), { answer: { status: 403 } })
  assert.is(await registry.hasBlob('app', digest), true)
  elsewhere.proxy.fault = () => ({ answer: { status: 503 } })
  await isUnavailable(registry.hasBlob('app', digest), `refers to ${elsewhere.proxy.address} to tell of the blob ${digest} of app, which answered 503`)
  await isUnavailable(registry.blob('app', digest), `refers to ${elsewhere.proxy.address} to show the blob ${digest} of app, which answered 503`)
  assert.equal(new Set(elsewhere.proxy.talks.map(({ headers }) => headers['authorization'])), new Set([undefined]))
})))
blobs('that the registry does not show is trouble, and what no registry can have is a mistake', () => world({}, async ({ proxy, registry }) => {
  for (const [status, words] of [[401, 'wants credentials to'], [403, 'forbids kiln to'], [429, 'is asked too often to'], [500, 'does not']] as const) {
    proxy.fault = () => ({ answer: { status } })
    await isUnavailable(registry().blob('app', nowhere), `The registry ${proxy.address} ${words} show the blob ${nowhere} of app`, String(status))
    await isUnavailable(registry().hasBlob('app', nowhere), `The registry ${proxy.address} ${words} tell of the blob ${nowhere} of app`, String(status))
  }
  proxy.talks.length = 0
  for (const work of [() => registry().blob('App', nowhere), () => registry().blob('app', 'sha256:12'), () => registry().hasBlob('app', 'latest'), () => registry().mount('a/../b', nowhere, 'app'), () => registry().upload('A', blobOf(bytes)), () => registry().put('app', 'a b', { mediaType: 'x', bytes })]) {
    assert.not.instance(await failure(Promise.resolve().then(async () => { await work() })), Unavailable)
  }
  assert.equal(proxy.talks, [])
}))
blobs.run()

const mounts = suite('a mount')
mounts('makes a blob one of another repository, without moving it', () => world({}, async (at) => {
  const digest = await pushBlob(at.origin, 'base', bytes)
  assert.is(await at.registry().mount('app', digest, 'base'), true)
  assert.is(methods(at), 'POST 201')
  assert.equal(at.proxy.talks[0]!.query, { mount: digest, from: 'base' })
  assert.ok((await blobAt(at.origin, 'app', digest)).equals(bytes))
}))
mounts('that the registry will not do leaves nothing', async () => {
  await world({}, async (at) => {
    assert.is(await at.registry().mount('app', nowhere, 'base'), false)
    assert.is(methods(at), 'POST 202, DELETE 204')
  })
  for (const status of [400, 401, 403, 404, 405, 415]) {
    await world({}, async (at) => {
      at.proxy.fault = each(is('POST'), { answer: { status } })
      assert.is(await at.registry().mount('app', nowhere, 'base'), false)
      assert.is(methods(at), `POST ${status}`)
    })
  }
  for (const status of [429, 500, 503]) {
    await world({}, async (at) => {
      at.proxy.fault = each(is('POST'), { answer: { status } })
      await isUnavailable(at.registry().mount('app', nowhere, 'base'), `mount the blob ${nowhere} of app: ${status}`)
    })
  }
})
mounts('that does not come about is an upload, in the session that was opened instead', () => world({}, async (at) => {
  const upload = (from: string) => at.registry().upload('app', blobOf(bytes), undefined, { from })
  await upload('base')
  assert.is(methods(at), 'POST 202, HEAD 404, PUT 201')
  at.proxy.talks.length = 0
  // There already, and not where it was looked for.
  await upload('base')
  assert.is(methods(at), 'POST 202, HEAD 200, DELETE 204')
  at.proxy.talks.length = 0
  await upload('app')
  assert.is(methods(at), 'POST 201')
  at.proxy.talks.length = 0
  at.proxy.fault = each(({ query }) => 'mount' in query, { answer: { status: 500 } })
  await at.registry().upload('other', blobOf(bytes), undefined, { from: 'app' })
  assert.is(methods(at), 'POST 500, HEAD 404, POST 202, PUT 201')
}))
mounts.run()

const manifests = suite('a manifest')
const types = families.oci
manifests('comes with its type, its bytes and the digest that they have', async () => {
  for (const family of ['oci', 'docker'] as const) {
    await world({}, async ({ origin, registry }) => {
      const { digest } = await pushImage(origin, { repository: 'app', family })
      const { text } = (await manifestAt(origin, 'app', 'v1'))!
      for (const reference of ['v1', digest]) assert.equal(await registry().manifest('app', reference), { digest, mediaType: families[family].manifest, bytes: Buffer.from(text) })
      assert.equal([await registry().manifest('app', 'v2'), await registry().manifest('app', nowhere), await registry().manifest('other', 'v1')], [null, null, null])
    })
  }
})
manifests('that is another than was said is not taken', () => world({}, async ({ proxy, registry }) => {
  const body = '{"mediaType":"application/x"}'
  const answering = (headers: Record<string, string>): void => { proxy.fault = () => ({ answer: { status: 200, headers, body } }) }
  const sha512 = 'sha512:' + 'a'.repeat(128)
  answering({ 'content-type': `${types.manifest}; charset=utf-8` })
  await isUnavailable(registry().manifest('app', nowhere), `The registry ${proxy.address} answers for ${nowhere} of app with a manifest that is not ${nowhere}: its digest is ${sha256(body)}.`)
  await isUnavailable(registry().manifest('app', sha512), `is not ${sha512}: its digest is sha512:`)
  assert.equal(await registry().manifest('app', 'v1'), { digest: sha256(body), mediaType: types.manifest, bytes: Buffer.from(body) })
  assert.is((await registry().manifest('app', sha256(body)))!.digest, sha256(body))
  for (const other of [nowhere, sha512]) {
    answering({ 'docker-content-digest': other })
    await isUnavailable(registry().manifest('app', 'v1'), `that is not ${other}`)
    await isUnavailable(registry().manifest('app', sha256(body)), `that is not ${other}`)
  }
  for (const nothing of ['', 'application/json', 'application/octet-stream', 'text/plain; charset=utf-8']) {
    answering({ 'content-type': nothing })
    assert.is((await registry().manifest('app', 'v1'))!.mediaType, 'application/x', nothing)
  }
  proxy.fault = () => ({ answer: { status: 500 } })
  await isUnavailable(registry().manifest('app', 'v1'), 'does not tell of an image of app: 500')
}))
manifests('is put under a tag', () => world({}, async ({ origin, registry }) => {
  await pushImage(origin, { repository: 'app' })
  const { text } = (await manifestAt(origin, 'app', 'v1'))!
  const other = Buffer.from(text.replace('{', '{ '))
  assert.is(await registry().put('app', 'v1', { mediaType: types.manifest, bytes: other }), sha256(other))
  assert.is((await manifestAt(origin, 'app', 'v1'))!.text, other.toString())
}))
manifests('that names what is not there says what', () => world({}, async (at) => {
  const { layers } = await pushImage(at.origin, { repository: 'base' })
  const config = await pushBlob(at.origin, 'app', Buffer.from('{}'))
  const bytes = Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType: types.manifest, config: { mediaType: types.config, digest: config, size: 2 }, layers }))
  const put = (): Promise<string> => at.registry().put('app', 'v1', { mediaType: types.manifest, bytes })
  const error = await isUnavailable(put(), `The registry ${at.proxy.address} does not store the image v1 of app: 400 MANIFEST_BLOB_UNKNOWN `)
  assert.instance(error, BlobsMissing)
  assert.equal((error as BlobsMissing).missing.sort(), layers.map(({ digest }) => digest).sort())
  assert.is(await manifestAt(at.origin, 'app', 'v1'), null)
  for (const [code, detail, missing] of [['BLOB_UNKNOWN', { digest: nowhere }, [nowhere]], ['MANIFEST_BLOB_UNKNOWN', undefined, []]] as const) {
    at.proxy.fault = () => ({ answer: { status: 404, body: JSON.stringify({ errors: [{ code, detail }] }) } })
    assert.equal(((await failure(put())) as BlobsMissing).missing, missing)
  }
  for (const [status, code, words] of [[400, 'MANIFEST_INVALID', 'does not'], [401, '', 'wants credentials to'], [403, 'DENIED', 'forbids kiln to'], [429, '', 'is asked too often to'], [500, '', 'does not']] as const) {
    at.proxy.fault = () => ({ answer: { status, body: JSON.stringify({ errors: [{ code }] }) } })
    assert.not.instance(await isUnavailable(put(), `${words} store the image v1 of app`, `: ${status}${code && ` ${code}`}.`), BlobsMissing)
  }
}))
manifests('that lies there as another one afterwards is trouble', () => world({}, async ({ origin, proxy, registry }) => {
  await pushImage(origin, { repository: 'app' })
  const { text } = (await manifestAt(origin, 'app', 'v1'))!
  const put = (): Promise<string> => registry().put('app', 'v2', { mediaType: types.manifest, bytes: Buffer.from(text) })
  proxy.fault = () => ({ headers: (headers) => ({ ...headers, 'docker-content-digest': nowhere }) })
  await isUnavailable(put(), `The registry ${proxy.address} says that ${nowhere} lies under v2 of app, where kiln put ${sha256(text)}: it is something else.`)
  proxy.fault = () => ({ headers: ({ 'docker-content-digest': _, ...headers }) => headers })
  assert.is(await put(), sha256(text))
}))
manifests('of the old format is asked for by nobody', () => world({}, async ({ origin, proxy, registry }) => {
  await pushImage(origin, { repository: 'app' })
  await registry().manifest('app', 'v1')
  assert.equal(proxy.talks.at(-1)!.headers['accept']!.split(', ').sort(), Object.values(families).flatMap(({ index, manifest }) => [index, manifest]).sort())
  await pushManifest(origin, 'app', 'index', types.index, { schemaVersion: 2, mediaType: types.index, manifests: [] })
  assert.is((await registry().manifest('app', 'index'))!.mediaType, types.index)
}))
manifests.run()
