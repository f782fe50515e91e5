// status-api: facts and logs, as one answer or as they happen.
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { caller, ownZip, seen, type Caller } from './stand/caller.ts'
import { gate } from './stand/await.ts'
import { imageOf } from './stand/platform.ts'
import { site, type Site } from './stand/site.ts'

const test = suite('status-api streams')
let house: Site
let user: Caller

test.before(async () => {
  house = await site()
  user = caller(house.address)
})
test.after(() => house.close())

interface Sent { id: string; event: string; data: any }

/** Server-Sent Events as they come; leaving the loop ends the request. */
async function* stream(path: string, headers: Record<string, string> = {}): AsyncGenerator<Sent> {
  const over = new AbortController()
  const answer = await fetch(house.address + path, { headers: { accept: 'text/event-stream', ...headers }, signal: AbortSignal.any([over.signal, AbortSignal.timeout(10_000)]) })
  assert.is(answer.status, 200)
  assert.match(answer.headers.get('content-type')!, 'text/event-stream')
  let rest = ''
  try {
    for await (const chunk of answer.body!.pipeThrough(new TextDecoderStream())) {
      const parts = (rest + chunk).split('\n\n')
      rest = parts.pop()!
      for (const part of parts) {
        const fields = new Map(part.split('\n').map((line) => [line.slice(0, line.indexOf(':')), line.slice(line.indexOf(':') + 1).trim()] as const))
        if (fields.has('data')) yield { id: fields.get('id')!, event: fields.get('event')!, data: JSON.parse(fields.get('data')!) }
      }
    }
  } finally {
    over.abort()
  }
}

async function until(sent: AsyncGenerator<Sent>, is: (one: Sent) => boolean): Promise<Sent[]> {
  const all: Sent[] = []
  for await (const one of sent) {
    all.push(one)
    if (is(one)) return all
  }
  throw new Error(`it never came; what came: ${all.map((one) => one.event).join(', ')}`)
}

async function running(word: string): Promise<string> {
  const { body } = await user.create({}, ownZip(word))
  await seen(house, body.lambda_id, 'workload.running')
  await seen(house, body.lambda_id, 'workload.applied')
  return body.lambda_id
}

const writer = (id: string, pod: string, run = 0, version = 1) => house.ports.logs.writer({ account: 'default', id, version, kind: 'run' }, pod, run)
async function write(id: string, pod: string, lines: string[], run = 0, version = 1): Promise<void> {
  const to = writer(id, pod, run, version)
  for (const line of lines) to.line(line)
  await to.flush()
}

test('facts are read in order, and on from a cursor', async () => {
  const id = await running('facts')
  const { body } = await user.get(`/lambdas/${id}/events`)
  assert.equal(Object.keys(body), ['events', 'cursor'])
  assert.equal(body.events.map((e: any) => e.fact).slice(0, 5), ['lambda.accepted', 'context.packaged', 'image.queued', 'image.started', 'image.built'])
  for (const event of body.events) assert.equal(Object.keys(event), ['seq', 'fact', 'version', 'time', 'data'])
  const seqs = body.events.map((e: any) => e.seq)
  assert.equal(seqs, [...seqs].sort((a, b) => a - b))
  assert.is(body.cursor, String(seqs.at(-1)))
  const rest = (await user.get(`/lambdas/${id}/events?cursor=${seqs[2]}`)).body
  assert.equal(rest.events.map((e: any) => e.seq), seqs.slice(3))
  assert.equal((await user.get(`/lambdas/${id}/events?cursor=${body.cursor}`)).body, { events: [], cursor: body.cursor })
})

test('facts follow as Server-Sent Events, those to come too, and resume after Last-Event-ID', async () => {
  const id = await running('follow')
  const sent = stream(`/lambdas/${id}/events`)
  const all: Sent[] = []
  for await (const one of sent) {
    all.push(one)
    assert.equal([one.id, one.event], [String(one.data.seq), one.data.fact])
    if (one.event === 'workload.applied' && one.data.version === 1) await user.change(id, { parameters: { name: 'later' } })
    if (one.event === 'workload.running' && one.data.version === 2) break
  }
  assert.ok(all.some((one) => one.event === 'lambda.accepted' && one.data.version === 2))
  const known = (await user.get(`/lambdas/${id}/events`)).body.events
  assert.equal(all.map((one) => one.data), known.slice(0, all.length))
  const resumed = await until(stream(`/lambdas/${id}/events`, { 'last-event-id': all[1]!.id }), (one) => one.id === all.at(-1)!.id)
  assert.equal(resumed, all.slice(2))
})

test('a place to resume at that is no number is 400', async () => {
  const id = await running('bad cursor')
  for (const given of ['x', '-1', '1.5', '']) assert.is((await user.get(`/lambdas/${id}/events?cursor=${given}`)).status, 400, given)
  assert.is((await user.get(`/lambdas/${id}/events`, { 'last-event-id': 'x', accept: 'text/event-stream' })).status, 400)
})

