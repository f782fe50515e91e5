// Objects on both stores: the contract, and what is S3's alone. What is JetStream's alone is in nats.test.ts.
// Longer than 250 lines: every way in which a store can be of no help.
import { spawn } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { connect as connectTcp, createServer as createTcpServer, type AddressInfo, type Server } from 'node:net'
import { connect } from 'nats'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { connectNats } from '../shared/nats/connect.ts'
import { natsObjects } from '../shared/nats/objects.ts'
import { s3Store, usualLimits, type S3Options } from '../shared/s3/client.ts'
import { s3Objects, s3Reader } from '../shared/s3/objects.ts'
import { recentNames } from '../shared/s3/recent.ts'
import type { Objects } from '../shared/objects.ts'
import { Refusal, Unavailable } from '../shared/trouble.ts'
import { objectsContract } from './contract/objects.ts'
import { gate } from './stand/await.ts'
import { testNats } from './stand/nats.ts'
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
  const { port, hostname } = new URL(server.endpoint)
  // Ends each connection in the middle of a body.
  const cutting = createTcpServer((client) => {
    const store = connectTcp(Number(port), hostname)
    let bytes = 0
    client.on('data', (chunk) => {
      bytes += chunk.length
      if (bytes > 300_000) { client.destroy(); store.destroy() } else store.write(chunk)
    })
    store.on('data', (chunk) => client.write(chunk)).on('error', () => undefined).on('close', () => client.destroy())
    client.on('error', () => undefined).on('close', () => store.destroy())
  })
  await listening(cutting, async (endpoint) => {
    const cut = await s3Objects({ bucket, ...options, endpoint })
    for (const name of ['kept', 'new']) await isUnavailable(cut.put(name, Buffer.alloc(3_000_000)), `S3 at ${endpoint} cannot be reached for putting ${name} in bucket ${bucket}`)
  })
  assert.is(String(await objects.get('kept')), 'whole')
  assert.equal(await objects.list(''), [{ name: 'kept', bytes: 5 }])
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
s3('connections are used again', async () => {
  const { port, hostname } = new URL(server.endpoint)
  let connections = 0
  const counting = createTcpServer((client) => {
    connections++
    const store = connectTcp(Number(port), hostname)
    client.pipe(store).pipe(client)
    for (const socket of [client, store]) socket.on('error', () => undefined)
  })
  await listening(counting, async (endpoint) => {
    const objects = await s3Objects({ bucket: unique('again'), ...options, endpoint })
    for (const size of [1, 100_000, 4_000_000]) {
      await objects.put('x', Buffer.alloc(size))
      assert.is((await objects.get('x'))!.length, size)
      await objects.has('x')
    }
  })
  assert.is(connections, 1)
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
  const sent: Array<Record<string, unknown>> = []
  await standing((request, response) => {
    sent.push(request.headers)
    request.resume().on('end', () => response.end(request.url!.includes('list-type') ? '<ListBucketResult/>' : ''))
  }, async (endpoint) => {
    const objects = await s3Objects({ bucket: 'bucket', ...options, endpoint })
    await objects.put('x', Buffer.alloc(3_000_000))
    await objects.get('x')
  })
  assert.is(sent.length, 3)
  for (const headers of sent) assert.equal(Object.keys(headers).filter((name) => /checksum|trailer|decoded|encoding|expect/.test(name)), [])
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
  await standing((request, response) => {
    if (request.url!.includes('silent')) return
    if (request.url!.includes('list-type')) return void response.end('<ListBucketResult/>')
    response.writeHead(200, { 'content-length': 10 })
    if (request.method === 'HEAD') response.end()
    else response.write('half')
  }, async (endpoint) => {
    const objects = await s3Objects({ bucket: 'bucket', ...options, endpoint }, limits)
    await isUnavailable(objects.get('silent'), `S3 at ${endpoint} did not answer in time to getting silent in bucket bucket.`)
    await isUnavailable(objects.get('stopping'), `S3 at ${endpoint} began to answer and did not end in time.`)
    await isUnavailable(objects.read('s3://other/stopping', 10), 'did not end in time')
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
    response.write('half', () => response.destroy())
  }, async (endpoint) => {
    const objects = await s3Objects({ bucket: 'bucket', ...options, endpoint })
    await isUnavailable(objects.get('x'), `S3 at ${endpoint} cannot be reached for getting x`)
  })
})
s3.run()

async function listening(tcp: Server, work: (endpoint: string) => Promise<void>): Promise<void> {
  await once(tcp.listen(0, '127.0.0.1'), 'listening')
  try {
    await work(`http://127.0.0.1:${(tcp.address() as AddressInfo).port}`)
  } finally {
    tcp.close()
  }
}
