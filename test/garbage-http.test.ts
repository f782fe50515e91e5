// Garbage over HTTP, of a whole kiln: what operators ask, who may ask, and what a lambda's own life leaves behind.
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { getRequestListener } from '@hono/node-server'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { builderHttp } from '../services/builder-watcher/http.ts'
import { forwardTo, gateway, type GatewayParts } from '../services/gateway/index.ts'
import { openapi } from '../services/gateway/openapi.ts'
import { accountsBy } from '../services/gateway/tokens.ts'
import type { Heard } from '../shared/events.ts'
import { archiveName, contextName } from '../shared/objects.ts'
import { Unavailable } from '../shared/trouble.ts'
import { fact, gate } from './stand/await.ts'
import { caller, ownZip, seen, type Caller } from './stand/caller.ts'
import { watching } from './stand/garbage.ts'
import { digestFor } from './stand/lives.ts'
import { site, type Site } from './stand/site.ts'
import { standEnvironment } from './stand/stored.ts'

const test = suite<{ house: Site; user: Caller }>('garbage over HTTP')
test.before.each(async (context) => {
  context.house = await site({ graceMs: 0 })
  context.user = caller(context.house.address)
})
test.after.each(({ house }) => house.close())

const stray = archiveName(digestFor('stray'))
const iso = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/

/** A lambda whose code needs an environment. */
async function running({ house, user }: { house: Site; user: Caller }, word: string): Promise<{ id: string; packaged: Heard<'context.packaged'> }> {
  house.ports.bases.decide(async (name) => ({ base: { reference: `${name}@sha256:${digestFor('base')}`, platform: 'linux/amd64', runtime: null, triggers: false } }))
  const { body } = await user.create({}, ownZip(word, { 'requirements.txt': 'six\n' }))
  const packaged = await seen(house, body.lambda_id, 'context.packaged')
  await seen(house, body.lambda_id, 'workload.running')
  return { id: body.lambda_id, packaged }
}

test('GET tells what would go, and changes nothing; POST removes what is due', async ({ house, user }) => {
  await running({ house, user }, 'in use')
  assert.equal((await user.get('/garbage')).body, { unneeded: [], bytes: 0, grace_seconds: 0 })
  await house.ports.objects.put(stray, Buffer.from('12345'))
  const { status, body } = await user.get('/garbage')
  const [{ since, removed_after: after, ...one }] = body.unneeded
  assert.equal([status, one, body.bytes], [200, { kind: 'archive', name: stray, bytes: 5 }, 5])
  for (const time of [since, after]) assert.match(time, iso)
  assert.ok(await house.ports.objects.has(stray))
  assert.is(await house.ports.objects.get('garbage/unneeded.json'), null)
  const collected = await user.post('/garbage')
  assert.equal([collected.status, collected.body], [200, { removed: [{ kind: 'archive', name: stray, bytes: 5 }], kept: [], bytes: 5 }])
  assert.equal((await user.get('/garbage')).body.unneeded, [])
})

test('what could not be removed is told with the reason', async ({ house, user }) => {
  await running({ house, user }, 'in use')
  const environment = standEnvironment(digestFor('left'))
  house.ports.stored.hold(environment, [{ name: 'layer', bytes: 7 }])
  house.ports.stored.refuse({ why: 'It does not allow deletion.', remedy: 'Allow it.' })
  assert.equal((await user.post('/garbage')).body, { removed: [], kept: [{ name: environment.name, why: 'It does not allow deletion. Allow it.' }], bytes: 0 })
  const { unneeded, bytes } = (await user.get('/garbage')).body
  assert.equal([unneeded[0].kind, unneeded[0].kept, bytes], ['environment', 'It does not allow deletion. Allow it.', 7])
})

test('a deletion leaves the environment, and what that is made from, to the collection', async ({ house, user }) => {
  const { id, packaged } = await running({ house, user }, 'alone')
  const { key, context } = packaged.data.foundation.environment!
  const environment = standEnvironment(key)
  house.ports.stored.hold(environment, [{ name: 'layer', bytes: 7 }])
  assert.equal((await user.get('/garbage')).body.unneeded, [])
  await user.ask('DELETE', `/lambdas/${id}`)
  await fact(house.ports, id, 'lambda.cleaned')
  assert.equal([await house.ports.objects.has(packaged.data.context.name), await house.ports.objects.has(context.name)], [false, true])
  assert.equal((await user.get('/garbage')).body.unneeded.map((one: { name: string }) => one.name).sort(), [environment.name, contextName(context.digest)].sort())
})

