// The pods of the stand-in cluster are processes: what they are given, and how they are probed.
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { observedPods, statusOf } from './stand/kubernetes/observed-pods.ts'
import { configMaps, deployments, isReady, lambda, observed, pushImage, secrets, type Observed } from './stand/kubernetes/observed.ts'
import type { Thing } from './stand/kubernetes/store.ts'

const on: Observed = await observed()
const { create, seen, running, ended, log, remove } = observedPods(on)
const test = suite('pods of a stand-in cluster')
test.after(() => on.close())

const secret = (name: string, stringData: Record<string, string>): Promise<unknown> =>
  on.send('POST', secrets, { apiVersion: 'v1', kind: 'Secret', metadata: { name }, stringData })
const configMap = (name: string, data: Record<string, string>): Promise<unknown> =>
  on.send('POST', configMaps, { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name }, data })

test('a container has what its image and its pod give it, and nothing of this process', async () => {
  await secret('some', { token: 's3cret', other: 'o' })
  await configMap('some', { colour: 'red' })
  const field = (name: string, fieldPath: string): object => ({ name, valueFrom: { fieldRef: { fieldPath } } })
  await create('given', {
    command: ['env'], envFrom: [{ prefix: 'ALL_', secretRef: { name: 'some' } }],
    env: [
      { name: 'PLAIN', value: 'a' }, { name: 'MORE', value: '$(PLAIN)b $$(PLAIN) $(NONE)' },
      { name: 'TOKEN', valueFrom: { secretKeyRef: { name: 'some', key: 'token' } } }, { name: 'COLOUR', valueFrom: { configMapKeyRef: { name: 'some', key: 'colour' } } },
      { name: 'MAYBE', valueFrom: { secretKeyRef: { name: 'none', key: 'none', optional: true } } },
      { name: 'NEITHER', valueFrom: { secretKeyRef: { name: 'some', key: 'none', optional: true } } },
      field('NAME', 'metadata.name'), field('SPACE', 'metadata.namespace'), field('UID_OF_POD', 'metadata.uid'), field('PART', "metadata.labels['kiln.example/part']"),
      field('IP', 'status.podIP'), { name: 'LISTEN', value: '0.0.0.0' },
    ],
  })
  const { metadata, status: { podIP } } = await ended('given')
  const found = Object.fromEntries((await log('given')).trim().split('\n').map((line: string) => line.split(/=(.*)/s).slice(0, 2)))
  const { PATH: path, HOME: home, PWD: _, ...rest } = found
  assert.ok(path && home)
  assert.equal(rest, {
    HOST: podIP, PYTHONUNBUFFERED: '1', HOSTNAME: 'given', PLAIN: 'a', MORE: 'ab $(PLAIN) $(NONE)', TOKEN: 's3cret', COLOUR: 'red', NAME: 'given', SPACE: 'default',
    UID_OF_POD: metadata.uid, PART: 'one', IP: podIP, LISTEN: podIP, ALL_token: 's3cret', ALL_other: 'o',
  })
  await remove('given')
})

test('volumes are where their mounts say, for a program that looks there', async () => {
  await secret('files', { 'a.txt': 'of the secret' })
  await configMap('files', { one: '1', two: '2' })
  const mount = (name: string, mountPath: string): object => ({ name, mountPath })
  const look = ['cat /etc/secret/a.txt', 'cat "$PLACE"/deep/uno', 'ls "$PLACE"', 'ls /etc/all', 'ls /etc/none | wc -l', 'echo x > /scratch/y', 'cat /scratch/y', 'cat /lambda/tag']
  await create('mounted', {
    command: ['sh', '-c', [...look, 'echo done > /dev/termination-log'].join('; echo; ')], env: [{ name: 'PLACE', value: '/etc/items' }],
    volumeMounts: [mount('secret', '/etc/secret'), mount('items', '/etc/items'), mount('all', '/etc/all'), mount('none', '/etc/none'), mount('scratch', '/scratch')],
  }, {
    volumes: [
      { name: 'secret', secret: { secretName: 'files' } }, { name: 'items', configMap: { name: 'files', items: [{ key: 'one', path: 'deep/uno' }] } },
      { name: 'all', configMap: { name: 'files' } }, { name: 'none', configMap: { name: 'nowhere', optional: true } }, { name: 'scratch', emptyDir: {} },
    ],
  })
  assert.is(statusOf(await ended('mounted')).state.terminated.message, 'done\n')
  assert.equal((await log('mounted')).split(/\n+/), ['of the secret', '1', 'deep', 'one', 'two', '0', 'x', 'v1', ''])
  await remove('mounted')
})

test('of a message that is too long the last 4096 bytes are shown', async () => {
  await create('wordy', { command: ['sh', '-c', 'printf "%05000d" 1 > /dev/termination-log'] })
  assert.is(statusOf(await ended('wordy')).state.terminated.message, `${'0'.repeat(4095)}1`)
  await remove('wordy')
})

test('two pods listen on the same port at the same time, and answer each for itself', async () => {
  await Promise.all(['same1', 'same2'].map((name) => create(name, { readinessProbe: { httpGet: { port: 8000 } } })))
  const both = await Promise.all(['same1', 'same2'].map((name) => seen(name, isReady)))
  const addresses = both.map(({ status: { podIP } }) => podIP)
  assert.is.not(addresses[0], addresses[1])
  for (const address of addresses) assert.is(await (await fetch(`http://${address}:8000/tag`)).text(), 'v1')
  await Promise.all(['same1', 'same2'].map((name) => remove(name)))
})

