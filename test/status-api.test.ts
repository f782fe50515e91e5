// status-api: what one reads of lambdas, at once and to the letter.
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { randomUUID } from 'node:crypto'
import { statusHttp } from '../services/status-api/http.ts'
import { view } from '../services/status-api/view.ts'
import { caller, form, ownZip, seen, type Caller } from './stand/caller.ts'
import { imageOf } from './stand/platform.ts'
import type { Following } from '../shared/records.ts'
import { standPorts } from './stand/ports.ts'
import { helloZip, site, type Site } from './stand/site.ts'

const test = suite('status-api reads')
let house: Site
let user: Caller

test.before(async () => {
  house = await site()
  user = caller(house.address)
})
test.after(() => house.close())
test.after.each(() => house.ports.builds.decide(async (build) => ({ built: true, image: imageOf(build) })))

async function running(parameters: unknown = {}, zip = helloZip()): Promise<string> {
  const { body } = await user.create(parameters, zip)
  await seen(house, body.lambda_id, 'workload.running')
  await seen(house, body.lambda_id, 'workload.applied')
  return body.lambda_id
}

const isTime = (text: string): boolean => new Date(text).toISOString() === text

test('one lambda has the shape that clients rely on', async () => {
  const id = await running({ name: 'shape', user_config: { a: [1] } }, ownZip('shape'))
  const { status, body, headers } = await user.get(`/lambdas/${id}`)
  assert.is(status, 200)
  assert.match(headers.get('content-type')!, 'application/json')
  const { reference, digest } = body.image
  assert.equal(
    { lambda_id: body.lambda_id, account: body.account, name: body.name, version: body.version, serving_version: body.serving_version, alive: body.alive, status: body.status, state: body.state, reason: body.reason, message: body.message, image: body.image },
    { lambda_id: id, account: 'default', name: 'shape', version: 1, serving_version: 1, alive: true, status: 'running', state: 'running', reason: 'Running', message: 'It runs.', image: { status: 'completed', reference, digest, base: null } },
  )
  assert.match(digest, /^sha256:[0-9a-f]{64}$/)
  assert.equal([body.parameters.user_config, body.parameters.deploy_parameters.pod_count], [{ a: [1] }, 1])
  assert.equal(body.versions.map((v: any) => [v.version, v.state, isTime(v.created)]), [[1, 'running', true]])
  assert.equal(body.timeline.map((m: any) => m.fact).slice(0, 5), ['lambda.accepted', 'context.packaged', 'image.queued', 'image.started', 'image.built'])
  assert.ok(body.timeline.every((m: any) => m.version === 1 && isTime(m.time)))
})

test('a lambda that is there is shown with every word of it before anything has happened to it', async () => {
  house.ports.builds.decide(() => new Promise(() => undefined))
  const { body: { lambda_id: id } } = await user.create({ name: 'fresh' }, ownZip('fresh'))
  const { body } = await user.get(`/lambdas/${id}`)
  assert.equal([body.version, body.serving_version, body.alive, body.status, body.reason], [1, null, true, 'waiting', null])
  assert.ok(['accepted', 'packaged', 'queued', 'building'].includes(body.state))
  assert.ok(body.message.length > 10)
  assert.equal([body.image.reference, body.image.digest], [null, null])
  house.ports.builds.decide(async (build) => ({ built: true, image: imageOf(build) }))
  await user.post(`/lambdas/${id}/cancel`)
})

test('version 3 fails while 2 serves: running, and 3 says why it failed', async () => {
  const id = await running({}, ownZip('three 1'))
  await user.change(id, { archive: ownZip('three 2') })
  await seen(house, id, 'workload.running', 2)
  house.ports.builds.decide(async () => ({ built: false, again: false, failure: { cause: 'dependency', reason: 'NoSuchPackage', message: 'There is no package nosuch.', log: ['pip said no'] } }))
  await user.change(id, { archive: ownZip('three 3') })
  await seen(house, id, 'image.failed', 3)
  house.ports.builds.decide(async (build) => ({ built: true, image: imageOf(build) }))
  const { body } = await user.get(`/lambdas/${id}`)
  assert.equal([body.status, body.version, body.serving_version, body.state], ['running', 3, 2, 'failed'])
  assert.equal([body.reason, body.message], ['NoSuchPackage', 'There is no package nosuch.'])
  const failure = { stage: 'builder-watcher', cause: 'dependency', reason: 'NoSuchPackage', message: 'There is no package nosuch.', log: ['pip said no'] }
  assert.equal([body.failure, body.image.status], [failure, 'error'])
  assert.equal(body.versions.map((v: any) => [v.version, v.state]).slice(1), [[2, 'running'], [3, 'failed']])
  assert.equal((await user.get(`/lambdas/${id}/image/status`)).body.failure, failure)
})

