// packager: what was accepted is packed on the base image as it is now, stored once, and said.
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { createHash, randomBytes } from 'node:crypto'
import { crc32 } from 'node:zlib'
import type { Resolved } from '../shared/bases.ts'
import type { Facts, Heard } from '../shared/events.ts'
import { archiveName, contextName } from '../shared/objects.ts'
import type { GivenParameters } from '../shared/parameters.ts'
import { Unavailable } from '../shared/trouble.ts'
import type { Verdict } from '../shared/verdict.ts'
import { writeZip } from '../shared/zip.ts'
import type { Runtime } from '../services/packager/context.ts'
import { packageContext, startPackager } from '../services/packager/index.ts'
import { fact } from './stand/await.ts'
import { baseWith } from './stand/contexts.ts'
import { digestFor, recordFor, state, versionFor, write } from './stand/lives.ts'
import { testNats, type TestNats } from './stand/nats.ts'
import { standPorts, type StandPorts } from './stand/ports.ts'
import { helloZip } from './stand/site.ts'
import { ownTemporary } from './stand/temporary.ts'
import { unpackedFiles } from './stand/unpacked.ts'

const sha256 = (bytes: Buffer): string => createHash('sha256').update(bytes).digest('hex')
const runtime: Runtime = {
  files: new Map([['run.py', Buffer.from('# kiln\'s')], ['luna_lambda_tools/__init__.py', Buffer.from('# kiln\'s tools')]]),
  requirements: Buffer.from('sanic==1\n'), digest: 'runtime',
}

const packs = suite('packager')
let nats: TestNats
let ports: StandPorts
const settings = { runtime, baseImage: 'base:1', limits: { maxUnpackedBytes: 2 ** 20, maxEntries: 100 } }

packs.before(async () => {
  nats = await testNats()
  ports = await standPorts(nats.url)
})
packs.after.each(() => ports.bases.decide(async () => ({ base: null })))
packs.after(async () => {
  await ports.close()
  await nats.close()
})

async function accepted(archive: Buffer, given: GivenParameters = {}, isStored = true) {
  if (isStored) await ports.objects.put(archiveName(sha256(archive)), archive)
  const record = await write(ports, recordFor({ versions: [versionFor(1, sha256(archive), given)] }))
  const data: Facts['lambda.accepted'] = { archive: { digest: sha256(archive), bytes: archive.length }, name: 'x', image: null }
  const heard: Heard<'lambda.accepted'> = { fact: 'lambda.accepted', id: record.id, account: 'default', version: 1, epoch: 0, data, time: record.created, source: 'kiln/ingest', cause: 'c', traceparent: null, seq: 1 }
  return { record, data, heard }
}

packs('what was accepted is packed, stored and said', async () => {
  const packager = await startPackager(ports, settings)
  const { record, data } = await accepted(helloZip(undefined, { 'requirements.txt': 'x\n' }), { base_image: 'own:1', user_docker_commands: ['RUN y'] })
  await state(ports, record, 'lambda.accepted', data)
  const { context, foundation, files } = (await fact(ports, record.id, 'context.packaged')).data
  const bytes = (await ports.objects.get(context.name))!
  assert.equal([context.name, context.bytes, context.digest, files], [contextName(context.digest), bytes.length, sha256(bytes), 5])
  assert.is(context.code.digest, `sha256:${sha256(bytes.subarray(context.code.offset))}`)
  assert.equal(foundation, { base: null, environment: null })
  assert.match((await unpackedFiles(bytes))['Dockerfile']!, /^FROM own:1\nRUN y\n[^]*-r requirements\.txt/)
  await packager.stop()
})

const old = baseWith(`registry.example/base@sha256:${'a'.repeat(64)}`, runtime)
const newer = { ...old, reference: `registry.example/base@sha256:${'b'.repeat(64)}` }
const dataOf = (verdict: Verdict): Facts['context.packaged'] => {
  if (verdict.verdict !== 'done') throw new Error(`it is not done: ${JSON.stringify(verdict)}`)
  return verdict.facts[0]!.data as Facts['context.packaged']
}

