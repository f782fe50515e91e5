// Longer than 250 lines: one road, with everything that can go wrong on it.
import { createHash, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { Agent, createServer, request, type IncomingHttpHeaders, type IncomingMessage, type RequestListener, type RequestOptions, type Server } from 'node:http'
import { connect, createServer as createTcpServer, type AddressInfo, type Server as TcpServer, type Socket } from 'node:net'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { proxy, type Place, type Proxy } from '../services/gateway/proxy.ts'

interface Answer { status: number; headers: IncomingHttpHeaders; raw: string[]; text: string }

const test = suite('proxy')
const closers: Array<() => Promise<void>> = []
test.after.each(async () => {
  for (const close of closers.splice(0).reverse()) await close()
})

const urlOf = (server: TcpServer): string => `http://127.0.0.1:${(server.address() as AddressInfo).port}`

async function listening<S extends TcpServer>(server: S): Promise<S> {
  const sockets = new Set<Socket>()
  server.on('connection', (socket: Socket) => {
    sockets.add(socket)
    socket.on('error', () => undefined).on('close', () => sockets.delete(socket))
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  closers.push(async () => {
    for (const socket of sockets) socket.destroy()
    if (server.listening) await new Promise((resolve) => server.close(resolve))
  })
  return server
}

const pod = (answer: RequestListener): Promise<Server> => listening(createServer(answer))
/** A pod that speaks in bytes: called for each connection with what came first on it. */
const rawPod = (answer: (socket: Socket, connection: number) => void): Promise<TcpServer> => {
  let connections = 0
  return listening(createTcpServer((socket) => {
    const mine = ++connections
    socket.on('data', () => answer(socket, mine))
  }))
}

const at = (...servers: TcpServer[]): Place => ({ running: true, version: 7, endpoints: servers.map(urlOf) })

async function gateway(place: () => Place, options: { timeoutMs?: number; connectionsPerPod?: number } = {}): Promise<{ url: string; proxy: Proxy; server: Server }> {
  const carrier = proxy({ timeoutMs: 20_000, ...options })
  const target = (req: IncomingMessage) => ({ place, path: req.url!, requestId: 'request-1' })
  const server = createServer((req, res) => void carrier.carry(req, res, target(req)))
  server.on('checkContinue', (req, res) => void carrier.carry(req, res, { ...target(req), awaitsContinue: true }))
  closers.push(() => carrier.close())
  await listening(server)
  return { url: urlOf(server), proxy: carrier, server }
}

async function answerTo(url: string, options: RequestOptions = {}, body?: string | Readable): Promise<Answer> {
  const req = request(url, { agent: false, ...options })
  if (body instanceof Readable) void pipeline(body, req).catch(() => undefined)
  else req.end(body)
  const [res] = await once(req, 'response') as [IncomingMessage]
  const chunks = await res.toArray() as Buffer[]
  return { status: res.statusCode!, headers: res.headers, raw: res.rawHeaders, text: Buffer.concat(chunks).toString() }
}

/** Everything that a raw client reads until the connection ends, and whether it ended with an error. */
async function bytesFrom(url: string, text: string): Promise<string> {
  const { port, hostname } = new URL(url)
  const socket = connect(Number(port), hostname)
  let got = ''
  socket.on('data', (chunk) => { got += chunk.toString('latin1') }).on('error', (error) => { got += `[${(error as NodeJS.ErrnoException).code}]` })
  socket.write(text)
  await once(socket, 'close').catch(() => once(socket, 'close'))
  return got
}

const values = (raw: string[], name: string): string[] => raw.filter((_, i) => i % 2 === 1 && raw[i - 1]!.toLowerCase() === name)

function isProblem(answer: Answer, status: number, reason: string | undefined): Record<string, unknown> {
  const body = JSON.parse(answer.text) as Record<string, unknown>
  assert.is(answer.status, status)
  assert.is(answer.headers['content-type'], 'application/problem+json')
  assert.is(answer.headers['luna-request-id'], 'request-1')
  assert.is(body.status, status)
  assert.is(body.request_id, 'request-1')
  assert.is(body.reason, reason)
  return body
}

async function until(isSo: () => boolean): Promise<void> {
  while (!isSo()) await new Promise((resolve) => setImmediate(resolve))
}

/** Fulfilled when a number that grows has stood still for some turns of the event loop with everything idle. */
async function quiet(value: () => number): Promise<void> {
  let last = -1
  let still = 0
  while (still < 200) {
    await new Promise((resolve) => setImmediate(resolve))
    still = value() === last ? still + 1 : 0
    last = value()
  }
}

async function assertRejects(work: Promise<unknown>, pattern: RegExp): Promise<void> {
  const outcome = await work.then(() => 'nothing was wrong', (error: Error) => error.message)
  assert.match(outcome, pattern)
}

test('carries method, path, query, body and status there and back', async () => {
  const echo = await pod((req, res) => {
    res.writeHead(418, 'Short and stout')
    res.write(`${req.method} ${req.url} `)
    req.pipe(res)
  })
  const { url } = await gateway(() => at(echo))
  for (const method of ['POST', 'PUT', 'PATCH', 'DELETE', 'GET', 'OPTIONS', 'PROPFIND']) {
    const answer = await answerTo(`${url}/a%20b?c=d&e=%2F`, { method, headers: { 'content-length': 4 } }, 'body')
    assert.is(answer.status, 418)
    assert.is(answer.text, `${method} /a%20b?c=d&e=%2F body`)
  }
})

test('bodies of known length and in chunks reach the pod as they came, framed once', async () => {
  const seen: string[] = []
  const teller = await pod((req, res) => {
    seen.push(`${req.headers['content-length']} ${req.headers['transfer-encoding']}`)
    res.flushHeaders()
    req.pipe(res)
  })
  const { url } = await gateway(() => at(teller))
  await answerTo(url, { method: 'POST', headers: { 'content-length': 4 } }, 'body')
  // Ends only when the pod has the beginning: until then its length cannot be known.
  const req = request(url, { agent: false, method: 'POST' })
  req.write('bo')
  const [res] = await once(req, 'response') as [IncomingMessage]
  req.end('dy')
  assert.is(Buffer.concat(await res.toArray() as Buffer[]).toString(), 'body')
  await answerTo(url, { method: 'POST', headers: { 'content-length': 0 } })
  await answerTo(url)
  assert.equal(seen, ['4 undefined', 'undefined chunked', '0 undefined', 'undefined undefined'])
})

test('tells the pod the request id and where the request came from, and keeps what belongs to one connection', async () => {
  let seen: IncomingMessage | undefined
  const teller = await pod((req, res) => {
    seen = req
    res.end()
  })
  const { url } = await gateway(() => at(teller))
  await answerTo(url, {
    headers: {
      host: 'lambdas.example', connection: 'close, X-Mine', 'x-mine': '1', 'keep-alive': 'timeout=9', te: 'trailers', 'proxy-authorization': 'secret', upgrade: 'h2c',
      'luna-request-id': 'forged', 'x-forwarded-for': '192.0.2.1', 'x-forwarded-proto': 'https', 'x-kept': ['a', 'b'],
    },
  })
  const { headers, rawHeaders } = seen!
  assert.equal(values(rawHeaders, 'luna-request-id'), ['request-1'])
  assert.is(headers['x-forwarded-for'], '192.0.2.1, 127.0.0.1')
  assert.is(headers['x-forwarded-proto'], 'https, http')
  assert.is(headers['x-forwarded-host'], 'lambdas.example')
  assert.equal(values(rawHeaders, 'x-kept'), ['a', 'b'])
  assert.is(headers.connection, 'keep-alive')
  for (const name of ['x-mine', 'keep-alive', 'te', 'proxy-authorization', 'upgrade']) assert.is(headers[name], undefined, name)
})

test("keeps the pod's repeated headers, drops those of its connection, and names version and request exactly once", async () => {
  const talkative = await pod((_req, res) => {
    res.writeHead(200, [
      'Set-Cookie', 'a=1', 'Set-Cookie', 'b=2', 'X-Case', 'kept', 'Connection', 'keep-alive, X-Hop', 'X-Hop', '1', 'Proxy-Authenticate', 'Basic', 'Keep-Alive', 'timeout=9',
      'Lambda-Version', '99', 'Luna-Request-Id', 'forged', 'Content-Length', '2',
    ]).end('ok')
  })
  const { url } = await gateway(() => at(talkative))
  const { raw, headers, text } = await answerTo(url)
  assert.is(text, 'ok')
  assert.equal(values(raw, 'set-cookie'), ['a=1', 'b=2'])
  assert.ok(raw.includes('X-Case'))
  assert.equal(values(raw, 'lambda-version'), ['7'])
  assert.equal(values(raw, 'luna-request-id'), ['request-1'])
  for (const name of ['x-hop', 'proxy-authenticate']) assert.is(headers[name], undefined, name)
})

test('answers without a body: HEAD, 204 and 304', async () => {
  const bodyless = await pod((req, res) => {
    if (req.method === 'HEAD') res.writeHead(200, { 'content-length': 123 }).end()
    else if (req.url === '/304') res.writeHead(304, { etag: '"1"', 'content-length': 123 }).end()
    else res.writeHead(204).end()
  })
  const { url } = await gateway(() => at(bodyless))
  const head = await answerTo(url, { method: 'HEAD' })
  assert.is(head.headers['content-length'], '123')
  assert.is(head.text, '')
  for (let again = 0; again < 2; again++) {
    assert.is((await answerTo(`${url}/204`)).status, 204)
    const notModified = await answerTo(`${url}/304`)
    assert.is(notModified.status, 304)
    assert.is(notModified.headers.etag, '"1"')
  }
})

test('the length that a 304 tells of what it does not send is no broken promise', async () => {
  const unchanged = await rawPod((socket) => socket.write('HTTP/1.1 304 Not Modified\r\nETag: "1"\r\nContent-Length: 123\r\n\r\n'))
  const { url } = await gateway(() => at(unchanged))
  const got = await bytesFrom(url, 'GET / HTTP/1.1\r\nHost: x\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n')
  assert.match(got, /^HTTP\/1.1 304 [^]*Content-Length: 123\r\n[^]*\r\n\r\nHTTP\/1.1 304 [^]*\r\n\r\n$/)
})

test('the head of an answer does not wait for its body', async () => {
  let say: (() => void) | undefined
  const events = await pod((_req, res) => {
    res.writeHead(200, { 'content-type': 'text/event-stream' }).flushHeaders()
    say = () => res.end('data: 1\n\n')
  })
  const { url } = await gateway(() => at(events))
  const [res] = await once(request(url, { agent: false }).end(), 'response') as [IncomingMessage]
  say!()
  assert.is(Buffer.concat(await res.toArray() as Buffer[]).toString(), 'data: 1\n\n')
})

test('Expect: 100-continue is answered when a pod is reached, and not for a lambda that does not run', async () => {
  const echo = await pod((req, res) => {
    assert.is(req.headers.expect, undefined)
    req.pipe(res)
  })
  let place: Place = at(echo)
  const { url } = await gateway(() => place)
  const head = 'POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n'
  const { port, hostname } = new URL(url)
  const socket = connect(Number(port), hostname)
  socket.write(head)
  const [first] = await once(socket, 'data') as [Buffer]
  assert.is(first.toString(), 'HTTP/1.1 100 Continue\r\n\r\n')
  socket.write('body')
  assert.match(Buffer.concat(await socket.toArray() as Buffer[]).toString(), /^HTTP\/1.1 200 OK[^]*\r\nbody\r\n/)
  place = { running: false, status: 409, detail: 'Disabled.' }
  const refused = await bytesFrom(url, head.replace('Content-Length: 4', 'Content-Length: 0'))
  assert.match(refused, /^HTTP\/1.1 409 /)
})

test('a big answer and a big request pass whole, in bounded memory, at the pace of the slower side', async () => {
  const piece = randomBytes(1 << 20)
  const pieces = 200
  function* big() { for (let i = 0; i < pieces; i++) yield piece }
  const expected = createHash('sha256')
  for (const chunk of big()) expected.update(chunk)
  const sum = expected.digest('hex')
  const hashing = await pod((req, res) => {
    if (req.method === 'GET') return void Readable.from(big()).pipe(res)
    const hash = createHash('sha256')
    req.pipe(hash).on('finish', () => res.end(hash.digest('hex')))
  })
  const { url } = await gateway(() => at(hashing))
  const before = process.memoryUsage().rss
  assert.is((await answerTo(url, { method: 'POST' }, Readable.from(big()))).text, sum)
  const req = request(url, { agent: false }).end()
  const [res] = await once(req, 'response') as [IncomingMessage]
  const hash = createHash('sha256')
  for await (const chunk of res) hash.update(chunk as Buffer)
  assert.is(hash.digest('hex'), sum)
  assert.ok(process.memoryUsage().rss - before < 150 << 20, 'streamed, not gathered')
})

test('a client that does not read holds back the pod', async () => {
  const enough = 64 << 20
  let written = 0
  const endless = await pod((_req, res) => {
    const more = (): void => {
      written += 65_536
      if (written >= enough) return void res.end(Buffer.alloc(65_536))
      res.write(Buffer.alloc(65_536), () => more())
    }
    more()
  })
  const { url } = await gateway(() => at(endless))
  const req = request(url, { agent: false }).end()
  const [res] = await once(req, 'response') as [IncomingMessage]
  await once(res, 'readable')
  await quiet(() => written)
  assert.ok(written < enough, `${written} bytes were taken from the pod though nobody reads`)
  let read = 0
  for await (const chunk of res) read += (chunk as Buffer).length
  assert.ok(read >= enough)
})

test('a lambda that does not run is answered for with all that is known', async () => {
  let place: Place = { running: false, status: 503, detail: 'It is starting.', reason: 'Starting', error_code: 42016 }
  const { url } = await gateway(() => place)
  const starting = await answerTo(url)
  assert.is(isProblem(starting, 503, 'Starting').error_code, 42016)
  assert.is(starting.headers['retry-after'], '1')
  place = { running: false, status: 503, detail: 'Later.', retryAfterS: 30 }
  assert.is((await answerTo(url)).headers['retry-after'], '30')
  place = { running: false, status: 404, detail: 'There is no such lambda.', error_code: 42001 }
  const unknown = await answerTo(url, { method: 'POST' }, 'a body that nobody reads')
  assert.is(isProblem(unknown, 404, undefined).detail, 'There is no such lambda.')
  assert.is(unknown.headers['retry-after'], undefined)
  place = { running: true, version: 1, endpoints: [] }
  isProblem(await answerTo(url), 503, 'NoPodReady')
})

test('an error in finding the place is a 500, not a crash', async () => {
  const { url, proxy } = await gateway(() => { throw new Error('secret') })
  const answer = await answerTo(url)
  isProblem(answer, 500, undefined)
  assert.not.match(answer.text, /secret/)
  assert.is(proxy.inFlight, 0)
})

test('a pod that cannot be reached costs nothing when another can; place is asked afresh', async () => {
  const gone = await pod(() => undefined)
  const old = at(gone)
  await new Promise((resolve) => gone.close(resolve))
  const alive = await pod((req, res) => void req.pipe(res))
  const places: Place[] = [old, { ...at(alive), version: 8 } as Place]
  const { url } = await gateway(() => (places.length > 1 ? places.shift()! : places[0]!))
  const answer = await answerTo(url, { method: 'POST' }, 'kept for the second try')
  assert.is(answer.text, 'kept for the second try')
  assert.is(answer.headers['lambda-version'], '8')
})

test('a pod that is gone is never busy, and still does not get every try', async () => {
  const gone = await pod(() => undefined)
  const held: Array<() => void> = []
  const busy = await pod((_req, res) => void held.push(() => res.end('reached')))
  const place = at(gone, busy)
  await new Promise((resolve) => gone.close(resolve))
  const { url } = await gateway(() => place)
  const answers = Array.from({ length: 8 }, () => answerTo(url))
  await until(() => held.length === 8)
  for (const release of held) release()
  for (const answer of answers) assert.is((await answer).text, 'reached')
})

test('no pod can be reached: three tries, then 503', async () => {
  const gone = await pod(() => undefined)
  const place = at(gone)
  await new Promise((resolve) => gone.close(resolve))
  let asked = 0
  const { url } = await gateway(() => {
    asked++
    return place
  })
  const answer = await answerTo(url, { method: 'POST' }, 'body')
  isProblem(answer, 503, 'PodUnreachable')
  assert.is(answer.headers['retry-after'], '1')
  assert.is(asked, 3)
})

test('a pod that breaks off before it answers is a 502, and a request that was sent is not sent again', async () => {
  let requests = 0
  const breaking = await rawPod((socket) => {
    requests++
    socket.destroy()
  })
  const { url } = await gateway(() => at(breaking))
  for (const method of ['GET', 'POST']) {
    const answer = await answerTo(url, { method }, method === 'POST' ? 'body' : undefined)
    isProblem(answer, 502, 'PodBrokeOff')
    assert.is(answer.headers['lambda-version'], '7')
  }
  assert.is(requests, 2)
})

test('the keep-alive race: GET is repeated on a new connection, POST is not', async () => {
  const seen: string[] = []
  // Answers the first request of each connection and closes at the second, as if it had been closing all along.
  const racing = await listening(createTcpServer((socket) => {
    let first = true
    socket.on('data', (chunk) => {
      seen.push(chunk.toString().split(' ')[0]!)
      if (first) socket.write('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok')
      else socket.destroy()
      first = false
    })
  }))
  const { url } = await gateway(() => at(racing))
  assert.is((await answerTo(url)).text, 'ok')
  assert.is((await answerTo(url)).text, 'ok')
  assert.equal(seen, ['GET', 'GET', 'GET'])
  isProblem(await answerTo(url, { method: 'POST' }), 502, 'PodBrokeOff')
  assert.equal(seen, ['GET', 'GET', 'GET', 'POST'])
})

test('a request that broke off on a new connection is not sent again, though the one before it was kept', async () => {
  let requests = 0
  const breaking = await rawPod((socket, connection) => {
    requests++
    if (connection === 1) socket.end('HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok')
    else socket.destroy()
  })
  const { url } = await gateway(() => at(breaking))
  assert.is((await answerTo(url)).text, 'ok')
  isProblem(await answerTo(url), 502, 'PodBrokeOff')
  assert.is(requests, 2)
})

test('half an answer never looks whole', async () => {
  const heads = { length: 'HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf', chunked: 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n' }
  for (const half of Object.values(heads)) {
    const breaking = await rawPod((socket) => socket.end(half))
    const { url } = await gateway(() => at(breaking))
    const broken = await bytesFrom(url, 'GET / HTTP/1.1\r\nHost: x\r\n\r\n')
    assert.match(broken, /^HTTP\/1.1 200 OK/)
    assert.not.match(broken, /0\r\n\r\n$/)
    const old = await bytesFrom(url, 'GET / HTTP/1.0\r\nHost: x\r\n\r\n')
    assert.match(old, /\[ECONNRESET\]$/)
  }
})

test('what is not HTTP, too large or asked for by nobody is a 502', async () => {
  const large = `HTTP/1.1 200 OK\r\nX: ${'x'.repeat(20_000)}\r\n\r\n`
  const both = 'HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n'
  const badStatus = 'HTTP/1.1 099 Odd\r\nContent-Length: 0\r\n\r\n'
  for (const bytes of ['SSH-2.0-OpenSSH\r\n', large, both, badStatus, 'HTTP/1.1 100 Continue\r\n\r\n', 'HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n']) {
    const odd = await rawPod((socket) => socket.write(bytes))
    const { url } = await gateway(() => at(odd))
    isProblem(await answerTo(url), 502, 'PodAnsweredGarbage')
  }
})

test('a pod that breaks off in the middle of an upload is a 502, and the client connection serves on', async () => {
  const breaking = await pod((req, res) => {
    if (req.method === 'GET') res.end('served on')
    else req.once('data', () => req.socket.destroy())
  })
  const { url } = await gateway(() => at(breaking))
  const upload = `POST / HTTP/1.1\r\nHost: x\r\nContent-Length: ${1 << 22}\r\n\r\n${'x'.repeat(1 << 22)}`
  const got = await bytesFrom(url, `${upload}GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n`)
  assert.match(got, /^HTTP\/1.1 502 [^]*PodBrokeOff[^]*HTTP\/1.1 200 [^]*served on/)
})

test('a pod that answers before it has read the request is heard', async () => {
  const hasty = await pod((_req, res) => res.writeHead(413, { 'content-length': 3 }).end('big'))
  const { url } = await gateway(() => at(hasty))
  const answer = await answerTo(url, { method: 'POST' }, Readable.from(Array.from({ length: 64 }, () => Buffer.alloc(65_536))))
  assert.is(answer.status, 413)
  assert.is(answer.text, 'big')
})

test('the limit of time ends in a 504 that names it, and the pod is let go', async () => {
  let left: () => void
  const podLeft = new Promise<void>((resolve) => { left = resolve })
  const slow = await pod((_req, res) => void res.on('close', () => left()))
  const { url, proxy } = await gateway(() => at(slow), { timeoutMs: 60 })
  const answer = await answerTo(url)
  assert.match(isProblem(answer, 504, 'TimeLimit').detail as string, /0\.06 s/)
  await podLeft
  assert.is(proxy.inFlight, 0)
})

test('a head that drips byte by byte is over at the limit too, and so is a body that stops', async () => {
  const loris = await rawPod((socket) => {
    const drip = setInterval(() => socket.write('H'.repeat(1)), 5)
    socket.write('HTTP/1.1 200 OK\r\nX: ')
    socket.on('close', () => clearInterval(drip))
  })
  const dripping = await gateway(() => at(loris), { timeoutMs: 60 })
  isProblem(await answerTo(dripping.url), 504, 'TimeLimit')
  const stopping = await pod((_req, res) => void res.write('some'))
  const { url } = await gateway(() => at(stopping), { timeoutMs: 250 })
  const req = request(url, { agent: false }).end()
  const [res] = await once(req, 'response') as [IncomingMessage]
  await assertRejects(res.toArray(), /aborted/)
})

test('a client that stops sending is told so, and its pod let go', async () => {
  let left: () => void
  const podLeft = new Promise<void>((resolve) => { left = resolve })
  const waiting = await pod((req) => void req.resume().on('error', () => undefined).on('close', () => left()))
  const { url, proxy } = await gateway(() => at(waiting), { timeoutMs: 250 })
  const stopped = await bytesFrom(url, 'POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 100\r\n\r\nhalf')
  assert.match(stopped, /^HTTP\/1.1 408 [^]*TimeLimit/)
  await podLeft
  assert.is(proxy.inFlight, 0)
})

test('a client that goes takes its request away from the pod at once', async () => {
  for (const answersFirst of [false, true]) {
    let left: () => void
    const podLeft = new Promise<void>((resolve) => { left = resolve })
    let came: () => void
    const podCame = new Promise<void>((resolve) => { came = resolve })
    const patient = await pod((_req, res) => {
      if (answersFirst) res.write('begun')
      res.on('close', () => left())
      came()
    })
    const { url, proxy } = await gateway(() => at(patient))
    const req = request(url, { agent: false }).on('error', () => undefined).end()
    await (answersFirst ? once(req, 'response') : podCame)
    assert.is(proxy.inFlight, 1)
    req.destroy()
    await podLeft
    assert.is(proxy.inFlight, 0)
  }
})

test('the least busy pod is next, equals take turns', async () => {
  const seen = [0, 0, 0]
  const held: Array<() => void> = []
  const counting = (i: number) => pod((req, res) => {
    seen[i]!++
    if (req.url === '/hold') held.push(() => res.end())
    else res.end()
  })
  const three = [await counting(0), await counting(1), await counting(2)]
  const { url } = await gateway(() => at(...three))
  for (let i = 0; i < 9; i++) await answerTo(url)
  assert.equal(seen, [3, 3, 3])
  const holding = [answerTo(`${url}/hold`)]
  await until(() => held.length === 1)
  const busy = seen.indexOf(4)
  for (let i = 0; i < 10; i++) await answerTo(url)
  assert.is(seen[busy], 4)
  assert.is(seen.reduce((sum, n) => sum + n), 20)
  for (const release of held) release()
  await Promise.all(holding)
})

test('connections are kept, no more are opened than allowed, and the rest wait their turn', async () => {
  let connections = 0
  const counted = await pod((_req, res) => res.end('ok'))
  counted.on('connection', () => connections++)
  const { url } = await gateway(() => at(counted), { connectionsPerPod: 2 })
  const answers = await Promise.all(Array.from({ length: 40 }, () => answerTo(url)))
  assert.ok(answers.every((answer) => answer.text === 'ok'))
  assert.is(connections, 2)
})

test('WebSockets and unknown transfer codings are refused in words; other upgrades are carried as what they are', async () => {
  const plain = await pod((_req, res) => res.end('plain'))
  const { url } = await gateway(() => at(plain))
  isProblem(await answerTo(url, { headers: { connection: 'upgrade', upgrade: 'websocket' } }), 501, undefined)
  assert.is((await answerTo(url, { headers: { connection: 'upgrade', upgrade: 'h2c' } })).text, 'plain')
  const gzip = await bytesFrom(url, 'POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n')
  assert.match(gzip, /^HTTP\/1.1 501 /)
})

test('a switch of versions under load loses no request', async () => {
  const version = async (n: number): Promise<Server> => {
    const server = await pod((_req, res) => void setImmediate(() => {
      res.shouldKeepAlive = server.listening
      res.end(`${n}`)
    }))
    return server
  }
  const first = await version(1)
  const second = await version(2)
  let place: Place = { running: true, version: 1, endpoints: [urlOf(first)] }
  const { url } = await gateway(() => place)
  const agent = new Agent({ keepAlive: true, maxSockets: 16 })
  closers.push(async () => agent.destroy())
  const answered = { 1: 0, 2: 0 }
  const client = async (): Promise<void> => {
    while (answered[2] < 300) {
      const answer = await answerTo(url, { agent })
      assert.is(answer.status, 200)
      assert.is(answer.text, answer.headers['lambda-version'])
      answered[answer.text as '1' | '2']++
    }
  }
  const clients = Array.from({ length: 16 }, client)
  await until(() => answered[1] >= 300)
  // The old pod stops listening before the gateway hears of the new one; it finishes what it has, and closes.
  const closed = new Promise((resolve) => first.close(resolve))
  setImmediate(() => { place = { running: true, version: 2, endpoints: [urlOf(second)] } })
  await Promise.all(clients)
  await closed
})

test('close lets what is in flight finish, and refuses what comes later', async () => {
  let release: (() => void) | undefined
  const holding = await pod((_req, res) => { release = () => res.end('finished') })
  const { url, proxy } = await gateway(() => at(holding))
  const answer = answerTo(url)
  await until(() => release !== undefined)
  const closed = proxy.close()
  isProblem(await answerTo(url), 503, 'ShuttingDown')
  release!()
  assert.is((await answer).text, 'finished')
  await closed
})

test.run()