test('after a 202 every read shows the change at once', async () => {
  house.ports.builds.decide(() => new Promise(() => undefined))
  for (let i = 0; i < 100; i++) {
    const id = randomUUID()
    const name = `at-once-${i}`
    assert.is((await user.create({ lambda_id: id, name }, ownZip(name))).status, 202)
    const [one, byName, image, status, events] = await Promise.all([
      user.get(`/lambdas/${id}`), user.get(`/lambdas?name=${name}`), user.get(`/lambdas/${id}/image/status`), user.get(`/lambdas/${id}/status`), user.get(`/lambdas/${id}/events`),
    ])
    assert.equal([one.status, one.body.name], [200, name])
    assert.equal(byName.body.lambdas.map((l: any) => l.lambda_id), [id])
    assert.equal([image.status, status.status], [200, 200])
    assert.is(events.body.events[0].fact, 'lambda.accepted')
    assert.is((await user.change(id, { parameters: { description: 'two' } })).status, 202)
    const again = (await user.get(`/lambdas/${id}`)).body
    assert.equal([again.version, again.parameters.description], [2, 'two'])
    await user.ask('DELETE', `/lambdas/${id}`)
    assert.is((await user.get(`/lambdas/${id}`)).status, 404)
    assert.equal((await user.get(`/lambdas?name=${name}`)).body.lambdas, [])
  }
  house.ports.builds.decide(async (build) => ({ built: true, image: imageOf(build) }))
})

/** The same port, whose watch comes as late as it may: only when it is asked to catch up. */
function late<T>(port: { follow(tell: (value: T) => void): Promise<Following> }): { follow(tell: (value: T) => void): Promise<Following> } {
  return {
    ...port,
    async follow(tell) {
      const held: T[] = []
      const following = await port.follow((value) => held.push(value))
      const give = (): void => held.splice(0).forEach(tell)
      give()
      return { ...following, async caughtUp() { await following.caughtUp(); give() } }
    },
  }
}

test('a status-api in a process of its own shows every change at once, however late its watch is', async () => {
  const ports = await standPorts(house.nats.url)
  const live = await view({ buildRecords: ports.buildRecords, records: { ...ports.records, ...late(ports.records) }, statuses: { ...ports.statuses, ...late(ports.statuses) } }, { atOnce: 2 })
  const apart = statusHttp(ports, live, { maxUnpackedBytes: 2 ** 20, maxEntries: 100 })
  const read = async (path: string): Promise<any> => (await apart.request(path)).json()
  try {
    for (let i = 0; i < 20; i++) {
      const name = `apart-${i}`
      const { body: { lambda_id: id } } = await user.create({ name })
      // Either read is the first to hear of it.
      if (i % 2 === 0) assert.is((await read(`/lambdas/${id}`)).name, name)
      else assert.equal((await read(`/lambdas?name=${name}`)).lambdas.map((l: any) => l.lambda_id), [id])
      await user.change(id, { parameters: { description: 'two' } })
      assert.is((await read(`/lambdas/${id}`)).version, 2)
    }
  } finally {
    live.close()
    await ports.close()
  }
})

test('a list is read page by page, in the order of creation', async () => {
  const made: string[] = []
  for (let i = 0; i < 7; i++) made.push((await user.create({ name: 'paged' })).body.lambda_id)
  const pages: string[][] = []
  for (let cursor: string | null = ''; cursor !== null;) {
    const { body }: { body: any } = await user.get(`/lambdas?name=paged&limit=3${cursor && `&cursor=${cursor}`}`)
    pages.push(body.lambdas.map((l: any) => l.lambda_id))
    cursor = body.cursor
  }
  assert.equal(pages.map((page) => page.length), [3, 3, 1])
  assert.equal(pages.flat(), made)
  assert.is((await user.get('/lambdas?name=paged&limit=7')).body.cursor, null)
})

test('a page goes on where it was, whatever was deleted meanwhile', async () => {
  const made: string[] = []
  for (let i = 0; i < 4; i++) made.push((await user.create({ name: 'shrinks' })).body.lambda_id)
  const { body } = await user.get('/lambdas?name=shrinks&limit=2')
  await user.ask('DELETE', `/lambdas/${made[1]}`)
  const rest = await user.get(`/lambdas?name=shrinks&limit=2&cursor=${body.cursor}`)
  assert.equal(rest.body.lambdas.map((l: any) => l.lambda_id), made.slice(2))
})

