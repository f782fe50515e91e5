// Uploads that do not end well, or end well in another manner: registries that are bad at chunks, blobs that are not what they say, whoever changes his mind.
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { WrongDigest } from '../shared/oci/registry.ts'
import { Unavailable } from '../shared/trouble.ts'
import type { Fault, Talk } from './stand/oci-faults.ts'
import { blobAt, blobOf, sha256 } from './stand/oci-images.ts'
import { failure, isUnavailable, passwordAt, world, type World } from './stand/oci-world.ts'

const mebi = 1 << 20
const bytes = randomBytes(10 * mebi)
const small = bytes.subarray(0, 1_000)
const isChunk = ({ method }: Talk): boolean => method === 'PATCH'
const isEnd = ({ method }: Talk): boolean => method === 'PUT'
function nth(kind: (talk: Talk) => boolean, n: number, fault: Fault): (talk: Talk) => Fault | null {
  let seen = 0
  return (talk) => (kind(talk) && ++seen === n ? fault : null)
}
const each = (kind: (talk: Talk) => boolean, fault: Fault) => (talk: Talk): Fault | null => (kind(talk) ? fault : null)
const saying = (status: number, code: string, detail?: unknown): Fault => ({ answer: { status, body: JSON.stringify({ errors: [{ code, message: 'why', detail }] }) } })
const methods = ({ proxy }: World): string => proxy.talks.map(({ method, status }) => `${method} ${status}`).join(', ')
const stored = ({ origin }: World, digest: string): Promise<Buffer | null> => blobAt(origin, 'app', digest).catch(() => null)
async function lies(at: World, digest: string, expected: Buffer = bytes): Promise<void> {
  const there = await stored(at, digest)
  assert.ok(there?.equals(expected), 'it lies there as it is')
}

const chunks = suite('a registry that is bad at chunks')
chunks('gets all in one go, once it has said so', async () => {
  const begun = 'HEAD 404, POST 202'
  const inOneGo = 'HEAD 404, POST 202, PUT 201'
  const cases: Array<[string, (talk: Talk) => Fault | null, string]> = [
    ['takes none', each(isChunk, saying(405, 'UNSUPPORTED')), `${begun}, PATCH 405, DELETE 204, ${inOneGo}`],
    ['takes none of this size', each(isChunk, saying(416, 'RANGE_INVALID')), `${begun}, PATCH 416, GET 204, DELETE 204, ${inOneGo}`],
    ['has put them together wrongly', nth(isEnd, 1, saying(400, 'DIGEST_INVALID')), `${begun}, PATCH 202, PATCH 202, PUT 400, DELETE 204, ${inOneGo}`],
    ['does not know what it has', (talk) => (isChunk(talk) ? saying(500, 'UNKNOWN') : talk.method === 'GET' ? { answer: { status: 204 } } : null), `${begun}, PATCH 500, GET 204, ${begun}, PATCH 500, GET 204, ${inOneGo}`],
    ['has more than there is', (talk) => (isChunk(talk) ? saying(500, 'UNKNOWN') : talk.method === 'GET' ? { answer: { status: 204, headers: { range: '0-99999999' } } } : null), `${begun}, PATCH 500, GET 204, DELETE 204, ${begun}, PATCH 500, GET 204, DELETE 204, ${inOneGo}`],
    ['loses every session', each(isChunk, saying(404, 'BLOB_UPLOAD_UNKNOWN')), `${begun}, PATCH 404, ${begun}, PATCH 404, ${inOneGo}`],
    ['says so as an invalid request', each(isChunk, saying(400, 'BLOB_UPLOAD_INVALID')), `${begun}, PATCH 400, ${begun}, PATCH 400, ${inOneGo}`],
  ]
  for (const [name, fault, expected] of cases) {
    await world({}, async (at) => {
      at.proxy.fault = fault
      const blob = blobOf(bytes)
      await at.registry().upload('app', blob)
      assert.is(methods(at), expected, name)
      await lies(at, blob.digest)
    })
  }
})
chunks('is believed when it has taken one, whatever else it tells', () => world({}, async (at) => {
  at.proxy.fault = each(isChunk, { headers: (headers) => ({ ...headers, range: '0-4095' }) })
  const blob = blobOf(bytes)
  await at.registry().upload('app', blob)
  assert.is(methods(at), 'HEAD 404, POST 202, PATCH 202, PATCH 202, PUT 201')
  await lies(at, blob.digest)
}))
chunks.run()

