// Stored images, in a real registry.
import { randomBytes, randomUUID } from 'node:crypto'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { fewAtOnce } from '../shared/few-at-once.ts'
import { jsonLog } from '../shared/log.ts'
import { credentialsFrom, registries } from '../shared/oci/registry.ts'
import { ociStored } from '../shared/oci/stored.ts'
import { repositoryOf } from '../shared/repositories.ts'
import type { StoredImages } from '../shared/stored.ts'
import { Unavailable } from '../shared/trouble.ts'
import { contextFor, listed, storedContract, type StoredUnderTest } from './contract/stored.ts'
import { families, manifestAt, pushBlob, pushManifest, sha256, type Origin } from './stand/oci-images.ts'
import { registryServer, type RegistryOptions } from './stand/registry.ts'

interface Place extends StoredUnderTest {
  address: string
  origin: Origin
  complaints: string[]
  /** The same image under another tag. */
  tag(lambda: string, context: string, tag: string): Promise<void>
}

const ground = randomBytes(5_000)

async function place(options: RegistryOptions = {}): Promise<Place> {
  const server = await registryServer(options)
  const origin = { url: `http://${server.address}` }
  const complaints: string[] = []
  const push = async (repository: string, tag: string, own: number): Promise<string> => {
    const [code, config] = [randomBytes(own), Buffer.from(JSON.stringify({ os: 'linux', architecture: 'amd64', unique: randomUUID() }))]
    for (const blob of [ground, code, config]) await pushBlob(origin, repository, blob)
    const described = (mediaType: string, blob: Buffer) => ({ mediaType, digest: sha256(blob), size: blob.length })
    const { manifest, config: ofConfig, layer } = families.oci
    return pushManifest(origin, repository, tag, manifest, { schemaVersion: 2, mediaType: manifest, config: described(ofConfig, config), layers: [described(layer, ground), described(layer, code)] })
  }
  return {
    address: server.address, origin, complaints, stored: storedAt(`${server.address}/team`, server.address, complaints),
    image: (lambda, context, codeBytes) => push(`team/lambda-${lambda}`, context, codeBytes),
    environment: async (key, bytes) => { await push('team/lambda-environment', key, bytes) },
    async tag(lambda, context, tag) {
      const { mediaType, text } = (await manifestAt(origin, `team/lambda-${lambda}`, context))!
      await pushManifest(origin, `team/lambda-${lambda}`, tag, mediaType, text)
    },
    close: () => server.close(),
  }
}

function storedAt(at: string, insecure: string, complaints: string[]): StoredImages {
  return ociStored(registries({ insecure: new Set([insecure]), credentials: credentialsFrom(null) }), at, jsonLog('warn', (line) => complaints.push(line)))
}

storedContract('stored images, in a registry', () => place())

const test = suite<{ on: Place }>('stored images, in a registry: ')
test.before.each(async (context) => { context.on = await place() })
test.after.each(({ on }) => on.close())

const there = async ({ origin }: Place, lambda: string, tag: string): Promise<boolean> => (await manifestAt(origin, `team/lambda-${lambda}`, tag)) !== null

test('parts are the layers and the configuration, with their bytes', async ({ on }) => {
  const [id, context] = [randomUUID(), contextFor()]
  await on.image(id, context, 700)
  const [image] = await listed(on.stored, [id], [context])
  const { content } = (await manifestAt(on.origin, `team/lambda-${id}`, context))!
  assert.equal(await on.stored.parts(image!), [content['config'], ...content['layers']].map(({ digest, size }) => ({ name: digest, bytes: size })))
  assert.is(image!.name, `${repositoryOf(`${on.address}/team`, id)}:${context}`)
})

test('an image that is made anew under the tag of one that was removed is told of as it is', async ({ on }) => {
  const [id, context] = [randomUUID(), contextFor()]
  const bytes = async (): Promise<number[]> => {
    const [image] = await listed(on.stored, [id], [context])
    return (await on.stored.parts(image!))!.map((part) => part.bytes).sort((a, b) => a - b).slice(1)
  }
  await on.image(id, context, 700)
  assert.equal(await bytes(), [700, 5_000])
  await on.stored.remove(await listed(on.stored, [id], [context]))
  await on.image(id, context, 900)
  assert.equal(await bytes(), [900, 5_000])
})

test('tags that are not kiln\'s are nobody\'s garbage', async ({ on }) => {
  const [id, context] = [randomUUID(), contextFor()]
  for (const tag of [context, 'latest', context.slice(1), `${context}0`]) await on.image(id, tag, 10)
  assert.equal((await on.stored.list([id])).map(({ key }) => key), [context])
})

test('an image that another tag names too stays with it, unless both are to go', async ({ on }) => {
  const [id, contexts] = [randomUUID(), [contextFor(), contextFor(), contextFor()]]
  await on.image(id, contexts[0]!, 10)
  await on.tag(id, contexts[0]!, contexts[1]!)
  await on.image(id, contexts[2]!, 10)
  const [one, same, other] = await listed(on.stored, [id], contexts)
  assert.equal(await on.stored.remove([one!, other!]), [{ name: one!.name, why: `It is the same image as ${same!.name}, which stays.`, remedy: null }])
  assert.equal(await Promise.all(contexts.map((context) => there(on, id, context))), [true, true, false])
  assert.equal(await on.stored.remove([same!, one!]), [])
  assert.equal(await Promise.all(contexts.map((context) => there(on, id, context))), [false, false, false])
})

