// The client of container registries, against the real one (open, with passwords, with tokens, without deletion, over https), and against servers that misbehave.
// Longer than 250 lines: every way in which a registry says no.
import { execFile } from 'node:child_process'
import { createHash, generateKeyPairSync, randomUUID, sign } from 'node:crypto'
import { once } from 'node:events'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { challengesIn } from '../shared/oci/authorization.ts'
import { credentialsFrom, imageName, registries, type Registry } from '../shared/oci/registry.ts'
import { Unavailable } from '../shared/trouble.ts'
import { gate } from './stand/await.ts'
import { selfSigned } from './stand/certificate.ts'
import { registryServer, type RegistryServer } from './stand/registry.ts'

const sha256 = (bytes: string | Buffer): string => `sha256:${createHash('sha256').update(bytes).digest('hex')}`
const basic = (username: string, password: string): string => `Basic ${Buffer.from(`${username}:${password}`).toString('base64')}`
const auths = (host: string, entry: object): string => JSON.stringify({ auths: { [host]: entry } })
const none = credentialsFrom(null)
/** A client that may speak plain http to this host. */
const clientOf = (address: string, config: string | null = null): Registry => registries({ insecure: new Set([address]), credentials: credentialsFrom(config) })(address)

const failure = async (work: Promise<unknown>): Promise<Error> => work.then(() => { throw new Error('it should have failed') }, (error: Error) => error)
async function isUnavailable(work: Promise<unknown>, ...words: Array<string | RegExp>): Promise<Error> {
  const error = await failure(work)
  assert.instance(error, Unavailable, error.stack)
  for (const word of words) assert.match(error.message, word)
  return error
}

// ---- names and credentials ---------------------------------------------------------------------------------------

const names = suite('names of images')
const digest = sha256('x')
const hub = 'docker.io'
const table: Array<[string, string, string, string | null, string | null]> = [
  ['python', hub, 'library/python', null, null],
  ['python:3.11-slim', hub, 'library/python', '3.11-slim', null],
  ['me/app', hub, 'me/app', null, null],
  ['docker.io/python', hub, 'library/python', null, null],
  ['index.docker.io/library/python:3', hub, 'library/python', '3', null],
  ['registry-1.docker.io/me/app', hub, 'me/app', null, null],
  ['localhost/app', 'localhost', 'app', null, null],
  ['localhost', hub, 'library/localhost', null, null],
  ['localhost:5000/app', 'localhost:5000', 'app', null, null],
  ['host:5000/a/b:tag', 'host:5000', 'a/b', 'tag', null],
  [`host:5000/a/b:tag@${digest}`, 'host:5000', 'a/b', 'tag', digest],
  [`host.example/a@${digest}`, 'host.example', 'a', null, digest],
  [`python@${digest}`, hub, 'library/python', null, digest],
  ['ghcr.io/a/b/c/d:v1.0_x', 'ghcr.io', 'a/b/c/d', 'v1.0_x', null],
  ['REGISTRY.Example/a', 'registry.example', 'a', null, null],
  ['10.1.2.3:5000/a', '10.1.2.3:5000', 'a', null, null],
  ['[::1]:5000/a__b--c.d', '[::1]:5000', 'a__b--c.d', null, null],
  ['a.b', hub, 'library/a.b', null, null],
]
for (const [reference, registry, repository, tag, digest] of table) {
  names(reference, () => assert.equal(imageName(reference), { registry, repository, tag, digest }))
}
for (const reference of ['', ':tag', 'App', 'a/B', 'a//b', '/a', 'a/', 'a:', 'a:b:c', 'a: b', 'a@sha256:12', 'a@', `a@${digest}@${digest}`, `a@sha256:${'g'.repeat(64)}`, 'host:5000/', 'host:port/a', 'ho_st:5000/a', '-host.x/a', 'a___b', 'a._b', `a:${'t'.repeat(129)}`, 'a/'.repeat(130) + 'a', 'a\n', 'https://host.x/a']) {
  names(`not ${JSON.stringify(reference).slice(0, 40)}`, () => assert.throws(() => imageName(reference), /is no name of an image: /))
}
names.run()

