// Server-side apply in the stand-in for Kubernetes: who owns what, as recorded, and what kiln relies on beside that.
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { withStand, type Response, type Stand } from './stand/kubernetes/calls.ts'
import { recordedCases, replay } from './stand/kubernetes/recorded.ts'

const deployment = '/apis/apps/v1/namespaces/default/deployments/lambda-ssa'
const applyType = { 'Content-Type': 'application/apply-patch+yaml' }
const merge = { 'Content-Type': 'application/merge-patch+json' }

/** The case, and then the owners that it was recorded to leave. */
async function owned(stand: Stand, name: string): Promise<void> {
  const { body } = await replay(stand, name)
  const owners = (body.metadata.managedFields ?? []).map(({ time: _time, fieldsType: _type, apiVersion: _version, ...owner }: Record<string, unknown>) => owner)
  assert.equal(inOrder(owners), inOrder(recordedCases.get(name)!.response.body.metadata.managedFields ?? []), name)
}

/** The API orders owners by the second in which each wrote last, which is chance here. */
const inOrder = (owners: Array<Record<string, unknown>>): unknown[] => owners.toSorted((a, b) => (`${a['manager']} ${a['operation']} ${a['subresource']}` < `${b['manager']} ${b['operation']} ${b['subresource']}` ? -1 : 1))

const apply = (stand: Stand, body: unknown, query = 'fieldManager=kiln'): Promise<Response> =>
  stand.send({ method: 'PATCH', path: `${deployment}?${query}`, headers: applyType, body })
const patch = (stand: Stand, body: unknown, manager = 'kubectl-edit'): Promise<Response> =>
  stand.send({ method: 'PATCH', path: `${deployment}?fieldManager=${manager}`, headers: merge, body })

/** A Deployment as small as can be. */
const config = (spec: object = {}, container: object = {}, metadata: object = {}): any => ({
  apiVersion: 'apps/v1', kind: 'Deployment', metadata: { name: 'lambda-ssa', ...metadata },
  spec: { selector: { matchLabels: { a: '1' } }, ...spec, template: { metadata: { labels: { a: '1' } }, spec: { containers: [{ name: 'lambda', image: 'x:1', ...container }] } } },
})
const lambda = ({ body }: Response): any => body.spec.template.spec.containers[0]

const ssa = suite('the stand-in for Kubernetes: server-side apply')

ssa('applies, conflicts, takeovers and scales follow each other as recorded', () => withStand(async (stand) => {
  await owned(stand, 'apply/201-created')
  const { resourceVersion } = (await stand.send({ method: 'GET', path: deployment })).body.metadata
  await owned(stand, 'apply/200-same-again-keeps-resourceVersion')
  for (const name of ['400-managedFields-must-be-nil', '400-name-mismatch', '409-stale-resourceVersion-in-body', '422-without-fieldManager', '422-negative-replicas',
    '422-selector-immutable', '500-duplicate-env-name', '500-unknown-field', '500-wrong-type']) await replay(stand, `apply/${name}`)
  assert.is(stand.store.get('deployments', 'default', 'lambda-ssa')!.metadata.resourceVersion, resourceVersion)
  await owned(stand, 'apply/200-other-manager-changes-image-by-merge-patch')
  await replay(stand, 'apply/409-conflict-one-field')
  await patch(stand, { spec: { replicas: 2, progressDeadlineSeconds: 77 } })
  await replay(stand, 'apply/409-conflict-several-fields')
  await owned(stand, 'apply/200-other-manager-applies-a-disjoint-label')
  await replay(stand, 'apply/409-conflict-with-an-applier')
  await owned(stand, 'apply/200-forced')
  const dropping = recordedCases.get('apply/200-dropping-replicas-resets-to-default-1')!.request.body as any
  await apply(stand, { ...dropping, spec: { ...dropping.spec, replicas: 3 } })
  await owned(stand, 'apply/200-dropping-replicas-resets-to-default-1')
  for (const name of ['scale-1-patch-scale-when-nobody-owns-replicas', 'scale-2-get-no-owner-of-replicas-recorded', 'scale-3-200-apply-with-replicas-wins-without-conflict',
    'scale-4-patch-scale-when-kiln-owns-replicas', 'scale-5-get-owner-is-scaler-subresource-scale']) await owned(stand, `apply/${name}`)
  await replay(stand, 'apply/scale-6-409-conflict-with-the-scale-subresource')
  await owned(stand, 'apply/scale-7-200-apply-without-replicas-leaves-the-value-of-the-scaler')
}))

