// The stand-in for Kubernetes answers as a real cluster was recorded to answer: requests, refusals and lists.
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import type { ApiOptions } from './stand/kubernetes/api.ts'
import { withStand, type Stand } from './stand/kubernetes/calls.ts'
import { tooManyRequests } from './stand/kubernetes/errors.ts'
import { comparable, recordedCases, recordings, replay, translate, type Recorded } from './stand/kubernetes/recorded.ts'
import type { Kind, Thing } from './stand/kubernetes/store.ts'

const lists = recordings<Array<Recorded & { things?: Thing[] }>>('list')

const bigMap = (bytes: number): unknown => ({ apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: 'kiln-rec-big' }, data: { big: 'x'.repeat(bytes) } })
const bigBodies: Record<string, unknown> = { 'create/413-request-entity-over-3MiB': bigMap(3_300_000), 'create/422-configmap-over-1MiB': bigMap(1_100_000) }

const deployment = '/apis/apps/v1/namespaces/default/deployments/lambda-err'
const merge = { 'Content-Type': 'application/merge-patch+json' }

async function page(stand: Stand): Promise<void> {
  for (const index of [0, 1, 2, 3, 4]) {
    const metadata = { name: `kiln-rec-page-${index}`, labels: { 'app.kubernetes.io/managed-by': 'kiln', 'kiln.example/page': '1', 'kiln.example/rec': '1' } }
    await stand.send({ method: 'POST', path: '/api/v1/namespaces/default/configmaps', body: { metadata, data: { i: String(index) } } })
  }
}
/** A version that was, and is forgotten: the recorded requests name 3587. */
async function pageAndForget(stand: Stand): Promise<void> {
  await page(stand)
  const version = stand.store.version()
  const token = (rv: number): string => Buffer.from(`{"v":"meta.k8s.io/v1","rv":${rv},"start":"/kiln-rec-page-1\\u0000"}`).toString('base64url')
  translate(stand, 'resourceVersion=3587', `resourceVersion=${version}`)
  translate(stand, token(3587), token(version))
  await stand.send({ method: 'DELETE', path: '/api/v1/namespaces/default/configmaps/kiln-rec-page-4' })
  stand.store.compact()
}
const pod = (name: string, nodeName?: string): Thing => ({
  apiVersion: 'v1', kind: 'Pod', metadata: { name, namespace: 'default', uid: '', resourceVersion: '', creationTimestamp: '' },
  spec: { containers: [{ name: 'kaniko' }], nodeName }, status: {},
})

/** What was there when a case was recorded: other cases, or whatever else brings it about. */
type Before = string[] | ((stand: Stand) => Promise<unknown> | unknown)
const usual = ['create/201-deployment', 'create/201-service', 'create/201-hpa']
const before: Record<string, Before> = {
  'update/': usual, 'delete/': usual,
  'create/409-already-exists-deployment': usual, 'create/409-already-exists-service': usual, 'create/409-already-exists-hpa': usual,
  'create/409-already-exists-pod': ['create/201-pod'],
  async 'create/409-object-is-being-deleted'(stand) {
    await replay(stand, 'create/201-deployment')
    await stand.send({ method: 'PATCH', path: deployment, headers: merge, body: { metadata: { finalizers: ['kiln.example/held'] } } })
    await stand.send({ method: 'DELETE', path: deployment })
  },
  async 'update/200-scale-get'(stand) {
    await replay(stand, 'create/201-deployment')
    stand.store.put('deployments', { ...stand.store.get('deployments', 'default', 'lambda-err')!, status: { replicas: 1 } })
  },
  'delete/200-deployment-background': ['apply/201-created'],
  'delete/200-deployment-foreground': ['create/201-deployment', 'update/200-metadata-only-change-keeps-generation'],
  'delete/200-deletecollection-configmaps': async (stand) => {
    await page(stand)
    await replay(stand, 'create/201-generate-name')
  },
  'gone/200-inconsistent-continue-from-the-410-body': page, 'gone/410-continue-token-expired': pageAndForget,
  'gone/410-list-exact-resourceVersion-compacted': pageAndForget,
  'throttle/': (stand) => stand.api.failNext((method, path) => method === 'GET' && path.endsWith('/pods'), tooManyRequests()),
  async 'admission/'(stand) {
    await stand.send({ method: 'POST', path: '/api/v1/namespaces', body: { metadata: { name: 'kiln-rec-psa' } } })
    await stand.send({ method: 'POST', path: '/api/v1/namespaces/kiln-rec-psa/configmaps', body: { metadata: { name: 'held', finalizers: ['kiln.example/held'] } } })
    await stand.send({ method: 'DELETE', path: '/api/v1/namespaces/kiln-rec-psa' })
  },
  'log/': (stand) => stand.store.put('pods', pod('kaniko-lambda-log1', 'node1')),
  'log/unscheduled-pod-204-empty': (stand) => stand.store.put('pods', pod('kaniko-lambda-log0')),
}

const patchOnly = [{ verbs: ['patch'], apiGroups: ['apps'], resources: ['deployments'], namespaces: ['default'] }]
const roles: ApiOptions = { roles: new Map([['kiln-restricted', []], ['kiln-patchonly', patchOnly]]) }

/** The recorded tokens are not there: the user that the answer names tells which it was. */
function withToken({ request, response }: Recorded): void {
  const user = /system:serviceaccount:default:([a-z-]+)/.exec(response.body.message ?? '')?.[1]
  request.headers = { ...request.headers, Authorization: /anonymous/.test(response.body.message) ? '' : `Bearer ${user ?? 'nobody'}` }
}

const recorded = suite('the stand-in for Kubernetes, as recorded')
for (const one of recordedCases.values()) {
  const group = one.name.slice(0, one.name.indexOf('/') + 1)
  // Applies follow each other: they have a test of their own.
  if (group === 'apply/') continue
  if (group === 'auth/') withToken(one)
  recorded(one.name, () => withStand(async (stand) => {
    const situation = before[one.name] ?? before[group] ?? []
    if (Array.isArray(situation)) for (const name of situation) await replay(stand, name)
    else await situation(stand)
    await replay(stand, one.name, bigBodies[one.name])
  }, {}, group === 'auth/' ? roles : {}))
}

const kindOf: Record<string, Kind> = { Pod: 'pods', Event: 'events' }
const { things = [] } = lists.find(({ name }) => name === 'things')!
for (const one of lists.filter(({ name }) => name !== 'things')) {
  recorded(`list: ${one.name}`, () => withStand(async (stand) => {
    for (const thing of things) stand.store.put(kindOf[thing.kind]!, thing)
    const token = /continue=(ey\w+)/.exec(one.request.path)?.[1] ?? 'none'
    const here = Buffer.from(Buffer.from(token, 'base64url').toString().replace(/"rv":\d+/, `"rv":${stand.store.version()}`)).toString('base64url')
    const found = await stand.send({ ...one.request, path: one.request.path.replace(token, here) })
    assert.is(found.status, one.response.status)
    for (const item of found.body.items ?? []) {
      const { apiVersion: _version, kind: _kind, ...rest } = things.find(({ metadata }) => metadata.name === item.metadata.name)!
      assert.equal(comparable(item), comparable(rest))
    }
    const body = found.body.items === undefined ? found.body : { ...found.body, items: found.body.items.map(({ metadata }: Thing) => metadata.name) }
    assert.equal(comparable(body), comparable(one.response.body))
  }))
}
recorded.run()
