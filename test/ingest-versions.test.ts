// ingest over HTTP: what becomes of a lambda that is there: new versions, the switch, the end.
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { caller, factsOf, form, ownZip, seen, type Caller } from './stand/caller.ts'
import { fact, gate } from './stand/await.ts'
import { imageOf } from './stand/platform.ts'
import { site, type Site } from './stand/site.ts'

const test = suite('ingest changes lambdas')
let house: Site
let user: Caller

test.before(async () => {
  house = await site()
  user = caller(house.address)
})
test.after(() => house.close())
test.after.each(() => house.ports.builds.decide(async (build) => ({ built: true, image: imageOf(build) })))

async function running(word: string, parameters: unknown = {}): Promise<string> {
  const { body } = await user.create(parameters, ownZip(word))
  await seen(house, body.lambda_id, 'workload.running')
  await seen(house, body.lambda_id, 'workload.applied')
  return body.lambda_id
}

/** One whose build does not end before the test ends. */
async function building(word: string): Promise<string> {
  house.ports.builds.decide(() => new Promise(() => undefined))
  const { body } = await user.create({}, ownZip(word))
  await seen(house, body.lambda_id, 'image.started')
  return body.lambda_id
}

const parametersOf = async (id: string): Promise<any> => (await user.get(`/lambdas/${id}`)).body.parameters
const builtFor = async (id: string, version: number): Promise<string[]> => (await factsOf(house, id)).filter((f) => new RegExp(`^(context|image)\\..* ${version}$`).test(f))

test('a new archive keeps the parameters', async () => {
  const id = await running('archive 1', { name: 'keeps', user_config: { a: 1 }, deploy_parameters: { env: { A: 'b' } } })
  const before = await parametersOf(id)
  const changed = await user.change(id, { archive: ownZip('archive 2') })
  assert.equal([changed.status, changed.body], [202, { lambda_id: id, version: 2 }])
  assert.is(changed.headers.get('location'), `/lambdas/${id}`)
  assert.equal(await parametersOf(id), before)
  await fact(house.ports, id, 'image.built', 2)
})

test('parameters are merged, null removes, and the archive stays', async () => {
  const id = await running('merge', { name: 'merge', description: 'goes', user_config: { keep: 1, drop: 2, deep: { a: 1, b: 2 } } })
  await user.change(id, { parameters: { description: null, user_config: { drop: null, add: [3], deep: { a: 9 } } } })
  const { name, description, user_config } = await parametersOf(id)
  assert.equal({ name, description, user_config }, { name: 'merge', description: '', user_config: { keep: 1, deep: { a: 9, b: 2 }, add: [3] } })
  const { versions } = (await user.get(`/lambdas/${id}`)).body
  assert.is(versions[0].archive.digest, versions[1].archive.digest)
})

test('nothing new is answered 200 with the version that is there', async () => {
  const id = await running('nothing new', { name: 'n' })
  for (const wish of [{ archive: ownZip('nothing new') }, { parameters: { name: 'n' } }, { parameters: {} }, { archive: ownZip('nothing new'), parameters: { description: null } }]) {
    const answer = await user.change(id, wish)
    assert.equal([answer.status, answer.body.version], [200, 1])
  }
  assert.not.ok((await factsOf(house, id)).some((f) => f.endsWith(' 2')))
})

test('what does not change the image goes straight to deployment', async () => {
  const id = await running('straight')
  const wishes = [{ user_config: { level: 1 } }, { deploy_parameters: { env: { A: '1' } } }, { deploy_parameters: { pod_count: 3 } }, { name: 'renamed' }]
  for (const [i, parameters] of wishes.entries()) {
    assert.is((await user.change(id, { parameters })).status, 202)
    const applied = await seen(house, id, 'workload.applied', i + 2)
    assert.is(applied.version, i + 2)
    assert.equal(await builtFor(id, i + 2), [])
  }
  const wanted = house.ports.workloads.wanted.get(id)!
  assert.equal([wanted.userConfig, wanted.deploy.env, wanted.deploy.pod_count], [{ level: 1 }, { A: '1' }, 3])
})

test('a change of the image builds one', async () => {
  const id = await running('base')
  await user.change(id, { parameters: { base_image: 'other:1' } })
  await fact(house.ports, id, 'image.built', 2)
})

test('a rollback makes a new version with the old content, and history stays a line', async () => {
  const id = await running('roll 1', { name: 'first' })
  await user.change(id, { archive: ownZip('roll 2'), parameters: { name: 'second' } })
  await seen(house, id, 'workload.running', 2)
  const back = await user.post(`/lambdas/${id}/rollback?version=1`)
  assert.equal([back.status, back.body.version], [202, 3])
  await seen(house, id, 'workload.running', 3)
  const { body } = await user.get(`/lambdas/${id}`)
  assert.equal([body.name, body.serving_version], ['first', 3])
  assert.equal(body.versions.map((v: any) => [v.version, v.rollback_of]), [[1, undefined], [2, undefined], [3, 1]])
  assert.is(body.versions[2].archive.digest, body.versions[0].archive.digest)
  assert.equal(await builtFor(id, 3), [])
})

