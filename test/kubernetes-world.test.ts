// The world of the stand-in cluster: what it shows of a lambda's Deployment is held, change by change, to what a real cluster was recorded to show.
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { assertTold, deployments, hasCondition, isReady, isRolledOut, lambda, observed, pods, scalers, type Observed } from './stand/kubernetes/observed.ts'
import type { Thing } from './stand/kubernetes/store.ts'

const quota = 'exceeded quota: lambda-quota, requested: pods=1, used: pods=0, limited: pods=0'
const on: Observed = await observed({ forbidPods: (namespace) => (namespace === 'full' ? quota : null) })
const test = suite('a stand-in cluster and its Deployments')
test.after(() => on.close())

const named = (name: string) => ({ metadata }: Thing): boolean => metadata.name === name
const podOf = (name: string) => ({ metadata }: Thing): boolean => metadata.name.startsWith(`lambda-${name}-`)
const rolledOut = (name: string, generation: number): Promise<Thing> => on.until('deployments', (thing) =>
  named(`lambda-${name}`)(thing) && thing.metadata.generation === generation && isRolledOut(thing) && hasCondition(thing, 'Available', 'MinimumReplicasAvailable'))
const gone = ({ metadata: { uid } }: Thing): Promise<Thing> => on.until('pods', ({ metadata }, type) => type === 'DELETED' && metadata.uid === uid)
const podsOf = (name: string): Thing[] => on.store.list('pods', 'default').filter(podOf(name))
const patched = (name: string, spec: object): Promise<unknown> => on.send('PATCH', `${deployments}/lambda-${name}`, { spec })
const image = (tag: string): object => ({ template: { spec: { containers: [{ name: 'lambda', image: `${on.registry}/lambda-rec:${tag}` }] } } })

async function created(name: string, more?: Parameters<typeof lambda>[2]): Promise<void> {
  await on.send('POST', deployments, lambda(on, name, more))
}

async function removed(name: string, propagationPolicy = 'Background'): Promise<void> {
  const all = podsOf(name).map(gone)
  await on.send('DELETE', `${deployments}/lambda-${name}`, { propagationPolicy })
  await Promise.all(all)
}

const scaler = (name: string, minReplicas = 1): object => ({
  apiVersion: 'autoscaling/v2', kind: 'HorizontalPodAutoscaler', metadata: { name: `lambda-${name}` },
  spec: {
    scaleTargetRef: { apiVersion: 'apps/v1', kind: 'Deployment', name: `lambda-${name}` }, minReplicas, maxReplicas: 3,
    metrics: [{ type: 'Resource', resource: { name: 'cpu', target: { type: 'Utilization', averageUtilization: 70 } } }],
  },
})

/** Pods that ask for an image again, since they have just been made: on the real node it was there already. */
const pulled = /Normal Pull/

test('a healthy rollout, and its deletion in the background', async () => {
  await created('healthy')
  await rolledOut('healthy', 1)
  await removed('healthy')
  for (const kind of ['deployments', 'replicasets', 'pods'] as const) assertTold(on, 'lambda/healthy-rollout', kind)
  assertTold(on, 'lambda/healthy-rollout', 'events', { nth: 0 })
  assertTold(on, 'lambda/healthy-rollout', 'events', { nth: 1, but: /Pull|Unhealthy/ })
  assertTold(on, 'lambda/healthy-rollout', 'events', { nth: 2 })
})

test('a rolling update: the old pod goes when the new one is ready', async () => {
  await created('roll')
  await rolledOut('roll', 1)
  const ends = gone(podsOf('roll')[0]!)
  await patched('roll', image('v2'))
  await rolledOut('roll', 2)
  await ends
  await removed('roll')
  assertTold(on, 'lambda/rolling-update', 'deployments')
  for (const nth of [0, 1]) {
    assertTold(on, 'lambda/rolling-update', 'replicasets', { nth })
    assertTold(on, 'lambda/rolling-update', 'pods', { nth })
  }
  assertTold(on, 'lambda/rolling-update', 'events', { nth: 0 })
})

