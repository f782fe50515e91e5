// Builds of their own, over HTTP: an archive with a Dockerfile becomes an image, is followed, ended and forgotten; and how they wait.
// Longer than 250 lines: a case for each promise of theirs.
import { randomUUID } from 'node:crypto'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { contextName } from '../shared/objects.ts'
import { writeZip } from '../shared/zip.ts'
import { fact, gate } from './stand/await.ts'
import { caller, form, ownZip, seen, type Answer, type Caller } from './stand/caller.ts'
import { standImageBuilds, type StandImageBuilds } from './stand/platform.ts'
import { site, type Site, type SiteOptions } from './stand/site.ts'

const archive = (word = 'hello', files: Record<string, string> = { Dockerfile: 'FROM scratch\nCOPY word /\n' }): Buffer => writeZip(new Map(Object.entries({ word, ...files })))

interface Context {
  house: Site
  images: StandImageBuilds
  user: Caller
}

const builder = suite<Context>('builds')
builder.before.each(async (context) => {
  const images = standImageBuilds()
  Object.assign(context, await open({ imageBuilds: images, can: { namespaces: ['default', 'team'] } }), { images })
})
builder.after.each(({ house }) => house.close())

async function open(options: SiteOptions): Promise<Pick<Context, 'house' | 'user'>> {
  const house = await site(options)
  return { house, user: caller(house.address) }
}

const send = (user: Caller, parameters: unknown = { image_name: 'team/app' }, of: Buffer | null = archive(), headers: Record<string, string> = {}): Promise<Answer> =>
  user.post('/builds', { body: form({ archive: of, parameters }), headers })

async function accepted(user: Caller, parameters?: unknown, of?: Buffer): Promise<string> {
  const { status, body, headers } = await send(user, parameters, of)
  assert.is(status, 202, JSON.stringify(body))
  assert.is(headers.get('location'), `/builds/${body.build_id}`)
  return body.build_id
}

type Gate = ReturnType<typeof gate<void>>

/** Builds begin, and end when each is told to. */
function held(images: StandImageBuilds): { begun(name: string): Promise<void>; end(name: string): void } {
  const gates = new Map<string, { begun: Gate; over: Gate }>()
  const of = (name: string) => {
    const one = gates.get(name) ?? { begun: gate(), over: gate() }
    gates.set(name, one)
    return one
  }
  images.decide(async ({ image: { name }, context: { digest } }) => {
    of(name).begun.open()
    await of(name).over.promise
    return { built: true, image: { reference: `stand/${name}@sha256:${digest}`, digest: `sha256:${digest}` } }
  })
  return { begun: (name) => of(name).begun.promise, end: (name) => of(name).over.open() }
}

builder('an archive becomes an image, and its status, facts and log say so', async ({ house, images, user }) => {
  const id = await accepted(user, { image_name: 'team/app', tag: '1.0', build_args: { WHO: 'me' }, timeout: 30, namespace: 'team', selector: { disk: 'ssd' }, resources: { memory: '1Gi' } })
  const built = await seen(house, id, 'image.built')
  const [build] = images.ran
  assert.equal(build, {
    id, account: 'default', context: { name: contextName(build!.context.digest), digest: build!.context.digest, bytes: (build!.context as { bytes?: number }).bytes }, image: { name: 'team/app', tag: '1.0' },
    args: { WHO: 'me' }, limits: { memory: '1Gi' }, namespace: 'team', selector: { disk: 'ssd' }, timeoutMs: 30_000,
  })
  const { body } = await user.get(`/builds/${id}`)
  assert.equal([body.build_id, body.account, body.image_name, body.tag, body.status, body.state, body.reference, body.digest, body.failure, body.priority], [id, 'default', 'team/app', '1.0', 'completed', 'built', built.data.image.reference, built.data.image.digest, null, 'person'])
  assert.equal(body.parameters.build_args, { WHO: 'me' })
  assert.equal(body.timeline.map((m: { fact: string }) => m.fact), ['image.queued', 'image.started', 'image.built'])
  assert.equal((await user.get(`/builds/${id}/status`)).body.status, 'completed')
  assert.equal((await user.get(`/builds/${id}/logs`)).body, { build_id: id, pods: { build: ['building team/app:1.0'] }, cursor: (await user.get(`/builds/${id}/logs`)).body.cursor })
  assert.equal((await user.get(`/builds/${id}/events`)).body.events.map((one: { fact: string }) => one.fact), ['image.queued', 'image.started', 'image.built'])
  assert.is(built.kind, 'build')
  // It is no lambda.
  assert.equal([(await user.get(`/lambdas/${id}`)).status, (await user.get('/lambdas')).body.lambdas], [404, []])
})