test('a deletion tells the platform which contexts another lambda is made of, too', async ({ house, user }) => {
  const [{ id, packaged }] = [await running({ house, user }, 'shared'), await running({ house, user }, 'shared')]
  const told: string[][] = []
  const { remove } = house.ports.builds
  house.ports.builds.remove = (lambda, contexts, elsewhere) => { told.push([...contexts], [...elsewhere]); return remove(lambda, contexts, elsewhere) }
  await user.ask('DELETE', `/lambdas/${id}`)
  await fact(house.ports, id, 'lambda.cleaned')
  assert.equal(told, [[packaged.data.context.digest], [packaged.data.context.digest]])
  assert.ok(await house.ports.objects.has(packaged.data.context.name))
})

test('a lambda that is made again from the zip of one that is just being deleted keeps its context', async ({ house, user }) => {
  const { id, packaged } = await running({ house, user }, 'made again')
  const { objects, bus } = house.ports
  const { name } = packaged.data.context
  const [found, watched] = [gate(), gate()]
  const made = gate<string>()
  const { state } = bus
  // The packager has found the context, and says so when it has been taken away.
  bus.state = async (fact) => {
    if (fact.fact === 'context.packaged') { found.open(); await watched.promise }
    return state(fact)
  }
  const { remove } = objects
  objects.remove = async (removed) => {
    if (removed !== name) return remove(removed)
    objects.remove = remove
    made.open((await user.create({}, ownZip('made again', { 'requirements.txt': 'six\n' }))).body.lambda_id)
    await found.promise
    void watching(house.ports).then(() => watched.open())
    return objects.remove(removed)
  }
  await user.ask('DELETE', `/lambdas/${id}`)
  await fact(house.ports, id, 'lambda.cleaned')
  assert.is((await fact(house.ports, await made.promise, 'context.packaged')).data.context.name, name)
  assert.ok(await objects.has(name))
})

test('where callers need tokens nobody is told, with a token or without', async ({ user }) => {
  const closed = await site({ tokens: new Map([['acme-token', 'acme']]) })
  for (const one of [caller(closed.address), caller(closed.address, { authorization: 'Bearer acme-token' })]) {
    for (const method of ['GET', 'POST']) {
      const { status, headers, body } = await one.ask(method, '/garbage')
      assert.equal([status, headers.get('content-type')], [403, 'application/problem+json'])
      assert.match(body.detail, 'http://builder-watcher:8080/garbage')
    }
  }
  assert.is((await user.get('/garbage')).status, 200)
  await closed.close()
})

test('a page of another site removes nothing', async ({ house, user }) => {
  let asked = 0
  const { list } = house.ports.stored
  house.ports.stored.list = (lambdas) => { asked++; return list(lambdas) }
  assert.is((await user.post('/garbage', { headers: { origin: 'https://evil.example' } })).status, 403)
  assert.is(asked, 0)
})

test('what is neither asked nor done is a problem of 404, and what is away one of 503', async ({ house, user }) => {
  assert.equal([(await user.ask('DELETE', '/garbage')).status, (await user.get('/garbage/x')).status], [404, 404])
  await running({ house, user }, 'in use')
  house.ports.stored.list = async () => { throw new Unavailable('The registry is away.') }
  const { status, body } = await user.get('/garbage')
  assert.equal([status, body.detail], [503, 'The registry is away.'])
})

test('a gateway of its own hands it over to builder-watcher, or says that it cannot', async ({ house }) => {
  const server = createServer(getRequestListener(builderHttp(house.garbage, { graceMs: 1, log: house.ports.log }).fetch)).listen(0, '127.0.0.1')
  await new Promise((resolve) => server.once('listening', resolve))
  const parts = { accountOf: accountsBy(new Map()), builder: forwardTo(`http://127.0.0.1:${(server.address() as AddressInfo).port}`) } as unknown as GatewayParts
  const { status, headers } = await gateway(house.ports, parts).request('/garbage', { headers: { 'luna-request-id': 'mine' } })
  assert.equal([status, headers.get('luna-request-id')], [200, 'mine'])
  const without = await gateway(house.ports, { ...parts, builder: null }).request('/garbage')
  assert.equal([without.status, without.headers.get('content-type')], [404, 'application/problem+json'])
  assert.match(((await without.json()) as { detail: string }).detail, 'BUILDER_URL')
  server.closeAllConnections()
  await new Promise((resolve) => server.close(resolve))
})

test('both operations are described', () => {
  const { paths, components } = openapi()
  const described = Object.entries(paths['/garbage']) as Array<[string, { responses: Record<string, any> }]>
  assert.equal(described.map(([method, { responses }]) => [method, Object.keys(responses)]), [['get', ['200', '403', '404']], ['post', ['200', '403', '404']]])
  const named = described.map(([, { responses }]) => responses['200'].content['application/json'].schema.$ref.replace('#/components/schemas/', ''))
  assert.equal(named.filter((name) => !(name in components.schemas)), [])
})

test.run()