const trouble = suite('an upload')
trouble('is given up after five tries that got no further, in words, and its session is cancelled', async () => {
  await world({}, async (at) => {
    at.proxy.fault = each(isChunk, saying(503, 'UNAVAILABLE'))
    const blob = blobOf(bytes)
    await isUnavailable(at.registry().upload('app', blob), `The blob ${blob.digest} does not get into app of the registry ${at.proxy.address}, in 5 tries: The registry ${at.proxy.address} does not store the blob ${blob.digest} of app: 503 UNAVAILABLE why.`)
    assert.is(methods(at), `HEAD 404, POST 202, ${'PATCH 503, GET 204, '.repeat(4)}PATCH 503, DELETE 204`)
    assert.is(blob.closed, blob.opened.length)
    assert.is(await stored(at, blob.digest), null)
  })
  await world({}, async (at) => {
    let seen = 0
    at.proxy.fault = (talk) => (isChunk(talk) && ++seen > 1 ? saying(503, 'UNAVAILABLE') : null)
    await isUnavailable(at.registry().upload('app', blobOf(bytes)), 'in 5 tries: ')
    assert.is(methods(at), `HEAD 404, POST 202, PATCH 202, ${'PATCH 503, GET 204, '.repeat(4)}PATCH 503, DELETE 204`, 'where it stood before is no progress')
  })
  await world({}, async (at) => {
    at.proxy.fault = each(isEnd, { breakAfter: 500 })
    const blob = blobOf(small)
    await isUnavailable(at.registry().upload('app', blob), `in 5 tries: The registry ${at.proxy.address} cannot be reached: `)
    assert.is(at.proxy.talks.filter(isEnd).length, 5)
  })
})
trouble('does not try again what is not allowed, or asked too often', async () => {
  for (const [status, words] of [[401, 'wants credentials to store the blob'], [403, 'forbids kiln to store the blob'], [429, 'is asked too often to store the blob']] as const) {
    await world({}, async (at) => {
      at.proxy.fault = each(isEnd, saying(status, 'CODE'))
      await isUnavailable(at.registry().upload('app', blobOf(small)), `The registry ${at.proxy.address} ${words}`, `of app`, `${status} CODE why`)
      assert.is(methods(at), `HEAD 404, POST 202, PUT ${status}, DELETE 204`)
    })
    await world({}, async (at) => {
      at.proxy.fault = each(isChunk, saying(status, 'CODE'))
      await isUnavailable(at.registry().upload('app', blobOf(bytes)), words)
      assert.is(methods(at), `HEAD 404, POST 202, PATCH ${status}, DELETE 204`)
    })
  }
})
trouble('is told what a registry has against it from the beginning, or in one go', async () => {
  const cases: Array<[(talk: Talk) => Fault | null, RegExp | string, string]> = [
    [each(({ method }) => method === 'HEAD', saying(500, '')), 'does not tell of the blob sha256:', 'HEAD 500'],
    [each(({ method }) => method === 'POST', saying(404, 'NAME_UNKNOWN')), '404 NAME_UNKNOWN why', 'HEAD 404, POST 404'],
    [each(({ method }) => method === 'POST', saying(400, 'NAME_INVALID')), '400 NAME_INVALID why', 'HEAD 404, POST 400'],
    [each(({ method }) => method === 'POST', { answer: { status: 202 } }), /opens no upload for sha256:.* of app: it does not say where/, 'HEAD 404, POST 202'],
    [each(isEnd, saying(413, 'SIZE_INVALID')), '413 SIZE_INVALID why', 'HEAD 404, POST 202, PUT 413, DELETE 204'],
  ]
  for (const [fault, words, expected] of cases) {
    await world({}, async (at) => {
      at.proxy.fault = fault
      await isUnavailable(at.registry().upload('app', blobOf(small)), words)
      assert.is(methods(at), expected)
    })
  }
})
trouble('begins in spite of a moment\'s trouble at its opening', () => world({}, async (at) => {
  at.proxy.fault = nth(({ method }) => method === 'POST', 1, saying(502, ''))
  await at.registry().upload('app', blobOf(bytes))
  assert.is(methods(at), 'HEAD 404, POST 502, POST 202, PATCH 202, PATCH 202, PUT 201')
}))
trouble('of what is not what its digest says is kiln\'s own mistake, with both digests', async () => {
  for (const content of [small, bytes]) {
    await world({}, async (at) => {
      const blob = { ...blobOf(content), digest: sha256('else') }
      const error = await failure(at.registry().upload('app', blob))
      assert.instance(error, WrongDigest)
      assert.not.instance(error, Unavailable)
      assert.is(error.message, `The blob for app of the registry ${at.proxy.address} is said to be ${sha256('else')} of ${content.length} bytes, and is ${sha256(content)} of ${content.length} bytes.`)
    })
  }
  await world({}, async (at) => {
    const error = await failure(at.registry().upload('app', { ...blobOf(small), bytes: 999 }))
    assert.match(error.message, `is said to be ${sha256(small)} of 999 bytes, and is ${sha256(small)} of 1000 bytes.`)
    const shorter = await failure(at.registry().upload('app', { ...blobOf(small), bytes: 1_001 }))
    assert.is(shorter.message, `${sha256(small)} ended after 1000 of 1001 bytes`)
    assert.not.instance(shorter, Unavailable)
  })
})
trouble('of what is right, and is said to be wrong, is the registry\'s mistake', () => world({}, async (at) => {
  at.proxy.fault = each(isEnd, saying(400, 'DIGEST_INVALID'))
  await isUnavailable(at.registry().upload('app', blobOf(small)), `The registry ${at.proxy.address} says that what it got for app is not ${sha256(small)}, which it is.`)
}))
trouble('of what cannot be read fails as the reading does, at once', () => world({}, async (at) => {
  for (const after of [0, 9 * mebi]) {
    at.proxy.talks.length = 0
    const whole = blobOf(bytes)
    const blob = { ...whole, async *open(from: number) { let read = 0; for await (const piece of whole.open(from)) { if (read >= after) throw new RangeError('the file is gone'); read += piece.length; yield piece } } }
    const error = await failure(at.registry().upload('app', blob))
    assert.instance(error, RangeError)
    assert.match(methods(at), after ? /^HEAD 404, POST 202, PATCH 202, PATCH null, (DELETE 416, GET 204, )?DELETE 204$/ : /^HEAD 404, POST 202, (PATCH null, )?DELETE 204$/)
  }
}))
trouble('that nobody wants any more ends with the reason, and leaves nothing', () => world({}, async (at) => {
  const reason = new Unavailable('nobody wants it any more')
  const registry = at.registry()
  const over = new AbortController()
  let passed = 0
  // In the middle of the second chunk.
  at.proxy.fault = each(isChunk, {
    piece() {
      if (++passed < 140) return
      over.abort(reason)
      return new Promise(() => undefined)
    },
  })
  const blob = blobOf(bytes)
  assert.is(await failure(registry.upload('app', blob, over.signal)), reason)
  assert.match(methods(at), /^HEAD 404, POST 202, PATCH 202, PATCH null, (DELETE 416, GET 204, )?DELETE 204$/)
  assert.is(blob.closed, blob.opened.length)
  at.proxy.talks.length = 0
  assert.is(await failure(registry.upload('app', blob, over.signal)), reason)
  assert.equal(at.proxy.talks, [], 'nor does it begin')
  for (const method of ['HEAD', 'POST']) {
    const [early, reason] = [new AbortController(), new Error('of no known kind')]
    at.proxy.fault = each((talk) => talk.method === method, { before() { early.abort(reason); return new Promise(() => undefined) } })
    assert.is(await failure(registry.upload('app', blob, early.signal)), reason)
    assert.is(at.proxy.talks.at(-1)!.method, method)
  }
}))
trouble.run()

