// Following a list of Kubernetes and its changes: watches that end, break and are forgotten, over real HTTP.
import { EventEmitter, once } from 'node:events'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import type { Cluster, Query } from '../shared/kubernetes/client.ts'
import { follow, type Followed } from '../shared/kubernetes/follow.ts'
import { path } from '../shared/kubernetes/names.ts'
import type { Meta } from '../shared/kubernetes/resources.ts'
import { silentLog } from '../shared/log.ts'
import { bareCluster, type BareCluster } from './stand/kubernetes/bare.ts'
import type { Api, ApiOptions } from './stand/kubernetes/api.ts'
import type { Store } from './stand/kubernetes/store.ts'

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

const anything = (): boolean => true

interface Following extends Followed {
  /** `all a,b`, `changed a`, `gone a` */
  told: string[]
  /** Resolves when this has been told. */
  until(what: string): Promise<void>
}

function following(cluster: Cluster, where = at, query: Query = {}): Following {
  const told: string[] = []
  const events = new EventEmitter().setMaxListeners(0)
  const tell = (what: string): void => {
    told.push(what)
    events.emit('told')
  }
  const nameOf = ({ metadata }: { metadata: Meta }): string => metadata.name
  const followed = follow<{ metadata: Meta }>(cluster, where, query, {
    all: (items) => tell(`all ${items.map(nameOf)}`), changed: (one) => tell(`changed ${nameOf(one)}`), gone: (one) => tell(`gone ${nameOf(one)}`),
  }, silentLog)
  return {
    ...followed, told,
    async until(what) {
      const patience = AbortSignal.timeout(60_000)
      const late = (): never => { throw new Error(`${what} was never told, but ${told.join('; ')}`) }
      while (!told.includes(what)) await once(events, 'told', { signal: patience }).catch(late)
    },
  }
}

/** A server that ends each watch after a second, as it may; `before` happens just before watch number n begins. */
function shortWatches(client: Cluster, before: (n: number) => void | Promise<void> = () => undefined): Cluster {
  let n = 0
  return {
    ...client,
    async stream(where, query, signal, silenceMs) {
      await before(++n)
      return client.stream(where, { ...query, timeoutSeconds: 1 }, signal, silenceMs)
    },
  }
}

const lists = (api: Api): number => api.requests.filter(({ method, path }) => method === 'GET' && !path.includes('watch=true')).length
const fill = (store: Store, ...names: string[]): void => names.forEach((name) => store.put('configmaps', configMap(name)))
const drop = (store: Store, name: string): void => store.drop('configmaps', 'default', name)

const followings = suite('following a list of Kubernetes')

followings('first all that there is, then each change', () => on(async ({ client, store, settled }) => {
  fill(store, 'a', 'b')
  const { told, listed, close } = following(client)
  await listed
  await settled()
  store.put('configmaps', configMap('b', { more: '1' }))
  fill(store, 'c')
  drop(store, 'a')
  await settled()
  assert.equal(told, ['all a,b', 'changed b', 'changed c', 'gone a'])
  close()
}))

followings('a watch that the server ends goes on where it was, without a list', () => on(async ({ client, store, api }) => {
  fill(store, 'a')
  const { told, until, close } = following(shortWatches(client, (n) => { if (n === 2) fill(store, 'between') }))
  await until('changed between')
  assert.equal([told, lists(api)], [['all a', 'changed between'], 1])
  close()
}))

followings('a place that the server has forgotten is no loss: it starts again from a list, and tells what has vanished', () => on(async ({ client, store, api }) => {
  fill(store, 'a', 'b')
  const { told, until, close } = following(shortWatches(client, (n) => {
    if (n !== 2) return
    drop(store, 'a')
    fill(store, 'c')
    store.compact()
  }))
  await until('all b,c')
  assert.equal([told, lists(api)], [['all a,b', 'all b,c'], 2])
  close()
}))

followings('a connection that breaks is no loss either', () => on(async ({ client, store, api, settled }) => {
  fill(store, 'a', 'b')
  const { told, until, listed, close } = following(client)
  await listed
  await settled()
  api.breakWatches()
  drop(store, 'a')
  fill(store, 'c')
  await until('all b,c')
  await settled()
  fill(store, 'd')
  await settled()
  assert.equal([told, lists(api)], [['all a,b', 'all b,c', 'changed d'], 2])
  close()
}))

followings('a bookmark is no object, but a place to go on from', () => on(async ({ client, store, api }) => {
  fill(store, 'a')
  const { told, until, close } = following(shortWatches(client, (n) => {
    if (n !== 2) return
    // Only from the bookmark on the server remembers.
    store.compact()
    fill(store, 'later')
  }))
  await until('all a')
  // What others do, this watch never sees.
  for (let one = 0; one < 10; one += 1) store.put('secrets', { ...configMap(`secret-${one}`), kind: 'Secret' })
  await until('changed later')
  assert.equal([told, lists(api)], [['all a', 'changed later'], 1])
  close()
}, { bookmarkMs: 20 }))

followings('a server that is away is asked again until it answers', () => on(async ({ client, store, api }) => {
  fill(store, 'a')
  api.failNext(anything, 'reset')
  api.failNext(anything, { status: 500, body: 'not yet' })
  const { told, listed, close } = following(client)
  await listed
  assert.equal([told, lists(api)], [['all a'], 3])
  close()
}))

followings('a list whose pages are forgotten meanwhile starts again', () => on(async ({ client, store, api }) => {
  for (let n = 0; n < 600; n += 1) fill(store, `map-${n}`)
  const body = { kind: 'Status', status: 'Failure', reason: 'Expired', message: 'The provided continue parameter is too old', code: 410 }
  api.failNext((_, where) => where.includes('continue='), { status: 410, body })
  const { told, listed, close } = following(client)
  await listed
  assert.equal([told.length, told[0]!.split(',').length, lists(api)], [1, 600, 4])
  close()
}))

followings('what enters a selector has come, and what leaves it is gone', () => on(async ({ client, store, settled }) => {
  const labelled = (name: string, colour: string): void => void store.put('configmaps', { ...configMap(name), metadata: { ...configMap(name).metadata, labels: { colour } } })
  labelled('a', 'red')
  labelled('b', 'blue')
  const { told, listed, close } = following(client, at, { labelSelector: 'colour=red' })
  await listed
  await settled()
  labelled('b', 'red')
  labelled('a', 'blue')
  await settled()
  assert.equal(told, ['all a', 'changed b', 'gone a'])
  close()
}))

followings('closed is closed: no watch stays open, and nothing more is asked or told', () => on(async ({ client, store, api, settled }) => {
  fill(store, 'a')
  const { told, listed, close } = following(client)
  await listed
  await settled()
  close()
  while (api.watches() > 0) await new Promise((resolve) => setImmediate(resolve))
  const asked = api.requests.length
  fill(store, 'b')
  await settled()
  assert.equal([told, api.requests.length, api.watches()], [['all a'], asked, 0])
}))

followings('closed before the list has come, it tells nothing at all', () => on(async ({ client, store, settled }) => {
  fill(store, 'a')
  const { told, close } = following(client)
  close()
  await settled()
  assert.equal(told, [])
}))

followings.run()
