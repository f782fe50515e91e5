// ingest over HTTP: a lambda goes to its base image as it is now when it is told to, and to another builder where it may.
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { caller, factsOf, form, ownZip, seen, type Caller } from './stand/caller.ts'
import { site, type Site } from './stand/site.ts'

const test = suite('ingest rebases')
let house: Site
let user: Caller

const reference = (word: string): string => `registry.example/base@sha256:${word.padEnd(64, '0')}`
const baseIs = (word: string): void => house.ports.bases.decide(async () => ({ base: { reference: reference(word), platform: 'linux/amd64', runtime: null, triggers: false } }))

test.before(async () => {
  house = await site({ can: { imageBuilders: ['auto', 'kaniko'] } })
  user = caller(house.address)
})
test.before.each(() => baseIs('a'))
test.after(() => house.close())

async function running(word: string, parameters: unknown = {}): Promise<string> {
  const { body } = await user.create(parameters, ownZip(word))
  await seen(house, body.lambda_id, 'workload.running')
  await seen(house, body.lambda_id, 'workload.applied')
  return body.lambda_id
}

const put = (id: string, json: unknown) => user.ask('PUT', `/lambdas/${id}`, { json })
/** What is shown of a version. */
const versionOf = async (id: string, version: number): Promise<any> => (await user.get(`/lambdas/${id}`)).body.versions.find((v: any) => v.version === version)
const madeFor = async (id: string, version: number): Promise<string[]> => (await factsOf(house, id)).filter((one) => new RegExp(`^(context|image)\\..* ${version}$`).test(one))

test('a rebase is a new version through every stage, of the same archive and parameters, on the base as it is now', async () => {
  const id = await running('rebased', { name: 'rebased', base_image: 'own:1', user_config: { a: 1 } })
  const before = (await user.get(`/lambdas/${id}`)).body
  baseIs('b')
  const answer = await put(id, { rebase: true })
  assert.equal([answer.status, answer.body], [202, { lambda_id: id, version: 2 }])
  await seen(house, id, 'workload.running', 2)
  assert.equal(await madeFor(id, 2), ['context.packaged 2', 'image.queued 2', 'image.started 2', 'image.built 2'])
  const after = (await user.get(`/lambdas/${id}`)).body
  assert.equal([after.parameters, after.versions[1].archive, after.name], [before.parameters, before.versions[0].archive, 'rebased'])
  assert.equal([before.image.base.reference, after.image.base], [reference('a'), { name: 'own:1', reference: reference('b'), newer: null }])
  assert.is.not(after.image.reference, before.image.reference)
})

test('a rebase on a base that stands where it stood is a version, too, and finds its image', async () => {
  const id = await running('stands')
  assert.is((await put(id, { rebase: true })).body.version, 2)
  await seen(house, id, 'workload.running', 2)
  assert.equal(await madeFor(id, 2), ['context.packaged 2', 'image.built 2'])
  assert.is((await versionOf(id, 2)).image.reference, (await versionOf(id, 1)).image.reference)
})

test('a rebase takes an archive and parameters with it', async () => {
  const [id, other] = [await running('with more', { name: 'old', user_config: { keeps: 1 } }), await running('the other archive')]
  baseIs('b')
  const archive = (await versionOf(other, 1)).archive.digest
  assert.is((await put(id, { rebase: true, archive: `sha256:${archive}`, parameters: { name: 'new' } })).status, 202)
  await seen(house, id, 'workload.running', 2)
  const { name, parameters, versions, image } = (await user.get(`/lambdas/${id}`)).body
  assert.equal([name, parameters.user_config, versions[1].archive.digest, image.base.reference], ['new', { keeps: 1 }, archive, reference('b')])
})

test('without a rebase a lambda stays on its base, whatever its name stands for', async () => {
  const id = await running('stays')
  baseIs('b')
  for (const json of [{ parameters: {} }, { rebase: false, parameters: {} }]) assert.equal([(await put(id, json)).status, (await put(id, json)).body.version], [200, 1])
  assert.equal((await put(id, { rebase: false, parameters: { user_config: { a: 1 } } })).body.version, 2)
  await seen(house, id, 'workload.running', 2)
  assert.equal([await madeFor(id, 2), (await versionOf(id, 2)).base.reference], [[], reference('a')])
  // What is built anew is built on the base of now.
  await user.change(id, { archive: ownZip('stays no more') })
  await seen(house, id, 'workload.running', 3)
  assert.is((await versionOf(id, 3)).base.reference, reference('b'))
})