packs('the base image is asked for by its name; what it stands for and the environment on it are said and stored', async () => {
  ports.bases.decide(async () => ({ base: old }))
  ports.bases.asked.length = 0
  const { heard } = await accepted(helloZip('# on a base', { 'requirements.txt': 'six\n' }), { base_image: 'registry.example/base:1', user_docker_commands: ['RUN y'] })
  const { context, foundation: { base, environment } } = dataOf(await packageContext(ports, settings, new Map(), heard))
  assert.equal([ports.bases.asked, base], [['registry.example/base:1'], { name: 'registry.example/base:1', reference: old.reference }])
  assert.match((await unpackedFiles((await ports.objects.get(context.name))!))['Dockerfile']!, `FROM ${old.reference}\nRUN y\n`)
  const bytes = (await ports.objects.get(environment!.context.name))!
  assert.equal(environment!.context, { name: contextName(sha256(bytes)), digest: sha256(bytes) })
  assert.equal(Object.keys(await unpackedFiles(bytes)).sort(), ['Dockerfile', 'lambda/requirements.txt'])
  // Who names none is given the operator's.
  await packageContext(ports, settings, new Map(), (await accepted(helloZip('# on the usual base'))).heard)
  assert.is(ports.bases.asked.at(-1), 'base:1')
})

packs('a base image that cannot be built on is the user\'s to change, in the words of who looked at it', async () => {
  const packager = await startPackager(ports, settings)
  const refused = { reason: 'BaseImageForAnotherPlatform', message: 'own:1 is for linux/arm64 only.' } as const
  ports.bases.decide(async () => ({ refused }))
  const { record, data } = await accepted(helloZip('# refused'), { base_image: 'own:1' })
  await state(ports, record, 'lambda.accepted', data)
  assert.equal((await fact(ports, record.id, 'context.refused')).data, { stage: 'packager', cause: 'user', ...refused })
  await packager.stop()
})

packs('a registry that cannot be asked is asked again, and then it is packed', async () => {
  const packager = await startPackager(ports, settings)
  let asked = 0
  ports.bases.decide(async (): Promise<Resolved> => {
    if (++asked === 1) throw new Unavailable('The registry registry.example did not answer.')
    return { base: old }
  })
  const { record, data } = await accepted(helloZip('# away'))
  await state(ports, record, 'lambda.accepted', data)
  assert.is((await fact(ports, record.id, 'context.packaged')).data.foundation.base!.reference, old.reference)
  assert.equal([asked, (await ports.bus.history(record.id, 0, 10)).map((one) => one.fact)], [2, ['lambda.accepted', 'context.packaged']])
  await packager.stop()
})

packs('the same zip on the same base is packed once; on a base that moved, or under another name of it, anew', async () => {
  const remembered = new Map()
  const zip = helloZip('# moves')
  const put = ports.objects.put
  const stored: string[] = []
  ports.objects.put = async (name, content) => { stored.push(name); return put(name, content) }
  const packedOn = async (base: typeof old, name = 'base:1'): Promise<{ data: Facts['context.packaged']; gets: number }> => {
    ports.bases.decide(async () => ({ base }))
    const { heard } = await accepted(zip, { base_image: name })
    const { get } = ports.objects
    let gets = 0
    ports.objects.get = async (one) => { gets += 1; return get(one) }
    const data = dataOf(await packageContext(ports, settings, remembered, heard))
    ports.objects.get = get
    return { data, gets }
  }
  const first = await packedOn(old)
  assert.equal(await packedOn(old), { data: first.data, gets: 0 })
  const moved = await packedOn(newer)
  assert.equal([first.gets, moved.gets, moved.data.foundation.base], [1, 1, { name: 'base:1', reference: newer.reference }])
  assert.is.not(moved.data.context.digest, first.data.context.digest)
  assert.equal(moved.data.context.code.digest, first.data.context.code.digest)
  assert.equal((await packedOn(old)).data, first.data)
  assert.equal((await packedOn(old, 'base:latest')).data, { ...first.data, foundation: { ...first.data.foundation, base: { name: 'base:latest', reference: old.reference } } })
  ports.objects.put = put
  // What is stored is not stored again.
  assert.equal(stored.filter((name) => name.startsWith('contexts/')), [first.data.context.name, moved.data.context.name])
})

packs('the same zip is packed once, and again when its context is gone', async () => {
  const remembered = new Map()
  const zip = helloZip('# same')
  const first = await packageContext(ports, settings, remembered, (await accepted(zip)).heard)
  const name = first.verdict === 'done' ? (first.facts[0]!.data as Facts['context.packaged']).context.name : ''
  // What is remembered needs no archive.
  await ports.objects.remove(archiveName(sha256(zip)))
  const again = await packageContext(ports, settings, remembered, (await accepted(zip, {}, false)).heard)
  assert.equal(again.verdict === 'done' && again.facts[0]!.data, first.verdict === 'done' && first.facts[0]!.data)
  await ports.objects.remove(name)
  await packageContext(ports, settings, remembered, (await accepted(zip)).heard)
  assert.ok(await ports.objects.has(name))
})