ssa('a Service and an autoscaler are applied as recorded', () => withStand(async (stand) => {
  for (const name of ['201-service', '200-service', '201-hpa', '200-hpa']) await owned(stand, `apply/${name}`)
}))

ssa('who creates or updates owns all of it, defaults too, as recorded; what an update removes is nobody\'s', () => withStand(async (stand) => {
  await replay(stand, 'create/201-deployment')
  await owned(stand, 'update/200-no-op-patch-keeps-resourceVersion')
  await apply(stand, config({}, {}, { labels: { a: '1', b: '2' } }))
  const { body: { metadata: { managedFields: [{ manager, fieldsV1 }] } } } = await patch(stand, { metadata: { labels: { a: null } } })
  assert.equal([manager, fieldsV1['f:metadata']], ['kiln', { 'f:labels': { 'f:b': {} } }])
}))

ssa('what is dropped from the applied manifest goes, with what was filled in below it', () => withStand(async (stand) => {
  const probe = { readinessProbe: { httpGet: { path: '/healthz', port: 8000 } } }
  const env = [{ name: 'A', value: '1' }, { name: 'B', value: '2' }]
  assert.is(lambda(await apply(stand, config({}, { ...probe, env }))).readinessProbe.periodSeconds, 10)
  const left = lambda(await apply(stand, config({}, { env: [{ name: 'B', value: '2' }] })))
  assert.not('readinessProbe' in left)
  assert.equal(left.env, [{ name: 'B', value: '2' }])
  assert.not('env' in lambda(await apply(stand, config())))
}))

ssa('what another owns stays when the applier drops it', () => withStand(async (stand) => {
  await apply(stand, config({}, { env: [{ name: 'A', value: '1' }] }, { labels: { mine: '1', both: '1' } }))
  await stand.send({ method: 'PATCH', path: deployment, headers: { 'Content-Type': 'application/strategic-merge-patch+json', 'User-Agent': 'kubectl-edit/1' },
    body: { spec: { template: { spec: { containers: [{ name: 'lambda', env: [{ name: 'Z', value: '9' }] }] } } } } })
  const env = [{ name: 'B', value: '2' }, { name: 'A', value: '1' }]
  assert.equal(lambda(await apply(stand, config({}, { env }, { labels: { mine: '1', both: '1' } }))).env, [...env, { name: 'Z', value: '9' }])
  await apply(stand, config({}, {}, { labels: { both: '1' } }), 'fieldManager=other&force=true')
  const found = await apply(stand, config())
  assert.equal(lambda(found).env, [{ name: 'Z', value: '9' }])
  assert.equal(found.body.metadata.labels, { both: '1' })
}))

ssa('of an entry that the applier drops, what another changed stays, under its name', () => withStand(async (stand) => {
  const both = config()
  both.spec.template.spec.containers.push({ name: 'side', image: 's:1', command: ['run'] })
  await apply(stand, both)
  await stand.send({ method: 'PATCH', path: `${deployment}?fieldManager=kubectl-edit`, headers: { 'Content-Type': 'application/strategic-merge-patch+json' },
    body: { spec: { template: { spec: { containers: [{ name: 'side', image: 's:2' }] } } } } })
  const { body } = await apply(stand, config())
  const side = body.spec.template.spec.containers.find(({ name }: { name: string }) => name === 'side')
  assert.equal([side?.image, side?.command], ['s:2', undefined])
}))

ssa('the same value from two appliers is no conflict, and belongs to both', () => withStand(async (stand) => {
  await apply(stand, config({ replicas: 3 }))
  assert.is((await apply(stand, config({ replicas: 3 }), 'fieldManager=other')).status, 200)
  assert.is((await apply(stand, config())).body.spec.replicas, 3)
  const conflict = await apply(stand, config({ replicas: 4 }))
  assert.is(conflict.body.message, 'Apply failed with 1 conflict: conflict with "other": .spec.replicas')
  assert.is((await apply(stand, config({ replicas: 4 }), 'fieldManager=kiln&force=true')).body.spec.replicas, 4)
  assert.is((await apply(stand, config({ replicas: 4 }), 'fieldManager=other')).status, 200)
}))

ssa('an identical apply is no change: same version, same times, no event', () => withStand(async (stand) => {
  const first = await apply(stand, config({ replicas: 2 }))
  const heard: unknown[] = []
  stand.store.hear((_kind, change) => heard.push(change))
  const second = await apply(stand, config({ replicas: 2 }))
  assert.equal([first.status, second.status], [201, 200])
  assert.equal(second.body, first.body)
  assert.equal(heard, [])
}))