test('with three replicas one more than wanted is the most, and each old one goes for a new one', async () => {
  await created('roll3', { replicas: 3 })
  await rolledOut('roll3', 1)
  const seen: Array<{ wanted: number; available: number }> = []
  const stop = on.store.hear((kind, { object }) => {
    if (kind !== 'deployments' || !named('lambda-roll3')(object)) return
    const sets = on.store.list('replicasets', 'default').filter(podOf('roll3'))
    seen.push({ wanted: sets.reduce((sum, { spec }) => sum + spec.replicas, 0), available: object.status.availableReplicas ?? 0 })
  })
  await patched('roll3', image('v2'))
  await rolledOut('roll3', 2)
  stop()
  assert.is(Math.max(...seen.map(({ wanted }) => wanted)), 4)
  assert.is(Math.min(...seen.map(({ available }) => available)), 3)
  await patched('roll3', { replicas: 2 })
  await rolledOut('roll3', 3)
  // What is at rest keeps the size that it knew.
  const sets = on.store.list('replicasets', 'default').filter(podOf('roll3'))
  const desired = sets.map(({ spec, metadata }) => [spec.replicas, metadata.annotations!['deployment.kubernetes.io/desired-replicas']])
  assert.equal(desired.sort(), [[0, '3'], [2, '2']])
  await removed('roll3')
})

test('an update to an image that is not there, and back: the old ReplicaSet is taken up again', async () => {
  await created('rollbad')
  await rolledOut('rollbad', 1)
  await patched('rollbad', { progressDeadlineSeconds: 1, ...image('absent') })
  const late = await on.until('deployments', (thing) => named('lambda-rollbad')(thing) && hasCondition(thing, 'Progressing', 'ProgressDeadlineExceeded'))
  assert.ok(hasCondition(late, 'Available', 'MinimumReplicasAvailable'))
  await patched('rollbad', image('v1'))
  await rolledOut('rollbad', 3)
  const [first] = on.store.list('replicasets', 'default').filter((set) => podOf('rollbad')(set) && set.spec.replicas === 1)
  assert.equal(first!.metadata.annotations!['deployment.kubernetes.io/revision-history'], '1')
  await removed('rollbad')
  assertTold(on, 'lambda/rolling-update-to-bad-image-then-rollback', 'deployments', { from: 'ProgressDeadlineExceeded' })
  assertTold(on, 'lambda/rolling-update-to-bad-image-then-rollback', 'replicasets', { nth: 0 })
  assertTold(on, 'lambda/rolling-update-to-bad-image-then-rollback', 'replicasets', { nth: 1 })
})

test('a lambda that crashes at its start is started again after longer and longer pauses', async () => {
  await created('crash', { container: { command: ['sh', '-c', 'echo "ImportError: no module named foo" >&2; exit 3'] } })
  await on.until('pods', (pod) => podOf('crash')(pod) && /back-off 20s/.test(pod.status.containerStatuses?.[0].state.waiting?.message ?? ''))
  // Whether it is seen running for a moment is chance, on a real cluster as well.
  assertTold(on, 'lambda/crash-at-start', 'pods', { upTo: 'back-off 20s', but: /\| running/ })
  assertTold(on, 'lambda/crash-at-start', 'events', { nth: 2, upTo: 'BackOff x4', but: pulled })
  await removed('crash')
})

test('a command that is not there', async () => {
  await created('badcmd', { container: { command: ['/no/such/binary'] } })
  await on.until('pods', (pod) => podOf('badcmd')(pod) && /back-off 20s/.test(pod.status.containerStatuses?.[0].state.waiting?.message ?? ''))
  assertTold(on, 'lambda/command-not-found', 'pods', { upTo: 'back-off 20s' })
  await removed('badcmd')
})