test('also one that somebody else has tagged', async ({ on }) => {
  const [id, context] = [randomUUID(), contextFor()]
  await on.image(id, context, 10)
  await on.tag(id, context, 'release')
  const [image] = await listed(on.stored, [id], [context])
  assert.match((await on.stored.remove([image!]))[0]!.why, ':release, which stays')
  assert.ok(await there(on, id, 'release'))
})

test('the same image in the repository of another lambda is another', async ({ on }) => {
  const [one, other, context] = [randomUUID(), randomUUID(), contextFor()]
  await on.image(one, context, 10)
  const { mediaType, text, content } = (await manifestAt(on.origin, `team/lambda-${one}`, context))!
  for (const { digest } of [content['config'], ...content['layers']]) {
    await fetch(`${on.origin.url}/v2/team/lambda-${other}/blobs/uploads/?mount=${digest}&from=team/lambda-${one}`, { method: 'POST' })
  }
  await pushManifest(on.origin, `team/lambda-${other}`, context, mediaType, text)
  const [image] = await listed(on.stored, [one], [context])
  assert.equal(await on.stored.remove([image!]), [])
  assert.equal([await there(on, one, context), await there(on, other, context)], [false, true])
})

test('a manifest that is no image is all that there is of it', async ({ on }) => {
  const [id, context] = [randomUUID(), contextFor()]
  const { index } = families.oci
  const digest = await pushManifest(on.origin, `team/lambda-${id}`, context, index, { schemaVersion: 2, mediaType: index, manifests: [] })
  const [image] = await listed(on.stored, [id], [context])
  assert.equal((await on.stored.parts(image!))!.map(({ name }) => name), [digest])
  assert.equal(await on.stored.remove([image!]), [])
})

test('a repository that the registry does not tell of is left out, and that is said once', async ({ on }) => {
  const [id, context, other] = [randomUUID(), contextFor(), randomUUID()]
  await on.image(id, context, 10)
  const real = registries({ insecure: new Set([on.address]), credentials: credentialsFrom(null) })
  const stored = ociStored((host) => {
    const registry = real(host)
    return { ...registry, tags: async (repository) => { if (repository.endsWith(other)) throw new Unavailable('It forbids that.'); return registry.tags(repository) } }
  }, `${on.address}/team`, jsonLog('warn', (line) => on.complaints.push(line)))
  for (const _ of [1, 2]) assert.equal((await stored.list([other, id])).map(({ key }) => key), [context])
  assert.is(on.complaints.length, 1)
  assert.match(on.complaints[0]!, 'It forbids that.')
})

test('a registry that is away is Unavailable: nothing is listed, nothing removed', async ({ on }) => {
  const [id, context] = [randomUUID(), contextFor()]
  await on.image(id, context, 10)
  const [image] = await listed(on.stored, [id], [context])
  await on.close()
  for (const question of [() => on.stored.list([id]), () => on.stored.remove([image!]), () => on.stored.parts(image!)]) {
    const error = await question().then(() => null, (thrown: unknown) => thrown)
    assert.instance(error, Unavailable)
  }
})

test('a registry without deletion: all stay, for one reason, with the remedy', async () => {
  const on = await place({ delete: false })
  const [ids, context, key] = [[randomUUID(), randomUUID()], contextFor(), contextFor()]
  for (const id of ids) await on.image(id, context, 10)
  await on.environment(key, 10)
  const images = await on.stored.list(ids)
  const staying = await on.stored.remove(images)
  assert.equal(staying.map(({ name }) => name).sort(), images.map(({ name }) => name).sort())
  assert.is(new Set(staying.map(({ why }) => why)).size, 1)
  assert.match(staying[0]!.why, new RegExp(`^The registry ${on.address} does not allow kiln to remove images: 405 `))
  assert.match(staying[0]!.remedy!, 'REGISTRY_STORAGE_DELETE_ENABLED')
  assert.match(staying[0]!.remedy!, 'garbage collection')
  assert.equal(await on.stored.list(ids), images)
  await on.close()
})

test('questions are answered in their order, a few at once, and none is begun after a failure', async () => {
  let [under, most] = [0, 0]
  const asked: number[] = []
  const ask = async (item: number): Promise<number> => {
    asked.push(item)
    most = Math.max(most, ++under)
    await new Promise((resolve) => setImmediate(resolve))
    under--
    if (item === 5) throw new Error('five')
    return item * 2
  }
  assert.equal(await fewAtOnce([1, 2, 3, 4], ask, 3), [2, 4, 6, 8])
  assert.is(most, 3)
  assert.equal(await fewAtOnce([], ask), [])
  asked.length = 0
  assert.is((await fewAtOnce([5, 6, 7, 8, 9, 10], ask, 2).then(() => null, (error: Error) => error))?.message, 'five')
  await new Promise((resolve) => setImmediate(() => setImmediate(resolve)))
  assert.equal(asked, [5, 6])
})

test.run()
