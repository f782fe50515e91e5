// gateway: the one address. Who may come in, and what it says of kiln itself.
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { connect } from 'node:net'
import { z } from 'zod'
import { parameters } from '../shared/parameters.ts'
import { caller, form, ownZip, seen, type Caller } from './stand/caller.ts'
import { helloZip, site, type Site } from './stand/site.ts'

const test = suite('gateway')
let house: Site
let open: Site
let acme: Caller
let other: Caller
let nobody: Caller
let user: Caller

test.before(async () => {
  [house, open] = await Promise.all([site({ tokens: new Map([['acme-token', 'acme'], ['other-token', 'other']]) }), site()])
  acme = caller(house.address, { authorization: 'Bearer acme-token' })
  other = caller(house.address, { authorization: 'bearer other-token' })
  nobody = caller(house.address)
  user = caller(open.address)
})
test.after(async () => { await Promise.all([house.close(), open.close()]) })

const requestIdMade = /^\d{10},[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/

/** Bytes as they are; the whole answer. */
function raw(port: number, bytes: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect(port, '127.0.0.1', () => socket.write(bytes))
    let text = ''
    socket.on('data', (chunk) => { text += chunk }).on('close', () => resolve(text)).on('error', reject)
  })
}

test('without a token it is 401, for reads, changes and invocations', async () => {
  const wrong = ['', 'Bearer', 'Bearer wrong-token', 'Basic acme-token', 'acme-token', 'Bearer acme-token x', 'Bearer acme-toke'].map((authorization) => caller(house.address, { authorization }))
  for (const one of [nobody, ...wrong]) {
    for (const answer of [await one.get('/lambdas'), await one.get('/lambdas/x'), await one.create(), await one.get('/lambdas/x/proxy/main')]) {
      assert.is(answer.status, 401)
      assert.is(answer.headers.get('www-authenticate'), 'Bearer')
      assert.match(answer.headers.get('content-type')!, 'application/problem+json')
    }
  }
})

test('a token names the account, and no header of the caller does', async () => {
  const { body: { lambda_id: id } } = await acme.create({ name: 'mine' }, ownZip('mine'))
  await seen(house, id, 'workload.running')
  assert.is((await acme.get(`/lambdas/${id}`)).body.account, 'acme')
  const spoofed = { 'luna-account-id': 'acme' }
  for (const path of ['', '/status', '/events', '/proxy/main']) assert.is((await other.get(`/lambdas/${id}${path}`, spoofed)).status, 404, path)
  assert.is((await other.ask('DELETE', `/lambdas/${id}`, { headers: spoofed })).status, 404)
  const made = await other.create({ name: 'spoof' }, helloZip(), spoofed)
  assert.is((await other.get(`/lambdas/${made.body.lambda_id}`)).body.account, 'other')
  assert.is((await acme.get('/lambdas', { 'luna-account-id': 'other' })).body.lambdas.length, 1)
})

test('kiln\'s own pages need no token', async () => {
  for (const path of ['/healthz', '/readyz', '/metrics', '/openapi.json', '/docs']) assert.is((await nobody.get(path)).status, 200, path)
})

test('a request id is taken over when it is visible and short enough, else replaced', async () => {
  for (const id of ['a', 'x'.repeat(128), 'with,comma;and:more', '1795241429,3d48046d-4463-4ced-87d1-2b0c38c1e654']) {
    for (const path of ['/lambdas', '/lambdas/x', '/nowhere', '/lambdas/x/proxy/main']) assert.is((await user.get(path, { 'luna-request-id': id })).headers.get('luna-request-id'), id, path)
  }
  for (const id of ['x'.repeat(129), 'with space', 'ümlaut', '']) {
    for (const path of ['/lambdas', '/lambdas/x/proxy/main']) assert.match((await user.get(path, { 'luna-request-id': id })).headers.get('luna-request-id')!, requestIdMade)
  }
  assert.match((await user.get('/healthz')).headers.get('luna-request-id')!, requestIdMade)
  assert.is((await nobody.get('/lambdas', { 'luna-request-id': 'mine' })).body.request_id, 'mine')
})

