// Rights at a registry: of two repositories for a mount, asked for before the registry asks, and once more when they have run out.
import { randomBytes } from 'node:crypto'
import { gzipSync } from 'node:zlib'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { appending, type Changes } from '../shared/oci/append.ts'
import { platformOf, pulling } from '../shared/oci/pull.ts'
import type { Registry } from '../shared/oci/registry.ts'
import type { Talk } from './stand/oci-faults.ts'
import { blobAt, blobOf, diffIdOf, manifestAt, pushBlob, pushImage, sha256, type Origin } from './stand/oci-images.ts'
import { tokenOptions, tokenServer, type Tokens } from './stand/oci-tokens.ts'
import { isUnavailable, passwordAt, world, type World } from './stand/oci-world.ts'
import { registryServer } from './stand/registry.ts'

const changes: Changes = { workingDir: '/lambda', env: {}, ports: [], entrypoint: ['/run'], labels: {}, createdBy: 'kiln' }
const isMount = ({ query }: Talk): boolean => 'mount' in query
const refusals = ({ proxy }: World): string[] => proxy.talks.filter(({ status }) => status === 401).map(({ method, query }) => `${method}${'mount' in query ? ' mount' : ''}`)

async function withTokens(work: (at: World, tokens: Tokens, origin: (scope: string) => Promise<Origin>) => Promise<void>): Promise<void> {
  const tokens = await tokenServer()
  try {
    await world({ token: tokenOptions(tokens) }, (at) => work(at, tokens, async (scope) => ({ ...at.origin, headers: await tokens.bearer(scope) })))
  } finally {
    await tokens.close()
  }
}
/** Pulls base:v1 and appends to it: the digest of app:v1. */
async function appended(at: World, registryOf: (host: string) => Registry, code = randomBytes(1_000)): Promise<string> {
  const pull = await pulling(registryOf, platformOf('linux/amd64'))(`${at.proxy.address}/base:v1`)
  if ('refused' in pull) throw new Error(pull.refused.message)
  const blob = gzipSync(code)
  return appending(registryOf)({ parent: pull.image, layer: Object.assign(blobOf(blob), { diffId: diffIdOf(blob) }), changes, to: { registry: at.proxy.address, repository: 'app', tag: 'v1' } })
}
const pushes = 'repository:app:pull,push'
const sorted = (asked: string[][]): string[] => asked.map((scopes) => scopes.map((one) => one.replace('push,pull', 'pull,push')).sort().join(' ')).sort()

