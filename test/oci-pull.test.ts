// Pulling: what an image's name stands for on one platform, and what is said of an image that does not fit, against a real registry.
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { platformOf, pulling, type Pull, type Pulled, type Refused } from '../shared/oci/pull.ts'
import { families, pushBlob, pushImage, pushManifest, sha256, type Family, type ImageWish, type PushedImage } from './stand/oci-images.ts'
import { failure, isUnavailable, world, type World } from './stand/oci-world.ts'

const amd = { os: 'linux', architecture: 'amd64' }
const puller = (at: World, platform = 'linux/amd64'): ((name: string) => Promise<Pull>) => {
  const pull = pulling(at.client(), platformOf(platform))
  return (name) => pull(`${at.proxy.address}/${name}`)
}
const imageOf = (pull: Pull): Pulled => { if ('image' in pull) return pull.image; throw new Error(pull.refused.message) }
const refusalOf = (pull: Pull): Refused => { if ('refused' in pull) return pull.refused; throw new Error(`it was pulled: ${pull.image.reference}`) }
const methods = ({ proxy }: World): string => proxy.talks.map(({ method, status }) => `${method} ${status}`).join(', ')
const imageFor = (at: World, architecture: string, more: ImageWish = {}): Promise<PushedImage> => pushImage(at.origin, { tag: architecture, ...more, config: { architecture, ...more.config } })

interface Entry { digest: string; size: number; mediaType?: string; platform?: Record<string, string> | undefined }
function pushIndex(at: World, tag: string, entries: Entry[], family: Family = 'oci'): Promise<string> {
  const manifests = entries.map(({ digest, size, mediaType = families[family].manifest, platform }) => ({ mediaType, digest, size, ...(platform && { platform }) }))
  return pushManifest(at.origin, 'base', tag, families[family].index, { schemaVersion: 2, mediaType: families[family].index, manifests })
}
const entry = ({ digest, size }: PushedImage, architecture?: string, variant?: string): Entry => ({ digest, size, platform: architecture ? { os: 'linux', architecture, ...(variant && { variant }) } : undefined })