builder('everything that is wrong is said at once, before anything starts', async ({ images, user }) => {
  const { status, body } = await send(user, { image_name: 'Team', tag: '-', colour: 'red' }, archive('x', { 'app/Dockerfile': 'FROM scratch\n' }))
  assert.is(status, 400)
  assert.equal(body.errors.map((one: { code: string; field?: string }) => one.field ?? one.code).sort(), ['NoDockerfile', 'colour', 'image_name', 'tag'])
  assert.match(body.detail, 'things are wrong with this build')
  for (const [parameters, of, code] of [
    [{}, archive(), 'BadParameter'], [{ image_name: 'lambda-x' }, archive(), 'BadParameter'], [{ image_name: 'a' }, Buffer.from('no archive'), 'NotAnArchive'], [{ image_name: 'a' }, null, 'NoArchive'],
    [{ image_name: 'a', namespace: 'elsewhere' }, archive(), 'NamespaceNotServed'], [{ image_name: 'a', image_builder: 'local_kaniko' }, archive(), 'ImageBuilderNotAllowed'],
  ] as const) {
    const refused = await send(user, parameters, of)
    assert.equal([refused.status, refused.body.errors[0].code], [400, code], JSON.stringify(refused.body))
  }
  assert.equal([images.ran, (await user.get('/builds')).body], [[], { builds: [], cursor: null }])
})

builder('an archive may be named instead of sent', async ({ house, user }) => {
  await house.ports.objects.put('mine.zip', archive('by name'))
  const { status, body } = await user.post('/builds', { json: { archive: 'nats://kiln/mine.zip', parameters: { image_name: 'named' } } })
  assert.is(status, 202, JSON.stringify(body))
  await fact(house.ports, body.build_id, 'image.built')
  assert.match((await user.post('/builds', { json: { archive: 'nats://kiln/none.zip', parameters: { image_name: 'named' } } })).body.detail, 'There is no archive at nats://kiln/none.zip')
})

builder('a build that fails says why, and the log says more', async ({ house, images, user }) => {
  images.decide(async (_, { line }) => {
    line('no such thing')
    return { built: false, again: false, failure: { cause: 'user', reason: 'CommandFailed', message: 'RUN make ended with exit code 2.', log: ['no such thing'] } }
  })
  const id = await accepted(user)
  await seen(house, id, 'image.failed')
  const { body } = await user.get(`/builds/${id}`)
  assert.equal([body.status, body.state, body.reason, body.message, body.failure.log], ['error', 'failed', 'CommandFailed', 'RUN make ended with exit code 2.', ['no such thing']])
})

builder('one is cancelled, and one that has ended is not', async ({ house, images, user }) => {
  const at = held(images)
  const id = await accepted(user, { image_name: 'slow' })
  await at.begun('slow')
  assert.is((await user.post(`/builds/${id}/cancel`)).status, 202)
  await seen(house, id, 'image.cancelled')
  const { body } = await user.get(`/builds/${id}`)
  assert.equal([body.status, body.state, body.reason], ['not_found', 'cancelled', 'Cancelled'])
  const again = await user.post(`/builds/${id}/cancel`)
  assert.equal([again.status, again.body.detail], [409, `Nothing of build ${id} is in flight: it is cancelled.`])
})