const config = suite('credentials')
config('are found under whatever key a tool has written', () => {
  for (const key of ['https://index.docker.io/v1/', 'index.docker.io', 'docker.io', 'https://registry-1.docker.io/v2/', 'http://docker.io']) {
    assert.equal(credentialsFrom(auths(key, { username: 'me', password: 'p' })).of('docker.io', 'library/python'), { kind: 'password', username: 'me', password: 'p' }, key)
  }
  for (const key of ['host:5000', 'https://host:5000', 'http://HOST:5000/', 'host:5000/v2/']) {
    const found = credentialsFrom(auths(key, { auth: Buffer.from('me:p:q').toString('base64') }))
    assert.equal(found.of('host:5000', 'a'), { kind: 'password', username: 'me', password: 'p:q' }, key)
    assert.equal([found.of('host', 'a'), found.of('host:5001', 'a'), found.of('docker.io', 'a')], [null, null, null])
  }
})
config('the longest key that fits wins', () => {
  const of = (path: string) => ({ username: path, password: '' })
  const found = credentialsFrom(JSON.stringify({ auths: { 'h.x/a': of('a'), 'h.x': of('all'), 'https://h.x/a/b/': of('ab'), 'h.x/v2': of('v2') } }))
  const who = (repository: string) => (found.of('h.x', repository) as { username: string }).username
  assert.equal(['a', 'a/b', 'a/b/c', 'a/bc', 'ab', 'z'].map(who), ['a', 'ab', 'ab', 'a', 'all', 'all'])
})
config('tokens come before passwords, and empty entries are none', () => {
  const of = (entry: object) => credentialsFrom(auths('h.x', entry)).of('h.x', 'a')
  const auth = Buffer.from('me:p\0\0').toString('base64')
  assert.equal(of({ auth }), { kind: 'password', username: 'me', password: 'p' })
  assert.equal(of({ auth, identitytoken: 'i' }), { kind: 'identity', token: 'i' })
  assert.equal(of({ auth, identitytoken: 'i', registrytoken: 'r' }), { kind: 'registry', token: 'r' })
  assert.is(of({}), null)
  assert.is(credentialsFrom('{}').of('h.x', 'a'), null)
})
config('helper programs are not run, and that is said', () => {
  const helped = credentialsFrom(JSON.stringify({ credHelpers: { 'https://h.x': 'ecr' }, credsStore: 'desktop', auths: { 'i.x': {} } }))
  assert.match(helped.lack('h.x'), 'docker-credential-ecr')
  assert.match(helped.lack('i.x'), 'docker-credential-desktop')
  assert.is(credentialsFrom(JSON.stringify({ credHelpers: { 'h.x': 'ecr' } })).lack('i.x'), '')
})
config('what cannot be read is told without its secrets', () => {
  for (const text of ['secret', '[]', 'null', '"secret"', '{"auths":["secret"]}', '{"auths":{},"credHelpers":"secret"}', auths('h.x', { auth: Buffer.from('secret').toString('base64') })]) {
    const error = (() => { try { credentialsFrom(text); return null } catch (thrown) { return thrown as Error } })()
    assert.match(error!.message, /^The docker configuration /, text)
    assert.not.match(error!.message, 'secret')
  }
})
config('challenges are read as they are written', () => {
  assert.equal(challengesIn('Bearer realm="https://a.x/token?a=b",service="s, t",scope="repository:a/b:pull,push"'), [
    { scheme: 'bearer', parameters: { realm: 'https://a.x/token?a=b', service: 's, t', scope: 'repository:a/b:pull,push' } },
  ])
  assert.equal(challengesIn('Negotiate, BASIC Realm="say \\"x\\"", charset=UTF-8, Bearer realm=plain , error="insufficient_scope"'), [
    { scheme: 'negotiate', parameters: {} }, { scheme: 'basic', parameters: { realm: 'say "x"', charset: 'UTF-8' } }, { scheme: 'bearer', parameters: { realm: 'plain', error: 'insufficient_scope' } },
  ])
  assert.equal([challengesIn(''), challengesIn('realm="x"'), challengesIn('Basic')], [[], [], [{ scheme: 'basic', parameters: {} }]])
})
config.run()

// ---- the real registry -------------------------------------------------------------------------------------------