test('a page of another site cannot change anything', async () => {
  const before = (await user.get('/lambdas')).body.lambdas.length
  const foreign: Array<Record<string, string>> = [{ origin: 'https://evil.example' }, { origin: 'null' }, { 'sec-fetch-site': 'cross-site' }]
  for (const headers of foreign) {
    assert.is((await user.create({}, helloZip(), headers)).status, 403)
    assert.is((await user.ask('DELETE', '/lambdas/x', { headers })).status, 403)
  }
  assert.is((await user.get('/lambdas')).body.lambdas.length, before)
  assert.is((await user.create({}, helloZip(), { origin: open.address })).status, 202)
  assert.is((await user.get('/lambdas', { origin: 'https://evil.example' })).headers.get('access-control-allow-origin'), null)
})

test('it says that it lives, that it can work, and where NATS is', async () => {
  assert.equal([(await user.get('/healthz')).status, (await user.get('/healthz')).body.status], [200, 'ok'])
  const ready = await user.get('/readyz')
  assert.equal([ready.status, ready.body.nats], [200, open.nats.url])
})

test('metrics count what each stage handled, what waits and what is in the works', async () => {
  const { body: { lambda_id: id } } = await user.create({}, ownZip('metrics'))
  await seen(open, id, 'workload.applied')
  const { text, headers } = await user.get('/metrics')
  assert.match(headers.get('content-type')!, 'text/plain')
  for (const stage of ['packager', 'builder-watcher', 'deployer']) {
    assert.match(text, new RegExp(`^kiln_handled_total\\{stage="${stage}",fact="[a-z.]+",verdict="done"\\} [1-9]`, 'm'))
    assert.match(text, new RegExp(`^kiln_queue_depth\\{stage="${stage}"\\} 0$`, 'm'))
    assert.match(text, new RegExp(`^kiln_in_flight\\{stage="${stage}"\\} \\d`, 'm'))
    assert.match(text, new RegExp(`^kiln_stage_seconds_count\\{stage="${stage}"\\} [1-9]`, 'm'))
  }
  assert.match(text, /^kiln_proxy_in_flight 0$/m)
})

test('a failure is counted by its cause', async () => {
  open.ports.builds.decide(async () => ({ built: false, again: false, failure: { cause: 'quota', reason: 'Full', message: 'Full.' } }))
  const { body: { lambda_id: id } } = await user.create({}, ownZip('counted'))
  await seen(open, id, 'image.failed')
  assert.match((await user.get('/metrics')).text, 'kiln_failed_total{stage="builder-watcher",cause="quota"} 1')
})

test('the interface describes itself, with the schema that validates', async () => {
  const { body } = await user.get('/openapi.json')
  assert.match(body.openapi, /^3\.1\./)
  const design: Record<string, string[]> = {
    '/lambdas': ['get', 'post'], '/lambdas/{id}': ['get', 'put', 'delete'], '/lambdas/{id}/disable': ['post'], '/lambdas/{id}/enable': ['post'], '/lambdas/{id}/cancel': ['post'],
    '/lambdas/{id}/rollback': ['post'], '/lambdas/{id}/status': ['get'], '/lambdas/{id}/logs': ['get'], '/lambdas/{id}/image/status': ['get'], '/lambdas/{id}/image/logs': ['get'],
    '/lambdas/{id}/events': ['get'], '/lambdas/{id}/docs': ['get'], '/lambdas/{id}/proxy/{path}': ['get', 'post'], '/healthz': ['get'], '/readyz': ['get'], '/metrics': ['get'],
    '/builds': ['get', 'post'], '/builds/{id}': ['get', 'delete'], '/builds/{id}/status': ['get'], '/builds/{id}/logs': ['get'], '/builds/{id}/events': ['get'], '/builds/{id}/cancel': ['post'],
    '/openapi.json': ['get'], '/docs': ['get'],
  }
  for (const [path, methods] of Object.entries(design)) {
    for (const method of methods) {
      assert.ok(body.paths[path]?.[method], `${method} ${path}`)
      assert.ok(Object.values(body.paths[path][method].responses).every((answer: any) => typeof answer.description === 'string'), `${method} ${path}`)
    }
  }
  const taken = (path: string, method: string, type: string): string[] => Object.keys(body.paths[path][method].requestBody.content[type].schema.properties)
  assert.equal(taken('/lambdas/{id}', 'put', 'application/json'), ['archive', 'parameters', 'rebase'])
  for (const [path, method, type] of [['/lambdas', 'post', 'application/json'], ['/lambdas/{id}', 'put', 'multipart/form-data']] as const) assert.equal(taken(path, method, type), ['archive', 'parameters'])
  const schema = body.components.schemas.Parameters
  assert.equal(schema, JSON.parse(JSON.stringify(z.toJSONSchema(parameters, { io: 'input', target: 'draft-2020-12' }))))
  assert.equal([schema.additionalProperties, schema.properties.deploy_parameters.additionalProperties, schema.required ?? []], [false, false, []])
})

