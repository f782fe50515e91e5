// Commands over NATS, as another system sends them with nothing but a NATS client.
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { randomUUID } from 'node:crypto'
import { connect, headers, type JetStreamClient, type JsMsg, type NatsConnection } from 'nats'
import { obeyCommands } from '../services/ingest/commands.ts'
import { ingest } from '../services/ingest/index.ts'
import { caller, factsOf, ownZip, seen, type Caller } from './stand/caller.ts'
import { fact } from './stand/await.ts'
import { imageOf } from './stand/platform.ts'
import { standPorts } from './stand/ports.ts'
import { ownBuilds } from '../services/ingest/builds.ts'
import { buildRules, capabilities, site, type Site } from './stand/site.ts'

const test = suite('commands over NATS')
let house: Site
let user: Caller
let nc: NatsConnection
let js: JetStreamClient

test.before(async () => {
  house = await site({ examine: async (archive) => (archive.includes('bad') ? [{ code: 'NoLambdaMain', message: 'None.', fix: 'Add one.' }] : []) })
  user = caller(house.address)
  nc = await connect({ servers: house.nats.url })
  js = nc.jetstream()
})
test.after(async () => {
  await nc.close()
  await house.close()
})

interface Sent { id?: string; subject?: string; account?: string; traceparent?: string; msgID?: string }

async function send(verb: string, body: unknown, { id, subject, account = 'default', traceparent, msgID }: Sent = {}): Promise<void> {
  const h = headers()
  const given = { 'ce-specversion': '1.0', 'ce-type': `lambda.commands.${verb}`, 'ce-source': '/test', 'ce-id': id, 'ce-subject': subject, traceparent }
  if (id) for (const [name, value] of Object.entries(given)) if (value) h.set(name, value)
  await js.publish(`lambda.commands.${account}.${verb}`, typeof body === 'string' ? body : JSON.stringify(body), { ...(id && { headers: h }), ...(msgID && { msgID }) })
}

async function stored(word: string): Promise<string> {
  const bucket = await js.views.os('senders')
  await bucket.putBlob({ name: `${word}.zip` }, word === 'bad' ? Buffer.from('bad') : ownZip(word))
  return `nats://senders/${word}.zip`
}

/** The first such message on a subject of a stream, also when it is there already. One that never comes is a failure. */
async function first(stream: string, subject: string, is: (message: JsMsg) => boolean): Promise<JsMsg> {
  const consumer = await js.consumers.get(stream, { filterSubjects: subject })
  const messages = await consumer.consume()
  const timer = setTimeout(() => messages.stop(), 10_000)
  try {
    for await (const message of messages) if (is(message)) return message
  } finally {
    clearTimeout(timer)
    await messages.close()
  }
  throw new Error(`no such message came on ${subject}`)
}

/** The rejection of this command, of whatever lambda. */
const rejection = (id: string, account = 'default'): Promise<JsMsg> => first('EVENTS', `lambda.events.${account}.*.lambda.rejected`, (message) => message.headers?.get('ce-cause') === id)

test('a create makes a lambda, its facts carry the command id and the trace', async () => {
  const id = randomUUID()
  const traceparent = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01'
  await send('create', { lambda_id: id, archive: await stored('create'), parameters: { name: 'commanded' } }, { id: 'c-1', subject: id, traceparent })
  const applied = await seen(house, id, 'workload.applied')
  assert.equal([applied.cause, applied.traceparent], ['c-1', traceparent])
  assert.is((await user.get(`/lambdas/${id}`)).body.name, 'commanded')
})

test('a command needs no CloudEvents headers', async () => {
  const id = randomUUID()
  await send('create', { lambda_id: id, archive: await stored('bare') })
  await fact(house.ports, id, 'workload.running')
})

test('a create without an id gets one, the same whenever the command is delivered', async () => {
  const archive = await stored('no id')
  await send('create', { archive, parameters: { name: 'no-id' } }, { id: 'no-id-1' })
  await send('create', { archive, parameters: { name: 'no-id' } }, { id: 'no-id-1' })
  await send('create', { archive, parameters: { name: 'no-id' } }, { id: 'no-id-2' })
  const last = await first('EVENTS', 'lambda.events.default.*.lambda.accepted', (message) => message.headers?.get('ce-cause') === 'no-id-2')
  await seen(house, last.headers!.get('ce-subject'), 'lambda.accepted')
  assert.is((await user.get('/lambdas?name=no-id')).body.lambdas.length, 2)
})