builder('one that is deleted is unknown, its logs are gone, and its archive is garbage', async ({ house, user }) => {
  const id = await accepted(user, { image_name: 'short' })
  await seen(house, id, 'image.built')
  assert.is((await house.garbage.lookFor()).unneeded.length, 0)
  assert.is((await user.ask('DELETE', `/builds/${id}`)).status, 202)
  for (const path of ['', '/status', '/logs', '/events']) assert.is((await user.get(`/builds/${id}${path}`)).status, 404)
  assert.is((await user.ask('DELETE', `/builds/${id}`)).status, 404)
  await fact(house.ports, id, 'image.forgotten')
  assert.equal((await house.garbage.lookFor()).unneeded.map(({ kind }) => kind), ['context'])
})

builder('of those that wait to become the same image the newest takes the place of the others', async ({ house, images, user }) => {
  const at = held(images)
  const [first, second] = [await accepted(user, { image_name: 'one' }), await accepted(user, { image_name: 'two' })]
  await Promise.all([at.begun('one'), at.begun('two')])
  const running = await accepted(user, { image_name: 'one' }, archive('newer'))
  const other = await accepted(user, { image_name: 'one', tag: 'other' }, archive('newer'))
  const newest = await accepted(user, { image_name: 'one' }, archive('newest'))
  await seen(house, running, 'image.cancelled')
  const { body } = await user.get(`/builds/${running}`)
  assert.equal([body.state, body.reason, body.message], ['cancelled', 'Superseded', `Build ${newest} of one:latest came after it and takes its place.`])
  at.end('one')
  at.end('two')
  await Promise.all([first, second, other, newest].map((id) => fact(house.ports, id, 'image.built')))
  assert.equal(images.ran.map(({ id }) => id).sort(), [first, second, other, newest].sort())
})

builder('whoever waits knows the place, and after the first builds about when; as events, too', async ({ house, images, user }) => {
  const at = held(images)
  const ids = []
  for (const name of ['a', 'b', 'c', 'd']) ids.push(await accepted(user, { image_name: name }))
  await Promise.all([at.begun('a'), at.begun('b')])
  await Promise.all(ids.map((id) => seen(house, id, 'image.queued')))
  const { body } = await user.get(`/builds/${ids[3]}`)
  assert.equal([body.status, body.state, body.queue_position, body.expected_start, body.message], ['pending', 'queued', 2, null, 'It waits for a builder at place 2.'])
  const over = new AbortController()
  const stream = await fetch(`${house.address}/builds/${ids[3]}/events`, { headers: { accept: 'text/event-stream' }, signal: over.signal })
  const told: string[] = []
  let text = ''
  at.end('a')
  for await (const chunk of stream.body!) {
    text += Buffer.from(chunk).toString()
    told.splice(0, told.length, ...[...text.matchAll(/event: queue\ndata: (.*)\n/g)].map(([, data]) => data!))
    if (told.length === 2) at.end('b')
    if (text.includes('event: image.started')) break
  }
  over.abort()
  assert.equal(told.map((one) => JSON.parse(one).queue_position), [2, 1])
  assert.ok(Date.parse(JSON.parse(told[1]!).expected_start) > 0)
  at.end('c')
  at.end('d')
  await Promise.all(ids.map((id) => fact(house.ports, id, 'image.built')))
})

builder('lists are of one account, by status and by name, in pages', async ({ house, user }) => {
  const ids = []
  for (const name of ['a', 'b', 'a']) ids.push(await accepted(user, { image_name: name }, archive(randomUUID())))
  await Promise.all(ids.map((id) => seen(house, id, 'image.built')))
  const list = async (query: string): Promise<string[]> => (await user.get(`/builds?${query}`)).body.builds.map((one: { build_id: string }) => one.build_id)
  assert.equal([await list('image_name=a'), await list('status=completed'), await list('status=error')], [[ids[0], ids[2]], ids, []])
  const { body } = await user.get('/builds?limit=2')
  assert.equal([body.builds.length, await list(`limit=2&cursor=${body.cursor}`)], [2, [ids[2]]])
  assert.is((await user.get('/builds?status=green')).status, 400)
})

