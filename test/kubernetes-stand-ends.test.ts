// The stand-in for Kubernetes: how objects end, who may do what, logs, and the failures that a test can ask for.
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { withStand, type Response, type Stand } from './stand/kubernetes/calls.ts'
import { badRequest } from './stand/kubernetes/errors.ts'
import { kinds } from './stand/kubernetes/kinds.ts'
import type { Kind, Thing } from './stand/kubernetes/store.ts'

const base = '/api/v1/namespaces/default'
const deployments = '/apis/apps/v1/namespaces/default/deployments'

interface Made {
  owner?: Thing
  spec?: object
  status?: object
  finalizers?: string[]
  namespace?: string
}
function make(stand: Stand, kind: Kind, name: string, { owner, spec = {}, status = {}, finalizers, namespace = 'default' }: Made = {}): Thing {
  const { group, version, kind: type, counted } = kinds[kind]
  const named = owner && { apiVersion: owner.apiVersion, kind: owner.kind, name: owner.metadata.name, uid: owner.metadata.uid }
  const ownerReferences = named && [{ ...named, controller: true, blockOwnerDeletion: true }]
  const metadata = { name, namespace, uid: '', resourceVersion: '', creationTimestamp: '', ownerReferences, finalizers, ...(counted && { generation: 1 }) }
  return stand.store.put(kind, { apiVersion: group === '' ? version : `${group}/${version}`, kind: type, metadata, spec, status })
}
/** A Deployment with its ReplicaSet and a pod that runs. */
function lambda(stand: Stand): { deployment: Thing; set: Thing; pod: Thing } {
  const deployment = make(stand, 'deployments', 'lambda')
  const set = make(stand, 'replicasets', 'lambda-1', { owner: deployment })
  const pod = make(stand, 'pods', 'lambda-1-x', { owner: set, spec: { nodeName: 'node1', terminationGracePeriodSeconds: 7 }, status: { phase: 'Running' } })
  return { deployment, set, pod }
}
function hearing(stand: Stand): string[] {
  const heard: string[] = []
  stand.store.hear((_kind, { type, object }) => heard.push(`${type} ${object.metadata.name}`))
  return heard
}
const remove = (stand: Stand, path: string, body?: object): Promise<Response> => stand.send({ method: 'DELETE', path, body })

const ends = suite('the stand-in for Kubernetes: ends')