test('logs are read by pod, the last of each when asked, or as text', async () => {
  const id = await running('logs')
  await write(id, 'pod-a', ['a1', 'a2', 'a3'])
  await write(id, 'pod-b', ['b1', 'b2'])
  await write(id, 'pod-a', ['a4', 'ä5 €'])
  const { body } = await user.get(`/lambdas/${id}/logs`)
  assert.equal([body.lambda_id, body.version, body.pods], [id, 1, { 'pod-a': ['a1', 'a2', 'a3', 'a4', 'ä5 €'], 'pod-b': ['b1', 'b2'] }])
  for (const [tail, pods] of [['3', { 'pod-a': ['a3', 'a4', 'ä5 €'], 'pod-b': ['b1', 'b2'] }], ['1', { 'pod-a': ['ä5 €'], 'pod-b': ['b2'] }], ['0', {}]] as const) {
    assert.equal((await user.get(`/lambdas/${id}/logs?tail=${tail}`)).body.pods, pods)
  }
  const text = await user.get(`/lambdas/${id}/logs?tail=1`, { accept: 'text/plain' })
  assert.match(text.headers.get('content-type')!, 'text/plain')
  assert.equal(text.text.split('\n').filter(Boolean).sort(), ['b2', 'ä5 €'])
  for (const tail of ['-1', 'x', '']) assert.is((await user.get(`/lambdas/${id}/logs?tail=${tail}`)).status, 400)
})

test('previous shows the run before the last restart', async () => {
  const id = await running('previous')
  await write(id, 'pod-a', ['run 0'], 0)
  await write(id, 'pod-a', ['run 1'], 1)
  await write(id, 'pod-a', ['run 2'], 2)
  await write(id, 'pod-b', ['never restarted'], 0)
  assert.equal((await user.get(`/lambdas/${id}/logs?previous=true`)).body.pods, { 'pod-a': ['run 1'] })
})

test('logs follow: what is there, then the lines that come later, and resume', async () => {
  const id = await running('later lines')
  await write(id, 'pod-a', ['before'])
  const all: Sent[] = []
  for await (const one of stream(`/lambdas/${id}/logs?follow=true`)) {
    all.push(one)
    assert.equal([one.event, one.id, one.data.pod], ['log', String(one.data.seq), 'pod-a'])
    if (all.length === 1) await write(id, 'pod-a', ['after 1'])
    if (all.length === 2) await write(id, 'pod-a', ['after 2'])
    if (all.length === 3) break
  }
  assert.equal(all.map((one) => one.data.lines), [['before'], ['after 1'], ['after 2']])
  const resumed = await until(stream(`/lambdas/${id}/logs`, { 'last-event-id': all[0]!.id }), (one) => one.id === all[2]!.id)
  assert.equal(resumed.map((one) => one.data.lines), [['after 1'], ['after 2']])
})

test('the logs of a lambda are those of the version that ran last, or of the one that is asked for', async () => {
  const id = await running('versions')
  await write(id, 'pod-1', ['of 1'])
  await user.change(id, { parameters: { name: 'two' } })
  await seen(house, id, 'workload.running', 2)
  await write(id, 'pod-2', ['of 2'], 0, 2)
  assert.equal((await user.get(`/lambdas/${id}/logs`)).body.pods, { 'pod-2': ['of 2'] })
  assert.equal((await user.get(`/lambdas/${id}/logs?version=1`)).body.pods, { 'pod-1': ['of 1'] })
  for (const version of ['9', 'x', '']) assert.is((await user.get(`/lambdas/${id}/logs?version=${version}`)).status, 404)
})

test('image logs are what the build printed, also for a version that took the image over', async () => {
  const id = await running('image logs')
  const [line] = (await user.get(`/lambdas/${id}/image/logs`)).body.pods.build
  assert.match(line, 'building ')
  await user.change(id, { parameters: { name: 'same image' } })
  await seen(house, id, 'workload.running', 2)
  assert.equal((await user.get(`/lambdas/${id}/image/logs`)).body.pods.build, [line])
})

test('image logs follow while the build runs', async () => {
  const { promise, open: resolve } = gate()
  house.ports.builds.decide(async (build) => { await promise; return { built: true, image: imageOf(build) } })
  const { body: { lambda_id: id } } = await user.create({}, ownZip('image follow'))
  for await (const one of stream(`/lambdas/${id}/image/logs?follow=1`)) {
    assert.match(one.data.lines[0], 'building ')
    break
  }
  resolve()
  await seen(house, id, 'image.built')
  house.ports.builds.decide(async (build) => ({ built: true, image: imageOf(build) }))
})

test.run()
