// Base images for tests, what is read of an image in a registry, and what the stand-in cluster makes of its layers.
import { mkdtemp, readdir, readFile, readlink, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { layerOf, packed, pushBase, pushImage, pushIndex, tarOf, type BaseOptions, type Layer, type LayerEntry } from './stand/base-image.ts'
import { images, PullTrouble, type Images } from './stand/kubernetes/pull.ts'
import { readImage, sha256 } from './stand/read-image.ts'
import { registryServer } from './stand/registry.ts'

const { address: registry, close } = await registryServer()
const folder = await mkdtemp(join(tmpdir(), 'kiln-test-base-'))
/** Its words. */
const failure = (work: Promise<unknown>): Promise<string> => work.then(() => 'it did not fail', (error: Error) => error.message)

// ---- bases -------------------------------------------------------------------------------------------------------

const bases = suite('base images for tests')

bases('the same options give the same digest, any other gives another', async () => {
  const options: BaseOptions[] = [
    {}, { labels: { a: 'b' } }, { env: ['A=b'] }, { config: { User: '7' } }, { top: { author: 'somebody' } }, { files: { 'a/b': 'c' } }, { bytes: 1_000 }, { layers: 2 }, { kind: 'docker' }, { architecture: 'arm64' },
  ]
  const digests = await Promise.all(options.map(async (one) => (await pushBase(registry, one)).digest))
  assert.is(new Set(digests).size, options.length)
  assert.equal(await Promise.all(options.map(async (one) => (await pushBase(registry, { ...one, repository: 'again', tag: 'other' })).digest)), digests)
})

bases('all that was asked for is in the registry', async () => {
  const { reference, pinned, digest } = await pushBase(registry, {
    repository: 'deep/base', tag: 'v1', labels: { 'kiln.runtime': 'abc' }, env: ['A=b'], config: { User: 'luna', StopSignal: 'SIGINT' }, top: { author: 'somebody', 'made.with': 'care' },
    files: { 'opt/tool/run': 'hello' }, bytes: 100_000, layers: 3,
  })
  assert.equal([reference, pinned], [`${registry}/deep/base:v1`, `${registry}/deep/base@${digest}`])
  const { config, manifest, files, mediaType, ...rest } = await readImage(reference)
  assert.equal([rest.digest, mediaType, manifest.config.mediaType], [digest, 'application/vnd.oci.image.manifest.v1+json', 'application/vnd.oci.image.config.v1+json'])
  assert.equal([config['architecture'], config['author'], config['made.with']], ['amd64', 'somebody', 'care'])
  assert.equal(config.config, {
    Env: ['PATH=/opt/luna/bin:/usr/local/bin:/usr/bin:/bin', 'A=b'], Cmd: ['python3'], WorkingDir: '/lambda', Labels: { 'kiln.runtime': 'abc' }, User: 'luna', StopSignal: 'SIGINT',
  })
  assert.equal([manifest.layers.length, config.history.length], [4, 4])
  assert.ok(manifest.layers.every(({ mediaType }) => mediaType === 'application/vnd.oci.image.layer.v1.tar+gzip'))
  assert.ok(manifest.layers[3]!.size > 100_000)
  assert.equal(files.get('opt/tool/run'), { type: 'file', mode: 0o644, uid: 0, gid: 0, content: sha256('hello') })
  assert.equal([files.get('opt/luna')!.uid, files.get('tmp')!.mode, files.has('opt/layer-2'), files.has('opt/layer-3'), files.has('opt/layer-4')], [1000, 0o1777, true, true, false])
  assert.is((await readImage(pinned)).digest, digest)
})

bases('one of the other kind, and one behind a password', async () => {
  const login = { username: 'kiln', password: 'secret' }
  const locked = await registryServer({ auth: login })
  try {
    const { reference } = await pushBase(locked.address, { kind: 'docker', login })
    const { mediaType, manifest } = await readImage(reference, login)
    assert.equal([mediaType, manifest.config.mediaType, manifest.layers[0]!.mediaType], [
      'application/vnd.docker.distribution.manifest.v2+json', 'application/vnd.docker.container.image.v1+json', 'application/vnd.docker.image.rootfs.diff.tar.gzip',
    ])
    assert.match(await failure(readImage(reference)), '401')
    assert.match(await failure(pushBase(locked.address)), '401')
  } finally {
    await locked.close()
  }
})

bases.run()

// ---- how layers lie over each other ------------------------------------------------------------------------------

const layers = suite('layers, as the stand-in cluster unpacks them and as they are read')
let count = 0
const cluster = async (): Promise<Images> => images(await mkdtemp(join(folder, 'images-')), 'none.test')
const pushed = (given: Layer[], more: Partial<Parameters<typeof pushImage>[1]> = {}) => pushImage(`${registry}/layers:${count++}`, { layers: given, ...more })
const dir = (name: string, mode = 0o755): LayerEntry => ({ name, type: 'directory', mode })
const file = (name: string, content = name): LayerEntry => ({ name, content })
const link = (name: string, linkname: string, type: 'link' | 'symlink' = 'symlink'): LayerEntry => ({ name, linkname, type })

/** Every path below a folder; links are not followed. */
async function pathsIn(root: string, path = ''): Promise<string[]> {
  const found = await Promise.all((await readdir(join(root, path), { withFileTypes: true })).map(async (entry) => {
    const name = join(path, entry.name)
    return entry.isDirectory() ? [name, ...(await pathsIn(root, name))] : [name]
  }))
  return found.flat().sort()
}

/** Unpacked, with every path in it; those of `readImage` must be the same. */
async function unpacked(given: Layer[], more: Partial<Parameters<typeof pushImage>[1]> = {}): Promise<{ at(path: string): string; names: string[] }> {
  const { reference } = await pushed(given, more)
  const pulled = await (await cluster()).pull(reference)
  const names = await pathsIn(pulled.folder)
  assert.equal([...(await readImage(reference)).files.keys()].sort(), names)
  return { at: (path) => join(pulled.folder, path), names }
}

layers('a later one adds, replaces and hides', async () => {
  const { at, names } = await unpacked([
    await layerOf([dir('a/'), file('a/kept'), file('a/changed'), file('a/gone'), dir('a/folder/'), file('a/folder/x'), file('file'), dir('opaque/'), file('opaque/old'), dir('opaque/deep/'), file('opaque/deep/old')]),
    await layerOf([
      file('a/changed', 'new'), file('a/.wh.gone', ''), file('a/folder', 'now a file'), dir('file/'), file('file/within'),
      // Where it stands among the others is nothing to it, and its own layer is not hidden.
      dir('opaque/'), file('opaque/new'), file('opaque/.wh..wh..opq', ''),
    ]),
  ])
  assert.equal(names, ['a', 'a/changed', 'a/folder', 'a/kept', 'file', 'file/within', 'opaque', 'opaque/new'])
  assert.equal([await readFile(at('a/changed'), 'utf8'), await readFile(at('a/folder'), 'utf8')], ['new', 'now a file'])
})

layers('packed in several pieces, or not at all; with long names; beginning at the root', async () => {
  const entries = [dir('./'), dir('./a/'), file('./a/one'), file(`./a/${'long'.repeat(60)}`), file('./a/ünïcode')]
  const tar = await tarOf(entries)
  // In the middle of an entry.
  const pieces = Buffer.concat([packed(tar.subarray(0, 1_700)), packed(tar.subarray(1_700, 1_700)), packed(tar.subarray(1_700))])
  for (const bytes of [pieces, tar]) {
    const { names } = await unpacked([{ packed: bytes, unpacked: sha256(tar) }], { kind: 'docker' })
    assert.equal(names, ['a', `a/${'long'.repeat(60)}`, 'a/one', 'a/ünïcode'])
  }
})

layers('what follows the end of a tar is not there', async () => {
  const [first, second] = [await tarOf([file('first')]), await tarOf([file('second')])]
  const both = Buffer.concat([first, second])
  assert.equal((await unpacked([{ packed: packed(both), unpacked: sha256(both) }])).names, ['first'])
  const joined = Buffer.concat([first.subarray(0, -1_024), second])
  assert.equal((await unpacked([{ packed: packed(joined), unpacked: sha256(joined) }])).names, ['first', 'second'])
})

layers('links lead to what they lead to in the image, and nothing leads out of it', async () => {
  await writeFile(join(folder, 'outside'), 'of this machine')
  const { at } = await unpacked([
    await layerOf([
      dir('etc/'), file('etc/name', 'of the image'), dir('lambda/'), link('lambda/hard', 'etc/name', 'link'), link('lambda/absolute', '/etc/name'), link('lambda/relative', '../etc/name'),
      link('lambda/far', `../../../../../../../../..${folder}/outside`), link('lambda/host', `${folder}/outside`), link('run', '/lambda'), link('up', '../../..'),
    ]),
  ])
  for (const name of ['hard', 'absolute', 'relative']) assert.is(await readFile(at(`lambda/${name}`), 'utf8'), 'of the image', name)
  for (const name of ['far', 'host']) assert.match(await failure(readFile(at(`lambda/${name}`))), 'ENOENT')
  assert.is(await readlink(at('lambda/relative')), '../etc/name')
  assert.is((await stat(at('up'))).ino, (await stat(at('.'))).ino)
})

layers('a name that goes through a link ends where the link leads', async () => {
  const { reference } = await pushed([await layerOf([dir('lambda/'), file('lambda/old'), link('run', '/lambda'), link('loop', 'loop')]), await layerOf([file('run/through'), file('run/.wh.old', ''), file('../over')])])
  const { folder: root } = await (await cluster()).pull(reference)
  assert.equal(await pathsIn(root), ['lambda', 'lambda/through', 'loop', 'over', 'run'])
  const endless = await pushed([await layerOf([link('loop', 'loop'), file('loop/x')])])
  assert.match(await failure((await cluster()).pull(endless.reference)), 'too many levels of symbolic links')
})

layers('modes are those that the layer says', async () => {
  const { at } = await unpacked([await layerOf([dir('tmp/', 0o1777), dir('closed/', 0o500), { ...file('tool'), mode: 0o4755 }, { ...file('secret'), mode: 0o600 }])])
  const mode = async (path: string): Promise<number> => (await stat(at(path))).mode & 0o7777
  assert.is((await stat(at('tool'))).mtimeMs, 0, 'and times')
  // A folder can be removed by who unpacked it.
  assert.equal(await Promise.all(['tmp', 'closed', 'tool', 'secret'].map(mode)), [0o1777, 0o700, 0o4755, 0o600])
})

layers('an image that is not what its config says, or has a broken layer, cannot be pulled, however often it is tried', async () => {
  const good = await layerOf([file('good')])
  const told = async (given: Layer[], config?: object): Promise<string> => {
    const { reference } = await pushed(given, { config })
    const node = await cluster()
    await node.pull(reference).then(() => assert.unreachable(), (error: unknown) => assert.instance(error, PullTrouble))
    const [first, again] = [await failure(node.pull(reference)), await failure(node.pull(reference))]
    assert.is(again, first)
    return first
  }
  assert.match(await told([good, { ...good, unpacked: sha256('other') }]), `wrong diff id calculated on extraction "${good.unpacked}", expected "${sha256('other')}"`)
  assert.match(await told([good], { rootfs: { type: 'layers', diff_ids: [] } }), 'number of layers and diffIDs don\'t match: 1 != 0')
  assert.match(await told([good, { packed: good.packed.subarray(0, -20), unpacked: good.unpacked }]), `failed to extract layer ${good.unpacked}: `)
  assert.match(await told([await layerOf([file('a/.wh.')])]), 'invalid whiteout name')
})

layers('of an index, the image for this kind of machine is pulled, or none', async () => {
  const [arm, amd] = await Promise.all(['arm64', 'amd64'].map((architecture) => pushBase(registry, { repository: 'both', tag: architecture, architecture })))
  for (const kind of ['oci', 'docker'] as const) {
    const children = kind === 'oci' ? [arm!, amd!] : await Promise.all(['arm64', 'amd64'].map((architecture) => pushBase(registry, { repository: 'both', tag: `${architecture}-docker`, architecture, kind })))
    const { reference } = await pushIndex(`${registry}/both:${kind}`, [{ ...children[0]!, architecture: 'arm64' }, { ...children[1]!, architecture: 'amd64' }], kind)
    assert.is((await (await cluster()).pull(reference)).id, `${registry}/both@${children[1]!.digest}`)
  }
  const { reference } = await pushIndex(`${registry}/both:arm`, [{ ...arm!, architecture: 'arm64' }])
  assert.match(await failure((await cluster()).pull(reference)), 'no match for platform in manifest')
})

layers.after(async () => {
  await close()
  await rm(folder, { recursive: true, force: true })
})

layers.run()