/** Puts an image of one manifest under a tag, as any client would: its digest. */
async function push(origin: string, repository: string, tag: string, headers: Record<string, string> = {}): Promise<string> {
  const put = async (url: string | URL, body: string, type: string): Promise<void> => {
    const response = await fetch(url, { method: 'PUT', body, headers: { ...headers, 'content-type': type } })
    assert.is(response.status, 201, await response.text())
  }
  const content = JSON.stringify({ architecture: 'amd64', os: 'linux', unique: randomUUID() })
  const upload = await fetch(`${origin}/v2/${repository}/blobs/uploads/`, { method: 'POST', headers })
  const place = new URL(upload.headers.get('location')!, origin)
  place.searchParams.set('digest', sha256(content))
  await put(place, content, 'application/octet-stream')
  const manifest = JSON.stringify({
    schemaVersion: 2, mediaType: 'application/vnd.oci.image.manifest.v1+json',
    config: { mediaType: 'application/vnd.oci.image.config.v1+json', size: Buffer.byteLength(content), digest: sha256(content) }, layers: [],
  })
  await put(`${origin}/v2/${repository}/manifests/${tag}`, manifest, 'application/vnd.oci.image.manifest.v1+json')
  return sha256(manifest)
}

async function withRegistry(options: Parameters<typeof registryServer>[0], work: (server: RegistryServer) => Promise<void>): Promise<void> {
  const server = await registryServer(options)
  try {
    await work(server)
  } finally {
    await server.close()
  }
}