test('a lambda that is never ready: the deadline is told, nothing is stopped, and a right template helps at once', async () => {
  const probe = (port: number): object => ({ readinessProbe: { httpGet: { path: '/', port }, periodSeconds: 5 } })
  await created('notready', { container: probe(9999), spec: { progressDeadlineSeconds: 1 } })
  await on.until('deployments', (thing) => named('lambda-notready')(thing) && hasCondition(thing, 'Progressing', 'ProgressDeadlineExceeded'))
  const ends = gone(podsOf('notready')[0]!)
  await patched('notready', { progressDeadlineSeconds: 60, template: { spec: { containers: [{ name: 'lambda', ...probe(8000) }] } } })
  await rolledOut('notready', 2)
  await ends
  await removed('notready')
  assertTold(on, 'lambda/never-ready-progress-deadline', 'deployments')
  assertTold(on, 'lambda/never-ready-progress-deadline', 'pods', { nth: 0 })
})

test('a pod that is deleted by hand is replaced while it still ends', async () => {
  await created('poddel')
  await rolledOut('poddel', 1)
  const [old] = podsOf('poddel')
  const ends = gone(old!)
  await on.send('DELETE', `${pods}/${old!.metadata.name}`)
  assert.is(podsOf('poddel').length, 2)
  await on.until('pods', (pod) => podOf('poddel')(pod) && pod.metadata.uid !== old!.metadata.uid && isReady(pod))
  await ends
  await rolledOut('poddel', 1)
  await removed('poddel')
  for (const kind of ['deployments', 'replicasets'] as const) assertTold(on, 'lambda/pod-deleted-by-hand', kind)
  assertTold(on, 'lambda/pod-deleted-by-hand', 'pods', { nth: 0 })
})

test('deleted in the foreground, the pods go first, then the ReplicaSet, then the Deployment', async () => {
  await created('delfg', { replicas: 2 })
  await rolledOut('delfg', 1)
  const ends: string[] = []
  const stop = on.store.hear((kind, { type, object }) => { if (type === 'DELETED' && object.metadata.name.startsWith('lambda-delfg')) ends.push(kind) })
  const last = on.until('deployments', (thing, type) => type === 'DELETED' && named('lambda-delfg')(thing))
  await removed('delfg', 'Foreground')
  await last
  stop()
  assert.equal(ends, ['pods', 'pods', 'replicasets', 'deployments'])
  for (const nth of [0, 1]) assertTold(on, 'lambda/delete-foreground', 'pods', { nth, upTo: 'Succeeded' })
})

test('quota forbids the pods: the Deployment says so, and later that it is late', async () => {
  await on.send('POST', '/api/v1/namespaces', { apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'full' } })
  await on.send('POST', '/apis/apps/v1/namespaces/full/deployments', lambda(on, 'quota', { spec: { progressDeadlineSeconds: 1 } }))
  await on.until('deployments', (thing) => named('lambda-quota')(thing) && hasCondition(thing, 'Progressing', 'ProgressDeadlineExceeded'))
  await on.until('events', (event) => /^\(combined/.test(event['message']) && event['reason'] === 'FailedCreate')
  await on.send('DELETE', '/apis/apps/v1/namespaces/full/deployments/lambda-quota')
  assertTold(on, 'lambda/quota-exceeded', 'deployments')
  assertTold(on, 'lambda/quota-exceeded', 'replicasets')
  assertTold(on, 'lambda/quota-exceeded', 'events', { nth: 1, upTo: 'combined' })
})

test('a Deployment that is left by its owner is taken over, with its pods, by the next of its name', async () => {
  await created('orphan')
  await rolledOut('orphan', 1)
  const sets = (): Thing[] => on.store.list('replicasets', 'default').filter(podOf('orphan'))
  const before = [...sets(), ...podsOf('orphan')].map(({ metadata: { uid } }) => uid)
  const left = on.until('deployments', (thing, type) => named('lambda-orphan')(thing) && type === 'DELETED')
  await on.send('DELETE', `${deployments}/lambda-orphan`, { propagationPolicy: 'Orphan' })
  await left
  await created('orphan')
  await rolledOut('orphan', 1)
  assert.equal([...sets(), ...podsOf('orphan')].map(({ metadata: { uid } }) => uid), before)
  await removed('orphan')
  assert.equal(sets(), [])
})

