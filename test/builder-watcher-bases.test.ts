// Base images that move: it is said of every lambda that is made on one, once, and nothing else happens to it.
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { sayWhatMoved, watchBases } from '../services/builder-watcher/bases.ts'
import type { LambdaRecord } from '../shared/records.ts'
import { Unavailable } from '../shared/trouble.ts'
import { fact, gate } from './stand/await.ts'
import { caller, folded, ownZip, seen, type Caller } from './stand/caller.ts'
import { imageOf } from './stand/platform.ts'
import { site, type Site } from './stand/site.ts'

const test = suite('base images that move')
let house: Site
let user: Caller
const signal = new AbortController().signal
const reference = (name: string, word: string): string => `${name.split(':')[0]}@sha256:${word}`
const stands = new Map<string, string>()

test.before(async () => {
  house = await site()
  user = caller(house.address)
  house.ports.bases.decide(async (name) => (stands.has(name) ? { base: { reference: reference(name, stands.get(name)!), platform: 'linux/amd64', runtime: null, triggers: false } } : { base: null }))
})
test.after(() => house.close())

/** A lambda that runs on this base image. */
async function running(base_image: string | null, zip = ownZip(String(base_image))): Promise<LambdaRecord> {
  const { body: { lambda_id: id } } = await user.create({ base_image }, zip)
  await seen(house, id, 'workload.running')
  await seen(house, id, 'workload.applied')
  return (await house.ports.records.get(id))!.value
}

const outdated = async ({ id }: Pick<LambdaRecord, 'id'>) => (await house.ports.bus.history(id, 0, 100)).filter((one) => one.fact === 'image.outdated')
/** Looks, and waits until what was said of these can be read. */
async function look(...of: LambdaRecord[]): Promise<void> {
  await sayWhatMoved(house.ports, signal)
  for (const { id } of of) await seen(house, id, 'image.outdated')
}

test('it is said of each lambda on it, with what it is made on and what there is now, and of no other', async () => {
  stands.set('one:1', 'a').set('other:1', 'a')
  const [first, second, other, none] = [await running('one:1'), await running('one:1', ownZip('one, too')), await running('other:1'), await running(null)]
  await sayWhatMoved(house.ports, signal)
  stands.set('one:1', 'b')
  const before = (await user.get(`/lambdas/${first.id}`)).body
  await look(first, second)
  for (const record of [first, second]) {
    const [said, ...more] = await outdated(record)
    assert.equal([said!.version, said!.data, said!.cause, said!.source, more], [1, { base: 'one:1', reference: reference('one', 'a'), newer: reference('one', 'b') }, record.change.cause, 'kiln/builder-watcher', []])
  }
  assert.equal([await outdated(other), await outdated(none)], [[], []])
  const { image, versions, ...after } = (await user.get(`/lambdas/${first.id}`)).body
  assert.equal([image.base.newer, versions[0].base.newer], [reference('one', 'b'), reference('one', 'b')])
  assert.equal(after, (({ image: _, versions: __, ...rest }) => rest)(before))
})

test('it is said once, however often it is looked at, by however many', async () => {
  stands.set('once:1', 'a')
  const record = await running('once:1')
  stands.set('once:1', 'b')
  await Promise.all([sayWhatMoved(house.ports, signal), look(record)])
  await look(record)
  assert.is((await outdated(record)).length, 1)
})

test('a base image that moves on, or back, is said anew', async () => {
  stands.set('moves:1', 'a')
  const record = await running('moves:1')
  for (const [i, word] of ['b', 'c', 'a'].entries()) {
    stands.set('moves:1', word)
    await sayWhatMoved(house.ports, signal)
    const said = await outdated(record)
    assert.equal(said.map(({ data }) => (data as { newer: string }).newer).at(i), reference('moves', word))
    await folded(house.ports, record.id, said.at(-1)!.seq)
    assert.is((await user.get(`/lambdas/${record.id}`)).body.image.base.newer, word === 'a' ? null : reference('moves', word))
  }
})