const real = suite('a real registry')
real('tells digests and tags, and removes', () => withRegistry({}, async ({ address }) => {
  const registry = clientOf(address)
  const pushed = await push(`http://${address}`, 'some/app', 'v1')
  const other = await push(`http://${address}`, 'some/app', 'v2')
  assert.equal([await registry.digest('some/app', 'v1'), await registry.digest('some/app', pushed)], [pushed, pushed])
  assert.equal([await registry.digest('some/app', 'v3'), await registry.digest('some/app', sha256('y')), await registry.digest('nobodys/app', 'v1')], [null, null, null])
  assert.equal([(await registry.tags('some/app')).sort(), await registry.tags('nobodys/app')], [['v1', 'v2'], []])

  assert.is(await registry.remove('some/app', pushed), 'removed')
  assert.is(await registry.remove('some/app', pushed), 'missing')
  assert.is(await registry.remove('nobodys/app', pushed), 'missing')
  assert.equal([await registry.digest('some/app', 'v1'), await registry.digest('some/app', 'v2')], [null, other])
}))
real('tells the digest of what stands for many platforms, as it is', () => withRegistry({}, async ({ address }) => {
  const child = await push(`http://${address}`, 'app', 'amd64')
  const size = Number((await fetch(`http://${address}/v2/app/manifests/${child}`, { method: 'HEAD', headers: { accept: 'application/vnd.oci.image.manifest.v1+json' } })).headers.get('content-length'))
  const type = 'application/vnd.oci.image.manifest.v1+json'
  for (const [tag, mediaType] of [['oci', 'application/vnd.oci.image.index.v1+json'], ['docker', 'application/vnd.docker.distribution.manifest.list.v2+json']] as const) {
    const index = JSON.stringify({ schemaVersion: 2, mediaType, manifests: [{ mediaType: type, digest: child, size, platform: { architecture: 'amd64', os: 'linux' } }] })
    const put = await fetch(`http://${address}/v2/app/manifests/${tag}`, { method: 'PUT', body: index, headers: { 'content-type': mediaType } })
    assert.is(put.status, 201, await put.text())
    assert.is(await clientOf(address).digest('app', tag), sha256(index))
  }
}))
real('that does not delete refuses in words', () => withRegistry({ delete: false }, async ({ address }) => {
  const pushed = await push(`http://${address}`, 'app', 'v1')
  const answer = await clientOf(address).remove('app', pushed)
  assert.equal(answer, { refused: `The registry ${address} does not allow kiln to remove images of app: 405 UNSUPPORTED The operation is unsupported.` })
}))
real('with passwords lets in whoever says them, and the others are told why not', () => withRegistry({ auth: { username: 'me', password: 'p:w' } }, async ({ address }) => {
  const pushed = await push(`http://${address}`, 'app', 'v1', { authorization: basic('me', 'p:w') })
  const registry = clientOf(address, auths(`http://${address}/v2/`, { auth: Buffer.from('me:p:w').toString('base64') }))
  assert.equal([await registry.digest('app', 'v1'), await registry.tags('app')], [pushed, ['v1']])
  assert.is(await registry.digest('app', 'v2'), null)

  const wrong = clientOf(address, auths(address, { username: 'me', password: 'wrong' }))
  for (const work of [() => wrong.digest('app', 'v1'), () => wrong.tags('app'), () => wrong.remove('app', pushed)]) {
    const { message } = await isUnavailable(work(), `The registry ${address} does not accept kiln's credentials to `, /app: 401/)
    assert.not.match(message, 'wrong')
  }
  await isUnavailable(wrong.tags('app'), '401 UNAUTHORIZED authentication required')
  await isUnavailable(clientOf(address).tags('app'), `The registry ${address} wants credentials to list tags of app, and kiln has none: 401`)
  await isUnavailable(clientOf(address, JSON.stringify({ credsStore: 'pass' })).tags('app'), 'docker-credential-pass, which kiln does not run')
  assert.is(await registry.remove('app', pushed), 'removed')
}))
real('over https of its own making is taken where that is allowed, and nowhere else', () => withRegistry({ tls: selfSigned() }, async ({ address }) => {
  assert.equal(await clientOf(address).tags('app'), [])
  const client = registries({ insecure: new Set([address.replace('127.0.0.1', 'LocalHost')]), credentials: none })
  assert.equal(await client(address.replace('127.0.0.1', 'localhost')).tags('app'), [], 'a host has one name')
  const strict = registries({ insecure: new Set(), credentials: none })(address)
  const error = await isUnavailable(strict.tags('app'), `The registry ${address} has a certificate that is not trusted (DEPTH_ZERO_SELF_SIGNED_CERT)`, 'LAMBDA_INSECURE_REGISTRIES')
  assert.instance(error.cause, Error)
}))
real('over https that is trusted is taken without further words', async () => {
  const tls = selfSigned()
  const folder = await mkdtemp(join(tmpdir(), 'kiln-test-trust-'))
  await withRegistry({ tls }, async ({ address }) => {
    await writeFile(join(folder, 'trusted.pem'), tls.certificate)
    const script = `import { credentialsFrom, registries } from '${new URL('../shared/oci/registry.ts', import.meta.url).href}'
      console.log(await registries({ insecure: new Set(), credentials: credentialsFrom(null) })('${address}').tags('app'))`
    const env = { ...process.env, NODE_EXTRA_CA_CERTS: join(folder, 'trusted.pem') }
    const { stdout } = await promisify(execFile)(process.execPath, ['--import', 'tsx', '--input-type=module', '-e', script], { env })
    assert.is(stdout, '[]\n', 'and the process ends by itself')
  })
  await rm(folder, { recursive: true })
})
real('over plain http is not asked by whoever wants https', () => withRegistry({}, async ({ address }) => {
  await isUnavailable(registries({ insecure: new Set(['127.0.0.1:1']), credentials: none })(address).tags('app'), `The registry ${address} does not speak https (`)
}))
real('that dies is the world\'s trouble, and that comes back is found again', async () => {
  const server = await registryServer()
  const client = registries({ insecure: new Set([server.address]), credentials: none })
  const registry = client(server.address)
  assert.equal(await registry.tags('app'), [])
  await server.close()
  const cannot = `The registry ${server.address} cannot be reached: `
  await isUnavailable(registry.digest('app', 'v1'), cannot, 'ECONNREFUSED')
  await isUnavailable(registry.remove('app', digest), cannot)
  await isUnavailable(registry.tags('app'), cannot)
  await withRegistry({ address: server.address }, async () => assert.equal(await registry.tags('app'), []))
  await withRegistry({ tls: selfSigned(), address: server.address }, async () => {
    await isUnavailable(registry.tags('app'), 'does not list tags of app: 400')
    assert.equal(await registry.tags('app'), [], 'it has changed to https')
  })
})
real('is not asked what no registry can have', async () => {
  const registry = clientOf('127.0.0.1:1')
  for (const work of [() => registry.digest('a/../b', 'v'), () => registry.digest('a', 'v/../x'), () => registry.tags('A'), () => registry.remove('a', 'latest')]) {
    const error = await failure(work())
    assert.not.instance(error, Unavailable)
    assert.match(error.message, /is no repository|is neither tag nor digest|is no digest/)
  }
})
real.run()

// ---- tokens ------------------------------------------------------------------------------------------------------

interface TokenServer {
  realm: string
  keys: object[]
  /** What was asked, in order. */
  asked: Array<{ method: string; query: Record<string, string>; authorization: string | null; body: string }>
  /** How the next ones are answered. */
  give: { status: number; seconds: number | undefined; actions: (wanted: string[]) => string[]; as: 'token' | 'access_token' }
  close(): void
}