const found = suite('pulling')
for (const family of ['oci', 'docker'] as const) {
  found(`an image of the ${family} family gives its manifest and its configuration, and no layer`, () => world({}, async (at) => {
    const pushed = await pushImage(at.origin, { family, config: { strange: { field: [1] } } })
    const pull = puller(at)
    const image = imageOf(await pull('base:v1'))
    const config = Buffer.from(JSON.stringify(pushed.config))
    assert.equal(image, {
      reference: `${at.proxy.address}/base@${pushed.digest}`, registry: at.proxy.address, repository: 'base', digest: pushed.digest, mediaType: families[family].manifest, config: pushed.config,
      configDescriptor: { mediaType: families[family].config, digest: sha256(config), size: config.length }, layers: pushed.layers,
    })
    assert.is(methods(at), 'HEAD 200, GET 200, GET 200')
    assert.equal(await pull('base:v1'), { image })
    assert.is(methods(at), 'HEAD 200, GET 200, GET 200, HEAD 200', 'a tag is asked for, what it names is known')
    assert.equal(await pull(`base:other@${pushed.digest}`), { image })
    assert.is(at.proxy.talks.length, 4, 'a digest is not even asked for')
  }))
  found(`an index of the ${family} family gives what it has for the platform`, () => world({}, async (at) => {
    const [one, two] = [await imageFor(at, 'amd64', { family }), await imageFor(at, 'arm64', { family })]
    const index = await pushIndex(at, 'v1', [entry(two, 'arm64', 'v8'), entry(one, 'amd64')], family)
    const [onAmd, onArm] = [imageOf(await puller(at)('base:v1')), imageOf(await puller(at, 'linux/arm64/v8')('base:v1'))]
    assert.equal([onAmd.digest, onArm.digest], [one.digest, two.digest])
    assert.is(onAmd.reference, `${at.proxy.address}/base@${one.digest}`)
    assert.is(imageOf(await puller(at)(`base@${index}`)).digest, one.digest)
  }))
}
found('of several variants gives the best that runs there', () => world({}, async (at) => {
  const variants = await Promise.all(['v5', 'v6', 'v7'].map((variant) => imageFor(at, 'arm', { tag: variant, config: { variant } })))
  await pushIndex(at, 'v1', [entry(variants[1]!, 'arm', 'v6'), entry(variants[2]!, 'arm', 'v7'), entry(variants[0]!, 'arm', 'v5')])
  for (const [platform, best] of [['linux/arm', 2], ['linux/arm/v7', 2], ['linux/arm/v6', 1], ['linux/arm/v5', 0]] as const) assert.is(imageOf(await puller(at, platform)('base:v1')).digest, variants[best]!.digest, platform)
  const [plain, silent] = [await imageFor(at, 'arm64', { config: { variant: 'v8' } }), await imageFor(at, 'arm', { tag: 'silent' })]
  await pushIndex(at, 'v2', [entry(plain, 'arm64'), entry(silent, 'arm', 'v6')])
  assert.equal([imageOf(await puller(at, 'linux/arm64/v8')('base:v2')).digest, imageOf(await puller(at, 'linux/arm/v6')('base:v2')).digest], [plain.digest, silent.digest])
  await pushIndex(at, 'v8', [entry(plain, 'arm64', 'v8')])
  assert.equal([imageOf(await puller(at, 'linux/arm64')('base:v8')).digest, imageOf(await puller(at, 'linux/arm64/v9')('base:v8')).digest], [plain.digest, plain.digest])
  const newer = await imageFor(at, 'amd64', { tag: 'newer', config: { variant: 'v3' } })
  await pushIndex(at, 'v3', [entry(newer, 'amd64', 'v3')])
  assert.is(refusalOf(await puller(at)('base:v3')).message, `The image ${at.proxy.address}/base:v3 is not for linux/amd64: it is for linux/amd64/v3.`)
  assert.is(imageOf(await puller(at, 'linux/amd64/v3')('base:v3')).digest, newer.digest)
}))
found('an index in an index, or one that does not say for which platforms, is looked into', () => world({}, async (at) => {
  const [one, two] = [await imageFor(at, 'amd64'), await imageFor(at, 'arm64')]
  const inner = { digest: await pushIndex(at, 'inner', [entry(two, 'arm64'), entry(one, 'amd64')]), size: 1, mediaType: families.oci.index }
  await pushIndex(at, 'outer', [inner])
  await pushIndex(at, 'nameless', [entry(two), entry(one)])
  for (const tag of ['outer', 'nameless']) assert.is(imageOf(await puller(at)(`base:${tag}`)).digest, one.digest, tag)
  const third = await pushIndex(at, 'third', [{ digest: await pushIndex(at, 'second', [inner]), size: 1, mediaType: families.oci.index }])
  assert.is(refusalOf(await puller(at)(`base@${third}`)).reason, 'BaseImageForAnotherPlatform', 'but no deeper')
}))
found('many at once read once', () => world({}, async (at) => {
  await pushImage(at.origin)
  const pull = puller(at)
  await Promise.all(Array.from({ length: 10 }, () => pull('base:v1')))
  assert.equal([at.proxy.talks.filter(({ method }) => method === 'HEAD').length, at.proxy.talks.filter(({ method }) => method === 'GET').length], [10, 2])
}))
found('a tag that has moved gives what it names now, and never a mixture', () => world({}, async (at) => {
  const old = await pushImage(at.origin)
  const pull = puller(at)
  assert.is(imageOf(await pull('base:v1')).digest, old.digest)
  const next = await pushImage(at.origin)
  assert.is(imageOf(await pull('base:v1')).digest, next.digest)
  // Between the question for the tag and the reading somebody moves the tag and takes the old image away.
  const last = { digest: '' }
  at.proxy.fault = ({ method, path }) => (method === 'GET' && path.endsWith(`manifests/${next.digest}`) ? {
    async before() {
      last.digest = (await pushImage(at.origin)).digest
      await fetch(`${at.origin.url}/v2/base/manifests/${next.digest}`, { method: 'DELETE' })
    },
  } : null)
  assert.is(imageOf(await puller(at)('base:v1')).digest, last.digest)
  at.proxy.fault = ({ method, path }) => (method === 'GET' && path.includes('/manifests/') ? { answer: { status: 404 } } : null)
  await isUnavailable(puller(at)('base:v1'), `The registry ${at.proxy.address} names a digest for v1 of base, and has no manifest of that digest.`)
}))
found('asks for latest where nothing is said', () => world({}, async (at) => {
  const { digest } = await pushImage(at.origin, { tag: 'latest' })
  assert.is(imageOf(await puller(at)('base')).digest, digest)
}))
found.run()

