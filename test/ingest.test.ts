// ingest over HTTP: how a lambda comes into being, once and only once.
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { randomUUID } from 'node:crypto'
import { ingestHttp } from '../services/ingest/http.ts'
import { ingest } from '../services/ingest/index.ts'
import { parseParameters } from '../shared/parameters.ts'
import { archiveName } from '../shared/objects.ts'
import type { LambdaRecord } from '../shared/records.ts'
import { caller, factsOf, form, ownZip, seen, type Caller } from './stand/caller.ts'
import { fact } from './stand/await.ts'
import { standPorts } from './stand/ports.ts'
import { ownBuilds } from '../services/ingest/builds.ts'
import { buildRules, capabilities, helloZip, site, type Site } from './stand/site.ts'
import { createHash } from 'node:crypto'

const test = suite('ingest creates lambdas')
let house: Site
let user: Caller

test.before(async () => {
  house = await site()
  user = caller(house.address)
})
test.after(() => house.close())

const sha256 = (bytes: Buffer): string => createHash('sha256').update(bytes).digest('hex')

test('answers 202 with Location and the request id, and the lambda comes up', async () => {
  const made = await user.create({ name: 'one' }, helloZip(), { 'luna-request-id': 'my-own-id' })
  assert.is(made.status, 202)
  assert.is(made.body.version, 1)
  assert.is(made.headers.get('location'), `/lambdas/${made.body.lambda_id}`)
  assert.is(made.headers.get('luna-request-id'), 'my-own-id')
  const running = await fact(house.ports, made.body.lambda_id, 'workload.running')
  assert.is(running.version, 1)
})

test('carries the request id as the cause of every fact, and the trace on', async () => {
  const traceparent = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01'
  const { body } = await user.create({}, ownZip('cause'), { 'luna-request-id': 'cause-7', traceparent })
  const applied = await fact(house.ports, body.lambda_id, 'workload.applied')
  assert.is(applied.cause, 'cause-7')
  assert.is(applied.traceparent, traceparent)
})

test('the same id with the same content is answered 200 and makes nothing', async () => {
  const id = randomUUID()
  assert.is((await user.create({ lambda_id: id, name: 'same' })).status, 202)
  const again = await user.create({ name: 'same', lambda_id: id.toUpperCase() })
  assert.is(again.status, 200)
  assert.equal(again.body, { lambda_id: id, version: 1 })
  assert.equal((await factsOf(house, id)).filter((f) => f.startsWith('lambda.')), ['lambda.accepted 1'])
})

test('the same id with another archive, other parameters or from another account is 409', async () => {
  const id = randomUUID()
  await user.create({ lambda_id: id })
  for (const answer of [await user.create({ lambda_id: id }, ownZip('other')), await user.create({ lambda_id: id, name: 'other' })]) {
    assert.is(answer.status, 409)
    assert.is(answer.body.error_code, 42006)
    assert.match(answer.body.detail, 'PUT /lambdas/')
  }
  const stranger = await house.ingest.request('/lambdas', { method: 'POST', body: form({ archive: helloZip(), parameters: { lambda_id: id } }), headers: { 'luna-account-id': 'other' } })
  assert.is(stranger.status, 409)
})

test('without an id each POST makes a lambda', async () => {
  const [a, b] = [await user.create(), await user.create()]
  assert.equal([a.status, b.status], [202, 202])
  assert.is.not(a.body.lambda_id, b.body.lambda_id)
})

test('one id asked for twice at the same instant is one lambda: 202 and 200', async () => {
  const id = randomUUID()
  const answers = await Promise.all(Array.from({ length: 5 }, () => user.create({ lambda_id: id })))
  assert.equal(answers.map((a) => a.status).sort(), [200, 200, 200, 200, 202])
  assert.equal((await factsOf(house, id)).filter((f) => f === 'lambda.accepted 1').length, 1)
})

test('an Idempotency-Key repeats the first answer', async () => {
  const headers = { 'idempotency-key': randomUUID() }
  const first = await user.create({ name: 'key' }, helloZip(), headers)
  const second = await user.create({ name: 'key' }, helloZip(), headers)
  assert.equal([first.status, second.status], [202, 202])
  assert.equal(second.body, first.body)
  assert.is(second.headers.get('location'), first.headers.get('location'))
})

test('an Idempotency-Key used at the same instant makes one lambda, and everyone gets the same answer', async () => {
  const headers = { 'idempotency-key': randomUUID() }
  const answers = await Promise.all(Array.from({ length: 5 }, () => user.create({}, helloZip(), headers)))
  assert.equal(answers.map((a) => a.status), [202, 202, 202, 202, 202])
  assert.is(new Set(answers.map((a) => a.text)).size, 1)
})

test('an Idempotency-Key repeats the first answer also after the lambda was changed', async () => {
  const headers = { 'idempotency-key': randomUUID() }
  const first = await user.create({}, helloZip(), headers)
  assert.is((await user.change(first.body.lambda_id, { parameters: { name: 'changed' } })).status, 202)
  const again = await user.create({}, helloZip(), headers)
  assert.is(again.status, 202)
  assert.equal(again.body, first.body)
})

