// ingest over HTTP: what it refuses, in words that say everything at once.
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { randomUUID } from 'node:crypto'
import { request } from 'node:http'
import type { Finding } from '../shared/finding.ts'
import { caller, form, ownZip, type Answer, type Caller } from './stand/caller.ts'
import { helloZip, site, type Site } from './stand/site.ts'

const test = suite('ingest refuses')
const maxArchiveBytes = 64 * 1024
let house: Site
let user: Caller

const noMain: Finding = { code: 'NoLambdaMain', message: 'There is none.', fix: 'Add one.', file: 'lambda_main.py' }
const badLine: Finding = { code: 'SyntaxError', message: 'Line 3.', fix: 'Mend it.', file: 'lambda_main.py', line: 3 }

test.before(async () => {
  house = await site({ maxArchiveBytes, examine: async (archive) => (archive.includes('bad') ? [noMain, badLine] : []) })
  user = caller(house.address)
})
test.after(() => house.close())

const codes = ({ body }: Answer): string[] => body.errors.map((e: Finding) => e.code)
const fields = ({ body }: Answer): string[] => body.errors.map((e: Finding) => e.field)

function isProblem(answer: Answer, status: number, errorCode?: number): void {
  assert.is(answer.status, status, answer.text)
  assert.match(answer.headers.get('content-type')!, 'application/problem+json')
  assert.is(answer.body.status, status)
  assert.is(answer.body.request_id, answer.headers.get('luna-request-id'))
  assert.ok(answer.body.title && answer.body.detail)
  assert.is(answer.body.error_code, errorCode)
}

test('all that is wrong with the archive and the parameters is said at once', async () => {
  const answer = await user.create({ colour: 'red', name: '', deploy_parameters: { pod_count: 'many', gpu: true }, user_docker_commands: [1] }, Buffer.from('bad'))
  isProblem(answer, 400, 42005)
  assert.equal(new Set(codes(answer)), new Set(['UnknownParameter', 'BadParameter', 'NoLambdaMain', 'SyntaxError']))
  assert.equal(new Set(fields(answer).filter(Boolean)), new Set(['colour', 'name', 'deploy_parameters.pod_count', 'deploy_parameters.gpu', 'user_docker_commands.0']))
  assert.equal(answer.body.errors.find((e: Finding) => e.line === 3), badLine)
  assert.ok(answer.body.errors.every((e: Finding) => e.message && e.fix))
})

test('what the platform cannot do is refused together with what is wrong with the archive', async () => {
  const answer = await user.create({ user_docker_commands: ['RUN true'], deploy_parameters: { secrets: { A: { name: 'n', key: 'k' } } } }, Buffer.from('bad'))
  assert.equal(codes(answer), ['DockerCommandsNotPossible', 'SecretsNotPossible', 'NoLambdaMain', 'SyntaxError'])
})

test('a refused change leaves the lambda as it was', async () => {
  const { body: { lambda_id: id } } = await user.create({ name: 'stays' })
  isProblem(await user.change(id, { archive: Buffer.from('bad'), parameters: { colour: 1 } }), 400, 42005)
  isProblem(await user.change(id, { parameters: { lambda_id: randomUUID() } }), 400, 42005)
  const { version, name } = (await user.get(`/lambdas/${id}`)).body
  assert.equal([version, name], [1, 'stays'])
  assert.is((await user.change(id, { parameters: { lambda_id: id } })).status, 200)
})

test('nothing that was refused is kept', async () => {
  await user.create({ name: 'refused', colour: 1 }, ownZip('refused'))
  assert.equal((await user.get('/lambdas?name=refused')).body.lambdas, [])
})

test('unknown fields of the body are refused by name', async () => {
  const body = form({ archive: helloZip() })
  body.set('name', 'x')
  body.set('other', 'y')
  assert.equal(fields(await user.post('/lambdas', { body })), ['name', 'other'])
  assert.equal(fields(await user.post('/lambdas', { json: { archive: 'sha256:0', colour: 1, params: {} } })), ['colour', 'params'])
})

test('an archive that is missing, is text or lies nowhere is said so', async () => {
  const text = new FormData()
  text.set('archive', 'PK')
  const absent = `sha256:${'0'.repeat(64)}`
  const questions = [
    user.create({}, null), user.post('/lambdas', { body: text }), user.post('/lambdas', { json: {} }), user.post('/lambdas', { json: { archive: null } }),
    ...['nats://no-such-bucket/name', 'nats://kiln/no-such-name', 'nats://kiln', absent, 'sha256:abc', 'file:///etc/passwd', 'http://127.0.0.1/', ''].map((archive) => user.post('/lambdas', { json: { archive } })),
  ]
  for (const answer of await Promise.all(questions)) {
    isProblem(answer, 400, 42005)
    assert.equal(codes(answer), ['NoArchive'])
  }
})

test('asking for an address makes no bucket', async () => {
  await user.post('/lambdas', { json: { archive: 'nats://never-made/name' } })
  const { connect } = await import('nats')
  const nc = await connect({ servers: house.nats.url })
  const jsm = await nc.jetstreamManager()
  assert.not.ok((await jsm.streams.list().next()).some((stream) => stream.config.name === 'OBJ_never-made'))
  await nc.close()
})

test('another content type is 415', async () => {
  for (const type of ['text/plain', 'application/zip', 'application/x-www-form-urlencoded', 'application/jsonx']) {
    isProblem(await user.post('/lambdas', { headers: { 'content-type': type }, body: 'x' }), 415)
  }
})