ssa('the generation rises with the spec, and not with the labels', () => withStand(async (stand) => {
  await apply(stand, config())
  assert.is((await apply(stand, config({}, {}, { labels: { a: '1' } }))).body.metadata.generation, 1)
  assert.is((await apply(stand, config({}, { image: 'x:2' }))).body.metadata.generation, 2)
}))

ssa('the status is nobody\'s to apply, and stays', () => withStand(async (stand) => {
  await apply(stand, config())
  stand.store.put('deployments', { ...stand.store.get('deployments', 'default', 'lambda-ssa')!, status: { replicas: 1 } })
  const found = await apply(stand, { ...config({}, { image: 'x:2' }), status: { replicas: 9 } })
  assert.equal(found.body.status, { replicas: 1 })
}))

ssa('an apply onto an object that is being deleted is answered, and lost with it', () => withStand(async (stand) => {
  await apply(stand, config({}, {}, { finalizers: ['kiln.example/held'] }))
  await stand.send({ method: 'DELETE', path: deployment })
  const late = await apply(stand, config({ replicas: 5 }, {}, { finalizers: ['kiln.example/held'] }))
  assert.is(late.status, 200)
  assert.type(late.body.metadata.deletionTimestamp, 'string')
  await patch(stand, { metadata: { finalizers: null } })
  assert.is((await stand.send({ method: 'GET', path: deployment })).status, 404)
  const again = await apply(stand, config())
  assert.is(again.status, 201)
  assert.is(again.body.spec.replicas, 1)
}))

ssa('a resourceVersion in the applied body is a lock', () => withStand(async (stand) => {
  const { metadata: { resourceVersion } } = (await apply(stand, config())).body
  assert.is((await apply(stand, config({ replicas: 2 }, {}, { resourceVersion }))).status, 200)
  assert.is((await apply(stand, config({ replicas: 3 }, {}, { resourceVersion }))).status, 409)
}))

ssa('a dry run tells what would be, and changes nothing', () => withStand(async (stand) => {
  await apply(stand, config())
  assert.is((await apply(stand, config({ replicas: 7 }), 'fieldManager=kiln&dryRun=All')).body.spec.replicas, 7)
  assert.is((await stand.send({ method: 'GET', path: deployment })).body.spec.replicas, 1)
}))

ssa('merge patches: null removes, a stale version is refused, nothing new keeps the version', () => withStand(async (stand) => {
  const { body: { metadata: { resourceVersion } } } = await apply(stand, config({}, {}, { labels: { a: '1', b: '2' } }))
  assert.is((await patch(stand, { metadata: { labels: { b: '2' } } })).body.metadata.resourceVersion, resourceVersion)
  assert.equal((await patch(stand, { metadata: { labels: { a: null }, resourceVersion } })).body.metadata.labels, { b: '2' })
  assert.is((await patch(stand, { metadata: { labels: { a: '1' }, resourceVersion } })).status, 409)
}))

ssa('PUT replaces: what the body leaves out goes, and a status in it is ignored', () => withStand(async (stand) => {
  const { body } = await apply(stand, config({ replicas: 4 }, {}, { labels: { a: '1' } }))
  const found = await stand.send({ method: 'PUT', path: deployment, body: { ...config(), status: { replicas: 9 } } })
  assert.equal([found.body.spec.replicas, found.body.metadata.labels, found.body.status, found.body.metadata.uid], [1, undefined, {}, body.metadata.uid])
}))

ssa('a pod\'s spec is not for changing, but for its image', () => withStand(async (stand) => {
  const pod = '/api/v1/namespaces/default/pods/p'
  const strategic = { 'Content-Type': 'application/strategic-merge-patch+json' }
  const container = (fields: object): object => ({ spec: { containers: [{ name: 'c', ...fields }] } })
  await stand.send({ method: 'POST', path: '/api/v1/namespaces/default/pods', body: { metadata: { name: 'p' }, ...container({ image: 'x:1' }) } })
  const refused = await stand.send({ method: 'PATCH', path: pod, headers: strategic, body: container({ env: [{ name: 'A', value: 'b' }] }) })
  assert.equal([refused.status, refused.body.details.causes[0].field], [422, 'spec'])
  assert.is((await stand.send({ method: 'PATCH', path: pod, headers: strategic, body: container({ image: 'x:2' }) })).body.spec.containers[0].image, 'x:2')
}))
ssa.run()