test('an Idempotency-Key does not bring back a lambda that was deleted since', async () => {
  const headers = { 'idempotency-key': randomUUID() }
  const first = await user.create({}, helloZip(), headers)
  await user.ask('DELETE', `/lambdas/${first.body.lambda_id}`)
  assert.equal((await user.create({}, helloZip(), headers)).body, first.body)
  assert.is((await user.get(`/lambdas/${first.body.lambda_id}`)).status, 404)
})

test('an Idempotency-Key under which something else was asked is 422', async () => {
  const headers = { 'idempotency-key': randomUUID() }
  await user.create({}, helloZip(), headers)
  for (const answer of [await user.create({ name: 'else' }, helloZip(), headers), await user.create({}, ownZip('else'), headers)]) assert.is(answer.status, 422)
})

test('an Idempotency-Key belongs to its account', async () => {
  const ask = (account: string) => house.ingest.request('/lambdas', { method: 'POST', body: form({ archive: helloZip() }), headers: { 'idempotency-key': 'shared-key', 'luna-account-id': account } })
  const [a, b] = await Promise.all([ask('left'), ask('right')].map(async (one) => (await one).json() as Promise<{ lambda_id: string }>))
  assert.is.not(a!.lambda_id, b!.lambda_id)
})

test('a JSON body names an object in any bucket, or an archive that is stored', async () => {
  const zip = ownZip('by address')
  const { connect } = await import('nats')
  const nc = await connect({ servers: house.nats.url })
  const theirs = await nc.jetstream().views.os('their-bucket')
  await theirs.putBlob({ name: 'deep/er/lambda.zip' }, zip)
  await nc.close()
  const byAddress = await user.post('/lambdas', { json: { archive: 'nats://their-bucket/deep/er/lambda.zip', parameters: { name: 'addressed' } } })
  assert.is(byAddress.status, 202)
  await fact(house.ports, byAddress.body.lambda_id, 'workload.running')
  const byDigest = await user.post('/lambdas', { json: { archive: `sha256:${sha256(zip)}` } })
  assert.is(byDigest.status, 202)
  assert.is((await user.get(`/lambdas/${byDigest.body.lambda_id}`)).body.versions[0].archive.digest, sha256(zip))
})

test('an id made again after its deletion goes on counting versions', async () => {
  const id = randomUUID()
  await user.create({ lambda_id: id })
  await user.change(id, { parameters: { name: 'two' } })
  await user.ask('DELETE', `/lambdas/${id}`)
  const again = await user.create({ lambda_id: id, name: 'reborn' })
  assert.equal([again.status, again.body.version], [202, 3])
  await seen(house, id, 'workload.running', 3)
  const { body } = await user.get(`/lambdas/${id}`)
  assert.equal([body.status, body.serving_version, body.versions.map((v: { version: number }) => v.version)], ['running', 3, [3]])
})

test('what a crash kept from being stated is made good at the next start, and the lambda comes up', async () => {
  const { ports, service } = house
  const zip = ownZip('crash')
  const parsed = parseParameters({})
  if (!parsed.ok) throw new Error('unreachable')
  const [id, time] = [randomUUID(), new Date().toISOString()]
  const record: LambdaRecord = {
    id, account: 'default', version: 1, epoch: 0, alive: true, deleted: false, cancelled: [], created: time, updated: time,
    versions: [{ version: 1, archive: { digest: sha256(zip), bytes: zip.length }, parameters: parsed.parameters, imageOf: null, priority: 'person', created: time }],
    change: { fact: 'lambda.accepted', time, cause: 'before the crash' },
  }
  await ports.objects.put(archiveName(sha256(zip)), zip)
  assert.ok(await ports.records.put(record, 0))
  await service.makeGood()
  const running = await fact(ports, id, 'workload.applied')
  assert.is(running.cause, 'before the crash')
})

test('makeGood states nothing that is known already', async () => {
  const { body } = await user.create({}, ownZip('known'))
  await seen(house, body.lambda_id, 'workload.running')
  const before = await factsOf(house, body.lambda_id)
  await house.service.makeGood()
  assert.equal(await factsOf(house, body.lambda_id), before)
})

test('two replicas are as one', async () => {
  const ports = await standPorts(house.nats.url)
  const other = ingestHttp(ingest(ports, { can: capabilities, maxArchiveBytes: 2 ** 20, mostWaiting: 1_000, examine: async () => [] }), await ownBuilds(ports, buildRules), { maxArchiveBytes: 2 ** 20, log: ports.log })
  const key = { 'idempotency-key': randomUUID() }
  const first = await user.create({}, helloZip(), key)
  const second = await other.request('/lambdas', { method: 'POST', body: form({ archive: helloZip(), parameters: {} }), headers: key })
  assert.equal(await second.json(), first.body)
  const id = first.body.lambda_id
  const changes = await Promise.all([
    user.change(id, { parameters: { name: 'left' } }).then((a) => a.status),
    Promise.resolve(other.request(`/lambdas/${id}`, { method: 'PUT', body: form({ parameters: { name: 'right' } }) })).then((a) => a.status),
  ])
  assert.equal((await user.get(`/lambdas/${id}`)).body.version, 1 + changes.filter((status) => status === 202).length)
  assert.ok(changes.every((status) => status === 202 || status === 409))
  await ports.close()
})

test.run()