test('a multipart body that is broken off, or without its boundary, is refused', async () => {
  const start = '--B\r\ncontent-disposition: form-data; name="archive"; filename="a.zip"\r\n\r\nPK'
  for (const [type, body] of [['multipart/form-data; boundary=B', start], ['multipart/form-data; boundary=C', `${start}\r\n--B--\r\n`], ['multipart/form-data', start], ['multipart/form-data; boundary=B', '']]) {
    const answer = await user.post('/lambdas', { headers: { 'content-type': type! }, body: body! })
    isProblem(answer, 400, 42005)
    assert.ok(['BadMultipart', 'NoArchive'].includes(codes(answer)[0]!), answer.text)
  }
})

test('broken JSON is refused, in the body and in the multipart field', async () => {
  const texts = ['', '{', '[]', 'null', '"text"', '{"a":1,}', '1']
  for (const text of texts) {
    for (const answer of [await user.post('/lambdas', { json: text }), await user.create(text)]) {
      isProblem(answer, 400, 42005)
      assert.equal(codes(answer), ['BadJson'], text)
    }
  }
})

test('parameters that are no object are refused', async () => {
  const archive = `sha256:${'0'.repeat(64)}`
  await house.ports.objects.put(`archives/${'0'.repeat(64)}.zip`, helloZip())
  for (const parameters of [[], 'text', 5, true]) isProblem(await user.post('/lambdas', { json: { archive, parameters } }), 400, 42005)
})

test('JSON without end is refused, and never brings kiln down', async () => {
  const deep = (n: number): string => `${'{"a":'.repeat(n)}1${'}'.repeat(n)}`
  const { body: { lambda_id: id } } = await user.create()
  for (const n of [1_000, 7_000, 20_000, 100_000]) {
    const text = `{"user_config":${deep(n)}}`
    for (const answer of [await user.create(text), await user.ask('PUT', `/lambdas/${id}`, { body: form({ parameters: text }) }), await user.ask('PUT', `/lambdas/${id}`, { json: `{"parameters":${text}}` })]) isProblem(answer, 400, 42005)
  }
  assert.is((await user.get('/healthz')).status, 200)
})

test('names that mean something to JavaScript are refused or kept as plain data', async () => {
  const { body: { lambda_id: id } } = await user.create()
  for (const answer of [
    await user.create('{"__proto__":{"name":"x"}}'), await user.create('{"constructor":1}'), await user.create('{"deploy_parameters":{"__proto__":{"pod_count":9}}}'),
    await user.post('/lambdas', { json: '{"__proto__":1}' }), await user.ask('PUT', `/lambdas/${id}`, { body: form({ parameters: '{"__proto__":{"name":"x"}}' }) }),
  ]) isProblem(answer, 400, 42005)
  assert.is(({} as Record<string, unknown>)['name'], undefined)
  const config = '{"constructor":{"prototype":1},"toString":"x"}'
  assert.is((await user.ask('PUT', `/lambdas/${id}`, { body: form({ parameters: `{"user_config":${config}}` }) })).status, 202)
  assert.is(JSON.stringify((await user.get(`/lambdas/${id}`)).body.parameters.user_config), config)
})

test('an archive beyond the limit is 413', async () => {
  isProblem(await user.create({}, Buffer.alloc(maxArchiveBytes + 1)), 413, 42005)
  const { connect } = await import('nats')
  const nc = await connect({ servers: house.nats.url })
  await (await nc.jetstream().views.os('large')).putBlob({ name: 'large' }, Buffer.alloc(maxArchiveBytes + 1))
  await nc.close()
  isProblem(await user.post('/lambdas', { json: { archive: 'nats://large/large' } }), 413, 42005)
  assert.is((await user.create({}, Buffer.alloc(maxArchiveBytes))).status, 202)
})

test('a body beyond the limit is 413 before it is read, when its length says so', async () => {
  const answer = await raw({ 'content-length': String(2 ** 30) }, [Buffer.from('--B')])
  assert.equal([answer.status, answer.body.error_code], [413, 42005])
})

test('a body beyond the limit is 413 also when it comes in pieces without a length', async () => {
  const answer = await raw({ 'transfer-encoding': 'chunked' }, Array.from({ length: 40 }, () => Buffer.alloc(64 * 1024)))
  assert.equal([answer.status, answer.body.error_code], [413, 42005])
})

test('an id that is no uuid names nothing', async () => {
  for (const id of ['1', 'lambda', '..%2f', `${randomUUID()}x`]) isProblem(await user.ask('DELETE', `/lambdas/${id}`), 404, 42001)
  const answer = await user.create({ lambda_id: 'mine' })
  assert.equal([answer.status, fields(answer)], [400, ['lambda_id']])
})

test('a change of nothing is refused', async () => {
  const { body: { lambda_id: id } } = await user.create()
  for (const answer of [await user.ask('PUT', `/lambdas/${id}`, { json: {} }), await user.ask('PUT', `/lambdas/${id}`, { body: form({}) })]) assert.is(answer.status, 400)
})

/** A request whose body never ends by itself. */
function raw(headers: Record<string, string>, pieces: Buffer[]): Promise<{ status: number; body: any }> {
  return new Promise((resolve, reject) => {
    const asking = request(`${house.address}/lambdas`, { method: 'POST', headers: { 'content-type': 'multipart/form-data; boundary=B', ...headers } }, (answer) => {
      const chunks: Buffer[] = []
      answer.on('data', (chunk: Buffer) => chunks.push(chunk)).on('end', () => {
        asking.destroy()
        resolve({ status: answer.statusCode!, body: JSON.parse(Buffer.concat(chunks).toString()) })
      }).on('error', reject)
    })
    asking.on('error', reject)
    for (const piece of pieces) asking.write(piece)
  })
}

test.run()