test('every reference in it leads somewhere, and every operation has a name of its own', async () => {
  const { body, text } = await user.get('/openapi.json')
  for (const [, path] of text.matchAll(/"\$ref":"#\/([^"]+)"/g)) assert.ok(path!.split('/').reduce((at, step) => at?.[step], body), path)
  const names = [...text.matchAll(/"operationId":"([^"]+)"/g)].map(([, name]) => name)
  assert.is(new Set(names).size, names.length)
  for (const [path, item] of Object.entries<any>(body.paths)) {
    const declared = Object.values<any>(item).flatMap((op) => op.parameters ?? []).concat(item.parameters ?? []).filter((p: any) => p.in === 'path').map((p: any) => p.name)
    for (const [, name] of path.matchAll(/\{(\w+)\}/g)) assert.ok(declared.includes(name), path)
  }
})

test('the page of docs brings everything it shows', async () => {
  const { text, headers } = await user.get('/docs')
  assert.match(headers.get('content-type')!, 'text/html')
  const parts = [...text.matchAll(/(?:src|href)="([^"]+)"/g)].map(([, path]) => path!)
  assert.ok(parts.length >= 3)
  for (const path of parts) {
    assert.match(path, /^\//)
    assert.is((await user.get(path)).status, 200, path)
  }
})

test('what is nowhere is 404 as a problem', async () => {
  for (const path of ['/', '/lambda', '/lambdas/x/y/z', '/favicon.ico', '/docs/../../package.json', '/docs/x.js']) {
    const { status, body, headers } = await user.get(path)
    assert.equal([status, body.status, headers.get('content-type')], [404, 404, 'application/problem+json'], path)
    assert.is(body.request_id, headers.get('luna-request-id'))
  }
  assert.is((await user.ask('PATCH', '/lambdas/x')).status, 404)
})

test('what is no HTTP is answered as a problem all the same', async () => {
  const cases = [
    ['garbage\r\n\r\n', 400], [`GET / HTTP/1.1\r\nhost: x\r\nx: ${'y'.repeat(40_000)}\r\n\r\n`, 431], [`GET /${'y'.repeat(40_000)} HTTP/1.1\r\nhost: x\r\n\r\n`, 431],
    ['GET / HTTP/9.9\r\n\r\n', 400], ['GET / HTTP/1.1\r\nhost: x\r\nno colon\r\n\r\n', 400], ['POST /lambdas HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n', 400],
  ] as const
  for (const [bytes, status] of cases) {
    const answer = await raw(open.gateway.port, bytes)
    const [head, body] = answer.split('\r\n\r\n') as [string, string]
    assert.match(head, new RegExp(`^HTTP/1.1 ${status} `), bytes.slice(0, 40))
    assert.match(head, 'content-type: application/problem+json')
    assert.match(/luna-request-id: (.*)/.exec(head)![1]!, requestIdMade)
    assert.is(JSON.parse(body).status, status)
  }
  assert.is((await user.get('/healthz')).status, 200)
})

test('a body of many forms passes through unharmed', async () => {
  const zip = ownZip('large', { 'data.bin': Array.from({ length: 20_000 }, (_, i) => String.fromCharCode(33 + ((i * 7919) % 90))).join('') })
  const { body } = await user.post('/lambdas', { body: form({ archive: zip }) })
  assert.is((await user.get(`/lambdas/${body.lambda_id}`)).body.versions[0].archive.bytes, zip.length)
})

test.run()