packs('a bad archive is refused as the user\'s', async () => {
  const packager = await startPackager(ports, settings)
  for (const archive of [Buffer.from('no zip'), helloZip().subarray(0, 60), writeZip(new Map([['big', Buffer.alloc(2 ** 21)]]))]) {
    const { record, data } = await accepted(archive)
    await state(ports, record, 'lambda.accepted', data)
    const { message, ...rest } = (await fact(ports, record.id, 'context.refused')).data
    assert.equal(rest, { stage: 'packager', cause: 'user', reason: 'BadArchive' })
    assert.ok(message.length > 10)
  }
  await packager.stop()
})

/** Sound in structure and names; the content of one file is not what the zip says it is. */
function withWrongChecksum(files: Record<string, Buffer | string>, name: string): Buffer {
  const zip = writeZip(new Map(Object.entries(files)))
  const checksum = Buffer.alloc(4)
  checksum.writeUInt32LE(crc32(files[name]!))
  for (let at = zip.indexOf(checksum); at >= 0; at = zip.indexOf(checksum, at)) zip[at]! ^= 0xff
  return zip
}

packs('a zip with a damaged file is refused as the user\'s, and nothing of it is stored or left behind', async () => {
  const temporary = await ownTemporary()
  const large = { ...settings, limits: { maxUnpackedBytes: 2 ** 25, maxEntries: 100 } }
  const { put } = ports.objects
  const main = 'async def main(request):\n    return {}\n'
  for (const [files, damaged] of [[{ 'lambda_main.py': main, 'z.txt': 'last of all' }, 'z.txt'], [{ 'a.bin': randomBytes(6 << 20), 'lambda_main.py': main }, 'lambda_main.py']] as const) {
    const { heard } = await accepted(withWrongChecksum(files, damaged))
    const stored: string[] = []
    ports.objects.put = async (name, content) => { stored.push(name); return put(name, content) }
    const verdict = await packageContext(ports, large, new Map(), heard)
    ports.objects.put = put
    assert.equal(verdict.verdict === 'refuse' && [verdict.failure.cause, verdict.failure.reason], ['user', 'BadArchive'])
    assert.match(verdict.verdict === 'refuse' ? verdict.failure.message : '', damaged)
    assert.equal([stored, await temporary.left()], [[], []])
  }
  await temporary.close()
})

packs('a store that fails leaves nothing behind either', async () => {
  const temporary = await ownTemporary()
  const { heard } = await accepted(writeZip(new Map<string, string | Buffer>([['lambda_main.py', '# large'], ['large.bin', randomBytes(6 << 20)]])))
  const { put } = ports.objects
  const spooled: number[] = []
  ports.objects.put = async () => { spooled.push((await temporary.left()).length); throw new Unavailable('The store is full.') }
  const thrown = await packageContext(ports, { ...settings, limits: { maxUnpackedBytes: 2 ** 25, maxEntries: 100 } }, new Map(), heard).catch((error: unknown) => error)
  ports.objects.put = put
  assert.ok(thrown instanceof Unavailable)
  assert.equal([spooled, await temporary.left()], [[1], []])
  await temporary.close()
})

packs('an archive that is missing is waited for, and said by name', async () => {
  const { heard } = await accepted(helloZip('# missing'), {}, false)
  const verdict = await packageContext(ports, settings, new Map(), heard)
  assert.equal(verdict.verdict === 'later' && [verdict.failure.cause, verdict.failure.reason], ['infrastructure', 'ArchiveMissing'])
})

packs('an archive that comes while it is waited for is packed', async () => {
  const packager = await startPackager(ports, settings)
  const zip = helloZip('# comes late')
  const { record, data } = await accepted(zip, {}, false)
  const { get } = ports.objects
  const asked = new Promise<void>((resolve) => {
    ports.objects.get = async (name) => { const found = await get(name); resolve(); return found }
  })
  await state(ports, record, 'lambda.accepted', data)
  await asked
  ports.objects.get = get
  await ports.objects.put(archiveName(sha256(zip)), zip)
  await fact(ports, record.id, 'context.packaged')
  await packager.stop()
})

packs('nothing is packed that nobody wants, or that needs no image', async () => {
  const { heard, record } = await accepted(helloZip('# unwanted'))
  const built = { ...heard, data: { ...heard.data, image: { reference: 'r', digest: 'd' } } }
  assert.equal(await packageContext(ports, settings, new Map(), built), { verdict: 'done', facts: [] })
  const { versions } = record
  for (const change of [{ deleted: true, alive: false }, { cancelled: [1] }, { version: 2, versions: [...versions, versionFor(2, digestFor('x'))] }]) {
    await write(ports, { ...record, cancelled: [], deleted: false, ...change })
    assert.equal(await packageContext(ports, settings, new Map(), heard), { verdict: 'done', facts: [] })
  }
})

packs.run()