test('one create that two replicas obey at once makes one lambda and no rejection', async () => {
  const ports = await standPorts(house.nats.url)
  const service = ingest(ports, { can: capabilities, maxArchiveBytes: 2 ** 20, mostWaiting: 1_000, examine: async () => [] })
  const other = await obeyCommands(ports, service, await ownBuilds(ports, buildRules))
  const archive = await stored('twice')
  const ids = Array.from({ length: 20 }, () => randomUUID())
  await Promise.all(ids.flatMap((id) => [0, 1].map(() => send('create', { lambda_id: id, archive }, { id: `twice-${id}` }))))
  for (const id of ids) await fact(house.ports, id, 'workload.running')
  // The queue is empty only when both deliveries of each are settled.
  await other.stop()
  for (const id of ids) assert.equal((await factsOf(house, id)).filter((f) => f.startsWith('lambda.')), ['lambda.accepted 1'])
  await ports.close()
})

test('every verb does what its HTTP request does', async () => {
  const id = randomUUID()
  await send('create', { lambda_id: id, archive: await stored('verbs') })
  await seen(house, id, 'workload.running', 1)
  await send('update', { lambda_id: id, parameters: { name: 'updated' } })
  await seen(house, id, 'workload.running', 2)
  await send('update', { lambda_id: id, archive: await stored('verbs 2') })
  await seen(house, id, 'workload.running', 3)
  await send('rollback', { lambda_id: id, version: 2 })
  await seen(house, id, 'workload.running', 4)
  await send('disable', { lambda_id: id })
  await seen(house, id, 'lambda.disabled')
  assert.is((await user.get(`/lambdas/${id}`)).body.alive, false)
  await send('enable', { lambda_id: id })
  await seen(house, id, 'lambda.enabled')
  house.ports.builds.decide(() => new Promise(() => undefined))
  await send('update', { lambda_id: id, archive: await stored('verbs 3') })
  await seen(house, id, 'image.started', 5)
  await send('cancel', { lambda_id: id })
  await seen(house, id, 'lambda.cancelled', 5)
  const { name, state, serving_version } = (await user.get(`/lambdas/${id}`)).body
  assert.equal([name, state, serving_version], ['updated', 'cancelled', 4])
  await send('delete', { lambda_id: id })
  await seen(house, id, 'lambda.deleted')
  assert.is((await user.get(`/lambdas/${id}`)).status, 404)
})

test('an update may rebase: a new version through every stage, of the same archive and parameters', async () => {
  const id = randomUUID()
  const reference = (word: string): string => `registry.example/base@sha256:${word}`
  const baseIs = (word: string): void => house.ports.bases.decide(async () => ({ base: { reference: reference(word), platform: 'linux/amd64', runtime: null, triggers: false } }))
  house.ports.builds.decide(async (build) => ({ built: true, image: imageOf(build) }))
  baseIs('old')
  await send('create', { lambda_id: id, archive: await stored('rebased'), parameters: { name: 'rebased' } })
  await seen(house, id, 'workload.running', 1)
  baseIs('new')
  await send('update', { lambda_id: id, rebase: true })
  await seen(house, id, 'workload.running', 2)
  const { name, versions } = (await user.get(`/lambdas/${id}`)).body
  assert.equal([name, versions.map((v: any) => v.base.reference), versions[0].archive], ['rebased', ['old', 'new'].map(reference), versions[1].archive])
  assert.equal((await factsOf(house, id)).filter((f) => /^(context|image).* 2$/.test(f)), ['context.packaged 2', 'image.queued 2', 'image.started 2', 'image.built 2'])
  await send('update', { lambda_id: id, rebase: 'yes' }, { id: 'rebase-yes' })
  const { error_code, errors } = (await rejection('rebase-yes')).json<{ error_code: number; errors: Array<{ field: string; message: string }> }>()
  assert.equal([error_code, errors.map((e) => [e.field, e.message])], [42005, [['rebase', 'rebase must be true or false.']]])
  await send('update', { lambda_id: id, rebase: false, parameters: { description: 'three' } })
  await seen(house, id, 'workload.running', 3)
  assert.equal((await factsOf(house, id)).filter((f) => /^(context|image).* 3$/.test(f)), [])
  house.ports.bases.decide(async () => ({ base: null }))
})

