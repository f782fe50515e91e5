// The stand-in for Kubernetes: what it fills into new objects, and how it reads amounts.
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { withStand, type Response, type Stand } from './stand/kubernetes/calls.ts'
import { pullPolicy } from './stand/kubernetes/defaults.ts'
import { quantityOf, shownQuantity } from './stand/kubernetes/quantities.ts'

const create = (stand: Stand, kind: string, body: object, group = '/api/v1'): Promise<Response> =>
  stand.send({ method: 'POST', path: `${group}/namespaces/default/${kind}`, body })
const pod = (stand: Stand, ...resources: object[]): Promise<Response> =>
  create(stand, 'pods', { metadata: { generateName: 'p-' }, spec: { containers: resources.map((one, index) => ({ name: `c${index}`, image: 'x:1', resources: one })) } })

const bodies = suite('the stand-in for Kubernetes: bodies')

bodies('an image is pulled each time only when it is the latest', () => {
  const policies = ['a', 'a:latest', 'host:5000/a', 'a:1', 'host:5000/a:1', 'a@sha256:00', 'a:latest@sha256:00'].map(pullPolicy)
  assert.equal(policies, ['Always', 'Always', 'Always', 'IfNotPresent', 'IfNotPresent', 'IfNotPresent', 'IfNotPresent'])
})
bodies('amounts have one value, and one way to be written', () => {
  assert.equal(['500m', '1Gi', '2k', '1e3', '0.5', '12'].map(quantityOf), [0.5, 1_073_741_824, 2000, 1000, 0.5, 12])
  assert.equal(['0.5', '1000m', '1024Mi', '1.5Gi', '2000', '100n', '0', '1e3', '300M'].map(shownQuantity), ['500m', '1', '1Gi', '1536Mi', '2k', '100n', '0', '1k', '300M'])
})
bodies('amounts are compared as numbers', () => withStand(async (stand) => {
  assert.is((await pod(stand, { requests: { cpu: '900m' }, limits: { cpu: '1' } })).status, 201)
  assert.is((await pod(stand, { requests: { cpu: '1500m' }, limits: { cpu: '1' } })).status, 422)
}))
bodies('what is limited is requested in full, and the class of service follows', () => withStand(async (stand) => {
  const classes = []
  const full = { limits: { cpu: '1', memory: '1Gi' } }
  for (const resources of [[{}], [full], [{ limits: { memory: '1Gi' } }], [full, {}], [{ requests: { memory: '1024Mi' } }]]) {
    const { body } = await pod(stand, ...resources)
    classes.push([body.status.qosClass, body.spec.containers[0].resources.requests])
  }
  const memory = { memory: '1Gi' }
  assert.equal(classes, [['BestEffort', undefined], ['Guaranteed', full.limits], ['Burstable', memory], ['Burstable', full.limits], ['Burstable', memory]])
}))
bodies('a Deployment without a strategy has the usual one', () => withStand(async (stand) => {
  const template = { metadata: { labels: { a: '1' } }, spec: { containers: [{ name: 'c', image: 'x' }] } }
  const { body: { spec } } = await create(stand, 'deployments', { metadata: { name: 'd' }, spec: { selector: { matchLabels: { a: '1' } }, template } }, '/apis/apps/v1')
  assert.equal([spec.replicas, spec.revisionHistoryLimit, spec.strategy], [1, 10, { type: 'RollingUpdate', rollingUpdate: { maxUnavailable: '25%', maxSurge: '25%' } }])
}))
bodies('each Service has an address of its own, unless it wants none', () => withStand(async (stand) => {
  const addresses = []
  for (const [name, spec] of [['a', {}], ['b', {}], ['c', { clusterIP: 'None' }]] as const) {
    addresses.push((await create(stand, 'services', { metadata: { name }, spec: { ports: [{ port: 80 }], ...spec } })).body.spec.clusterIPs[0])
  }
  assert.is(new Set(addresses).size, 3)
  assert.is(addresses[2], 'None')
}))
bodies('a Secret keeps what it was given as text as bytes', () => withStand(async (stand) => {
  const { body } = await create(stand, 'secrets', { metadata: { name: 's' }, stringData: { token: 'x' }, data: { other: 'eQ==' } })
  assert.equal([body.type, body.data, body.stringData], ['Opaque', { other: 'eQ==', token: 'eA==' }, undefined])
}))
bodies.run()