builder('the same request twice is one build, another under its key is refused', async ({ house, images, user }) => {
  const key = { 'idempotency-key': 'k' }
  const [one, again] = [await send(user, { image_name: 'once' }, archive(), key), await send(user, { image_name: 'once' }, archive(), key)]
  assert.equal([one.status, again.status, again.body], [202, 202, one.body])
  assert.is((await send(user, { image_name: 'twice' }, archive(), key)).status, 422)
  await fact(house.ports, one.body.build_id, 'image.built')
  assert.is(images.ran.length, 1)
})

builder('beyond what may wait of an account it is refused, for lambdas too, and nobody else is', async ({ images }) => {
  const { house, user } = await open({ imageBuilds: images, mostWaiting: 2, tokens: new Map([['token-of-a', 'a'], ['token-of-b', 'b']]) })
  const of = (account: string): Caller => caller(house.address, { authorization: `Bearer token-of-${account}` })
  const at = held(images)
  const ids = []
  for (const name of ['1', '2']) ids.push(await accepted(of('a'), { image_name: name }))
  await Promise.all([at.begun('1'), at.begun('2')])
  for (const name of ['3', '4']) ids.push(await accepted(of('a'), { image_name: name }))
  for (const refused of [await send(of('a'), { image_name: '5' }), await of('a').create({}, ownZip('no room'))]) {
    assert.equal([refused.status, refused.headers.get('retry-after'), refused.headers.get('content-type')], [429, '10', 'application/problem+json'])
    assert.match(refused.body.detail, '2 builds of account a wait already')
  }
  ids.push(await accepted(of('b'), { image_name: '6' }))
  assert.is((await of('b').get(`/builds/${ids[0]}`)).status, 404)
  assert.is((await user.get('/builds')).status, 401)
  for (const name of ['1', '2', '3', '4', '6']) at.end(name)
  await Promise.all(ids.map((id) => fact(house.ports, id, 'image.built')))
  await house.close()
})

builder('what another system wants waits behind what a person wants, unless it says otherwise', async ({ house, images, user }) => {
  const at = held(images)
  const names = ['one', 'two', 'automatic', 'person']
  const ids = [await accepted(user, { image_name: 'one' }), await accepted(user, { image_name: 'two' })]
  await Promise.all([at.begun('one'), at.begun('two')])
  ids.push(await accepted(user, { image_name: 'automatic', priority: 'automatic' }), await accepted(user, { image_name: 'person' }))
  at.end('one')
  await at.begun('person')
  for (const name of names) at.end(name)
  await Promise.all(ids.map((id) => fact(house.ports, id, 'image.built')))
  assert.equal(images.ran.map(({ image: { name } }) => name), ['one', 'two', 'person', 'automatic'])
})

builder.run()

const here = suite('builds, on one machine')
here('a place is forbidden, and without an executor it is said how to get one', async () => {
  const images = standImageBuilds('local_kaniko')
  const { house, user } = await open({ imageBuilds: images })
  for (const where of [{ namespace: 'default' }, { selector: { disk: 'ssd' } }]) {
    const { status, body } = await send(user, { image_name: 'a', ...where })
    assert.equal([status, body.errors.map((one: { field: string }) => one.field)], [403, Object.keys(where)])
  }
  assert.is((await send(user, { image_name: 'a', image_builder: 'kaniko' })).body.errors[0].code, 'ImageBuilderNotAllowed')
  images.lacks('There is no executor of kaniko: get one.')
  const { status, body } = await send(user, { image_name: 'a' })
  assert.equal([status, body.errors[0].code, body.detail], [400, 'NoImageBuilder', 'There is no executor of kaniko: get one.'])
  images.lacks(null)
  await fact(house.ports, await accepted(user, { image_name: 'a', image_builder: 'local_kaniko' }), 'image.built')
  await house.close()
})
here.run()