ends('background: the owner goes first, then its dependents', () => withStand(async (stand) => {
  const { pod } = lambda(stand)
  const heard = hearing(stand)
  const { body } = await remove(stand, `${deployments}/lambda`)
  assert.equal([body.kind, body.status], ['Status', 'Success'])
  assert.equal(heard, ['DELETED lambda', 'DELETED lambda-1', 'MODIFIED lambda-1-x'])
  assert.is(stand.store.get('pods', 'default', pod.metadata.name)!.metadata.deletionGracePeriodSeconds, 7)
}))
ends('foreground: the owner is marked, and goes when the last dependent is gone', () => withStand(async (stand) => {
  const { pod } = lambda(stand)
  const heard = hearing(stand)
  const { body: { kind, metadata } } = await remove(stand, `${deployments}/lambda`, { propagationPolicy: 'Foreground' })
  const { finalizers, deletionGracePeriodSeconds, generation, deletionTimestamp } = metadata
  assert.equal([kind, finalizers, deletionGracePeriodSeconds, generation, typeof deletionTimestamp], ['Deployment', ['foregroundDeletion'], 0, 2, 'string'])
  assert.equal(heard, ['MODIFIED lambda', 'MODIFIED lambda-1', 'MODIFIED lambda-1-x'])
  assert.is((await remove(stand, `${deployments}/lambda`)).status, 200)
  assert.is((await stand.send({ method: 'GET', path: `${deployments}/lambda` })).body.metadata.resourceVersion, metadata.resourceVersion)
  stand.store.drop('pods', 'default', pod.metadata.name)
  assert.equal(heard.slice(3), ['DELETED lambda-1-x', 'DELETED lambda-1', 'DELETED lambda'])
}))
ends('orphan: the dependents live on, without their owner', () => withStand(async (stand) => {
  lambda(stand)
  const heard = hearing(stand)
  const { body: { metadata } } = await remove(stand, `${deployments}/lambda?propagationPolicy=Orphan`)
  assert.equal(metadata.finalizers, ['orphan'])
  assert.equal(heard, ['MODIFIED lambda', 'MODIFIED lambda-1', 'DELETED lambda'])
  assert.is(stand.store.get('replicasets', 'default', 'lambda-1')!.metadata.ownerReferences, undefined)
  assert.is(stand.store.get('pods', 'default', 'lambda-1-x')!.metadata.deletionTimestamp, undefined)
}))
ends('an object whose owner is gone, or is another of that name, does not stay', () => withStand(async (stand) => {
  const { deployment } = lambda(stand)
  stand.store.drop('deployments', 'default', 'lambda')
  make(stand, 'deployments', 'lambda')
  make(stand, 'replicasets', 'late', { owner: deployment })
  assert.equal(stand.store.list('replicasets', 'default'), [])
  make(stand, 'replicasets', 'foreign', { owner: { ...deployment, apiVersion: 'example.com/v1', kind: 'Unknown' } })
  assert.is(stand.store.list('replicasets', 'default').length, 1)
}))
ends('a pod that is on no node, or has ended, is marked and gone', () => withStand(async (stand) => {
  make(stand, 'pods', 'waiting')
  make(stand, 'pods', 'ended', { spec: { nodeName: 'node1' }, status: { phase: 'Succeeded' } })
  const heard = hearing(stand)
  for (const name of ['waiting', 'ended']) {
    const { body: { metadata } } = await remove(stand, `${base}/pods/${name}`)
    assert.equal([metadata.deletionGracePeriodSeconds, metadata.generation, typeof metadata.deletionTimestamp], [0, 2, 'string'])
    assert.is((await remove(stand, `${base}/pods/${name}`)).status, 404)
  }
  assert.equal(heard, ['MODIFIED waiting', 'DELETED waiting', 'MODIFIED ended', 'DELETED ended'])
}))
ends('a pod that runs is the kubelet\'s: it has the time that was asked for, or its own, and never more when asked again', () => withStand(async (stand) => {
  lambda(stand)
  const times = []
  for (const query of ['?gracePeriodSeconds=20', '?gracePeriodSeconds=30', '?gracePeriodSeconds=10', '', '?gracePeriodSeconds=0']) {
    const { status, body: { metadata } } = await remove(stand, `${base}/pods/lambda-1-x${query}`)
    times.push([status, metadata.deletionGracePeriodSeconds])
  }
  assert.equal(times, [[200, 20], [200, 20], [200, 10], [200, 7], [200, 0]])
}))
ends('a finalizer holds an object until it is taken away', () => withStand(async (stand) => {
  make(stand, 'configmaps', 'held', { finalizers: ['kiln.example/held'] })
  const { body } = await remove(stand, `${base}/configmaps/held`)
  assert.equal([body.kind, body.metadata.finalizers], ['ConfigMap', ['kiln.example/held']])
  const merge = { 'Content-Type': 'application/merge-patch+json' }
  await stand.send({ method: 'PATCH', path: `${base}/configmaps/held`, headers: merge, body: { metadata: { finalizers: null } } })
  assert.is(stand.store.get('configmaps', 'default', 'held'), null)
}))
ends('a collection is deleted by selector', () => withStand(async (stand) => {
  for (const name of ['a', 'b']) await stand.send({ method: 'POST', path: `${base}/configmaps`, body: { metadata: { name, labels: { name } } } })
  const { body } = await remove(stand, `${base}/configmaps?labelSelector=name%3Da`)
  assert.equal(body.items.map(({ metadata }: Thing) => metadata.name), ['a'])
  assert.equal(stand.store.list('configmaps', 'default').map(({ metadata }) => metadata.name), ['b'])
}))
ends('a namespace takes what is in it along, and is gone when that is', () => withStand(async (stand) => {
  assert.is((await stand.send({ method: 'POST', path: '/api/v1/namespaces', body: { metadata: { name: 'team' } } })).status, 201)
  await stand.send({ method: 'POST', path: '/api/v1/namespaces/team/configmaps', body: { metadata: { name: 'a' } } })
  make(stand, 'pods', 'running', { namespace: 'team', spec: { nodeName: 'node1' }, status: { phase: 'Running' } })
  const { body } = await remove(stand, '/api/v1/namespaces/team')
  assert.is(body.status.phase, 'Terminating')
  assert.is(stand.store.list('configmaps', 'team').length, 0)
  assert.is((await stand.send({ method: 'GET', path: '/api/v1/namespaces/team' })).status, 200)
  stand.store.drop('pods', 'team', 'running')
  assert.is((await stand.send({ method: 'GET', path: '/api/v1/namespaces/team' })).status, 404)
  const { body: { items } } = await stand.send({ method: 'GET', path: '/api/v1/namespaces' })
  assert.equal(items.map(({ metadata: { name, namespace } }: Thing) => [name, namespace]), [['default', undefined], ['kube-system', undefined]])
}))

const roles = new Map([
  ['reader', [{ verbs: ['get', 'list'], apiGroups: [''], resources: ['pods', 'pods/log'], namespaces: ['default'] }]],
  ['named', [{ verbs: ['get', 'list', 'watch'], apiGroups: [''], resources: ['pods'], namespaces: ['default'], resourceNames: ['mine'] }]],
])
const as = (stand: Stand, token: string, path: string, method = 'GET'): Promise<number> =>
  stand.send({ method, path, headers: { Authorization: `Bearer ${token}` } }).then(({ status }) => status)