test('a rollback to what is no version is refused', async () => {
  const id = await running('roll nowhere')
  assert.equal((await user.post(`/lambdas/${id}/rollback?version=7`)).status, 404)
  for (const query of ['', '?version=', '?version=0', '?version=-1', '?version=one', '?version=1.5']) {
    const { status, body } = await user.post(`/lambdas/${id}/rollback${query}`)
    assert.equal([status, body.errors[0].field], [400, 'version'], query)
  }
})

test('a switch turns off and on; asking twice is fine', async () => {
  const id = await running('switch')
  for (const _ of [1, 2]) assert.equal((await user.post(`/lambdas/${id}/disable`)).body, { lambda_id: id, version: 1 })
  const off = (await user.get(`/lambdas/${id}`)).body
  assert.equal([off.alive, off.state, off.status], [false, 'disabled', 'not_found'])
  assert.is((await user.ask('POST', `/lambdas/${id}/proxy/main`)).status, 409)
  await seen(house, id, 'workload.terminated', 1)
  assert.is((await user.post(`/lambdas/${id}/enable`)).status, 202)
  const applied = (await house.ports.bus.history(id, 0, 100)).filter((f) => f.fact === 'lambda.enabled' || f.fact === 'lambda.disabled')
  assert.equal(applied.map((f) => [f.fact, f.epoch]), [['lambda.disabled', 1], ['lambda.enabled', 2]])
  assert.is((await user.get(`/lambdas/${id}`)).body.alive, true)
})

test('a version sent while it is off comes up when it is switched on', async () => {
  const id = await running('off then new')
  await user.post(`/lambdas/${id}/disable`)
  await user.change(id, { archive: ownZip('new while off') })
  await seen(house, id, 'image.built', 2)
  await user.post(`/lambdas/${id}/enable`)
  const applied = await seen(house, id, 'workload.applied', 2)
  assert.is(applied.epoch, 2)
  assert.not.ok(house.ports.workloads.applied.some((w) => w.id === id && w.version === 2 && w.epoch < 2))
})

test('cancel ends what is in flight, and says 409 when nothing is', async () => {
  const id = await building('cancel')
  assert.is((await user.post(`/lambdas/${id}/cancel`)).status, 202)
  const { state, status, image } = (await user.get(`/lambdas/${id}`)).body
  assert.equal([state, status, image.status], ['cancelled', 'terminated', 'not_found'])
  const again = await user.post(`/lambdas/${id}/cancel`)
  assert.equal([again.status, again.body.error_code], [409, 42006])
  house.ports.builds.decide(async (build) => ({ built: true, image: imageOf(build) }))
  assert.is((await user.post(`/lambdas/${await running('nothing in flight')}/cancel`)).status, 409)
})

test('what was cancelled or failed is tried again when the same is sent again', async () => {
  const id = await building('again')
  await user.post(`/lambdas/${id}/cancel`)
  house.ports.builds.decide(async () => ({ built: false, again: false, failure: { cause: 'dependency', reason: 'NoSuchPackage', message: 'No.' } }))
  const second = await user.change(id, { archive: ownZip('again') })
  assert.equal([second.status, second.body.version], [202, 2])
  await seen(house, id, 'image.failed', 2)
  house.ports.builds.decide(async (build) => ({ built: true, image: imageOf(build) }))
  assert.equal((await user.change(id, { archive: ownZip('again') })).body.version, 3)
  await fact(house.ports, id, 'workload.running', 3)
})

test('two changes at the same instant: one wins, the other is told, and history is a line', async () => {
  const id = await running('race')
  const answers = await Promise.all([1, 2, 3, 4].map((n) => user.change(id, { parameters: { name: `racer-${n}` } })))
  const won = answers.filter((a) => a.status === 202)
  const lost = answers.filter((a) => a.status === 409)
  assert.is(won.length + lost.length, 4)
  assert.ok(won.length >= 1)
  assert.ok(lost.every((a) => a.body.error_code === 42006))
  const { version, versions } = (await user.get(`/lambdas/${id}`)).body
  assert.is(version, 1 + won.length)
  assert.equal(versions.map((v: any) => v.version), Array.from({ length: version }, (_, i) => i + 1))
  assert.equal(won.map((a) => a.body.version).sort(), Array.from({ length: won.length }, (_, i) => i + 2))
})

test('a change decided on an old sight of the record is 409', async () => {
  const id = await running('old sight')
  const { records } = house.ports
  const get = records.get
  const changed = gate()
  // Between the reading and the writing of the first change the second comes through.
  records.get = async (asked) => {
    const held = await get(asked)
    records.get = get
    await user.change(id, { parameters: { name: 'second' } })
    changed.open()
    return held
  }
  const first = await user.change(id, { parameters: { name: 'first' } })
  await changed.promise
  assert.is(first.status, 409)
  assert.is((await user.get(`/lambdas/${id}`)).body.name, 'second')
})

test('a lambda that another account owns is unknown', async () => {
  const id = await running('mine')
  const headers = { 'luna-account-id': 'stranger' }
  for (const [method, path] of [['PUT', ''], ['DELETE', ''], ['POST', '/disable'], ['POST', '/cancel'], ['POST', '/rollback?version=1']] as const) {
    const answer = await house.ingest.request(`/lambdas/${id}${path}`, { method, headers, ...(method === 'PUT' && { body: form({ parameters: {} }) }) })
    assert.is(answer.status, 404, `${method} ${path}`)
  }
})

test.run()