async function tokenServer(): Promise<TokenServer> {
  const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const asked: TokenServer['asked'] = []
  const give: TokenServer['give'] = { status: 200, seconds: undefined, actions: (wanted) => wanted, as: 'token' }
  const server = createServer(async (request, response) => {
    let body = ''
    for await (const chunk of request) body += chunk
    const { searchParams } = new URL(request.url!, 'http://x')
    asked.push({ method: request.method!, query: Object.fromEntries(searchParams), authorization: request.headers.authorization ?? null, body })
    const wish = request.method === 'POST' ? new URLSearchParams(body) : searchParams
    const [type, name, actions = ''] = (wish.get('scope') ?? '').split(':')
    const now = Math.floor(Date.now() / 1_000)
    const claims = { iss: 'kiln-test', aud: wish.get('service'), iat: now, nbf: now - 10, exp: now + 300, jti: randomUUID(), access: [{ type, name, actions: give.actions(actions.split(',')) }] }
    const content = [{ alg: 'ES256', typ: 'JWT', kid: 'test' }, claims].map((part) => Buffer.from(JSON.stringify(part)).toString('base64url')).join('.')
    const signature = sign('sha256', Buffer.from(content), { key: privateKey, dsaEncoding: 'ieee-p1363' }).toString('base64url')
    response.writeHead(give.status, { 'content-type': 'application/json' }).end(JSON.stringify({ [give.as]: `${content}.${signature}`, expires_in: give.seconds }))
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  return {
    realm: `http://127.0.0.1:${(server.address() as AddressInfo).port}/token`, keys: [{ ...publicKey.export({ format: 'jwk' }), kid: 'test', alg: 'ES256', use: 'sig' }], asked, give,
    close() { server.closeAllConnections(); server.close() },
  }
}

async function withTokens(work: (address: string, tokens: TokenServer) => Promise<void>): Promise<void> {
  const tokens = await tokenServer()
  try {
    await withRegistry({ token: { realm: tokens.realm, service: 'kiln tests', issuer: 'kiln-test', keys: tokens.keys } }, ({ address }) => work(address, tokens))
  } finally {
    tokens.close()
  }
}

/** A token for pushing, as a test needs it. */
async function pusher({ realm }: TokenServer, repository: string): Promise<Record<string, string>> {
  const response = await fetch(`${realm}?service=kiln%20tests&scope=repository:${repository}:pull,push`)
  return { authorization: `Bearer ${((await response.json()) as { token: string }).token}` }
}

const token = suite('a registry with tokens')
token('gets one for each right, with the password, and again only when it has run out', () => withTokens(async (address, tokens) => {
  const pushed = await push(`http://${address}`, 'app', 'v1', await pusher(tokens, 'app'))
  tokens.asked.length = 0
  const registry = clientOf(address, auths(address, { username: 'me', password: 'p' }))
  assert.equal([await registry.digest('app', 'v1'), await registry.tags('app'), await registry.digest('app', 'v2')], [pushed, ['v1'], null])
  const pull = { method: 'GET', query: { service: 'kiln tests', scope: 'repository:app:pull' }, authorization: basic('me', 'p'), body: '' }
  assert.equal(tokens.asked, [pull])
  assert.is(await registry.remove('app', pushed), 'removed')
  assert.equal(await registry.tags('app'), [])
  assert.equal(tokens.asked.slice(1).map(({ query }) => query['scope']), ['repository:app:delete'])
  assert.equal(await registry.tags('other'), [])
  assert.equal(tokens.asked.slice(2).map(({ query }) => query['scope']), ['repository:other:pull'])

  tokens.give.seconds = 1 // less than the margin: it is used once
  const short = clientOf(address)
  tokens.asked.length = 0
  await short.tags('app')
  await short.tags('app')
  assert.equal(tokens.asked.map(({ authorization }) => authorization), [null, null])
}))
token('a token that the registry does not take any more is got anew, once', () => withTokens(async (address, tokens) => {
  const registry = clientOf(address)
  tokens.give.actions = () => []
  await isUnavailable(registry.tags('app'), /wants credentials to list tags of app, and kiln has none: 401/)
  assert.is(tokens.asked.length, 1)
  tokens.give.actions = (wanted) => wanted
  // The first one was kept and is of no use.
  assert.equal(await registry.tags('app'), [])
  assert.is(tokens.asked.length, 2)
}))
token('many at once want one', () => withTokens(async (address, tokens) => {
  const registry = clientOf(address)
  await Promise.all(Array.from({ length: 10 }, () => registry.tags('app')))
  assert.is(tokens.asked.length, 1)
}))
token('that gives no right to delete is a refusal, not trouble', () => withTokens(async (address, tokens) => {
  const pushed = await push(`http://${address}`, 'app', 'v1', await pusher(tokens, 'app'))
  tokens.give.actions = (wanted) => wanted.filter((action) => action !== 'delete')
  const answer = await clientOf(address).remove('app', pushed)
  assert.match((answer as { refused: string }).refused, `The registry ${address} does not allow kiln to remove images of app: 401 `)
}))
token('an identity token is exchanged, a registry token is taken as it is', () => withTokens(async (address, tokens) => {
  tokens.give.as = 'access_token'
  assert.equal(await clientOf(address, auths(address, { identitytoken: 'my-identity' })).tags('app'), [])
  const [{ method, authorization, body }] = tokens.asked as [TokenServer['asked'][number]]
  assert.equal([method, authorization], ['POST', null])
  assert.equal(Object.fromEntries(new URLSearchParams(body)), { grant_type: 'refresh_token', client_id: 'kiln', refresh_token: 'my-identity', service: 'kiln tests', scope: 'repository:app:pull' })

  tokens.give.as = 'token'
  const { authorization: bearer } = await pusher(tokens, 'app')
  tokens.asked.length = 0
  assert.equal(await clientOf(address, auths(address, { registrytoken: bearer!.slice('Bearer '.length) })).tags('app'), [])
  assert.equal(tokens.asked, [])
}))
token('a token server that says no, nonsense or nothing is named', () => withTokens(async (address, tokens) => {
  const host = new URL(tokens.realm).host
  tokens.give.status = 401
  await isUnavailable(clientOf(address, auths(address, { username: 'me', password: 'secret' })).tags('app'), `The registry ${address} wants a token for app, and ${host} gave none for kiln's credentials: 401.`)
  await isUnavailable(clientOf(address).tags('app'), `${host} gave none without credentials: 401`)
  tokens.give.status = 200
  tokens.give.as = 'nonsense' as 'token'
  await isUnavailable(clientOf(address).tags('app'), `${host} answered with something that holds no token`)
  tokens.close()
  await isUnavailable(clientOf(address).tags('app'), `The token server ${host} cannot be reached: `)
}))
token.run()

// ---- servers that misbehave --------------------------------------------------------------------------------------

type Handler = (request: IncomingMessage, response: ServerResponse) => void

async function standing<T>(handler: Handler, work: (address: string) => Promise<T>): Promise<T> {
  const server = createServer(handler).listen(0, '127.0.0.1')
  await once(server, 'listening')
  try {
    return await work(`127.0.0.1:${(server.address() as AddressInfo).port}`)
  } finally {
    server.closeAllConnections()
    server.close()
  }
}
const saying = (status: number, body: string | object = '', headers: Record<string, string> = {}): Handler => (request, response) => {
  const text = typeof body === 'string' ? body : JSON.stringify(body)
  response.writeHead(status, headers).end(request.method === 'HEAD' ? undefined : text)
}

const odd = suite('a registry that is not as it should be')
odd('says no for now: each no has its words', async () => {
  const cases: Array<[number, RegExp]> = [
    [401, /wants credentials to list tags of app, and kiln has none: 401 CODE why\.$/], [403, /forbids kiln to list tags of app: 403 CODE why\.$/],
    [429, /is asked too often to list tags of app: 429 CODE why\.$/], [500, /does not list tags of app: 500 CODE why\.$/], [503, /: 503 CODE why\.$/],
  ]
  for (const [status, words] of cases) {
    await standing(saying(status, { errors: [{ code: 'CODE', message: 'why' }] }), async (address) => {
      const registry = clientOf(address)
      await isUnavailable(registry.tags('app'), `The registry ${address} `, words)
      await isUnavailable(registry.digest('app', 'v1'), `The registry ${address} `, new RegExp(`: ${status}\\.$`))
      if (status !== 403) await isUnavailable(registry.remove('app', digest), `The registry ${address} `, `${status} CODE why`)
    })
  }
})
odd('refuses to remove: each refusal has its words', async () => {
  for (const [status, code] of [[403, 'DENIED'], [405, 'UNSUPPORTED'], [400, 'UNSUPPORTED'], [409, 'CONFLICT'], [412, '']] as const) {
    await standing(saying(status, code && { errors: [{ code }] }), async (address) => {
      assert.equal(await clientOf(address).remove('app', digest), { refused: `The registry ${address} does not allow kiln to remove images of app: ${[status, code].join(' ').trim()}.` })
    })
  }
})
odd('tells no digest in its headers: then the manifest is measured', async () => {
  const manifest = '{"schemaVersion":2}'
  const answers: Array<[Handler, string | null]> = [
    [(request, response) => saying(request.method === 'HEAD' ? 405 : 200, manifest)(request, response), sha256(manifest)],
    [saying(200, manifest), sha256(manifest)],
    [saying(200, manifest, { 'docker-content-digest': 'md5:nonsense' }), sha256(manifest)],
    [(request, response) => saying(200, manifest, request.method === 'GET' ? { 'docker-content-digest': digest } : {})(request, response), digest],
    [(request, response) => saying(request.method === 'HEAD' ? 405 : 404)(request, response), null],
  ]
  for (const [handler, expected] of answers) {
    const accepted = new Set<string | undefined>()
    await standing((request, response) => { accepted.add(request.headers.accept); handler(request, response) }, async (address) => assert.is(await clientOf(address).digest('app', 'v1'), expected))
    assert.is(accepted.size, 1)
    for (const type of ['oci.image.index.v1', 'oci.image.manifest.v1', 'docker.distribution.manifest.list.v2', 'docker.distribution.manifest.v2']) assert.match([...accepted][0]!, `application/vnd.${type}+json`)
  }
  await standing((request, response) => saying(request.method === 'HEAD' ? 200 : 500)(request, response), (address) => isUnavailable(clientOf(address).digest('app', 'v1'), 'tell of an image of app: 500'))
})
odd('says more than anybody wants to hear', async () => {
  const endless: Handler = (request, response) => {
    if (request.method === 'HEAD') return void response.end()
    const more = (): void => { while (response.write(Buffer.alloc(65_536, 32))); }
    response.on('drain', more).on('error', () => undefined)
    more()
  }
  await standing(endless, async (address) => {
    await isUnavailable(clientOf(address).tags('app'), `The registry ${address} answered with more than 8388608 bytes.`)
    await isUnavailable(clientOf(address).digest('app', 'v1'), `The registry ${address} answered with more than 4194304 bytes.`)
  })
  for (const body of ['<html>', '[', '"x"', 'null']) await standing(saying(200, body), (address) => isUnavailable(clientOf(address).tags('app'), 'something that is no JSON'))
  for (const tags of ['x', [1], {}]) await standing(saying(200, { tags }), (address) => isUnavailable(clientOf(address).tags('app'), `answered with no list of tags of app`))
  await standing(saying(200, { name: 'app', tags: null }), async (address) => assert.equal(await clientOf(address).tags('app'), []))
})
odd('tells tags in pages, of which the last may lead back', async () => {
  const asked: string[] = []
  const pages = (links: Record<string, string>): Handler => (request, response) => {
    asked.push(request.url!)
    const last = new URL(request.url!, 'http://x').searchParams.get('last') ?? ''
    saying(200, { tags: [`${last}a`, `${last}b`] }, links[last] ? { link: `<${links[last]}>; rel="next"` } : {})(request, response)
  }
  await standing(pages({ '': '/v2/app/tags/list?last=b&n=2', b: 'list?last=c' }), async (address) => assert.equal(await clientOf(address).tags('app'), ['a', 'b', 'ba', 'bb', 'ca', 'cb']))
  assert.equal(asked, ['/v2/app/tags/list?n=1000', '/v2/app/tags/list?last=b&n=2', '/v2/app/tags/list?last=c'])
  await standing(pages({ '': '?last=x', x: '?last=x' }), async (address) => assert.equal(await clientOf(address).tags('app'), ['a', 'b', 'xa', 'xb']))
  await standing(pages({ '': 'http://127.0.0.1:1/v2/app/tags/list?last=c' }), async (address) => assert.equal(await clientOf(address).tags('app'), ['a', 'b'], 'another host has no pages of it'))
})
odd('redirects: credentials stay with the host that they are for', async () => {
  const seen: Array<string | undefined> = []
  const elsewhere: Handler = (request, response) => { seen.push(request.headers.authorization); saying(200, '', { 'docker-content-digest': digest })(request, response) }
  const challenge = { 'www-authenticate': 'Basic realm="x"' }
  const password = { username: 'me', password: 'p' }
  await standing(elsewhere, (other) => standing((request, response) => {
    if (!request.headers.authorization) return saying(401, '', challenge)(request, response)
    saying(307, '', { location: request.url!.includes('here') ? '/moved' : `http://${other}/moved` })(request, response)
    if (request.url === '/moved') seen.push('here')
  }, async (address) => {
    const registry = clientOf(address, auths(address, password))
    assert.is(await registry.digest('app', 'v1'), digest)
    assert.equal(seen, [undefined])
  }))
  // What the other host asks for is not answered either.
  const asked: string[] = []
  await standing((request, response) => {
    asked.push(request.url!)
    saying(401, '', { 'www-authenticate': `Bearer realm="http://${request.headers.host}/token"` })(request, response)
  }, (other) => standing(saying(302, '', { location: `http://${other}/` }), async (address) => {
    await isUnavailable(clientOf(address, JSON.stringify({ auths: { [address]: password, [other]: password } })).tags('app'), `The registry ${address} refers to ${other} to list tags of app, which answered 401.`)
    assert.equal(asked, ['/'])
  }))
  await standing((request, response) => (request.url === '/moved' ? elsewhere : saying(308, '', { location: '/moved' }))(request, response), async (address) => assert.is(await clientOf(address).digest('app', 'v1'), digest))
  let again = 0
  await standing((request, response) => { again++; saying(302, '', { location: '/again' })(request, response) }, (address) => isUnavailable(clientOf(address).tags('app'), `The registry ${address} redirects without end`))
  assert.is(again, 6)
  await standing(saying(302, '', { location: 'ftp://host.x/' }), (address) => isUnavailable(clientOf(address).tags('app'), `The registry ${address} redirects to ftp://host.x, which is not https.`))
})
odd('redirects what was sent: an identity token stays where it was sent to', async () => {
  let taken = 0
  await standing((request, response) => { taken++; saying(200, { token: 'x' })(request, response) }, (thief) => standing((request, response) => {
    if (request.method === 'POST') return saying(307, '', { location: `http://${thief}/` })(request, response)
    saying(401, '', { 'www-authenticate': `Bearer realm="http://${request.headers.host}/token"` })(request, response)
  }, (address) => isUnavailable(clientOf(address, auths(address, { identitytoken: 'secret' })).tags('app'), `redirects what is sent there to http://${thief}.`)))
  assert.is(taken, 0)
})
odd('breaks off a connection that was kept: the next one is tried', async () => {
  const before = new Set<unknown>()
  await standing((request, response) => {
    if (before.has(request.socket)) return void request.socket.destroy()
    before.add(request.socket)
    saying(200, { tags: ['a'] })(request, response)
  }, async (address) => {
    const registry = clientOf(address)
    for (let i = 0; i < 3; i++) assert.equal(await registry.tags('app'), ['a'])
    assert.is(before.size, 3)
  })
})
odd('asks for a token late: the one that has come in the meantime is taken', async () => {
  let tokens = 0
  const held = gate<() => void>()
  await standing((request, response) => {
    if (request.url!.startsWith('/token')) { tokens++; return saying(200, { token: 'x' })(request, response) }
    if (request.headers.authorization === 'Bearer x') return saying(200, '', { 'docker-content-digest': digest })(request, response)
    const challenge = (): void => saying(401, '', { 'www-authenticate': `Bearer realm="http://${request.headers.host}/token"` })(request, response)
    if (request.url!.endsWith('late')) held.open(challenge)
    else challenge()
  }, async (address) => {
    const registry = clientOf(address)
    const late = registry.digest('app', 'late')
    const answer = await held.promise
    assert.is(await registry.digest('app', 'v1'), digest)
    answer()
    assert.is(await late, digest)
  })
  assert.is(tokens, 1)
})
odd('wants a token from nowhere, or from where a password may not go', async () => {
  for (const realm of ['', 'realm="not an address"']) await standing(saying(401, '', { 'www-authenticate': `Bearer ${realm || 'service="x"'}` }), (address) => isUnavailable(clientOf(address).tags('app'), 'wants a token and does not say from where'))
  await standing(saying(401, '', { 'www-authenticate': 'Bearer realm="ftp://host.x/token"' }), (address) => isUnavailable(clientOf(address).tags('app'), 'sends kiln for a token to ftp://host.x, which is not https', ))
  await standing(saying(401, '', { 'www-authenticate': 'Digest realm="x"' }), (address) => isUnavailable(clientOf(address, auths(address, { username: 'me', password: 'p' })).tags('app'), "does not accept kiln's credentials"))
})
odd.run()