test('what follows a rebase stays on the new base, and a rollback to before it goes back to the old one', async () => {
  const id = await running('there and back')
  baseIs('b')
  await put(id, { rebase: true })
  await seen(house, id, 'workload.running', 2)
  await user.change(id, { parameters: { user_config: { a: 1 } } })
  await seen(house, id, 'workload.running', 3)
  assert.is((await user.post(`/lambdas/${id}/rollback?version=1`)).body.version, 4)
  await seen(house, id, 'workload.running', 4)
  const { versions } = (await user.get(`/lambdas/${id}`)).body
  assert.equal(versions.map((v: any) => v.base.reference), ['a', 'b', 'b', 'a'].map(reference))
  assert.equal(versions.map((v: any) => v.image.reference), [0, 1, 1, 0].map((i) => versions[i].image.reference))
  assert.is.not(versions[0].image.reference, versions[1].image.reference)
})

test('a rebase that is neither true nor false, or comes where there can be none, is refused in words', async () => {
  const id = await running('refused')
  for (const rebase of ['yes', 'true', 1, 0, null, {}, []]) {
    const { status, body } = await put(id, { rebase, parameters: { name: 'not this' } })
    assert.equal([status, body.error_code, body.errors.map((e: any) => [e.field, e.message])], [400, 42005, [['rebase', 'rebase must be true or false.']]], JSON.stringify(rebase))
  }
  const nothing = await put(id, { rebase: false })
  assert.equal([nothing.status, nothing.body.errors[0].code], [400, 'NothingToChange'])
  const fields = form({ parameters: { name: 'x' } })
  fields.set('rebase', 'true')
  const multipart = await user.ask('PUT', `/lambdas/${id}`, { body: fields })
  assert.equal([multipart.status, multipart.body.errors.map((e: any) => e.field)], [400, ['rebase']])
  const created = await user.post('/lambdas', { json: { archive: `sha256:${(await versionOf(id, 1)).archive.digest}`, rebase: true } })
  assert.equal([created.status, created.body.errors.map((e: any) => [e.field, e.fix])], [400, [['rebase', 'Only archive, parameters are taken; all else goes into parameters.']]])
  assert.equal((await user.get(`/lambdas/${id}`)).body.version, 1)
})

test('a rebase of what is not there, or whose archive is gone, is refused', async () => {
  const id = await running('archive gone')
  const { digest } = (await versionOf(id, 1)).archive
  await house.ports.objects.remove(`archives/${digest}.zip`)
  assert.equal([(await put(id, { rebase: true })).body.error_code, (await user.get(`/lambdas/${id}`)).body.version], [42012, 1])
  const stranger = await house.ingest.request(`/lambdas/${id}`, { method: 'PUT', headers: { 'luna-account-id': 'stranger', 'content-type': 'application/json' }, body: '{"rebase":true}' })
  assert.is(stranger.status, 404)
})

test('a base that cannot be built on any more fails the rebase in words, and the version before goes on serving', async () => {
  const id = await running('base gone', { base_image: 'own:1' })
  house.ports.bases.decide(async (name) => ({ refused: { reason: 'BaseImageMissing', message: `There is no image ${name}.` } }))
  await put(id, { rebase: true })
  await seen(house, id, 'context.refused', 2)
  const { body } = await user.get(`/lambdas/${id}`)
  assert.equal([body.status, body.serving_version, body.state, body.reason, body.message, body.failure.cause, body.image.base], ['running', 1, 'failed', 'BaseImageMissing', 'There is no image own:1.', 'user', null])
  // What needs no other image takes the one that there is, and not that of the version before it, which has none.
  await user.change(id, { parameters: { user_config: { a: 1 } } })
  await seen(house, id, 'workload.running', 3)
  assert.equal(await madeFor(id, 3), [])
})

test('a lambda may ask for a builder that the operator allows', async () => {
  const id = await running('by kaniko', { image_builder: 'kaniko' })
  assert.is(house.ports.builds.ran.find((one) => one.id === id)!.builder, 'kaniko')
  assert.is((await user.get(`/lambdas/${id}`)).body.parameters.image_builder, 'kaniko')
  const unknown = await user.create({ image_builder: 'docker' }, ownZip('by docker'))
  assert.equal([unknown.status, unknown.body.errors.map((e: any) => e.field)], [400, ['image_builder']])
})

test('a builder that the operator does not allow is refused with those that are', async () => {
  const apart = await site()
  const { status, body } = await caller(apart.address).create({ image_builder: 'kaniko' }, ownZip('not allowed'))
  await apart.close()
  assert.equal([status, body.error_code], [400, 42005])
  assert.equal(body.errors, [{
    code: 'ImageBuilderNotAllowed', field: 'image_builder', message: 'This kiln does not make images by kaniko on request; it does by auto.',
    fix: 'Leave image_builder out, or have the operator add it to IMAGE_BUILDERS.',
  }])
})

test.run()