test('a ReplicaSet has the annotations of its Deployment, and only so many old ones are kept', async () => {
  const given = { 'kiln.example/note': 'of the lambda', 'kubectl.kubernetes.io/last-applied-configuration': '{}' }
  await on.send('POST', deployments, { ...lambda(on, 'kept', { replicas: 0 }), metadata: { name: 'lambda-kept', annotations: given } })
  await rolledOut('kept', 1)
  for (const generation of [2, 3, 4, 5]) {
    await patched('kept', { template: { spec: { containers: [{ name: 'lambda', env: [{ name: 'N', value: String(generation) }] }] } } })
    await rolledOut('kept', generation)
    await on.until('replicasets', (set) => podOf('kept')(set) && set.metadata.annotations!['deployment.kubernetes.io/revision'] === String(generation) && set.status.observedGeneration === 1)
  }
  const sets = (): Thing[] => on.store.list('replicasets', 'default').filter(podOf('kept'))
  const first = sets().find(({ metadata }) => metadata.annotations!['deployment.kubernetes.io/revision'] === '2')
  if (first) await on.until('replicasets', ({ metadata: { uid } }, type) => type === 'DELETED' && uid === first.metadata.uid)
  const annotations = sets().map(({ metadata }) => metadata.annotations!)
  assert.equal(annotations.map((all) => all['deployment.kubernetes.io/revision']).sort(), ['3', '4', '5'])
  for (const all of annotations) assert.equal([all['kiln.example/note'], Object.keys(all).filter((name) => name.startsWith('kubectl'))], ['of the lambda', []])
  await removed('kept')
})

test('scaled to 0 and back, with an autoscaler that has no metrics', async () => {
  await created('scale')
  await rolledOut('scale', 1)
  await on.send('POST', scalers, scaler('scale'))
  await on.until('horizontalpodautoscalers', (thing) => hasCondition(thing, 'ScalingActive', 'FailedGetResourceMetric') && thing.status.currentReplicas === 1)
  const ends = gone(podsOf('scale')[0]!)
  await patched('scale', { replicas: 0 })
  await rolledOut('scale', 2)
  await on.until('horizontalpodautoscalers', (thing) => hasCondition(thing, 'ScalingActive', 'ScalingDisabled'))
  await ends
  await patched('scale', { replicas: 1 })
  await rolledOut('scale', 3)
  await on.send('PATCH', `${scalers}/lambda-scale`, { spec: { minReplicas: 2 } })
  await rolledOut('scale', 4)
  // Up to here: then a real autoscaler leaves a moment in which there is one pod less than it wants.
  const upTo = 'MODIFIED 4/4 wants=2 revision=1 availableReplicas=2'
  for (const kind of ['deployments', 'replicasets'] as const) assertTold(on, 'lambda/scale-to-0-and-back', kind, { upTo })
  await on.send('DELETE', `${scalers}/lambda-scale`)
  await removed('scale')
})

test('an autoscaler brings a Deployment into its bounds at once, and says how', async () => {
  await created('bounds')
  await rolledOut('bounds', 1)
  await on.send('POST', scalers, scaler('bounds', 2))
  await rolledOut('bounds', 2)
  const [told] = on.lines('events', 'HorizontalPodAutoscaler lambda-bounds')
  assert.is(told![0], 'ADDED Normal SuccessfulRescale x1 New size: 2; reason: Current number of replicas below Spec.MinReplicas')
  const lines = on.lines('horizontalpodautoscalers', 'lambda-bounds')[0]!
  assert.is(lines[1], 'MODIFIED currentReplicas=1 desiredReplicas=2 metrics=null +AbleToScale(SucceededRescale: the HPA controller was able to update the target scale to 2)')
  await on.send('DELETE', `${scalers}/lambda-bounds`)
  await removed('bounds')
})

test.run()
