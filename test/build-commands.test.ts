// Builds commanded over NATS, as another system does it with nothing but a NATS client; and what a crash or a restart leaves of them.
import { randomUUID } from 'node:crypto'
import { connect, headers, type NatsConnection } from 'nats'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { startBuilderWatcher } from '../services/builder-watcher/index.ts'
import { ownBuilds } from '../services/ingest/builds.ts'
import { startProjection } from '../services/status-api/index.ts'
import { parseBuildParameters } from '../shared/build-parameters.ts'
import type { BuildRecord } from '../shared/build-records.ts'
import { uuidFrom, type Heard } from '../shared/events.ts'
import { contextName } from '../shared/objects.ts'
import { writeZip } from '../shared/zip.ts'
import { fact, gate } from './stand/await.ts'
import { caller, first, seen, type Caller } from './stand/caller.ts'
import { testNats } from './stand/nats.ts'
import { standPorts, type StandPorts } from './stand/ports.ts'
import { buildRules, site, type Site } from './stand/site.ts'

const archive = writeZip(new Map([['Dockerfile', 'FROM scratch\n']]))

interface Context { house: Site; user: Caller; nc: NatsConnection; send(verb: string, body: unknown, id?: string): Promise<string> }

const test = suite<Context>('builds, commanded over NATS')
test.before(async (context) => {
  const house = await site({ can: { namespaces: ['default'] } })
  const nc = await connect({ servers: house.nats.url })
  await (await nc.jetstream().views.os('senders')).putBlob({ name: 'build.zip' }, archive)
  Object.assign(context, {
    house, nc, user: caller(house.address),
    async send(verb: string, body: unknown, id = randomUUID()) {
      const h = headers()
      h.set('ce-id', id)
      await nc.jetstream().publish(`build.commands.default.${verb}`, JSON.stringify(body), { headers: h })
      return id
    },
  })
})
test.after(async ({ nc, house }) => {
  await nc.close()
  await house.close()
})

const named = (image_name: string): object => ({ archive: 'nats://senders/build.zip', parameters: { image_name } })

test('a create is built, behind what people wait for, and its facts are there for everybody', async ({ house, nc, user, send }) => {
  const told = nc.subscribe('build.events.default.*.image.*')
  const id = uuidFrom('default', await send('create', named('by-nats')))
  const built = await fact(house.ports, id, 'image.built')
  assert.is((await user.get(`/builds/${id}`)).body.priority, 'automatic')
  const heard: string[] = []
  for await (const { subject, headers: h, data } of told) {
    heard.push(subject)
    assert.equal([h?.get('ce-type'), h?.get('ce-subject'), JSON.parse(Buffer.from(data).toString()).build_id], [subject.split('.').slice(-2).join('.'), id, id])
    if (subject.endsWith('built')) break
  }
  assert.equal(heard, ['queued', 'started', 'built'].map((one) => `build.events.default.${id}.image.${one}`))
  assert.is(built.cause, (await fact(house.ports, id, 'image.queued')).cause)
})

test('the same command delivered twice is one build', async ({ house, send }) => {
  const before = house.ports.imageBuilds.ran.length
  const command = randomUUID()
  await send('create', named('twice'), command)
  await send('create', named('twice'), command)
  await fact(house.ports, uuidFrom('default', command), 'image.built')
  const last = uuidFrom('default', await send('create', named('last')))
  await fact(house.ports, last, 'image.built')
  assert.is(house.ports.imageBuilds.ran.length, before + 2)
})

test('one is cancelled and deleted by command', async ({ house, user, send }) => {
  const begun = gate()
  house.ports.imageBuilds.decide((build) => { begun.open(); return new Promise(() => build) })
  const id = uuidFrom('default', await send('create', named('slow')))
  await begun.promise
  await send('cancel', { build_id: id })
  await seen(house, id, 'image.cancelled')
  assert.is((await user.get(`/builds/${id}`)).body.state, 'cancelled')
  await send('delete', { build_id: id })
  await seen(house, id, 'image.forgotten')
  assert.is((await user.get(`/builds/${id}`)).status, 404)
})