test('a list is narrowed by status and by the exact name', async () => {
  const id = await running({ name: 'narrow' }, ownZip('narrow'))
  await user.create({ name: 'narrower' })
  assert.equal((await user.get('/lambdas?name=narrow')).body.lambdas.map((l: any) => l.lambda_id), [id])
  assert.equal((await user.get('/lambdas?name=narrow&status=running')).body.lambdas.length, 1)
  assert.equal((await user.get('/lambdas?name=narrow&status=terminated')).body, { lambdas: [], cursor: null })
  await user.post(`/lambdas/${id}/disable`)
  assert.equal((await user.get('/lambdas?name=narrow&status=not_found')).body.lambdas.map((l: any) => l.alive), [false])
})

test('a bad limit, status or cursor is 400 with the reason', async () => {
  const bad = ['limit=0', 'limit=-1', 'limit=1001', 'limit=x', 'limit=', 'limit=1.5', 'status=up', 'status=', 'cursor=x', 'cursor=', `cursor=${Buffer.from('2026~x').toString('base64url')}`]
  for (const query of bad) {
    const { status, body } = await user.get(`/lambdas?${query}`)
    assert.is(status, 400, query)
    assert.match(body.detail, query.split('=')[0]!)
  }
})

test('another account sees nothing of it', async () => {
  const id = await running({ name: 'private' })
  const stranger = { headers: { 'luna-account-id': 'stranger' } }
  for (const path of ['', '/status', '/logs', '/image/status', '/image/logs', '/events', '/docs']) {
    const answer = await house.statusApi.request(`/lambdas/${id}${path}`, stranger)
    assert.equal([answer.status, ((await answer.json()) as any).error_code], [404, 42001], path)
  }
  assert.equal(await (await house.statusApi.request('/lambdas', stranger)).json(), { lambdas: [], cursor: null })
  await house.ingest.request('/lambdas', { method: 'POST', body: form({ archive: helloZip(), parameters: { name: 'theirs' } }), ...stranger })
  const { lambdas } = (await (await house.statusApi.request('/lambdas', stranger)).json()) as any
  assert.equal(lambdas.map((l: any) => [l.name, l.account]), [['theirs', 'stranger']])
  assert.equal((await user.get('/lambdas?name=theirs')).body.lambdas, [])
})

test('an unknown id is 404 with the platform\'s number', async () => {
  for (const id of [randomUUID(), 'x', '%00']) {
    const { status, body, headers } = await user.get(`/lambdas/${id}`)
    assert.equal([status, body.error_code, headers.get('content-type')], [404, 42001, 'application/problem+json'])
  }
})

test('docs are those of the zip, html or yml by Accept, and can do nothing in kiln\'s name', async () => {
  const id = await running({}, ownZip('docs', { 'docs/lambda.html': '<h1>Mine</h1>', 'docs/lambda.yml': 'mine: 1\n' }))
  for (const [accept, text, type] of [['text/html', '<h1>Mine</h1>', 'text/html'], ['*/*', '<h1>Mine</h1>', 'text/html'], ['application/yaml', 'mine: 1\n', 'application/yaml'], ['text/x-yml', 'mine: 1\n', 'application/yaml']]) {
    const answer = await user.get(`/lambdas/${id}/docs`, { accept: accept! })
    assert.equal([answer.status, answer.text], [200, text], accept)
    assert.match(answer.headers.get('content-type')!, type!)
    assert.match(answer.headers.get('content-security-policy')!, 'sandbox')
  }
  assert.is((await user.get(`/lambdas/${await running()}/docs`)).status, 404)
})

test('docs of an archive that is gone are 410', async () => {
  const zip = ownZip('docs gone', { 'docs/lambda.html': 'x', 'docs/lambda.yml': 'x' })
  const id = await running({}, zip)
  const { versions } = (await user.get(`/lambdas/${id}`)).body
  await house.ports.objects.remove(`archives/${versions[0].archive.digest}.zip`)
  const { status, body } = await user.get(`/lambdas/${id}/docs`)
  assert.equal([status, body.error_code], [410, 42012])
  const change = await user.change(id, { parameters: { name: 'x' } })
  assert.equal([change.status, change.body.error_code], [410, 42012])
})

test.run()