ends('a role gives its verbs on its resources in its namespaces, and no more', () => withStand(async (stand) => {
  make(stand, 'pods', 'mine')
  assert.is(await as(stand, 'reader', `${base}/pods/mine`), 200)
  assert.is(await as(stand, 'reader', `${base}/pods/mine/log`), 204)
  assert.is(await as(stand, 'reader', `${base}/pods/mine`, 'DELETE'), 403)
  assert.is(await as(stand, 'reader', `${base}/services`), 403)
  assert.is(await as(stand, 'reader', '/api/v1/namespaces/kube-system/pods'), 403)
  assert.is(await as(stand, 'reader', '/api/v1/pods'), 403)
  assert.is(await as(stand, 'stranger', `${base}/pods`), 401)
}, {}, { roles }))
ends('a role by name gives a list of that name only', () => withStand(async (stand) => {
  assert.is(await as(stand, 'named', `${base}/pods?fieldSelector=metadata.name%3Dmine`), 200)
  assert.is(await as(stand, 'named', `${base}/pods?fieldSelector=metadata.name%3Dother`), 403)
  assert.is(await as(stand, 'named', `${base}/pods`), 403)
}, {}, { roles }))

const bytes = Buffer.from([0x62, 0xff, 0x80, 0x0a])
ends('a log is its bytes, and its options reach the kubelet', async () => {
  const asked: unknown[] = []
  await withStand(async (stand) => {
    make(stand, 'pods', 'p')
    const query = 'container=c&follow=true&tailLines=2&limitBytes=9&timestamps=1&previous=true&sinceTime=2026-01-01T00:00:00Z'
    const response = await fetch(`${stand.api.address}${base}/pods/p/log?${query}`, { headers: { Authorization: 'Bearer any' } })
    assert.is(response.headers.get('content-type'), 'text/plain')
    assert.equal(Buffer.from(await response.arrayBuffer()), Buffer.concat([bytes, bytes]))
  }, {
    async *log(pod, container, query) {
      asked.push(pod.metadata.name, container, query)
      yield bytes
      yield bytes
    },
  })
  assert.equal(asked, ['p', 'c', { follow: true, previous: true, tailLines: 2, sinceTime: '2026-01-01T00:00:00Z', timestamps: true, limitBytes: 9 }])
})
ends('what the kubelet refuses of a log is the answer', () => withStand(async (stand) => {
  make(stand, 'pods', 'p')
  const { status, body } = await stand.send({ method: 'GET', path: `${base}/pods/p/log` })
  assert.equal([status, body.message], [400, 'container "c" in pod "p" is waiting to start: ContainerCreating'])
}, {
  log() {
    throw badRequest('container "c" in pod "p" is waiting to start: ContainerCreating')
  },
}))
ends('a log that is followed is let go when its reader leaves', async () => {
  let left = (): void => {}
  const gone = new Promise<void>((resolve) => (left = resolve))
  await withStand(async (stand) => {
    make(stand, 'pods', 'p')
    const leaving = new AbortController()
    const response = await fetch(`${stand.api.address}${base}/pods/p/log?follow=true`, { headers: { Authorization: 'Bearer any' }, signal: leaving.signal })
    await response.body!.getReader().read()
    leaving.abort()
    await gone
  }, {
    async *log(_pod, _container, _query, signal) {
      yield bytes
      await new Promise((resolve) => signal.addEventListener('abort', resolve, { once: true }))
      left()
    },
  })
})

ends('a failure that was asked for comes once, to the request that it is for', () => withStand(async (stand) => {
  stand.api.failNext((method, path) => method === 'GET' && path === `${base}/pods`, { status: 503, body: { message: 'not now' }, headers: { 'Retry-After': '3' } })
  assert.is((await stand.send({ method: 'GET', path: `${base}/services` })).status, 200)
  const failed = await stand.send({ method: 'GET', path: `${base}/pods` })
  assert.equal([failed.status, failed.body.message, failed.headers.get('retry-after')], [503, 'not now', '3'])
  assert.is((await stand.send({ method: 'GET', path: `${base}/pods` })).status, 200)
  stand.api.failNext(() => true, 'reset')
  const reset = await stand.send({ method: 'GET', path: `${base}/pods` }).then(() => 'answered', (error: Error) => (error.cause as NodeJS.ErrnoException).code)
  assert.is(reset, 'ECONNRESET')
  assert.equal(stand.api.requests, ['services', 'pods', 'pods', 'pods'].map((kind) => ({ method: 'GET', path: `${base}/${kind}` })))
}))
ends('clients learn the paths by asking', () => withStand(async (stand) => {
  assert.equal((await stand.send({ method: 'GET', path: '/apis' })).body.groups.map(({ name }: { name: string }) => name), ['apps', 'autoscaling', 'coordination.k8s.io'])
  assert.equal((await stand.send({ method: 'GET', path: '/apis/apps/v1' })).body.resources.map(({ name }: { name: string }) => name), ['deployments', 'replicasets'])
}))
ends('a stored object cannot be changed in place', () => withStand(async (stand) => {
  const thing = make(stand, 'pods', 'p')
  assert.throws(() => (thing.metadata.name = 'q'), TypeError)
}))
ends.run()
