// kaniko without a cluster: what comes of an image that is made on this machine, and who waits for whom.
import { createHash, randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { createServer, type AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { kilnStops } from '../shared/builds.ts'
import { whyNoLocalKaniko, type LocalKanikoWish } from '../shared/local/kaniko.ts'
import { Unavailable } from '../shared/trouble.ts'
import { tarOf } from './stand/base-image.ts'
import { selfSigned } from './stand/certificate.ts'
import { executor, executorInWords, kanikoWorld, processesThatSay, refusedByTheSystem as refused, type KanikoWorld } from './stand/local-kaniko.ts'
import { done, failureOf, started, type Run } from './stand/local-kaniko-runs.ts'
import { readImage } from './stand/read-image.ts'
import { ownTemporary } from './stand/temporary.ts'

const sha256 = (text: string): string => `sha256:${createHash('sha256').update(text).digest('hex')}`

const name = `images made on this machine, with ${executorInWords}`
const test = suite<{ world: KanikoWorld }>(name)
test.before(async (context) => { context.world = await kanikoWorld() })
test.after(({ world }) => world.close())

test('an image is made and pushed: what is in it, its digest, its lines, and nothing of the root that it was made in', async ({ world }) => {
  const wish = await world.wish(['ARG WHO', 'COPY hello.txt /hello.txt', 'RUN probe say I am $WHO'], { buildArgs: { WHO: 'me, you=all' } })
  const { made, said } = await done(world.kaniko, wish)
  const image = await readImage(wish.destination)
  assert.equal(made, { built: true, digest: image.digest })
  assert.is(image.files.get('hello.txt')?.content, sha256('hello\n'))
  assert.equal([...image.files.keys()].filter((path) => !/^(bin|bin\/sh|etc|etc\/passwd|tmp|hello\.txt)$/.test(path)), [])
  for (const line of ['COPY hello.txt /hello.txt', 'probe I am me, you=all']) assert.ok(said.includes(line), said.join('\n'))
  assert.equal(await world.left(), [])
})

test('a gzipped context may come in pieces', async ({ world }) => {
  const wish = await world.wish(['COPY hello.txt /hello.txt'])
  const packed = gzipSync(wish.context as Buffer)
  async function* pieces(): AsyncGenerator<Buffer> { for (const byte of packed) yield Buffer.from([byte]) }
  const { made, said } = await done(world.kaniko, { ...wish, context: pieces() })
  assert.ok(made.built, said.join('\n'))
  assert.is((await readImage(wish.destination)).files.get('hello.txt')?.content, sha256('hello\n'))
})

test('a command that fails is told with its exit code and the last lines', async ({ world }) => {
  const { made } = await done(world.kaniko, await world.wish(['RUN probe say before', 'RUN probe fail']))
  assert.equal(failureOf(made), ['user', 'CommandFailed', false])
  if (made.built) return
  assert.match(made.failure.message, /`probe fail` ended with exit code 3/)
  assert.ok(made.failure.log!.includes('probe before'))
  assert.equal(await world.left(), [])
})

test('each trouble has its name: a bad Dockerfile, a bad archive, none in it, no registry, no context', async ({ world }) => {
  const of = async (wish: LocalKanikoWish): Promise<unknown> => failureOf((await done(world.kaniko, wish)).made)
  assert.equal(await of(await world.wish(['NONSENSE'])), ['user', 'DockerfileInvalid', false])
  assert.equal(await of(await world.wish([], { context: Buffer.from('no archive') })), ['user', 'ContextUnreadable', false])
  assert.equal(await of(await world.wish([], { context: await tarOf([{ name: 'hello.txt', content: 'hello' }]) })), ['user', 'DockerfileMissing', false])
  const nobody = createServer().listen(0, '127.0.0.1')
  await once(nobody, 'listening')
  const { port } = nobody.address() as AddressInfo
  await new Promise((resolve) => nobody.close(resolve))
  assert.equal(await of(await world.wish(['COPY hello.txt /'], { destination: `127.0.0.1:${port}/made/x:1` })), ['registry', 'RegistryUnreachable', true])
  async function* broken(): AsyncGenerator<Buffer> { throw new Unavailable('the store does not answer') }
  assert.equal(await of(await world.wish([], { context: broken() })), ['infrastructure', 'BuilderCannotWork', true])
  assert.equal(await world.left(), [])
})

test('an executor that cannot be begun is the operator\'s trouble', async ({ world }) => {
  const kaniko = await world.another({ executor: join(world.folder, 'nothing') })
  assert.equal(failureOf((await done(kaniko, await world.wish([]))).made), ['infrastructure', 'BuilderCannotWork', true])
  assert.equal(await world.left(), [])
})

test('credentials are those that it is given, and without them the registry refuses', async () => {
  const login = { username: 'kiln', password: 'open sesame' }
  const world = await kanikoWorld({ auth: login })
  try {
    const wish = await world.wish(['COPY hello.txt /hello.txt'])
    assert.equal(failureOf((await done(world.kaniko, wish)).made), ['registry', 'RegistryUnauthorised', true])
    const auth = JSON.stringify({ auths: { [world.registry.address]: { auth: Buffer.from(`${login.username}:${login.password}`).toString('base64') } } })
    const { made, said } = await done(await world.another({ auth }), wish)
    assert.equal(made, { built: true, digest: (await readImage(wish.destination, login)).digest }, said.join('\n'))
  } finally {
    await world.close()
  }
})

test('certificates are those that the environment names', async () => {
  const tls = selfSigned()
  const world = await kanikoWorld({ tls })
  const folder = await mkdtemp(join(tmpdir(), 'kiln-test-certificates-'))
  try {
    await writeFile(join(folder, 'own.pem'), tls.certificate)
    const wish = await world.wish(['COPY hello.txt /hello.txt'])
    assert.equal(failureOf((await done(await world.another({ insecureRegistries: [] }), wish)).made), ['registry', 'RegistryUnreachable', true])
    const ways: Array<Record<string, string>> = [{ SSL_CERT_FILE: join(folder, 'own.pem') }, { SSL_CERT_DIR: `/nowhere:${folder}` }]
    for (const env of ways) {
      const { made, said } = await done(await world.another({ insecureRegistries: [], env }), wish)
      assert.ok(made.built, said.join('\n'))
    }
  } finally {
    await rm(folder, { recursive: true })
    await world.close()
  }
})

test('a cancelled build has ended when that is said, with all that it started', async ({ world }) => {
  const word = randomUUID()
  const build = started(world.kaniko, await world.wish([`RUN probe daemon ${word} && probe stay`], { destination: `${world.registry.address}/made/${word}:1` }))
  await build.says('probe daemon runs')
  await build.says('probe stays')
  assert.ok((await processesThatSay(word)).length > 2)
  build.stop()
  assert.equal(failureOf(await build.made), ['cancelled', 'BuildCancelled', false])
  assert.equal([await processesThatSay(word), await world.left()], [[], []])
})

test('a build that somebody kills is to be built again, and nothing of it lives on', async ({ world }) => {
  for (const whom of ['/kaniko/executor', 'sh\0']) {
    const word = randomUUID()
    const build = started(world.kaniko, await world.wish(['RUN probe stay'], { destination: `${world.registry.address}/made/${word}:1` }))
    await build.says('probe stays')
    process.kill((await processesThatSay(word)).find(({ line }) => line.startsWith(whom))!.pid, 'SIGKILL')
    assert.equal(failureOf(await build.made), ['infrastructure', 'BuilderKilled', true])
    assert.equal([await processesThatSay(word), await world.left()], [[], []])
  }
})

test('a build that was cancelled before it began leaves nothing', async ({ world }) => {
  const over = new AbortController()
  over.abort()
  const made = await world.kaniko.run(await world.wish(['RUN probe stay']), { line: () => undefined, waits: () => undefined, signal: over.signal })
  assert.equal([failureOf(made), await world.left()], [['cancelled', 'BuildCancelled', false], []])
})

test('a build has its time and no more', async ({ world }) => {
  const word = randomUUID()
  const { made } = await done(world.kaniko, await world.wish(['RUN probe stay'], { timeoutMs: 1_500, destination: `${world.registry.address}/made/${word}:1` }))
  assert.equal(failureOf(made), ['timeout', 'BuildTimeout', false])
  assert.match(made.built ? '' : made.failure.message, /longer than 1\.5 seconds/)
  assert.equal([await processesThatSay(word), await world.left()], [[], []])
})

test('one at a time, in the order in which they came; who waits is told, and may leave', async ({ world }) => {
  const wish = await world.wish(['RUN probe say here'])
  const first = started(world.kaniko, await world.wish(['RUN probe stay']))
  const [second, third, fourth] = [wish, wish, wish].map((one) => started(world.kaniko, one)) as [Run, Run, Run]
  assert.equal([second, third, fourth].map(({ said }) => said), ['one other is', '2 others are', '3 others are'].map((who) => [`One image is made at a time: ${who} before it.`]))
  await first.says('probe stays')
  third.stop()
  assert.equal(failureOf(await third.made), ['cancelled', 'BuildCancelled', false])
  assert.equal([second.said.length, fourth.said.length, (await world.left()).filter((one) => one.startsWith('.root-')).length], [1, 1, 1])
  first.stop()
  const order: string[] = []
  await Promise.all([second.made.then(() => order.push(`second, ${fourth.said.slice(0, 2).join(' ')}`)), fourth.made.then(() => order.push('fourth'))])
  assert.equal(order, ['second, One image is made at a time: 3 others are before it. goes on', 'fourth'])
  assert.ok((await second.made).built && (await fourth.made).built)
})

test('when kiln stops, what runs and what waits is to be built again', async ({ world }) => {
  const kaniko = await world.another({})
  const running = started(kaniko, await world.wish(['RUN probe stay']))
  const waiting = started(kaniko, await world.wish(['RUN probe say here']))
  await running.says('probe stays')
  await kaniko.close()
  assert.equal(await world.left(), [])
  for (const { made } of [running, waiting]) assert.equal(failureOf(await made), ['infrastructure', 'BuilderStopped', true])
  const told = started(world.kaniko, await world.wish(['RUN probe stay']))
  await told.says('probe stays')
  told.stop(kilnStops)
  assert.equal(failureOf(await told.made), ['infrastructure', 'BuilderStopped', true])
  assert.equal(await world.left(), [])
})

if (refused) console.log(`SKIPPED ${name}: ${refused}`)
else test.run()

const why = suite(`why there is no kaniko on this machine, with ${executorInWords}`)

why('each thing that is missing is named, with what to do about it, and nothing is left of the trial', async () => {
  const temporary = await ownTemporary()
  try {
    const file = join(temporary.folder, 'executor')
    assert.match((await whyNoLocalKaniko(null))!, /^No executor is named: set KANIKO_EXECUTOR /)
    assert.match((await whyNoLocalKaniko(file))!, /^There is no program at .*executor: set KANIKO_EXECUTOR /)
    assert.match((await whyNoLocalKaniko(temporary.folder))!, /^There is no program at /)
    await writeFile(file, '#!/bin/sh\necho Kaniko version\n')
    await chmod(file, 0o644)
    assert.match((await whyNoLocalKaniko(file))!, /executor may not be executed: chmod \+x it\.$/)
    await chmod(file, 0o755)
    assert.match((await whyNoLocalKaniko(file, '/nowhere:/usr/nowhere'))!, /^sh, unshare, .*pivot_root.* cannot be found in \/nowhere:\/usr\/nowhere: install util-linux/)
    assert.match((await whyNoLocalKaniko(file))!, refused ? /^kiln is (not )?root/ : /executor does not run in a root of its own \(.*\): KANIKO_EXECUTOR must be kaniko's static program/)
    if (!refused) assert.is(await whyNoLocalKaniko(await executor()), null)
    assert.equal(await temporary.left(), ['executor'])
  } finally {
    await temporary.close()
  }
})

why('elsewhere than on Linux there is none', async () => {
  const usual = Object.getOwnPropertyDescriptor(process, 'platform')!
  Object.defineProperty(process, 'platform', { ...usual, value: 'darwin' })
  try {
    assert.match((await whyNoLocalKaniko('/kaniko/executor'))!, /^kaniko runs on Linux only, and this is darwin\./)
  } finally {
    Object.defineProperty(process, 'platform', usual)
  }
})

if (process.platform === 'linux') why.run()
else console.log('SKIPPED why there is no kaniko: this is no Linux')