test('what is wrong is a fact that says so, under the id that it would have had', async ({ house, send }) => {
  const rejected = async (verb: string, body: unknown, id: (command: string) => string): Promise<Heard<'image.rejected'>> => {
    const command = await send(verb, body)
    return (await first(house.ports, id(command), 0, (heard) => heard.fact === 'image.rejected' && heard.cause === command)) as Heard<'image.rejected'>
  }
  const own = (command: string): string => uuidFrom('default', command)
  assert.equal((await rejected('create', named('Wrong'), own)).data.errors.map(({ field }) => field), ['image_name'])
  assert.match((await rejected('create', { archive: 'nats://senders/none.zip', parameters: { image_name: 'a' } }, own)).data.detail, 'There is no archive')
  assert.equal((await rejected('create', { ...named('a'), colour: 'red' }, own)).data.errors.map(({ field }) => field), ['colour'])
  const nobody = randomUUID()
  assert.match((await rejected('cancel', { build_id: nobody }, () => nobody)).data.detail, `There is no build with id ${nobody}`)
  assert.match((await rejected('explode', {}, () => 'unknown')).data.detail, 'There is no command explode; there are create, cancel, delete.')
})
test.run()

// ---
const crash = suite('builds, after a crash')

const asker = { account: 'default', cause: 'test', traceparent: null, priority: 'person' as const }
const builder = (ports: StandPorts) => startBuilderWatcher(ports, { concurrency: 1, perAccount: 1, timeoutMs: 60_000, builder: 'auto', namespace: 'default' })

async function recordOf(ports: StandPorts, image_name: string): Promise<BuildRecord> {
  const parsed = parseBuildParameters({ image_name })
  if (!parsed.ok) throw new Error('these are no parameters')
  const [time, digest] = [new Date().toISOString(), 'a'.repeat(64)]
  const record: BuildRecord = {
    id: randomUUID(), account: 'default', context: { name: contextName(digest), digest, bytes: 1 }, parameters: parsed.parameters, archive: { digest, bytes: 1 }, priority: 'person',
    cancelled: null, deleted: false, created: time, updated: time, change: { fact: 'image.queued', time, cause: 'test' },
  }
  assert.ok(await ports.buildRecords.put(record, 0))
  return record
}

crash('what was written down and not stated is stated at the next start, once', async () => {
  const nats = await testNats()
  const ports = await standPorts(nats.url)
  const [record, builds] = [await recordOf(ports, 'owed'), await ownBuilds(ports, buildRules)]
  const projection = await startProjection(ports)
  await builds.makeGood()
  const watcher = await builder(ports)
  await seen({ ports }, record.id, 'image.built')
  await builds.makeGood()
  const after = await builds.create(asker, { archive, parameters: { image_name: 'after' } })
  await fact(ports, after, 'image.built')
  assert.equal(ports.imageBuilds.ran.map(({ image }) => image.name), ['owed', 'after'])
  await Promise.all([watcher.stop(), projection.stop()])
  builds.close()
  await ports.close()
  await nats.close()
})

crash('what waited, and what was being built by a kiln that died, is built by the next, also when NATS died with it', async () => {
  const nats = await testNats()
  const [ports, dying] = [await standPorts(nats.url), await standPorts(nats.url)]
  const begun = gate()
  dying.imageBuilds.decide(async () => { begun.open(); return new Promise(() => undefined) })
  const builds = await ownBuilds(ports, buildRules)
  const projection = await startProjection(ports)
  await builder(dying)
  const ids = []
  for (const image_name of ['one', 'two', 'three']) ids.push(await builds.create(asker, { archive, parameters: { image_name } }))
  await begun.promise
  await dying.close()
  await nats.restart()
  const next = await standPorts(nats.url)
  const watcher = await builder(next)
  await Promise.all(ids.map((id) => fact(next, id, 'image.built')))
  assert.equal(next.imageBuilds.ran.map(({ image }) => image.name).sort(), ['one', 'three', 'two'])
  await Promise.all([watcher.stop(), projection.stop()])
  builds.close()
  await Promise.all([ports.close(), next.close()])
  await nats.close()
})

crash('what is heard again when it is built already is not built again', async () => {
  const nats = await testNats()
  const ports = await standPorts(nats.url)
  const builds = await ownBuilds(ports, buildRules)
  const projection = await startProjection(ports)
  const watcher = await builder(ports)
  const id = await builds.create(asker, { archive, parameters: { image_name: 'once' } })
  await seen({ ports }, id, 'image.built')
  const queued = await fact(ports, id, 'image.queued')
  await ports.queue.put({ ...queued, nth: 'again' })
  await fact(ports, await builds.create(asker, { archive, parameters: { image_name: 'next' } }), 'image.built')
  assert.equal(ports.imageBuilds.ran.map(({ image }) => image.name), ['once', 'next'])
  await Promise.all([watcher.stop(), projection.stop()])
  builds.close()
  await ports.close()
  await nats.close()
})
crash.run()