type Handler = (request: IncomingMessage, response: ServerResponse) => void
async function standing<T>(handler: Handler, work: (address: string) => Promise<T>): Promise<T> {
  const server = createServer(handler).listen(0, '127.0.0.1')
  await once(server, 'listening')
  try {
    return await work(`127.0.0.1:${(server.address() as AddressInfo).port}`)
  } finally {
    server.closeAllConnections()
    server.close()
    await once(server, 'close')
  }
}

const places = suite('an upload that is sent elsewhere')
places('goes there when the session is there, without credentials', async () => {
  const seen: Array<[string, string | undefined, number]> = []
  const storage: Handler = async (request, response) => {
    let length = 0
    for await (const piece of request) length += (piece as Buffer).length
    seen.push([`${request.method} ${request.url}`, request.headers.authorization, length])
    response.writeHead(request.method === 'PUT' ? 201 : 202, { location: `/storage/${seen.length}?x=y` }).end()
  }
  await standing(storage, (elsewhere) => world({ auth: { username: 'me', password: 'p' } }, async (at) => {
    at.proxy.fault = each(({ method }) => method === 'POST', { headers: (headers) => (headers['location'] ? { ...headers, location: `http://${elsewhere}/storage/0?x=y` } : headers) })
    const blob = blobOf(bytes)
    await at.client({ config: passwordAt(at.proxy.address, 'me', 'p') })(at.proxy.address).upload('app', blob)
    assert.equal(seen, [['PATCH /storage/0?x=y', undefined, 8 * mebi], ['PATCH /storage/1?x=y', undefined, 2 * mebi], [`PUT /storage/2?x=y&digest=${encodeURIComponent(blob.digest)}`, undefined, 0]])
  }))
})
places('does not follow when what is sent is sent on', async () => {
  let taken = 0
  await standing((_, response) => { taken++; response.writeHead(201).end() }, (elsewhere) => world({}, async (at) => {
    for (const location of [`http://${elsewhere}/`, '/v2/other/blobs/uploads/x']) {
      at.proxy.fault = each(isEnd, { answer: { status: 307, headers: { location } } })
      await isUnavailable(at.registry().upload('app', blobOf(small)), `The registry ${at.proxy.address} redirects what is sent there to http://`)
    }
    assert.is(taken, 0)
  }))
})
places('is not sent to where the way there is open to all', () => world({ tls: undefined }, async (at) => {
  at.proxy.fault = each(({ method }) => method === 'POST', { headers: (headers) => ({ ...headers, location: 'ftp://host.x/y' }) })
  await isUnavailable(at.registry().upload('app', blobOf(small)), `The registry ${at.proxy.address} sends kiln with an upload to ftp://host.x, which is not https.`)
}))
places.run()
