// Appending: what the new image is, byte by byte, and what is asked of a real registry for it.
import { randomBytes } from 'node:crypto'
import { gzipSync } from 'node:zlib'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { appending, type Changes, type CodeLayer, type Wish } from '../shared/oci/append.ts'
import { appendedConfig } from '../shared/oci/appended-config.ts'
import { platformOf, pulling, type Pulled } from '../shared/oci/pull.ts'
import type { Registry } from '../shared/oci/registry.ts'
import { gate } from './stand/await.ts'
import { blobAt, blobOf, diffIdOf, families, layerOf, manifestAt, pushBlob, pushImage, sha256, type ImageWish, type Origin } from './stand/oci-images.ts'
import { world, type World } from './stand/oci-world.ts'

const changes: Changes = { workingDir: '/lambda', env: { B: '2', A: '1' }, ports: ['8000/tcp'], entrypoint: ['/kiln/run', '--quietly'], labels: { 'kiln.lambda': 'x' }, createdBy: 'kiln: COPY lambda/' }
const tar = randomBytes(10_000)
/** Made anew, and the same each time. */
const layerWith = (bytes: Buffer): CodeLayer & ReturnType<typeof blobOf> => { const blob = gzipSync(bytes); return Object.assign(blobOf(blob), { diffId: diffIdOf(blob) }) }
const code = (): ReturnType<typeof layerWith> => layerWith(tar)

