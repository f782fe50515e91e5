// packager: the same zip makes the same context, whatever the user put under kiln's names.
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { createHash } from 'node:crypto'
import { Readable } from 'node:stream'
import { gunzipSync } from 'node:zlib'
import { extract } from 'tar-stream'
import type { Facts, Heard } from '../shared/events.ts'
import { archiveName, contextName } from '../shared/objects.ts'
import type { GivenParameters } from '../shared/parameters.ts'
import { writeZip } from '../shared/zip.ts'
import { contextOf, type Runtime } from '../services/packager/context.ts'
import { dockerfile } from '../services/packager/dockerfile.ts'
import { packageContext, startPackager } from '../services/packager/index.ts'
import { fact } from './stand/await.ts'
import { digestFor, recordFor, state, versionFor, write } from './stand/lives.ts'
import { testNats, type TestNats } from './stand/nats.ts'
import { standPorts, type StandPorts } from './stand/ports.ts'
import { helloZip } from './stand/site.ts'

const sha256 = (bytes: Buffer): string => createHash('sha256').update(bytes).digest('hex')
const runtime: Runtime = {
  files: new Map([['run.py', Buffer.from('# kiln\'s')], ['luna_lambda_tools/__init__.py', Buffer.from('# kiln\'s tools')]]),
  requirements: Buffer.from('sanic==1\n'), digest: 'runtime',
}
const recipe = { baseImage: 'base:1', userDockerCommands: [] }

async function filesIn(gzipped: Buffer): Promise<Map<string, { content: string; mode: number; mtime: number; uid: number }>> {
  const files = new Map()
  const reading = Readable.from([gunzipSync(gzipped)]).pipe(extract())
  for await (const entry of reading) {
    const chunks: Buffer[] = []
    for await (const chunk of entry) chunks.push(chunk as Buffer)
    const { name, mode, mtime, uid } = entry.header
    files.set(name, { content: Buffer.concat(chunks).toString(), mode, mtime: mtime!.getTime(), uid })
  }
  return files
}

const contexts = suite('the context')

contexts('the same files make the same bytes, in whatever order they came', async () => {
  const files: Array<[string, Buffer]> = [['lambda_main.py', Buffer.from('a')], ['b/ü.txt', Buffer.from('b')], ['A', Buffer.from('c')]]
  const one = await contextOf(new Map(files), runtime, recipe)
  const two = await contextOf(new Map(files.toReversed()), { ...runtime, files: new Map([...runtime.files].reverse()) }, recipe)
  assert.ok(one.bytes.equals(two.bytes))
  assert.equal([one.digest, two.digest], [sha256(gunzipSync(one.bytes)), one.digest])
})

contexts('every input counts', async () => {
  const files = new Map([['lambda_main.py', Buffer.from('a')]])
  const all = await Promise.all([
    contextOf(files, runtime, recipe), contextOf(new Map([['lambda_main.py', Buffer.from('b')]]), runtime, recipe), contextOf(new Map([['main.py', Buffer.from('a')]]), runtime, recipe),
    contextOf(files, runtime, { ...recipe, baseImage: 'base:2' }), contextOf(files, runtime, { ...recipe, userDockerCommands: ['RUN x'] }),
    contextOf(files, { ...runtime, requirements: Buffer.from('sanic==2\n') }, recipe), contextOf(files, { ...runtime, files: new Map([['run.py', Buffer.from('other')]]) }, recipe),
  ])
  assert.is(new Set(all.map((c) => c.digest)).size, all.length)
})

contexts('kiln\'s own files replace what the user sent under their names, and nothing else', async () => {
  const theirs = Buffer.from('mine')
  const names = ['run.py', 'luna_lambda_tools/__init__.py', 'luna_lambda_tools/evil.py', 'lambda_main.py', 'sub/run.py', 'luna_lambda_tools_extra.py', 'Dockerfile', 'runtime-requirements.txt']
  const files = await filesIn((await contextOf(new Map(names.map((name) => [name, theirs])), runtime, recipe)).bytes)
  const said = (name: string): string | undefined => files.get(name)?.content
  assert.equal([said('code/run.py'), said('code/luna_lambda_tools/__init__.py'), said('code/luna_lambda_tools/evil.py')], ['# kiln\'s', '# kiln\'s tools', undefined])
  for (const name of ['lambda_main.py', 'sub/run.py', 'luna_lambda_tools_extra.py', 'Dockerfile', 'runtime-requirements.txt']) assert.is(said(`code/${name}`), 'mine', name)
  assert.match(said('Dockerfile')!, /^FROM base:1\n/)
  assert.is(said('runtime-requirements.txt'), 'sanic==1\n')
})

contexts('no file says when or by whom it was made', async () => {
  const files = await filesIn((await contextOf(new Map([['lambda_main.py', Buffer.from('a')]]), runtime, recipe)).bytes)
  for (const { mode, mtime, uid } of files.values()) assert.equal([mode, mtime, uid], [0o644, 0, 0])
})

contexts('the Dockerfile takes base, commands and requirements, in this order', () => {
  const text = dockerfile({ baseImage: 'registry/base:2', userDockerCommands: ['RUN apt-get update', 'ENV A=b'], hasRequirements: true })
  const lines = text.split('\n')
  assert.equal(lines.slice(0, 3), ['FROM registry/base:2', 'RUN apt-get update', 'ENV A=b'])
  const at = (part: string): number => lines.findIndex((line) => line.includes(part))
  assert.ok(3 <= at('runtime-requirements.txt') && at('COPY code/') < at('-r requirements.txt') && at('-r requirements.txt') < at('ENTRYPOINT'))
  assert.not.match(dockerfile({ baseImage: 'b', userDockerCommands: [], hasRequirements: false }), '-r requirements.txt')
})

contexts.run()

const packs = suite('packager')
let nats: TestNats
let ports: StandPorts
const settings = { runtime, baseImage: 'base:1', limits: { maxUnpackedBytes: 2 ** 20, maxEntries: 100 } }

packs.before(async () => {
  nats = await testNats()
  ports = await standPorts(nats.url)
})
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
  const { context, files } = (await fact(ports, record.id, 'context.packaged')).data
  const bytes = (await ports.objects.get(context.name))!
  assert.equal([context.name, context.bytes, context.digest, files], [contextName(context.digest), bytes.length, sha256(gunzipSync(bytes)), 4])
  const text = (await filesIn(bytes)).get('Dockerfile')!.content
  assert.match(text, /^FROM own:1\nRUN y\n[^]*-r requirements\.txt/)
  await packager.stop()
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
