// gateway: the way to a lambda, as versions come and go.
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { once } from 'node:events'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { randomUUID } from 'node:crypto'
import { listen, type Listening } from '../services/gateway/index.ts'
import { places, type Places } from '../services/gateway/places.ts'
import { proxy } from '../services/gateway/proxy.ts'
import { accountsBy } from '../services/gateway/tokens.ts'
import { caller, first, folded, ownZip, seen, type Answer, type Caller } from './stand/caller.ts'
import { fact } from './stand/await.ts'
import { site, type Site } from './stand/site.ts'

const test = suite('gateway carries traffic')
let house: Site
/** A gateway whose table of places the test can wait for. */
let front: Listening
let table: Places
let user: Caller
const pods: Server[] = []

test.before(async () => {
  house = await site()
  table = await places(house.ports)
  front = await listen(house.ports, { ingest: house.ingest.fetch, statusApi: house.statusApi.fetch, builder: null, places: table, proxy: proxy({ timeoutMs: 2_000 }), accountOf: accountsBy(new Map()) }, { host: '127.0.0.1', port: 0 })
  user = caller(`http://127.0.0.1:${front.port}`)
})
test.after(async () => {
  await front.close()
  await house.close()
  for (const pod of pods) { pod.closeAllConnections(); pod.close() }
})

/** A real server that says its name and what it was asked; its origin. */
async function pod(name: string): Promise<string> {
  const server = createServer((req, res) => {
    req.resume().on('end', () => res.setHeader('content-type', 'application/json').end(JSON.stringify({ name, method: req.method, url: req.url, id: req.headers['luna-request-id'] })))
  }).listen(0, '127.0.0.1')
  pods.push(server)
  await once(server, 'listening')
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`
}

const invoke = async (id: string, path = '/main'): Promise<Answer> => {
  await table.caughtUp()
  return user.post(`/lambdas/${id}/proxy${path}`, { json: {} })
}

/** Made, and shown by the platform only as the test says. */
async function applied(word: string): Promise<string> {
  const { workloads } = house.ports
  workloads.apply = async (workload) => { workloads.wanted.set(workload.id, workload) }
  const { body } = await user.create({}, ownZip(word))
  await seen(house, body.lambda_id, 'workload.applied')
  return body.lambda_id
}

async function show(id: string, version: number, shows: 'running' | 'waiting' | 'terminated', endpoints: string[], epoch = 0): Promise<void> {
  const before = (await house.ports.bus.history(id, 0, 1_000)).at(-1)!.seq
  house.ports.workloads.show({ id, version, epoch, shows, endpoints, reason: shows === 'running' ? 'Running' : 'CrashLoopBackOff', message: `It is ${shows}.` })
  const { seq } = await first(house.ports, id, before, (heard) => heard.version === version && heard.fact === `workload.${shows}`)
  await folded(house.ports, id, seq)
}

test('an unknown lambda is 404', async () => {
  for (const id of [randomUUID(), 'x']) {
    const { status, body } = await invoke(id)
    assert.equal([status, body.error_code], [404, 42001])
  }
})

test('a lambda that is being made answers 503, why, and when to come again', async () => {
  const id = await applied('waits')
  const first = await invoke(id)
  assert.equal([first.status, first.headers.get('retry-after'), first.body.status], [503, '1', 503])
  assert.match(first.body.detail, 'deploying')
  await show(id, 1, 'waiting', [])
  const second = await invoke(id)
  assert.equal([second.status, second.body.reason], [503, 'CrashLoopBackOff'])
  assert.ok(second.headers.get('retry-after'))
})

test('a lambda of this very moment is never unknown', async () => {
  for (let i = 0; i < 20; i++) {
    const { body } = await user.create({}, ownZip(`moment ${i}`))
    assert.is((await user.get(`/lambdas/${body.lambda_id}/proxy/main`)).status, 503)
  }
})

test('a request reaches the pod with its path, query and id, and the answer names the version', async () => {
  const id = await applied('reaches')
  await show(id, 1, 'running', [await pod('only')])
  await table.caughtUp()
  const answer = await user.ask('PUT', `/lambdas/${id.toUpperCase()}/proxy/a%20b/c?d=e&f`, { headers: { 'luna-request-id': 'mine' }, body: 'x' })
  assert.equal(answer.body, { name: 'only', method: 'PUT', url: '/a%20b/c?d=e&f', id: 'mine' })
  assert.equal([answer.status, answer.headers.get('lambda-version'), answer.headers.get('luna-request-id')], [200, '1', 'mine'])
})

test('traffic goes to all pods of a lambda', async () => {
  const id = await applied('all pods')
  await show(id, 1, 'running', [await pod('a'), await pod('b')])
  const names = new Set<string>()
  for (let i = 0; i < 4; i++) names.add((await invoke(id)).body.name)
  assert.equal(names, new Set(['a', 'b']))
})

test('traffic follows the versions: the old one serves until the new one runs', async () => {
  const id = await applied('follows')
  await show(id, 1, 'running', [await pod('one')])
  assert.is((await invoke(id)).body.name, 'one')
  await user.change(id, { parameters: { name: 'two' } })
  await seen(house, id, 'workload.applied', 2)
  assert.equal([(await invoke(id)).body.name, (await invoke(id)).headers.get('lambda-version')], ['one', '1'])
  await show(id, 2, 'waiting', [])
  assert.is((await invoke(id)).body.name, 'one')
  await show(id, 2, 'running', [await pod('two')])
  const answer = await invoke(id)
  assert.equal([answer.body.name, answer.headers.get('lambda-version')], ['two', '2'])
  await show(id, 1, 'terminated', [])
  assert.is((await invoke(id)).body.name, 'two')
})

test('a disabled lambda answers 409 at once, and serves again when it was enabled', async () => {
  const id = await applied('off and on')
  await show(id, 1, 'running', [await pod('back')])
  assert.is((await invoke(id)).status, 200)
  await user.post(`/lambdas/${id}/disable`)
  const off = await invoke(id)
  assert.equal([off.status, off.body.error_code, off.body.reason], [409, 42016, 'Disabled'])
  await user.post(`/lambdas/${id}/enable`)
  await fact(house.ports, id, 'lambda.enabled')
  assert.is((await invoke(id)).status, 503)
  await show(id, 1, 'running', [await pod('back')], 2)
  assert.is((await invoke(id)).status, 200)
})

test('a deleted lambda is unknown at once', async () => {
  const id = await applied('gone')
  await show(id, 1, 'running', [await pod('gone')])
  await user.ask('DELETE', `/lambdas/${id}`)
  assert.is((await invoke(id)).status, 404)
})

test('a lambda that failed says why', async () => {
  house.ports.builds.decide(async () => ({ built: false, again: false, failure: { cause: 'dependency', reason: 'NoSuchPackage', message: 'There is no package nosuch.' } }))
  const { body } = await user.create({}, ownZip('failed'))
  await seen(house, body.lambda_id, 'image.failed')
  const answer = await invoke(body.lambda_id)
  assert.equal([answer.status, answer.body.reason, answer.headers.get('retry-after')], [503, 'NoSuchPackage', '30'])
  assert.match(answer.body.detail, 'There is no package nosuch.')
})

test.run()