const tokens = suite('tokens')
tokens('are asked for once for each right, and after the first before the registry asks', () => withTokens(async (at, server, origin) => {
  await pushImage(await origin('repository:base:pull,push'), { layers: 8 })
  server.asked.length = 0
  const digest = await appended(at, at.client())
  assert.is(sha256((await manifestAt(await origin(pushes), 'app', 'v1'))!.text), digest)
  server.asked.pop()
  assert.equal(sorted(server.asked), [pushes, `${pushes} repository:base:pull`, 'repository:base:pull'])
  assert.equal(refusals(at), ['HEAD'])
  assert.equal(at.proxy.talks.filter(isMount).map(({ status }) => status), Array(8).fill(201))
}))
tokens('for a mount name both repositories, also where the registry leaves one out', () => withTokens(async (at, server, origin) => {
  const digest = await pushBlob(await origin('repository:base:pull,push'), 'base', Buffer.from('x'))
  for (const config of [undefined, { auths: { [at.proxy.address]: { identitytoken: 'me' } } }]) {
    at.proxy.fault = () => ({ headers: (headers) => ({ ...headers, ...(headers['www-authenticate'] && { 'www-authenticate': String(headers['www-authenticate']).replace(/scope="[^"]*"/, `scope="${pushes}"`) }) }) })
    server.asked.length = 0
    assert.is(await at.client({ ...(config && { config }) })(at.proxy.address).mount('app', digest, 'base'), true)
    assert.equal(server.asked, [[pushes, 'repository:base:pull']])
  }
}))
tokens('for a mount that are not given, or give no right, make it an upload', () => withTokens(async (at, server, origin) => {
  const pushed = await pushImage(await origin('repository:base:pull,push'))
  server.refuse = (scopes) => (scopes.length > 1 ? 403 : null)
  await appended(at, at.client())
  assert.equal(at.proxy.talks.filter(isMount).map(({ status }) => status), [401, 401])
  assert.is(await at.client()(at.proxy.address).mount('app', pushed.layers[0]!.digest, 'base'), false)
  server.refuse = () => null
  server.give = (repository, actions) => (repository === 'base' && server.asked.at(-1)!.length > 1 ? [] : actions)
  at.proxy.talks.length = 0
  assert.is(await at.client()(at.proxy.address).mount('app', pushed.layers[0]!.digest, 'base'), false)
  assert.equal(refusals(at), ['POST mount', 'POST mount'])
  server.refuse = () => 500
  await isUnavailable(at.client()(at.proxy.address).mount('app', pushed.layers[0]!.digest, 'base'), 'wants a token for app, and', '500')
}))
tokens('that run out in the middle of an upload are got anew, and the chunk is sent from its beginning', () => withTokens(async (at, server, origin) => {
  const bytes = randomBytes(20 << 20)
  let chunks = 0
  at.proxy.fault = ({ method }) => (method === 'PATCH' && ++chunks === 2
    ? { answer: { status: 401, headers: { 'www-authenticate': `Bearer realm="${server.realm}",service="kiln tests",scope="${pushes}"` } } } : null)
  const blob = blobOf(bytes)
  await at.client()(at.proxy.address).upload('app', blob)
  assert.ok((await blobAt(await origin(pushes), 'app', blob.digest)).equals(bytes))
  assert.is(at.proxy.talks.map(({ method, status }) => `${method} ${status}`).join(', '), 'HEAD 401, HEAD 404, POST 202, PATCH 202, PATCH 401, PATCH 202, PATCH 202, PUT 201')
  assert.equal(sorted(server.asked.slice(0, 2)), [pushes, pushes])
}))
tokens('for taking a session away are those for deleting', () => withTokens(async (at, server) => {
  assert.is(await at.client()(at.proxy.address).mount('app', sha256('nowhere'), 'base'), false)
  // A registry names what it wants in no order of its own.
  assert.equal(sorted(server.asked), ['repository:app:delete', `${pushes} repository:base:pull`])
  assert.equal(at.proxy.talks.map(({ method, status }) => `${method} ${status}`), ['POST 401', 'POST 202', 'DELETE 204'])
}))
tokens('are not believed in for ever: a registry may want something else, or nothing', () => withTokens(async (at, server) => {
  const registry = at.client({ config: passwordAt(at.proxy.address, 'me', 'p') })(at.proxy.address)
  assert.equal(await registry.tags('app'), [])
  await server.close()
  await at.server.close()
  const open = await registryServer({ address: at.server.address })
  assert.equal(await registry.tags('other'), [])
  await open.close()
  const closed = await registryServer({ address: at.server.address, auth: { username: 'me', password: 'p' } })
  assert.equal(await registry.tags('third'), [])
  await closed.close()
}))
tokens.run()

const passwords = suite('a password')
passwords('is asked for once by a registry, and said from then on for whatever it is', () => world({ auth: { username: 'me', password: 'p' } }, async (at) => {
  const headers = { authorization: `Basic ${Buffer.from('me:p').toString('base64')}` }
  await pushImage({ ...at.origin, headers }, { layers: 8 })
  const digest = await appended(at, at.client({ config: passwordAt(at.proxy.address, 'me', 'p') }))
  assert.is(sha256((await manifestAt({ ...at.origin, headers }, 'app', 'v1'))!.text), digest)
  assert.equal(refusals(at), ['HEAD'])
}))
passwords('that is wrong, or is not there, is told at the first question', () => world({ auth: { username: 'me', password: 'p' } }, async (at) => {
  const blob = blobOf(randomBytes(10))
  await isUnavailable(at.client({ config: passwordAt(at.proxy.address, 'me', 'wrong') })(at.proxy.address).upload('app', blob), `The registry ${at.proxy.address} does not accept kiln's credentials to tell of the blob ${blob.digest} of app: 401`)
  await isUnavailable(at.registry().upload('app', blob), `The registry ${at.proxy.address} wants credentials to tell of the blob ${blob.digest} of app, and kiln has none: 401`)
  assert.equal(blob.opened, [])
}))
passwords.run()
