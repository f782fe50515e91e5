// Objects on both stores: the contract, and what is of each alone.
// Longer than 250 lines: every way in which a store can be of no help.
import { spawn } from 'node:child_process'
import { createHash, randomBytes, randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { connect as connectTcp, createServer as createTcpServer, type AddressInfo, type Server, type Socket } from 'node:net'
import { connect, headers, type JetStreamClient, type ObjectStore } from 'nats'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { connectNats, type Nats } from '../shared/nats/connect.ts'
import { natsObjects } from '../shared/nats/objects.ts'
import { s3Store, usualLimits, type S3Options } from '../shared/s3/client.ts'
import { s3Objects, s3Reader } from '../shared/s3/objects.ts'
import { recentNames } from '../shared/s3/recent.ts'
import type { Content, Objects } from '../shared/objects.ts'
import { Refusal, Unavailable } from '../shared/trouble.ts'
import { objectsContract } from './contract/objects.ts'
import { gate } from './stand/await.ts'
import { testNats, type TestNats } from './stand/nats.ts'
import { ownS3Server, s3Server, type OwnS3Server, type S3Server } from './stand/s3.ts'

const optionsOf = ({ endpoint, region, accessKeyId, secretAccessKey }: S3Server): S3Options => ({ endpoint, region, credentials: { accessKeyId, secretAccessKey } })
const unique = (name: string): string => `kiln-${name}-${randomUUID().slice(0, 8)}`

/** The server may be one that stays. */
async function removeBucket(options: S3Options, bucket: string, objects?: Objects): Promise<void> {
  for (const { name } of (await objects?.list('')) ?? []) await objects!.remove(name)
  const { s3 } = await s3Store(options, usualLimits)
  await s3.deleteBucket({ Bucket: bucket })
}

objectsContract('on JetStream', async () => {
  const server = await testNats()
  const [mine, other] = await Promise.all([connectNats(server.url, { name: 'test' }), connectNats(server.url, { name: 'test' })])
  const theirs = await connect({ servers: server.url })
  return {
    objects: await natsObjects(mine, 'kiln', { replicas: 1 }), another: await natsObjects(other, 'kiln', { replicas: 1 }),
    async elsewhere(name, bytes) {
      await (await theirs.jetstream().views.os('theirs')).putBlob({ name }, bytes)
      return `nats://theirs/${name}`
    },
    nowhere: (name) => `nats://nobodys/${name}`,
    async close() {
      await Promise.all([mine.nc.close(), other.nc.close(), theirs.close()])
      await server.close()
    },
  }
})

objectsContract('on S3', async () => {
  const server = await s3Server()
  const options = optionsOf(server)
  const [bucket, theirs] = [unique('own'), unique('theirs')]
  // Both find no bucket: both make it.
  const [objects, another] = await Promise.all([s3Objects({ bucket, ...options }), s3Objects({ bucket, ...options })])
  const elsewhere = await s3Objects({ bucket: theirs, ...options })
  return {
    objects, another,
    async elsewhere(name, bytes) {
      await elsewhere.put(name, bytes)
      return `s3://${theirs}/${name}`
    },
    nowhere: (name) => `s3://${unique('nobodys')}/${name}`,
    async close() {
      for (const [name, content] of [[bucket, objects], [theirs, elsewhere]] as const) await removeBucket(options, name, content)
      await server.close()
    },
  }
})

// ---
const s3 = suite('objects, what is of S3 alone')
let server: OwnS3Server
let options: S3Options
s3.before(async () => { server = await ownS3Server(); options = optionsOf(server) })
s3.after(() => server.close())

/** So many bytes in pieces that are all the same; `opened` counts. */
function repeated(bytes: number, piece = 64 * 1_024): Content & { opened: number } {
  const one = randomBytes(piece)
  const content = {
    bytes, opened: 0,
    async *open() {
      content.opened++
      for (let at = 0; at < bytes; at += piece) yield one.subarray(0, bytes - at)
    },
  }
  return content
}

const trouble = async (work: Promise<unknown>): Promise<Error> => work.then(() => { throw new Error('it should have failed') }, (error: Error) => error)

/** Asserts that this fails as the world's trouble, in such words, with its cause. */
async function isUnavailable(work: Promise<unknown>, ...words: Array<string | RegExp>): Promise<void> {
  const error = await trouble(work)
  assert.instance(error, Unavailable, error.stack)
  for (const word of words) assert.match(error.message, word, error.stack)
  assert.instance(error.cause, Error)
}

/** A store that answers as `answer` does. */
async function standing(answer: (request: IncomingMessage, response: ServerResponse) => void, work: (endpoint: string) => Promise<void>): Promise<void> {
  const http = createServer(answer).listen(0, '127.0.0.1')
  await once(http, 'listening')
  try {
    await work(`http://127.0.0.1:${(http.address() as AddressInfo).port}`)
  } finally {
    http.closeAllConnections()
    http.close()
  }
}
const refusing = (status: number, code: string) => (request: IncomingMessage, response: ServerResponse): void => {
  request.resume()
  response.writeHead(status, { 'content-type': 'application/xml' }).end(request.method === 'HEAD' ? undefined : `<Error><Code>${code}</Code><Message>so it is</Message></Error>`)
}

s3('a list of more than one page is whole', async () => {
  const objects = await s3Objects({ bucket: unique('pages'), ...options })
  const names = Array.from({ length: 1_001 }, (_, i) => `pages/${String(i).padStart(4, '0')}`)
  while (names.length > 0) {
    await Promise.all(names.splice(-50).map((name) => objects.put(name, Buffer.from(name))))
  }
  const list = await objects.list('pages/')
  assert.is(new Set(list.map(({ name }) => name)).size, 1_001)
  assert.is(list.length, 1_001)
})
s3('it knows what it has seen, in whatever way, and not what it saw go', async () => {
  const bucket = unique('seen')
  const [mine, other] = [await s3Objects({ bucket, ...options }), await s3Objects({ bucket, ...options })]
  for (const name of ['put', 'got', 'had', 'listed']) await other.put(name, Buffer.from(name))
  assert.equal(['put', 'got', 'had', 'listed'].map(mine.knows), [false, false, false, false])
  await mine.put('put', Buffer.from('mine'))
  await mine.get('got')
  await mine.has('had')
  assert.equal(['put', 'got', 'had', 'listed'].map(mine.knows), [true, true, true, false])
  await mine.list('l')
  assert.is(mine.knows('listed'), true)

  await mine.remove('put')
  for (const name of ['got', 'had']) await other.remove(name)
  assert.equal(['put', 'got', 'had'].map(mine.knows), [false, true, true])
  await mine.get('got')
  await mine.has('had')
  assert.equal(['put', 'got', 'had'].map(mine.knows), [false, false, false])
})
s3('what was seen is forgotten after a moment, and the oldest when there is too much', () => {
  let now = 0
  const names = recentNames(2, 10, () => now)
  names.saw('a')
  names.saw('b')
  now = 9
  names.saw('a')
  names.saw('c')
  assert.equal(['a', 'b', 'c'].map(names.knows), [true, false, true], 'b was the oldest')
  now = 19
  names.saw('c')
  assert.equal(['a', 'c'].map(names.knows), [false, true])
  names.missed('c')
  assert.is(names.knows('c'), false)
})
s3('what was put half is not there, and what was there stays', async () => {
  const bucket = unique('half')
  const objects = await s3Objects({ bucket, ...options })
  await objects.put('kept', Buffer.from('whole'))
  await relayed(new URL(server.endpoint), async ({ endpoint }) => {
    const cut = await s3Objects({ bucket, ...options, endpoint })
    for (const content of [Buffer.alloc(3_000_000), repeated(3_000_000), repeated(12_000_000)]) {
      for (const name of ['kept', 'new']) await isUnavailable(cut.put(name, content), `S3 at ${endpoint} cannot be reached for putting ${name} in bucket ${bucket}`)
    }
  }, 300_000)
  assert.is(String(await objects.get('kept')), 'whole')
  assert.equal((await objects.list('')).map(({ name, bytes }) => [name, bytes]), [['kept', 5]])
})
s3('who reads while others put gets one whole object', async () => {
  const bucket = unique('read-while')
  const [mine, other] = [await s3Objects({ bucket, ...options }), await s3Objects({ bucket, ...options })]
  const contents = Array.from({ length: 8 }, (_, i) => Buffer.alloc(200_000 + i, 65 + i))
  await mine.put('x', contents[0]!)
  const reading = contents.map(() => other.get('x'))
  await Promise.all(contents.map((bytes) => mine.put('x', bytes)))
  for (const bytes of await Promise.all(reading)) assert.ok(contents.some((one) => bytes?.equals(one)), `${bytes?.length}: ${bytes?.subarray(0, 3)} … ${bytes?.subarray(-3)}`)
})
s3('connections are used again, and of a large object two parts are on their way at once', async () => {
  await relayed(new URL(server.endpoint), async (relay) => {
    const objects = await s3Objects({ bucket: unique('again'), ...options, endpoint: relay.endpoint })
    for (const size of [1, 100_000, 4_000_000, 6_000_000]) {
      await objects.put('x', Buffer.alloc(size))
      await objects.put('x', repeated(size))
      assert.is((await objects.get('x'))!.length, size)
      for await (const piece of (await objects.part('x', Math.floor(size / 2)))!) assert.ok(piece.length > 0)
      await objects.has('x')
      assert.is(relay.connections, size > 5_242_880 ? 2 : 1)
    }
  })
})
s3('no process is kept alive', async () => {
  const script = `import { s3Objects } from '${new URL('../shared/s3/objects.ts', import.meta.url).href}'
    const objects = await s3Objects(JSON.parse(process.env.S3_OPTIONS)); await objects.put('x', Buffer.alloc(3_000_000))
    console.log((await objects.get('x')).length, process.getActiveResourcesInfo().filter((one) => one === 'Timeout'))`
  const env = { ...process.env, S3_OPTIONS: JSON.stringify({ bucket: unique('alive'), ...options }) }
  const child = spawn(process.execPath, ['--import', 'tsx', '--input-type=module', '-e', script], { env, stdio: ['ignore', 'pipe', 'inherit'] })
  let printed = ''
  child.stdout.on('data', (chunk) => { printed += chunk })
  const [code] = await once(child, 'close') as [number]
  assert.equal([code, printed], [0, '3000000 []\n'], 'it ends by itself, and waits for nothing')
})

s3('a store that is away is the world\'s trouble, whatever is asked', async () => {
  const away = await ownS3Server()
  const bucket = unique('away')
  const objects = await s3Objects({ bucket, ...optionsOf(away) })
  await objects.put('x', Buffer.from('x'))
  await away.close()
  const cannot = `S3 at ${away.endpoint} cannot be reached for `
  await isUnavailable(objects.put('x', Buffer.from('y')), `${cannot}putting x in bucket ${bucket}`, 'ECONNREFUSED')
  await isUnavailable(objects.get('x'), cannot)
  await isUnavailable(objects.has('x'), cannot)
  await isUnavailable(objects.remove('x'), cannot)
  assert.is(objects.knows('x'), false, 'who knows whether it was removed')
  await isUnavailable(objects.list(''), cannot)
  await isUnavailable(objects.read('s3://any/x', 1), cannot, 's3://any/x')
  await isUnavailable(s3Objects({ bucket, ...optionsOf(away) }), `${cannot}looking into bucket ${bucket}`)
})
s3('wrong credentials are named as such, also without words', async () => {
  const bucket = unique('mine')
  await s3Objects({ bucket, ...options })
  const wrong = (accessKeyId: string, secretAccessKey: string): S3Options => ({ ...options, credentials: { accessKeyId, secretAccessKey } })
  const says = `S3 at ${server.endpoint} does not accept kiln's credentials for looking into bucket ${bucket}: 403 `
  await isUnavailable(s3Objects({ bucket, ...wrong('nobody', 'x') }), `${says}InvalidAccessKeyId: `)
  await isUnavailable(s3Objects({ bucket, ...wrong(server.accessKeyId, 'x') }), `${says}SignatureDoesNotMatch: `)
  await isUnavailable(s3Reader(wrong('nobody', 'x'))(`s3://${bucket}/x`, 1), 'does not accept', `reading s3://${bucket}/x`, 'InvalidAccessKeyId')
})
s3('a content is read once and in step with what is sent, also when the store wants a part again', async () => {
  let refused = 0
  await standing((request, response) => {
    request.resume().on('end', () => (request.url!.includes('partNumber=2') && refused++ < 2 ? refusing(503, 'SlowDown')(request, response) : multipart(request, response)))
  }, async (endpoint) => {
    await relayed(new URL(endpoint), async (relay) => {
      const objects = await s3Objects({ bucket: 'bucket', ...options, endpoint: relay.endpoint })
      const content = repeated(40_000_000)
      let [given, mostAhead] = [0, 0]
      async function* counted(): AsyncGenerator<Uint8Array> {
        for await (const piece of content.open()) {
          given += piece.byteLength
          mostAhead = Math.max(mostAhead, given - relay.went)
          yield piece
        }
      }
      await objects.put('x', { bytes: content.bytes, open: counted })
      assert.equal([content.opened, refused, given], [1, 3, 40_000_000])
      assert.ok(mostAhead <= 3 * 5_242_880 + 64 * 1_024, `${mostAhead} bytes ahead`)
    })
  })
})
s3('what a put left behind is taken away', async () => {
  const bucket = unique('aborted')
  const objects = await s3Objects({ bucket, ...options })
  const error = await trouble(objects.put('x', { ...repeated(30_000_000), bytes: 30_000_001 }))
  assert.match(error.message, 'ended after 30000000 of the 30000001 bytes')
  const { s3: client } = await s3Store(options, usualLimits)
  assert.equal((await client.listMultipartUploads({ Bucket: bucket })).Uploads ?? [], [])
})
s3('a content that breaks off waits for no part on its way', async () => {
  const [sent, arrived] = [[] as string[], gate()]
  await standing((request, response) => {
    if (request.method !== 'GET') sent.push(`${request.method} ${/partNumber=\d/.exec(request.url!) ?? ''}`)
    if (request.method === 'PUT') arrived.open()
    // No part is ever answered.
    if (request.method !== 'PUT') request.resume().on('end', () => multipart(request, response))
  }, async (endpoint) => {
    const objects = await s3Objects({ bucket: 'bucket', ...options, endpoint }, { ...usualLimits, answerMs: 1_000 })
    const broken = new Error('the disk is gone')
    assert.is(await trouble(objects.put('x', { bytes: 12_000_000, async *open() { yield Buffer.alloc(6_000_000); await arrived.promise; throw broken } })), broken)
  })
  assert.equal(sent, ['POST ', 'PUT partNumber=1', 'DELETE '])
})
s3('the reader of a part sets the pace', async () => {
  const objects = await s3Objects({ bucket: unique('pace'), ...options })
  const content = repeated(60_000_000)
  await objects.put('x', content)
  await relayed(new URL(server.endpoint), async (relay) => {
    const slow = await s3Objects({ bucket: unique('pace'), ...options, endpoint: relay.endpoint })
    await slow.put('x', content)
    const before = relay.came
    for await (const piece of (await slow.part('x', 1))!) {
      // Meanwhile the store would have sent it all.
      assert.is((await slow.get('x'))!.length, 60_000_000)
      assert.ok(piece.length < 1_000_000)
      assert.ok(relay.came - before < 60_000_000 + 30_000_000, `${relay.came - before} came`)
      break
    }
  })
})
s3('a bucket that kiln may not use or make is named, with what was answered', async () => {
  const bucket = unique('closed')
  const objects = await s3Objects({ bucket, ...options })
  await objects.put('x', Buffer.from('x'))
  await server.user('stranger', 'stranger-secret')
  const stranger: S3Options = { ...options, credentials: { accessKeyId: 'stranger', secretAccessKey: 'stranger-secret' } }
  await isUnavailable(s3Objects({ bucket, ...stranger }), `S3 at ${server.endpoint} said no to looking into bucket ${bucket}: 403 AccessDenied`)
  const other = unique('other')
  await isUnavailable(s3Objects({ bucket: other, ...stranger }), `said no to making bucket ${other}: 403 AccessDenied`, 'make it, or let kiln make it')
  await isUnavailable(s3Objects({ bucket: 'No_Bucket', ...options }), 'looking into bucket No_Bucket: 400 InvalidBucketName')

  const refusal = await trouble(s3Reader(stranger)(`s3://${bucket}/x`, 10)) as Refusal
  assert.instance(refusal, Refusal)
  assert.equal([refusal.status, refusal.errorCode], [400, 42005])
  assert.match(refusal.message, `kiln may not read s3://${bucket}/x: S3 at ${server.endpoint} answered 403 AccessDenied`)
})
s3('addresses are read by themselves, too', async () => {
  const bucket = unique('read')
  const objects = await s3Objects({ bucket, ...options })
  await objects.put('in/a.zip', Buffer.from('zip'))
  const read = s3Reader(options)
  assert.is(String(await read(`s3://${bucket}/in/a.zip`, 3)), 'zip')
  assert.is(await read(`s3://${bucket}/${'long'.repeat(300)}`, 3), null)
  assert.is((await trouble(read(`s3://${bucket}/in/a.zip`, 2)) as Refusal).status, 413)
})
s3('own objects in a bucket that has gone are not missing, but out of reach', async () => {
  const bucket = unique('gone')
  const objects = await s3Objects({ bucket, ...options })
  await removeBucket(options, bucket)
  await isUnavailable(objects.get('x'), `said no to getting x in bucket ${bucket}: 404 NoSuchBucket`)
  await isUnavailable(objects.list(''), 'NoSuchBucket')
  await objects.put('x', Buffer.from('x')).then(() => assert.unreachable(), (error) => assert.instance(error, Unavailable))
})
s3('a bucket that somebody else makes at the same moment is kiln\'s', async () => {
  let made = false
  await standing((request, response) => {
    if (request.method === 'PUT') made = true
    if (request.method === 'PUT') return refusing(409, 'OperationAborted')(request, response)
    if (!made) return refusing(404, 'NoSuchBucket')(request, response)
    response.end('<ListBucketResult><Name>b</Name></ListBucketResult>')
  }, async (endpoint) => void await s3Objects({ bucket: 'bucket', ...options, endpoint }))
  assert.is(made, true)
})
s3('the bucket is named in the path, whatever the name of the host', async () => {
  let path = ''
  await standing((request, response) => { path = request.url!; response.end('<ListBucketResult/>') }, async (endpoint) => void await s3Objects({ bucket: 'bucket', ...options, endpoint: endpoint.replace('127.0.0.1', 'localhost') }))
  assert.match(path, /^\/bucket\/\?list-type=2/)
})
s3('nothing is sent that only Amazon understands', async () => {
  const sent: IncomingMessage[] = []
  await standing((request, response) => {
    sent.push(request)
    request.resume().on('end', () => multipart(request, response))
  }, async (endpoint) => {
    const objects = await s3Objects({ bucket: 'bucket', ...options, endpoint })
    await objects.put('x', Buffer.alloc(3_000_000))
    await objects.put('x', repeated(3_000_000))
    await objects.put('x', repeated(12_000_000))
    await objects.get('x')
    for await (const piece of (await objects.part('x', 1))!) assert.ok(piece)
  })
  const sizes = sent.filter(({ method }) => method === 'PUT').map(({ headers }) => Number(headers['content-length']))
  assert.equal(sizes, [3_000_000, 3_000_000, 5_242_880, 5_242_880, 1_514_240])
  assert.equal(sent.map(({ method }) => method).join(' '), 'GET PUT PUT POST PUT PUT PUT POST GET HEAD GET')
  for (const { headers, method } of sent) {
    assert.equal(Object.keys(headers).filter((name) => /checksum|trailer|decoded|encoding|expect/.test(name)), [])
    // Unsigned, half of it might be kept when the connection breaks.
    if (method === 'PUT') assert.match(String(headers['x-amz-content-sha256']), /^[0-9a-f]{64}$/)
  }
})
s3('the more is sent, the longer it may take', async () => {
  const { timeout } = await s3Store(options, usualLimits)
  assert.equal([timeout(0), timeout(5_000_000)], [{ requestTimeout: 30_000 }, { requestTimeout: 35_000 }])
})
s3('overload and errors of the store are tried three times, then told', async () => {
  for (const [status, code] of [[503, 'SlowDown'], [500, 'InternalError']] as const) {
    let asked = 0
    await standing((request, response) => { asked++; refusing(status, code)(request, response) }, async (endpoint) => {
      await isUnavailable(s3Objects({ bucket: 'bucket', ...options, endpoint }), `S3 at ${endpoint} said no to looking into bucket bucket: ${status} ${code}: so it is`)
      assert.is(asked, 3)
    })
  }
})
s3('a HEAD is refused without a reason, and the sentence still says what to look at', async () => {
  await standing((request, response) => (request.method === 'HEAD' ? refusing(403, '')(request, response) : void response.end('<ListBucketResult/>')), async (endpoint) => {
    const objects = await s3Objects({ bucket: 'bucket', ...options, endpoint })
    await isUnavailable(objects.has('x'), 'said no to looking for x in bucket bucket: 403, which is about credentials or rights')
  })
})
s3('an answer that does not come, stops or never ends is given up', async () => {
  const limits = { ...usualLimits, answerMs: 500 }
  const halfRead = gate()
  await standing((request, response) => {
    if (request.url!.includes('silent') && request.method !== 'HEAD') return
    if (request.url!.includes('list-type')) return void response.end('<ListBucketResult/>')
    response.writeHead(200, { 'content-length': 10 })
    if (request.method === 'HEAD') response.end()
    else response.write('half')
    if (request.method === 'GET' && request.url!.includes('whole')) void halfRead.promise.then(() => response.end(' whole'))
  }, async (endpoint) => {
    const objects = await s3Objects({ bucket: 'bucket', ...options, endpoint }, limits)
    await isUnavailable(objects.get('silent'), `S3 at ${endpoint} did not answer in time to getting silent in bucket bucket.`)
    await isUnavailable(objects.get('stopping'), `S3 at ${endpoint} began to answer and did not end in time.`)
    await isUnavailable(objects.read('s3://other/stopping', 10), 'did not end in time')
    await isUnavailable(allOf(await objects.part('silent', 0)), `S3 at ${endpoint} did not answer in time to getting silent in bucket bucket.`)
    const whole = (await objects.part('whole', 0))![Symbol.asyncIterator]()
    assert.is(String((await whole.next()).value), 'half')
    await isUnavailable(allOf(await objects.part('stopping', 0)), `S3 at ${endpoint} began to answer and did not end in time.`)
    halfRead.open()
    assert.is(String((await whole.next()).value), ' whole', 'only the time counts that the store takes')
  })
})
s3('an object that is too large is not got, and one that grows meanwhile is refused all the same', async () => {
  const left = gate()
  await standing((request, response) => {
    if (request.method === 'HEAD') return void response.writeHead(200, { 'content-length': request.url!.includes('before') ? 6 : 1 }).end()
    if (request.url!.includes('before')) response.destroy()
    if (request.url!.includes('told')) return void response.on('close', left.open).writeHead(200, { 'content-length': 50 }).write('some')
    response.write('larg')
    response.end('er')
  }, async (endpoint) => {
    const read = s3Reader({ ...options, endpoint })
    assert.is((await trouble(read('s3://bucket/before', 4))).message, 's3://bucket/before has 6 bytes; at most 4 are taken.')
    assert.is((await trouble(read('s3://bucket/told', 4))).message, 's3://bucket/told has 50 bytes; at most 4 are taken.')
    await left.promise
    const refusal = await trouble(read('s3://bucket/streamed', 4)) as Refusal
    assert.is(refusal.status, 413)
  })
})
s3('a broken answer is no object', async () => {
  await standing((request, response) => {
    if (request.url!.includes('list-type')) return void response.end('<ListBucketResult/>')
    response.writeHead(200, { 'content-length': 10 })
    if (request.method === 'HEAD') response.end()
    else response.write('half', () => response.destroy())
  }, async (endpoint) => {
    const objects = await s3Objects({ bucket: 'bucket', ...options, endpoint })
    await isUnavailable(objects.get('x'), `S3 at ${endpoint} cannot be reached for getting x`)
    const part = (await objects.part('x', 0))![Symbol.asyncIterator]()
    assert.is(String((await part.next()).value), 'half')
    await isUnavailable(part.next(), `S3 at ${endpoint} cannot be reached for getting x in bucket bucket`)
  })
})
s3('an answer that is not the part that was asked for is none', async () => {
  const answers: Record<string, [head: Record<string, string | number>, answer: Record<string, string | number>]> = {
    whole: [{ 'content-length': 10 }, { 'content-length': 10 }],
    other: [{ 'content-length': 10 }, { 'content-length': 8, 'content-range': 'bytes 22-29/30' }],
    shorter: [{ 'content-length': 10 }, { 'content-length': 7, 'content-range': 'bytes 2-8/9' }],
    longer: [{ 'content-length': 10 }, { 'content-length': 9, 'content-range': 'bytes 2-10/11' }],
    unsized: [{ 'transfer-encoding': 'chunked' }, { 'content-length': 8, 'content-range': 'bytes 2-9/10' }],
  }
  await standing((request, response) => {
    if (request.url!.includes('list-type')) return void response.end('<ListBucketResult/>')
    const [head, answer] = answers[/bucket\/(\w+)/.exec(request.url!)![1]!]!
    const headers = request.method === 'HEAD' ? head : answer
    response.writeHead(200, headers).end(request.method === 'HEAD' ? undefined : 'x'.repeat(Number(headers['content-length'])))
  }, async (endpoint) => {
    const objects = await s3Objects({ bucket: 'bucket', ...options, endpoint })
    for (const name of Object.keys(answers)) {
      const error = await trouble(allOf(await objects.part(name, 2)))
      assert.instance(error, Unavailable, error.stack)
      assert.match(error.message, `S3 at ${endpoint} was asked for a part of ${name}, and `)
    }
  })
})
s3.run()

/** Answers as a store does that takes all in parts, and has an object of ten bytes. */
function multipart({ method, url = '' }: IncomingMessage, response: ServerResponse): void {
  if (method === 'POST') return void response.end(url.includes('uploads') ? '<InitiateMultipartUploadResult><UploadId>upload</UploadId></InitiateMultipartUploadResult>' : '<CompleteMultipartUploadResult/>')
  if (url.includes('list-type')) return void response.end('<ListBucketResult/>')
  if (method === 'HEAD') return void response.writeHead(200, { 'content-length': 10 }).end()
  if (method === 'GET' && url.includes('GetObject')) response.setHeader('content-range', 'bytes 1-9/10')
  response.setHeader('etag', '"part"')
  response.end(method === 'GET' ? 'nine bytes'.slice(1) : undefined)
}

// ---
const nats = suite('objects, what is of JetStream alone')
interface Stand { nats: Nats; objects: Objects; store: ObjectStore; js: JetStreamClient }
let natsServer: TestNats
let mine: Stand
nats.before(async () => { natsServer = await testNats(); mine = await standOn(natsServer.url) })
nats.after(async () => { await mine.nats.nc.close(); await natsServer.close() })

async function standOn(url: string): Promise<Stand> {
  const connected = await connectNats(url, { name: 'test' })
  const objects = await natsObjects(connected, 'kiln', { replicas: 1 })
  return { nats: connected, objects, store: await connected.js.views.os('kiln'), js: connected.js }
}
const chunk = 128 * 1_024
/** How many chunks the server keeps, for all objects or one of them. */
async function chunksKept(name?: string): Promise<number> {
  const subject = `$O.kiln.C.${name === undefined ? '>' : (await mine.store.info(name))!.nuid}`
  const { state } = await mine.nats.jsm.streams.info('OBJ_kiln', { subjects_filter: subject })
  return Object.values(state.subjects ?? {}).reduce((sum, count) => sum + count, 0)
}
/** kiln's own; the client's are of another kind, and the server forgets them after a while. */
const readers = async (): Promise<string[]> => {
  const found: string[] = []
  for await (const { name, config } of mine.nats.jsm.consumers.list('OBJ_kiln')) {
    if (config.filter_subject?.startsWith('$O.kiln.C.') && config.deliver_subject === undefined) found.push(name)
  }
  return found
}

nats('other clients read what kiln put, and kiln what they put', async () => {
  const bytes = randomBytes(1_000_000)
  await mine.objects.put('ours', { bytes: bytes.length, async *open() { yield bytes.subarray(0, 7); yield bytes.subarray(7) } })
  // The client looks at the digest.
  assert.ok(bytes.equals((await mine.store.getBlob('ours'))!))
  const { size, chunks, deleted, mtime } = (await mine.store.info('ours'))!
  assert.equal([size, chunks, deleted], [1_000_000, 8, false])
  assert.is(Date.parse(mtime), (await mine.objects.list('ours'))[0]!.modifiedMs)

  // More chunks than may be asked for at once, and a name that is not the same in every kind of base64.
  await mine.objects.put('???>>>', bytes)
  assert.ok(bytes.equals((await mine.store.getBlob('???>>>'))!))
  await mine.store.putBlob({ name: 'theirs', options: { max_chunk_size: 200 } }, bytes)
  assert.ok(bytes.equals((await mine.objects.get('theirs'))!))
  for (const from of [199, 200, 654_321]) assert.ok(bytes.subarray(from).equals(await allOf(await mine.objects.part('theirs', from))), String(from))
  await mine.objects.put('theirs', Buffer.from('ours'))
  assert.equal([String(await mine.store.getBlob('theirs').then((blob) => Buffer.from(blob!))), await chunksKept('theirs')], ['ours', 1])
})
nats('nothing is left over of what was replaced, removed or failed', async () => {
  const before = await chunksKept()
  for (let i = 0; i < 3; i++) await mine.objects.put('left', repeated(1_000_000))
  await mine.objects.put('left/removed', repeated(1_000_000))
  await mine.objects.remove('left/removed')
  // Each fails with chunks under way.
  await Promise.all(Array.from({ length: 20 }, (_, i) => trouble(mine.objects.put('left/failed', { ...repeated((20 + i) * chunk), bytes: 5_000_001 }))))
  assert.is(await chunksKept() - before, 8)
  await Promise.all(Array.from({ length: 8 }, () => mine.objects.put('left', repeated(300_000))))
  assert.is(await chunksKept() - before, 3)
})
nats('parts of objects that were put at once, chunk by chunk', async () => {
  const contents = [randomBytes(20 * chunk), randomBytes(20 * chunk)]
  const given = [0, 0]
  const waiting = new Set<() => void>()
  /** Each gives its next chunk when the other has given as many. */
  const inStep = (i: number): Content => ({
    bytes: 20 * chunk,
    async *open() {
      for (let at = 0; at < 20; at++) {
        while (given[1 - i]! < at) await new Promise<void>((resolve) => waiting.add(resolve))
        yield contents[i]!.subarray(at * chunk, (at + 1) * chunk)
        given[i]!++
        for (const wake of waiting) wake()
        waiting.clear()
      }
    },
  })
  await Promise.all([0, 1].map((i) => mine.objects.put(`step/${i}`, inStep(i))))
  const sequence = async (id: string): Promise<number> => (await mine.nats.jsm.streams.getMessage('OBJ_kiln', { last_by_subj: `$O.kiln.C.${id}` })).seq
  const infos = await Promise.all([0, 1].map((i) => mine.store.info(`step/${i}`)))
  assert.ok(Math.abs(await sequence(infos[0]!.nuid) - await sequence(infos[1]!.nuid)) <= 2, 'they lie between each other')
  for (const i of [0, 1]) for (const from of [1, 5 * chunk, 19 * chunk + 1]) assert.ok(contents[i]!.subarray(from).equals(await allOf(await mine.objects.part(`step/${i}`, from))), `${i} ${from}`)
})
nats('what lies before a part is not fetched', async () => {
  const bytes = randomBytes(20_000_000)
  await mine.objects.put('skip', bytes)
  await relayed(new URL(natsServer.url), async (relay) => {
    const { nats: { nc }, objects } = await standOn(relay.endpoint.replace('http', 'nats'))
    const before = relay.came
    assert.ok(bytes.subarray(-1_000_000).equals(await allOf(await objects.part('skip', 19_000_000))))
    assert.ok(relay.came - before < 2_000_000, `${relay.came - before} came`)
    await nc.close()
  })
})
/** Puts as a client does that makes chunks of any size. */
async function putChunks(name: string, chunks: Buffer[], more: object = {}): Promise<void> {
  const id = randomUUID()
  for (const one of chunks) await mine.js.publish(`$O.kiln.C.${id}`, one)
  const [bytes, rollup] = [Buffer.concat(chunks), headers()]
  rollup.set('Nats-Rollup', 'sub')
  const digest = `SHA-256=${createHash('sha256').update(bytes).digest('base64url')}=`
  const info = { name, bucket: 'kiln', nuid: id, size: bytes.length, chunks: chunks.length, digest, mtime: new Date().toISOString(), ...more }
  await mine.js.publish(`$O.kiln.M.${Buffer.from(name).toString('base64')}`, JSON.stringify(info), { headers: rollup })
}
nats('chunks of any size are read', async () => {
  const chunks = [1, 70_000, 131_072, 3, 131_072, 900].map((size) => randomBytes(size))
  const bytes = Buffer.concat(chunks)
  await putChunks('any', chunks, { options: { max_chunk_size: chunk } })
  await putChunks('unknown', chunks)
  for (const name of ['any', 'unknown']) {
    assert.ok(bytes.equals((await mine.objects.get(name))!), name)
    for (const from of [1, 70_001, 202_000, 333_000]) assert.ok(bytes.subarray(from).equals(await allOf(await mine.objects.part(name, from))), `${name} ${from}`)
  }
})
nats('a content that is not what was put is an error, and one of another size is not got', async () => {
  const chunks = [randomBytes(1_000)]
  const hex = createHash('sha256').update(chunks[0]!).digest('hex')
  await putChunks('hex', chunks, { digest: `SHA-256=${hex}` })
  assert.ok(chunks[0]!.equals((await mine.objects.get('hex'))!))
  await putChunks('other', chunks, { digest: `SHA-256=${'0'.repeat(64)}` })
  const error = await trouble(mine.objects.get('other'))
  assert.not.instance(error, Unavailable)
  assert.match(error.message, 'the content of other in bucket kiln is not what was put')
  for (const size of [999, 1_001]) {
    await putChunks('size', chunks, { size })
    assert.instance(await trouble(mine.objects.get('size')), Unavailable)
  }
})
nats('a part that lacks a chunk breaks off there', async () => {
  const { nc, jsm } = mine.nats
  const bytes = randomBytes(60 * chunk)
  await mine.objects.put('lacks', bytes)
  const [pieces, part] = [[] as Buffer[], (await mine.objects.part('lacks', 0))!]
  const error = await trouble((async () => {
    for await (const piece of part) {
      // Somebody else takes one.
      if (pieces.push(piece) === 1) await nc.request(`$JS.API.CONSUMER.MSG.NEXT.OBJ_kiln.${(await readers())[0]}`, '1', { noMux: true, timeout: 5_000 })
    }
  })())
  assert.instance(error, Unavailable)
  assert.match(error.message, 'Not all chunks of lacks came.')
  assert.ok(pieces.length < 60 && bytes.subarray(0, pieces.length * chunk).equals(Buffer.concat(pieces)), String(pieces.length))

  const gone = (await mine.objects.part('lacks', 3 * chunk))!
  const { nuid } = (await mine.store.info('lacks'))!
  await jsm.streams.deleteMessage('OBJ_kiln', (await jsm.streams.getMessage('OBJ_kiln', { last_by_subj: `$O.kiln.C.${nuid}` })).seq)
  assert.match((await trouble(allOf(gone))).message, 'lacks was replaced before it was read')
  assert.equal([await mine.objects.part('lacks', 0), await mine.objects.get('lacks'), await mine.objects.has('lacks')], [null, null, false])
})
nats('a link is read as what it leads to, within the limit, and leads to no other link', async () => {
  await mine.objects.put('linked', Buffer.from('zip'))
  const theirs = await mine.js.views.os('theirs')
  const link = async (name: string, to: object): Promise<void> => {
    await mine.js.publish(`$O.theirs.M.${Buffer.from(name).toString('base64')}`, JSON.stringify({ name, bucket: 'theirs', nuid: '', size: 0, chunks: 0, options: { link: to } }))
  }
  await theirs.putBlob({ name: 'x' }, Buffer.from('x'))
  await link('link', { bucket: 'kiln', name: 'linked' })
  await link('loop', { bucket: 'theirs', name: 'loop' })
  await link('all', { bucket: 'kiln' })
  assert.is(String(await mine.objects.read('nats://theirs/link', 3)), 'zip')
  assert.is((await trouble(mine.objects.read('nats://theirs/link', 2)) as Refusal).status, 413)
  assert.equal([await mine.objects.read('nats://theirs/loop', 3), await mine.objects.read('nats://theirs/all', 3)], [null, null])
})
nats('the server holds nothing for whoever has read, has stopped or does not begin', async () => {
  await mine.objects.put('held', randomBytes(5_000_000))
  await mine.objects.get('held')
  const part = (await mine.objects.part('held', 0))!
  assert.equal(await readers(), [])
  for await (const piece of part) {
    assert.is(piece.length, chunk)
    assert.is((await readers()).length, 1)
    break
  }
  assert.equal(await readers(), [])
})
nats('a content is read in step with what the server has', async () => {
  await relayed(new URL(natsServer.url), async (relay) => {
    const { nats: { nc }, objects } = await standOn(relay.endpoint.replace('http', 'nats'))
    const [before, content] = [relay.went, repeated(30_000_000)]
    let [given, mostAhead] = [0, 0]
    async function* counted(): AsyncGenerator<Uint8Array> {
      for await (const piece of content.open()) {
        given += piece.byteLength
        mostAhead = Math.max(mostAhead, given - (relay.went - before))
        yield piece
      }
    }
    await objects.put('step', { bytes: content.bytes, open: counted })
    assert.is(given, 30_000_000)
    assert.ok(mostAhead <= 2 * 1_024 * 1_024 + 2 * chunk, `${mostAhead} bytes ahead`)
    await nc.close()
  })
})
nats('the reader of a part sets the pace', async () => {
  await mine.objects.put('pace', repeated(30_000_000))
  await relayed(new URL(natsServer.url), async (relay) => {
    const { nats: { nc }, objects } = await standOn(relay.endpoint.replace('http', 'nats'))
    const before = relay.came
    let taken = 0
    for await (const piece of (await objects.part('pace', 0))!) {
      taken += piece.length
      // What the server answers after this comes after all that it would have sent by itself.
      await objects.has('pace')
      assert.ok(relay.came - before - taken < 3_000_000, `${relay.came - before} came, ${taken} taken`)
    }
    assert.is(taken, 30_000_000)
    await nc.close()
  })
})
nats('a server that falls silent is given up', async () => {
  await mine.objects.put('silent', repeated(10_000_000))
  await relayed(new URL(natsServer.url), async (relay) => {
    const { nats: { nc }, objects } = await standOn(relay.endpoint.replace('http', 'nats'))
    const [first, second] = await Promise.all(['silent', 'silent'].map(async (name) => (await objects.part(name, 0))!))
    const part = first![Symbol.asyncIterator]()
    await part.next()
    let given = 0
    const held = gate()
    async function* holding(): AsyncGenerator<Uint8Array> {
      for await (const piece of repeated(30_000_000).open()) {
        given += piece.length
        if (given > 5_000_000) { relay.hold(); held.open() }
        yield piece
      }
    }
    const putting = objects.put('silent', { bytes: 30_000_000, open: holding })
    await Promise.race([held.promise, putting])
    const rest = allOf({ [Symbol.asyncIterator]: () => part })
    for (const error of await Promise.all([putting, allOf(second!), rest, objects.get('silent')].map(trouble))) assert.instance(error, Unavailable, error.stack)
    assert.ok(given < 10_000_000)
    await nc.close()
  })
  assert.is((await mine.objects.get('silent'))!.length, 10_000_000)
})
nats('a server that restarts in the middle is the world\'s trouble; what was there stays, and reading goes on from where it was', async () => {
  const bytes = randomBytes(10_000_000)
  await mine.objects.put('restart', bytes)
  const [pieces, begun, restarted] = [[] as Buffer[], gate(), gate()]
  const reading = trouble((async () => {
    for await (const piece of (await mine.objects.part('restart', 0))!) {
      if (pieces.push(piece) !== 3) continue
      begun.open()
      await restarted.promise
    }
  })())
  await begun.promise
  let given = 0
  const putting = trouble(mine.objects.put('restart', {
    bytes: 30_000_000,
    async *open() {
      for await (const piece of repeated(30_000_000).open()) {
        if (given <= 5_000_000 && given + piece.length > 5_000_000) await natsServer.restart().then(restarted.open)
        given += piece.length
        yield piece
      }
    },
  }))
  for (const error of await Promise.all([reading, putting])) assert.instance(error, Unavailable, error.stack)
  assert.ok(given < 30_000_000)

  const read = Buffer.concat(pieces)
  assert.ok(read.length >= 3 * chunk && read.length < bytes.length, String(read.length))
  const rest = await untilAnswered(async () => allOf(await mine.objects.part('restart', read.length)))
  assert.ok(Buffer.concat([read, rest]).equals(bytes))
})
nats.run()

/** The server may need a moment; who asks tries again. */
async function untilAnswered<T>(ask: () => Promise<T>): Promise<T> {
  for (;;) {
    const answer = await ask().then((value) => ({ value }), (error: unknown) => { if (!(error instanceof Unavailable)) throw error; return null })
    if (answer) return answer.value
  }
}

async function allOf(part: AsyncIterable<Buffer> | null): Promise<Buffer> {
  const pieces: Buffer[] = []
  for await (const piece of part!) pieces.push(piece)
  return Buffer.concat(pieces)
}

interface Relay {
  endpoint: string
  connections: number
  /** Bytes that went to the server, and that came from it. */
  went: number
  came: number
  /** From now on nothing passes, and nobody is told. */
  hold(): void
}

/** Stands in front of a server. `cutAfter`: ends each connection when so many bytes went over it. */
async function relayed({ hostname, port }: { hostname: string; port: string }, work: (relay: Relay) => Promise<void>, cutAfter = Infinity): Promise<void> {
  const sockets = new Set<Socket>()
  const relay: Relay = { endpoint: '', connections: 0, went: 0, came: 0, hold: () => { for (const socket of sockets) { socket.unpipe(); socket.pause() } } }
  const tcp = createTcpServer((client) => {
    relay.connections++
    const server = connectTcp(Number(port), hostname)
    const end = (): void => { client.destroy(); server.destroy() }
    let went = 0
    client.on('data', ({ length }) => { relay.went += length; if ((went += length) > cutAfter) end() }).pipe(server)
    server.on('data', ({ length }) => { relay.came += length }).pipe(client)
    for (const socket of [client, server]) sockets.add(socket.on('error', () => undefined).on('close', () => { sockets.delete(socket); end() }))
  })
  try {
    await listening(tcp, async (endpoint) => work(Object.assign(relay, { endpoint })))
  } finally {
    for (const socket of sockets) socket.destroy()
  }
}

async function listening(tcp: Server, work: (endpoint: string) => Promise<void>): Promise<void> {
  await once(tcp.listen(0, '127.0.0.1'), 'listening')
  try {
    await work(`http://127.0.0.1:${(tcp.address() as AddressInfo).port}`)
  } finally {
    tcp.close()
  }
}
