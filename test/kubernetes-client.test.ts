// The client of Kubernetes: what an API server answers beside what was asked for, over real HTTP, and what each of it is to kiln.
import { Readable } from 'node:stream'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { Rejected, type Cluster } from '../shared/kubernetes/client.ts'
import { linesOf } from '../shared/kubernetes/follow.ts'
import { path } from '../shared/kubernetes/names.ts'
import type { Meta } from '../shared/kubernetes/resources.ts'
import { Unavailable } from '../shared/trouble.ts'
import { bareCluster, type BareCluster } from './stand/kubernetes/bare.ts'
import type { Api, ApiOptions } from './stand/kubernetes/api.ts'

const at = path.configMaps('default')
const configMap = (name: string, data: Record<string, string> = {}) =>
  ({ apiVersion: 'v1', kind: 'ConfigMap', metadata: { name, namespace: 'default', uid: '', resourceVersion: '', creationTimestamp: '' }, data })

async function on(work: (stage: BareCluster) => Promise<void>, options: ApiOptions = {}): Promise<void> {
  const stage = await bareCluster(undefined, undefined, options)
  try {
    await work(stage)
  } finally {
    await stage.close()
  }
}

const errorOf = (promise: Promise<unknown>): Promise<unknown> => promise.then((found) => { throw new Error(`no error, but ${JSON.stringify(found)}`) }, (error: unknown) => error)
const asks = (api: Api, part = ''): number => api.requests.filter(({ path }) => path.includes(part)).length
const anything = (): boolean => true

// ---
const client = suite('the client of Kubernetes')

client('429 is tried again when the server says, whatever its body is', () => on(async ({ somebody, store, api }) => {
  store.put('configmaps', configMap('one'))
  api.failNext(anything, { status: 429, body: 'Too many requests, please try again later.\n', headers: { 'Retry-After': '0' } })
  assert.is((await somebody.get<{ metadata: Meta }>(`${at}/one`))?.metadata.name, 'one')
  assert.is(asks(api), 2)
}))

for (const status of [429, 503, 504]) {
  client(`${status} that lasts is the world's trouble after four tries`, () => on(async ({ somebody, api }) => {
    for (let times = 0; times < 4; times += 1) api.failNext(anything, { status, body: 'busy\n', headers: { 'Retry-After': '0' } })
    const error = await errorOf(somebody.get(`${at}/one`))
    assert.instance(error, Unavailable)
    assert.match((error as Error).message, new RegExp(`${status} busy`))
    assert.is(asks(api), 4)
  }))
}

client('500 is the world\'s trouble, and not asked again at once', () => on(async ({ somebody, api }) => {
  api.failNext(anything, { status: 500, body: { kind: 'Status', status: 'Failure', reason: 'InternalError', message: 'failed calling webhook', code: 500 } })
  const error = await errorOf(somebody.create(at, configMap('one')))
  assert.instance(error, Unavailable)
  assert.match((error as Error).message, 'failed calling webhook')
  assert.is(asks(api), 1)
}))

client('a body that the server cannot read is a fault of kiln\'s own', () => on(async ({ somebody }) => {
  const error = await errorOf(somebody.apply(`${path.pods('default')}/one`, { apiVersion: 'v1', kind: 'Pod', metadata: { name: 'one' }, spec: { nonsense: 1 } })) as Error
  assert.match(error.message, /typed patch/)
  assert.equal([error instanceof Unavailable, error instanceof Rejected], [false, false])
}))

client('credentials that are refused are the world\'s trouble', () => on(async ({ somebody }) => {
  const error = await errorOf(somebody.get(`${at}/one`))
  assert.instance(error, Unavailable)
  assert.match((error as Error).message, /credentials.*401/)
}, { roles: new Map() }))

client('a connection that is cut is the world\'s trouble, and its cause is kept', () => on(async ({ somebody, api }) => {
  api.failNext(anything, 'reset')
  const error = await errorOf(somebody.get(`${at}/one`))
  assert.instance(error, Unavailable)
  assert.ok((error as Error).cause)
}))

const rejections: Array<[string, number, string, RegExp, (somebody: Cluster) => Promise<unknown>]> = [
  ['a namespace that is not there', 404, 'NotFound', /namespaces "nowhere" not found/, (somebody) => somebody.create(path.configMaps('nowhere'), { metadata: { name: 'one' } })],
  ['a name that is taken', 409, 'AlreadyExists', /configmaps "there" already exists/, (somebody) => somebody.create(at, configMap('there'))],
  ['an object that is another by now', 409, 'Conflict', /UID in the precondition/, (somebody) => somebody.remove(`${at}/there`, { uid: 'another' })],
  ['a name that cannot be one', 422, 'Invalid', /metadata\.name/, (somebody) => somebody.create(at, configMap('Not A Name'))],
  ['a path that is none, in plain text', 404, '', /^404 page not found$/, (somebody) => somebody.list('/apis/nonsense/v1/things', {})],
]
for (const [what, status, reason, message, ask] of rejections) {
  client(`${what} is said no to, with ${status}`, () => on(async ({ somebody, store }) => {
    store.put('configmaps', configMap('there'))
    const error = await errorOf(ask(somebody))
    assert.instance(error, Rejected)
    const rejected = error as Rejected
    assert.equal([rejected.status, rejected.reason], [status, reason])
    assert.match(rejected.message, message)
  }))
}

client('a right that is lacking is said no to, with 403', () => on(async ({ somebody }) => {
  const error = await errorOf(somebody.list(at, {})) as Rejected
  assert.equal([error.status, error.reason], [403, 'Forbidden'])
  assert.match(error.message, /cannot list resource "configmaps"/)
}, { roles: new Map([['stand-in', []]]) }))

client('what is not there is null, and removing it is fine', () => on(async ({ somebody }) => {
  assert.is(await somebody.get(`${at}/nobody`), null)
  await somebody.remove(`${at}/nobody`)
}))

client('a long list comes whole, in pages', () => on(async ({ somebody, store, api }) => {
  for (let n = 0; n < 1_100; n += 1) store.put('configmaps', configMap(`map-${n}`))
  const { items, resourceVersion } = await somebody.list<{ metadata: Meta }>(at, {})
  assert.is(new Set(items.map(({ metadata }) => metadata.name)).size, 1_100)
  assert.is(items.length, 1_100)
  assert.is(resourceVersion, String(store.version()))
  assert.is(asks(api), 3)
}))

client('a stream that falls silent is broken', () => on(async ({ somebody }) => {
  const stream = await somebody.stream(at, { watch: true, resourceVersion: 1_002 }, new AbortController().signal, 50)
  assert.ok(await errorOf((async () => { for await (const _ of stream!) undefined })()))
}))

client('what is refused as a stream is an error like any other', () => on(async ({ somebody }) => {
  const error = await errorOf(somebody.stream(path.log('default', 'nobody'), {}, new AbortController().signal, 0)) as Rejected
  assert.equal([error.status, error.reason], [404, 'NotFound'])
}))

client('lines are whole, wherever the bytes are cut', async () => {
  const bytes = Buffer.from('grüße\n😀 and more\n\nno newline at the end €')
  const lines: string[] = []
  for await (const line of linesOf(Readable.from([...bytes].map((byte) => Buffer.from([byte]))))) lines.push(line)
  assert.equal(lines, ['grüße', '😀 and more', '', 'no newline at the end €'])
})

client.run()