/** A probe of this process, and what it answers. */
async function judge(): Promise<{ answer: { status: number }; httpGet: object; close(): void }> {
  const answer = { status: 200 }
  const server = createServer((_, response) => response.writeHead(answer.status).end()).listen(0, '127.0.0.1')
  await once(server, 'listening')
  return { answer, httpGet: { host: '127.0.0.1', port: (server.address() as AddressInfo).port }, close: () => server.close() }
}

test('the other probes wait for the startup probe', async () => {
  const { answer, httpGet, close } = await judge()
  answer.status = 503
  await create('starting', {
    ports: [{ name: 'web', containerPort: 8000 }], startupProbe: { httpGet, periodSeconds: 1, failureThreshold: 10_000 }, readinessProbe: { httpGet: { path: '/tag', port: 'web' } },
  })
  const begun = await running('starting')
  assert.equal([statusOf(begun).started, statusOf(begun).ready], [false, false])
  await on.until('events', (event) => event['reason'] === 'Unhealthy' && event['count'] === 3 && event['message'] === 'Startup probe failed: HTTP probe failed with statuscode: 503')
  answer.status = 200
  await seen('starting', isReady)
  const flags = on.lines('pods', 'starting')[0]!.filter((line) => line.includes('running')).map((line) => /running( ready)?( started)?/.exec(line)![0])
  assert.equal(flags, ['running', 'running started', 'running ready started'])
  close()
  await remove('starting')
})

test('a container whose startup fails too often is started again', async () => {
  const { answer, httpGet, close } = await judge()
  answer.status = 500
  await create('stillborn', { startupProbe: { httpGet, periodSeconds: 1, failureThreshold: 3 } }, { restartPolicy: 'Always' })
  await seen('stillborn', (pod) => statusOf(pod).restartCount === 1)
  assert.ok(on.lines('events', 'Pod stillborn')[0]!.includes('ADDED Normal Killing x1 Container main failed startup probe, will be restarted'))
  assert.is(on.lines('pods', 'stillborn')[0]!.some((line) => / started /.test(line)), false)
  close()
  await remove('stillborn')
})

test('readiness is lost after so many failures, and comes back after so many successes', async () => {
  const { answer, httpGet, close } = await judge()
  await create('wavering', { readinessProbe: { httpGet, periodSeconds: 1, failureThreshold: 2, successThreshold: 2 } })
  await seen('wavering', isReady)
  answer.status = 500
  await seen('wavering', (pod) => 'running' in statusOf(pod).state && !isReady(pod))
  assert.ok(on.lines('events', 'Pod wavering')[0]!.some((line) => /Unhealthy x2/.test(line)))
  answer.status = 200
  await seen('wavering', isReady)
  close()
  await remove('wavering')
})

test('a container whose liveness fails is ended and started again at once, twice, and its end is not shown by itself', async () => {
  const { answer, httpGet, close } = await judge()
  const container = { readinessProbe: { httpGet: { path: '/tag', port: 8000 }, periodSeconds: 2 }, livenessProbe: { httpGet, periodSeconds: 2, failureThreshold: 3 } }
  await on.send('POST', deployments, lambda(on, 'live', { container, pod: { terminationGracePeriodSeconds: 5 } }))
  const mine = (pod: Thing): boolean => pod.metadata.name.startsWith('lambda-live-')
  for (const restarts of [1, 2]) {
    await on.until('pods', (pod) => mine(pod) && isReady(pod))
    answer.status = 500
    await on.until('pods', (pod) => mine(pod) && statusOf(pod).restartCount === restarts)
    answer.status = 200
  }
  await on.until('pods', (pod) => mine(pod) && isReady(pod))
  const gone = on.until('pods', (pod, type) => mine(pod) && type === 'DELETED')
  await on.send('DELETE', `${deployments}/lambda-live`)
  await gone
  close()
  const lines = on.lines('pods', 'lambda-live-<hash>-<pod>')[0]!.filter((line) => line.includes(' Running ') && !line.includes('deleting'))
  const last = 'last: terminated Completed exit 0'
  assert.equal(lines.map((line) => /\| (.*?) imageID/.exec(line)![1]), [
    'running started restarts:0', 'running ready started restarts:0',
    `running started restarts:1 ${last}`, `running ready started restarts:1 ${last}`, `running started restarts:2 ${last}`, `running ready started restarts:2 ${last}`,
  ])
  const told = on.lines('events', 'Pod lambda-live-<hash>-<pod>')[0]!
  assert.ok(told.includes('ADDED Normal Killing x1 Container lambda failed liveness probe, will be restarted'))
  assert.ok(told.includes('ADDED Warning Unhealthy x1 Liveness probe failed: HTTP probe failed with statuscode: 500'))
})

test('an image is what its registry holds: the same tag with other files is another image', async () => {
  const run = async (name: string, image = `${on.registry}/moving:latest`): Promise<Thing> => {
    await create(name, { image, command: ['sh', '-c', 'cat /lambda/word'] })
    return ended(name)
  }
  await pushImage(`${on.registry}/moving:latest`, { 'lambda/word': 'old' })
  const before = await run('moving1')
  await pushImage(`${on.registry}/moving:latest`, { 'lambda/word': 'new' })
  const after = await run('moving2')
  assert.equal([await log('moving1'), await log('moving2')], ['old', 'new'])
  assert.is.not(statusOf(before).imageID, statusOf(after).imageID)
  assert.match(statusOf(after).imageID, new RegExp(`^${on.registry}/moving@sha256:[0-9a-f]{64}$`))
  await run('moving3', statusOf(before).imageID)
  assert.is(await log('moving3'), 'old')
  await Promise.all(['moving1', 'moving2', 'moving3'].map((name) => remove(name)))
})

test.run()