test('it is said of the version that serves, also when that took its image over from an earlier one', async () => {
  stands.set('taken:1', 'a')
  const record = await running('taken:1')
  await user.change(record.id, { parameters: { user_config: { a: 1 } } })
  await seen(house, record.id, 'workload.running', 2)
  stands.set('taken:1', 'b')
  await look(record)
  assert.equal((await outdated(record)).map(({ version, data }) => [version, (data as { reference: string }).reference]), [[2, reference('taken', 'a')]])
  // The next version takes over the image, and what is known of it.
  await user.change(record.id, { parameters: { user_config: { a: 2 } } })
  await seen(house, record.id, 'workload.running', 3)
  await sayWhatMoved(house.ports, signal)
  assert.is((await outdated(record)).length, 1)
  assert.is((await user.get(`/lambdas/${record.id}`)).body.image.base.newer, reference('taken', 'b'))
})

test('it is said of the version that serves, and not of a newer one that failed', async () => {
  stands.set('serves:1', 'a')
  const record = await running('serves:1')
  house.ports.builds.decide(async () => ({ built: false, again: false, failure: { cause: 'user', reason: 'Bad', message: 'It is bad.' } }))
  await user.change(record.id, { archive: ownZip('serves, not this') })
  await seen(house, record.id, 'image.failed', 2)
  house.ports.builds.decide(async (build) => ({ built: true, image: imageOf(build) }))
  stands.set('serves:1', 'b')
  await look(record)
  assert.equal((await outdated(record)).map(({ version }) => version), [1])
})

test('what was rebased is on the newest, and nothing is said of it', async () => {
  stands.set('rebased:1', 'a')
  const record = await running('rebased:1')
  stands.set('rebased:1', 'b')
  await look(record)
  await user.ask('PUT', `/lambdas/${record.id}`, { json: { rebase: true } })
  await seen(house, record.id, 'workload.running', 2)
  await sayWhatMoved(house.ports, signal)
  assert.equal((await outdated(record)).map(({ version }) => version), [1])
})

test('a registry that cannot be asked, or that has it no more, keeps nobody else from being told', async () => {
  stands.set('gone:1', 'a').set('away:1', 'a').set('there:1', 'a')
  const [gone, away, there] = [await running('gone:1'), await running('away:1'), await running('there:1')]
  const { resolve } = house.ports.bases
  stands.set('there:1', 'b')
  house.ports.bases.resolve = async (name) => {
    if (name === 'gone:1') return { refused: { reason: 'BaseImageMissing', message: 'It is gone.' } }
    if (name === 'away:1') throw new Unavailable('It is away.')
    return resolve(name)
  }
  await look(there)
  house.ports.bases.resolve = resolve
  assert.equal([await outdated(gone), await outdated(away), (await outdated(there)).length], [[], [], 1])
  assert.ok(house.ports.complaints.some((line) => line.includes('away:1')))
})

test('each name is asked for once in a look, whoever is on it; of a deleted lambda nothing is asked', async () => {
  stands.set('asked:1', 'a').set('deleted:1', 'a')
  for (const word of ['1', '2', '3']) await running('asked:1', ownZip(`asked ${word}`))
  const deleted = await running('deleted:1')
  await user.ask('DELETE', `/lambdas/${deleted.id}`)
  house.ports.bases.asked.length = 0
  await sayWhatMoved(house.ports, signal)
  assert.equal(house.ports.bases.asked.filter((name) => name === 'asked:1' || name === 'deleted:1'), ['asked:1'])
})

test('a watch looks at once; closed in the middle of a look it asks for nothing more', async () => {
  for (const name of ['watched:1', 'watched:2']) stands.set(name, 'a')
  const records = [await running('watched:1'), await running('watched:2')]
  stands.set('watched:1', 'b')
  const watch = watchBases(house.ports, { intervalMs: 60_000 })
  await fact(house.ports, records[0]!.id, 'image.outdated')
  await watch.close()
  const [asking, answered] = [gate(), gate()]
  const { resolve } = house.ports.bases
  let asked = 0
  house.ports.bases.resolve = async (name) => { asked += 1; asking.open(); await answered.promise; return resolve(name) }
  const second = watchBases(house.ports, { intervalMs: 60_000 })
  await asking.promise
  const closed = second.close()
  answered.open()
  await closed
  house.ports.bases.resolve = resolve
  assert.is(asked, 1)
})

test.run()