const refused = suite('a refusal')
refused('of what is not there says what is', () => world({}, async (at) => {
  const image = await pushImage(at.origin, { tag: 'v1' })
  const [pull, name] = [puller(at), `${at.proxy.address}/base`]
  assert.equal(refusalOf(await pull('base:v2')), { reason: 'BaseImageMissing', message: `There is no image ${name}:v2: in the registry ${at.proxy.address}, base has the tags v1.` })
  for (let i = 2; i <= 12; i++) await pushManifest(at.origin, 'base', `w${i}`, families.oci.manifest, (await (await fetch(`${at.origin.url}/v2/base/manifests/${image.digest}`, { headers: { accept: families.oci.manifest } })).text()))
  assert.match(refusalOf(await pull(`base@${sha256('x')}`)).message, `There is no image ${name}@${sha256('x')}: in the registry ${at.proxy.address}, base has the tags v1, w10, w11, w12, w2, w3, w4, w5 and 4 more.`)
  assert.is(refusalOf(await pull('other:v1')).message, `There is no image ${at.proxy.address}/other:v1: the registry ${at.proxy.address} knows no tags of other.`)
  at.proxy.fault = ({ path }) => (path.endsWith('/tags/list') ? { answer: { status: 500 } } : null)
  assert.is(refusalOf(await pull('base:v2')).message, `There is no image ${name}:v2 in the registry ${at.proxy.address}.`)
  at.proxy.fault = () => null
  await pushImage(at.origin, { tag: 'v2' })
  assert.is(imageOf(await pull('base:v2')).repository, 'base', 'it is not remembered')
  const text = await (await fetch(`${at.origin.url}/v2/base/manifests/v2`, { headers: { accept: families.oci.manifest } })).text()
  const spaced = text.replace('{', '{ ')
  assert.is(refusalOf(await pull(`base@${sha256(spaced)}`)).reason, 'BaseImageMissing')
  await pushManifest(at.origin, 'base', 'v3', families.oci.manifest, spaced)
  assert.is(imageOf(await pull(`base@${sha256(spaced)}`)).digest, sha256(spaced), 'nor is what a digest does not name')
}))
refused('of what is for others says for whom', () => world({}, async (at) => {
  const pull = puller(at)
  const [arm, power] = [await imageFor(at, 'arm64', { config: { variant: 'v8' } }), await imageFor(at, 'ppc64le')]
  const message = (tag: string, there: string): string => `The image ${at.proxy.address}/base:${tag} is not for linux/amd64: ${there}.`
  assert.equal(refusalOf(await pull('base:arm64')), { reason: 'BaseImageForAnotherPlatform', message: message('arm64', 'it is for linux/arm64/v8') })
  await pushIndex(at, 'v1', [entry(arm, 'arm64', 'v8'), entry(power, 'ppc64le'), entry(power, 'ppc64le'), { ...entry(power), platform: { os: 'unknown', architecture: 'unknown' } }])
  assert.is(refusalOf(await pull('base:v1')).message, message('v1', 'it is for linux/arm64/v8, linux/ppc64le'))
  // The index says what the image does not.
  await pushIndex(at, 'v2', [entry(arm, 'amd64')])
  assert.is(refusalOf(await pull('base:v2')).message, message('v2', 'it is for linux/arm64/v8'))
  await pushIndex(at, 'v3', [])
  assert.is(refusalOf(await pull('base:v3')).message, message('v3', 'it names no platforms'))
  await pushIndex(at, 'v4', [{ ...entry(arm), platform: { os: 'windows', architecture: 'amd64' } }])
  assert.is(refusalOf(await pull('base:v4')).message, message('v4', 'it is for windows/amd64'))
}))
refused('of what is no image says what it is', () => world({}, async (at) => {
  const ordinary = families.oci
  const pull = puller(at)
  const because = async (words: string | RegExp, wish: ImageWish): Promise<void> => {
    await pushImage(at.origin, wish)
    const { reason, message } = refusalOf(await pull('base:v1'))
    assert.is(reason, 'BaseImageNotUsable')
    assert.match(message, `The image ${at.proxy.address}/base:v1 cannot be used: `)
    assert.match(message, words)
  }
  const content = await pushBlob(at.origin, 'base', Buffer.from('{}'))
  const described = (mediaType: string): object => ({ mediaType, digest: content, size: 2 })
  await because('it is no image but an artifact with a configuration of type application/vnd.cncf.helm.config.v1+json.', { manifest: { config: described('application/vnd.cncf.helm.config.v1+json') } })
  await because('it has a layer of type application/vnd.in-toto+json.', { manifest: { layers: [described('application/vnd.in-toto+json')] } })
  await because('its configuration does not say for which platform it is.', { manifest: { config: described(ordinary.config) } })
  await because('its configuration does not name its layers.', { config: { rootfs: { type: 'layers' } } })
  await because('its configuration tells of 1 layers, and its manifest of 2.', { config: { rootfs: { type: 'layers', diff_ids: [sha256('x')] } } })
  const other = async (words: string, headers: Record<string, string>, body: string): Promise<void> => {
    at.proxy.fault = ({ method, path }) => (method === 'GET' && path.includes('/manifests/') ? { answer: { status: 200, headers, body } } : method === 'HEAD' ? { headers: (given) => ({ ...given, 'docker-content-digest': sha256(body) }) } : null)
    assert.is(refusalOf(await pull('base:v1')).message, `The image ${at.proxy.address}/base:v1 cannot be used: ${words}.`)
  }
  await other('it is a application/vnd.docker.distribution.manifest.v1+prettyjws, which is the format that Docker had before 2016', { 'content-type': 'application/vnd.docker.distribution.manifest.v1+prettyjws' }, '{}')
  await other('it is a manifest without a media type', {}, '{"schemaVersion":2}')
  await other('its manifest is no JSON object', { 'content-type': ordinary.manifest }, '[]')
  await other('its index is no JSON object', { 'content-type': ordinary.index }, '<')
  await other('its index names no manifests', { 'content-type': ordinary.index }, '{"manifests":[{"mediaType":"x","digest":"sha256:1","size":1}]}')
  await other('its manifest names no configuration and layers', { 'content-type': ordinary.manifest }, '{"layers":[]}')
  const both = { config: described(ordinary.config), layers: [], manifests: [] }
  await other('its manifest names no configuration and layers', { 'content-type': ordinary.manifest }, JSON.stringify(both))
  await other(`its manifest says that it is a ${ordinary.index}, and the registry that it is a ${ordinary.manifest}`, { 'content-type': ordinary.manifest }, JSON.stringify({ ...both, mediaType: ordinary.index, manifests: undefined }))
  await other('its configuration has 8388609 bytes', { 'content-type': ordinary.manifest }, JSON.stringify({ config: { ...described(ordinary.config), size: 8_388_609 }, layers: [] }))
  await other(`its configuration ${sha256('x')} is not there`, { 'content-type': ordinary.manifest }, JSON.stringify({ config: { ...described(ordinary.config), digest: sha256('x') }, layers: [] }))
}))
refused('is not for layers that are only moved: of whatever compression', () => world({}, async (at) => {
  const layer = await pushBlob(at.origin, 'base', Buffer.from('zstd'))
  for (const mediaType of ['application/vnd.oci.image.layer.v1.tar+zstd', 'application/vnd.oci.image.layer.v1.tar', 'application/vnd.oci.image.layer.nondistributable.v1.tar+gzip']) {
    await pushImage(at.origin, { config: { rootfs: { type: 'layers', diff_ids: [sha256('x')] } }, manifest: { layers: [{ mediaType, digest: layer, size: 4, annotations: { a: 'b' } }] } })
    assert.equal(imageOf(await puller(at)('base:v1')).layers, [{ mediaType, digest: layer, size: 4, annotations: { a: 'b' } }])
  }
}))
refused('of what an index only names says so', () => world({}, async (at) => {
  const image = await imageFor(at, 'amd64')
  await pushIndex(at, 'v1', [entry(image, 'amd64')])
  await fetch(`${at.origin.url}/v2/base/manifests/${image.digest}`, { method: 'DELETE' })
  assert.equal(refusalOf(await puller(at)('base:v1')), { reason: 'BaseImageNotUsable', message: `The image ${at.proxy.address}/base:v1 cannot be used: its index names ${image.digest} for linux/amd64, which is not there.` })
}))
refused('of a name that is none says why', async () => {
  const pull = pulling(() => { throw new Error('nobody is asked') }, amd)
  assert.equal(await pull('Not A Name'), { refused: { reason: 'BaseImageNotUsable', message: '"Not A Name" is no name of an image: a repository has lower-case letters and digits, with . _ - between them and / between its parts.' } })
  for (const text of ['', 'linux', 'linux/', 'linux/arm/v7/x', 'linux/arm/']) assert.throws(() => platformOf(text), /is no platform such as linux\/amd64/)
  assert.equal([platformOf('linux/amd64'), platformOf('linux/arm64/v8')], [amd, { os: 'linux', architecture: 'arm64', variant: 'v8' }])
})
refused('is none when the registry is in trouble: that is the world\'s', () => world({}, async (at) => {
  const { digest } = await pushImage(at.origin)
  for (const isAt of ['/manifests/v1', '/manifests/sha256', '/blobs/']) {
    at.proxy.fault = ({ path }) => (path.includes(isAt) ? { answer: { status: 503 } } : null)
    await isUnavailable(puller(at)('base:v1'), `The registry ${at.proxy.address} does not `, ' of base: 503')
  }
  at.proxy.fault = ({ path }) => (path.includes('/blobs/') ? { answer: { status: 200, body: '{"else":1}' } } : null)
  await isUnavailable(puller(at)('base:v1'), /answers for the blob sha256:.* of base with 10 bytes of \d+ that are something else/)
  const pull = puller(at)
  await failure(pull('base:v1'))
  at.proxy.fault = () => null
  assert.is(imageOf(await pull('base:v1')).digest, digest, 'and is not remembered')
}))
refused('of a name without a registry is of Docker\'s', async () => {
  const asked: string[] = []
  const pull = pulling((host) => { asked.push(host); return { digest: async (repository: string, tag: string) => { asked.push(repository, tag); return null }, tags: async () => [] } as never }, amd)
  assert.is(refusalOf(await pull('python:9')).message, 'There is no image python:9: the registry docker.io knows no tags of library/python.')
  assert.equal(asked, ['docker.io', 'library/python', '9'])
})
refused.run()