test('a refused command is rejected with the findings that HTTP answers', async () => {
  const id = randomUUID()
  const parameters = { lambda_id: id, colour: 'red', deploy_parameters: { pod_count: -1 } }
  const archive = await stored('bad')
  const http = await user.post('/lambdas', { json: { archive, parameters } })
  const { lambda_id: _, ...rest } = parameters
  await send('create', { lambda_id: id, archive, parameters: rest }, { id: 'refused-1' })
  const message = await rejection('refused-1')
  const body = message.json<{ error_code: number; detail: string; errors: unknown }>()
  assert.equal([body.error_code, body.detail, body.errors], [http.body.error_code, http.body.detail, http.body.errors])
  assert.is(message.subject, `lambda.events.default.${id}.lambda.rejected`)
  assert.is(message.headers!.get('ce-type'), 'lambda.rejected')
  assert.is((message.json() as { cause?: string }).cause ?? message.headers!.get('ce-cause'), 'refused-1')
})

test('a rejection names the lambda where it can be told, else `unknown`', async () => {
  const id = randomUUID()
  const cases = [['update', { lambda_id: id, parameters: {} }, id], ['delete', {}, 'unknown'], ['delete', { lambda_id: 'x.y' }, 'unknown'], ['cancel', { lambda_id: 7 }, 'unknown'], ['enable', { lambda_id: id, colour: 1 }, id]] as const
  for (const [i, [verb, body, expected]] of cases.entries()) {
    await send(verb, body, { id: `told-${i}` })
    assert.is((await rejection(`told-${i}`)).subject.split('.')[3], expected, verb)
  }
})

test('parameters that are no object are rejected, and so are those without end', async () => {
  const archive = await stored('odd')
  for (const [i, parameters] of [[], 'text', 5].entries()) {
    await send('create', { archive, parameters }, { id: `odd-${i}` })
    assert.is((await rejection(`odd-${i}`)).json<{ error_code: number }>().error_code, 42005)
  }
  await send('create', `{"archive":"${archive}","parameters":{"user_config":${'{"a":'.repeat(9_000)}1${'}'.repeat(9_000)}}}`, { id: 'odd-deep' })
  assert.is((await rejection('odd-deep')).json<{ errors: Array<{ code: string }> }>().errors[0]!.code, 'ParametersTooDeep')
})

test('unknown verbs and unreadable messages leave the queue, are rejected, and are kept in REFUSED', async () => {
  const id = randomUUID()
  for (const [i, [verb, body]] of ([['explode', '{}'], ['create', '{'], ['create', '[]'], ['create', '']] as const).entries()) {
    const cause = `unreadable-${i}`
    await send(verb, body, { id: cause, subject: id })
    const rejected = await rejection(cause)
    assert.is(rejected.subject, `lambda.events.default.${id}.lambda.rejected`, verb)
    const kept = await first('REFUSED', 'lambda.refused.COMMANDS', (message) => message.headers?.get('kiln-subject') === `lambda.commands.default.${verb}` && message.string() === body)
    assert.ok(kept.headers!.get('kiln-reason'))
  }
  // What comes later is obeyed all the same.
  const next = randomUUID()
  await send('create', { lambda_id: next, archive: await stored('after') })
  await fact(house.ports, next, 'lambda.accepted')
  assert.match((await user.get('/metrics')).text, /kiln_refused_total\{stage="ingest"\} 4/)
})

test('the account is the one of the subject', async () => {
  const id = randomUUID()
  await send('create', { lambda_id: id, archive: await stored('acme') }, { account: 'acme', id: 'acme-1' })
  const accepted = await fact(house.ports, id, 'lambda.accepted')
  assert.is(accepted.account, 'acme')
  await send('delete', { lambda_id: id }, { account: 'thief', id: 'thief-1' })
  const rejected = await rejection('thief-1', 'thief')
  assert.is(rejected.json<{ error_code: number }>().error_code, 42001)
  const read = (account: string) => house.statusApi.request(`/lambdas/${id}/events`, { headers: { 'luna-account-id': account } })
  const { events } = await (await read('acme')).json() as { events: Array<{ fact: string }> }
  assert.not.ok(events.some((e) => e.fact === 'lambda.rejected'), 'what another account was refused is nobody else\'s')
  assert.is((await read('thief')).status, 404)
})

test.run()