async function pulled(registryOf: (host: string) => Registry, name: string): Promise<Pulled> {
  const pull = await pulling(registryOf, platformOf('linux/amd64'))(name)
  if ('image' in pull) return pull.image
  throw new Error(pull.refused.message)
}
/** A parent, pushed and pulled, and what appends to it. */
async function ready(at: World, wish: ImageWish = {}): Promise<{ parent: Pulled; append: (more?: Partial<Wish>) => Promise<string> }> {
  await pushImage(at.origin, wish)
  const registryOf = at.client()
  const parent = await pulled(registryOf, `${at.proxy.address}/${wish.repository ?? 'base'}:v1`)
  const append = appending(registryOf)
  at.proxy.talks.length = 0
  return { parent, append: (more) => append({ parent, layer: code(), changes, to: { registry: at.proxy.address, repository: 'app', tag: 'v1' }, ...more }) }
}
async function contentAt(origin: Origin, tag = 'v1', repository = 'app'): Promise<{ mediaType: string; text: string; manifest: Record<string, any>; config: Record<string, any> }> {
  const { mediaType, text, content } = (await manifestAt(origin, repository, tag))!
  return { mediaType, text, manifest: content, config: JSON.parse((await blobAt(origin, repository, content['config'].digest)).toString()) }
}
const lines = ({ proxy }: World): string[] => proxy.lines().map((line) => line.replace(/ \/v2\//, ' ').replace(/sha256:[0-9a-f]{6}/, '…'))

const made = suite('the new image')
for (const family of ['oci', 'docker'] as const) {
  made(`of a parent of the ${family} family is of the same, with a layer more, whole and in place`, () => world({}, async (at) => {
    const { parent, append } = await ready(at, { family, layers: 3, manifest: { annotations: { 'org.opencontainers.image.base.name': 'x' } } })
    const layer = code()
    const digest = await append({ layer })
    const { mediaType, text, manifest } = await contentAt(at.origin)
    const types = families[family]
    assert.equal([digest, mediaType], [sha256(text), types.manifest])
    const { config, ...others } = manifest
    assert.equal(others, { schemaVersion: 2, mediaType: types.manifest, layers: [...parent.layers, { mediaType: types.layer, digest: layer.digest, size: layer.bytes }] })
    const written = await blobAt(at.origin, 'app', config.digest)
    assert.equal(config, { mediaType: types.config, digest: sha256(written), size: written.length })
    for (const one of manifest['layers']) assert.equal([sha256(await blobAt(at.origin, 'app', one.digest)), (await blobAt(at.origin, 'app', one.digest)).length], [one.digest, one.size])
    assert.ok((await pulled(at.client(), `${at.proxy.address}/app:v1`)).config.rootfs.diff_ids.at(-1) === layer.diffId, 'and it can be pulled, and appended to')
  }))
}
made('says all that its parent says, but for what is set', () => world({}, async (at) => {
  const config = {
    'created': '2020-01-01T00:00:00.1Z', 'docker_version': '20', 'os.version': '1', 'strange': { deep: [1, { x: null }] }, 'author': 'me', 'container_config': { Cmd: ['x'] },
    'config': {
      User: '1000', Env: ['PATH=/bin', 'B=old', 'EMPTY=', 'B=again', 'C=with=sign'], Cmd: ['sh'], Entrypoint: ['/old'], WorkingDir: '/old', ExposedPorts: { '9000/tcp': {} }, Labels: { z: '1', 'kiln.lambda': 'old', a: '2' },
      Healthcheck: { Test: ['CMD', 'true'], Interval: 30_000_000_000 }, StopSignal: 'SIGINT', OnBuild: ['RUN x'], Volumes: { '/data': {} }, Strange: [true],
    },
  }
  const { parent, append } = await ready(at, { config: { ...config, history: [{ created_by: 'one', strange: 1 }, { created_by: 'none', empty_layer: true }, { created_by: 'two' }] } })
  const layer = code()
  await append({ layer })
  const { Cmd: _, ...kept } = config.config
  const { config: written } = await contentAt(at.origin)
  assert.equal(written, {
    ...parent.config, ...config,
    config: {
      ...kept, Env: ['PATH=/bin', 'B=2', 'EMPTY=', 'C=with=sign', 'A=1'], Entrypoint: ['/kiln/run', '--quietly'], WorkingDir: '/lambda',
      ExposedPorts: { '8000/tcp': {}, '9000/tcp': {} }, Labels: { 'a': '2', 'kiln.lambda': 'x', 'z': '1' },
    },
    rootfs: { type: 'layers', diff_ids: [...parent.config.rootfs.diff_ids, layer.diffId] },
    history: [{ created_by: 'one', strange: 1 }, { created_by: 'none', empty_layer: true }, { created_by: 'two' }, { created: '2020-01-01T00:00:00.1Z', created_by: 'kiln: COPY lambda/' }],
  })
  assert.equal(Object.keys(written).slice(0, 3), ['created', 'os', 'architecture'], 'in the order of the parent')
}))
made('of a parent that says nothing says what is set, and tells of each layer', () => {
  const bare = { os: 'linux', architecture: 'amd64', rootfs: { type: 'layers', diff_ids: ['a', 'b'] } }
  const set = { Env: ['A=1', 'B=2'], Entrypoint: ['/kiln/run', '--quietly'], WorkingDir: '/lambda', ExposedPorts: { '8000/tcp': {} }, Labels: { 'kiln.lambda': 'x' } }
  const untold = { comment: 'a layer of the parent, of which it tells nothing' }
  for (const nothing of [{}, { config: null, history: null }, { config: { Env: null, ExposedPorts: null, Labels: null, Cmd: null }, history: [] }]) {
    assert.equal(appendedConfig({ ...bare, ...nothing } as never, 'c', changes), { ...bare, config: set, rootfs: { type: 'layers', diff_ids: ['a', 'b', 'c'] }, history: [untold, untold, { created_by: 'kiln: COPY lambda/' }] })
  }
  const told = [{ created_by: 'x', empty_layer: true }, { created_by: 'y' }]
  assert.equal(appendedConfig({ ...bare, created: 'then', history: told } as never, 'c', changes).history, [...told, untold, { created: 'then', created_by: 'kiln: COPY lambda/' }])
  const more = [...told, { created_by: 'z' }, { created_by: 'too much' }]
  assert.equal(appendedConfig({ ...bare, history: more } as never, 'c', changes).history, [...more, { created_by: 'kiln: COPY lambda/' }])
  const few = appendedConfig(bare as never, 'c', { ...changes, env: {}, labels: {}, ports: [] })
  assert.equal(few.config, { Env: [], Entrypoint: ['/kiln/run', '--quietly'], WorkingDir: '/lambda' })
})
made('is the same for the same wish, in whatever order that is put, and another for another', () => world({}, async (at) => {
  const { parent, append } = await ready(at)
  const to = (repository: string): Partial<Wish> => ({ to: { registry: at.proxy.address, repository, tag: 'v1' } })
  const first = await append()
  const again = { ...changes, env: { A: '1', B: '2' }, ports: ['8000/tcp', '8000/tcp'] }
  assert.equal([await append(to('one')), await append({ ...to('two'), changes: again }), await append({ ...to('three'), parent: await pulled(at.client(), `${at.proxy.address}/base:v1`) })], [first, first, first])
  const others = [
    { layer: layerWith(Buffer.from('other')) }, { changes: { ...changes, createdBy: 'x' } }, { changes: { ...changes, env: { A: '1' } } }, { changes: { ...changes, ports: [] } }, { changes: { ...changes, entrypoint: ['/kiln/run'] } },
    { changes: { ...changes, labels: {} } }, { changes: { ...changes, workingDir: '/' } }, { parent: { ...parent, config: { ...parent.config, author: 'x' } } },
  ]
  const digests = [first, ...(await Promise.all(others.map((other, i) => append({ ...to(`other${i}`), ...other }))))]
  assert.is(new Set(digests).size, digests.length)
}))
made.run()

const asked = suite('of the registry')
const mounted = 'POST app/blobs/uploads/?mount 201'
const uploaded = ['HEAD app/blobs/… 404', 'POST app/blobs/uploads/ 202', 'POST app/blobs/uploads/ 202', 'PUT app/blobs/uploads/… 201', 'PUT app/blobs/uploads/… 201']
asked('the parent\'s layers are mounted, and of the second version six things are asked', () => world({}, async (at) => {
  const { append } = await ready(at, { layers: 8 })
  await append()
  assert.equal(lines(at).slice().sort(), [...uploaded, ...Array(8).fill(mounted), 'PUT app/manifests/v1 201'].sort())
  assert.is(lines(at).at(-1), 'PUT app/manifests/v1 201', 'the manifest is the last')
  at.proxy.talks.length = 0
  await append({ layer: layerWith(randomBytes(10_000)), to: { registry: at.proxy.address, repository: 'app', tag: 'v2' } })
  assert.equal(lines(at).slice().sort(), [...uploaded, 'PUT app/manifests/v2 201'].sort())
  assert.is(lines(at).at(-1), 'PUT app/manifests/v2 201')
  at.proxy.talks.length = 0
  await append({ to: { registry: at.proxy.address, repository: 'app', tag: 'v3' } })
  assert.equal(lines(at), ['PUT app/manifests/v3 201'], 'nothing but a name for what is there')
}))
asked('at most eight things at a time', () => world({}, async (at) => {
  const { append } = await ready(at, { layers: 20 })
  const full = gate()
  let most = 0
  // Held until all have come: a question that is asked after the eighth comes after whatever was asked with it.
  at.proxy.fault = ({ path }) => (path === '/v2/' ? null : {
    before() {
      const underway = at.proxy.talks.filter(({ path, status }) => path !== '/v2/' && status === null).length
      most = Math.max(most, underway)
      if (underway === 8) void fetch(`${at.proxy.url}/v2/`).then((response) => response.text()).then(() => full.open())
      return full.promise
    },
  })
  const digest = append()
  await full.promise
  at.proxy.fault = () => ({ before() { most = Math.max(most, at.proxy.talks.filter(({ status }) => status === null).length) } })
  await digest
  assert.is(most, 8)
}))
asked('nothing of the parent, where it lies in the same repository', () => world({}, async (at) => {
  const { append } = await ready(at, { repository: 'app' })
  await append({ to: { registry: at.proxy.address, repository: 'app', tag: 'v2' } })
  assert.equal(lines(at).slice().sort(), [...uploaded, 'PUT app/manifests/v2 201'].sort())
}))
asked('a layer once, however often it is there', () => world({}, async (at) => {
  const { blob, digest, diffId } = layerOf(100)
  await pushBlob(at.origin, 'base', blob)
  const twice = { mediaType: families.oci.layer, digest, size: blob.length }
  const { append } = await ready(at, { config: { rootfs: { type: 'layers', diff_ids: [diffId, diffId, diffId] } }, manifest: { layers: [twice, twice, twice] } })
  await append({ layer: Object.assign(blobOf(blob), { diffId }) })
  assert.equal(lines(at).filter((line) => line.includes('?mount')), [], 'not even mounted: it is what is appended')
  assert.equal((await contentAt(at.origin)).manifest['layers'], [twice, twice, twice, twice])
}))
asked('foreign layers stay where they are', async () => {
  // As an operator lets a registry have them.
  process.env['REGISTRY_VALIDATION_MANIFESTS_URLS_ALLOW'] = '["^https://host.x/"]'
  await world({}, async (at) => {
    const urls = ['https://host.x/layer']
    for (const [family, mediaType] of [['docker', 'application/vnd.docker.image.rootfs.foreign.diff.tar.gzip'], ['oci', 'application/vnd.oci.image.layer.nondistributable.v1.tar+gzip']] as const) {
      const foreign = { mediaType, digest: sha256(family), size: 10, urls }
      // An ordinary one may be had from somewhere else, too.
      const ordinary = { mediaType: families[family].layer, digest: await pushBlob(at.origin, 'base', Buffer.from(family)), size: family.length, urls }
      const { append } = await ready(at, { family, config: { rootfs: { type: 'layers', diff_ids: [sha256('x'), sha256('y')] } }, manifest: { layers: [foreign, ordinary] } })
      await append({ to: { registry: at.proxy.address, repository: family, tag: 'v1' } })
      assert.equal(at.proxy.talks.flatMap(({ query }) => query['mount'] ?? []), [ordinary.digest])
      assert.equal((await contentAt(at.origin, 'v1', family)).manifest['layers'].slice(0, 2), [foreign, ordinary])
    }
  }).finally(() => { delete process.env['REGISTRY_VALIDATION_MANIFESTS_URLS_ALLOW'] })
})
asked('a layer that may not be passed on and is nowhere else is brought like any other', () => world({}, async (at) => {
  const { blob, digest, diffId } = layerOf(100)
  await pushBlob(at.origin, 'base', blob)
  const { append } = await ready(at, { config: { rootfs: { type: 'layers', diff_ids: [diffId] } }, manifest: { layers: [{ mediaType: 'application/vnd.oci.image.layer.nondistributable.v1.tar+gzip', digest, size: blob.length }] } })
  await append()
  assert.is(lines(at).filter((line) => line === mounted).length, 1)
}))
asked.run()
