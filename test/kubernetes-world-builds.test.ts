// The world of the stand-in cluster: what it shows of build pods is held, change by change, to what a real cluster was recorded to show.
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { assertTold, build, configMaps, observed, pods, type BuildPod, type Observed } from './stand/kubernetes/observed.ts'
import type { Thing } from './stand/kubernetes/store.ts'

const on: Observed = await observed()
const test = suite('a stand-in cluster and its build pods')
test.after(() => on.close())

const is = (name: string) => ({ metadata }: Thing): boolean => metadata.name === `kaniko-lambda-${name}`
const state = (pod: Thing): any => pod.status.containerStatuses?.[0]?.state ?? {}
const ended = (name: string): Promise<Thing> => on.until('pods', (pod) => is(name)(pod) && ['Succeeded', 'Failed'].includes(pod.status.phase))
const waits = (name: string, reason: string): Promise<Thing> => on.until('pods', (pod) => is(name)(pod) && state(pod).waiting?.reason === reason)

async function removed(name: string, options: object = {}): Promise<void> {
  const gone = on.until('pods', (pod, type) => is(name)(pod) && type === 'DELETED')
  await on.send('DELETE', `${pods}/kaniko-lambda-${name}`, options)
  await gone
}

const log = async (name: string): Promise<any> => (await on.send('GET', `${pods}/kaniko-lambda-${name}/log`)).body

/** Resolves when the builder has said something: from then on it knows what SIGTERM means. */
async function speaks(name: string): Promise<void> {
  await on.until('pods', (pod) => is(name)(pod) && 'running' in state(pod))
  const leaving = new AbortController()
  const response = await fetch(`${on.api.address}${pods}/kaniko-lambda-${name}/log?follow=true`, { headers: { authorization: 'Bearer any' }, signal: leaving.signal })
  await response.body!.getReader().read()
  leaving.abort()
}

/** Until it is ended. */
const endless: BuildPod = { dockerfile: 'FROM base:latest\nRUN echo it runs; exec tail -f /dev/null\n' }

test('a build that succeeds', async () => {
  await build(on, 'success', { dockerfile: 'FROM base:latest\nWORKDIR /app\nCOPY handler.py /app/handler.py\nCMD ["python3","handler.py"]\n' })
  const pod = await ended('success')
  assert.match(state(pod).terminated.message, /^sha256:[0-9a-f]{64}$/)
  await removed('success')
  assertTold(on, 'build/success', 'pods')
  assertTold(on, 'build/success', 'events')
})

test('a build whose RUN fails, with the exit code of the command', async () => {
  await build(on, 'failrun', { dockerfile: 'FROM base:latest\nRUN echo installing && ls /does-not-exist\n' })
  await ended('failrun')
  const lines = (await log('failrun')).split('\n')
  assert.is(lines.at(-4), 'installing')
  assert.is(lines.at(-2), 'error building image: error building stage: failed to execute command: waiting for process to exit: exit status 2')
  await removed('failrun')
  assertTold(on, 'build/fail-run', 'pods')
  assertTold(on, 'build/fail-run', 'events')
})

test('deleted while it runs: a Go program as first process ends with 2', async () => {
  await build(on, 'delrun', endless)
  await speaks('delrun')
  await removed('delrun')
  assertTold(on, 'build/deleted-while-running', 'pods')
  assertTold(on, 'build/deleted-while-running', 'events')
})

test('deleted in the first moment, when the stand-in for the builder may not know yet what SIGTERM means, it ends in the same way', async () => {
  await build(on, 'delearly', endless)
  const begun = on.until('pods', (pod) => is('delearly')(pod) && 'running' in state(pod))
  const gone = on.until('pods', (pod, type) => is('delearly')(pod) && type === 'DELETED')
  await begun
  await on.send('DELETE', `${pods}/kaniko-lambda-delearly`)
  assert.is(state(await gone).terminated.exitCode, 2)
})

test('deleted without grace it is gone at once, still Running', async () => {
  await build(on, 'delrunz', endless)
  await on.until('pods', (pod) => is('delrunz')(pod) && 'running' in state(pod))
  await removed('delrunz', { gracePeriodSeconds: 0 })
  assertTold(on, 'build/deleted-while-running-grace0', 'pods')
})

test('deleted before it is scheduled', async () => {
  await build(on, 'delpend', { spec: { nodeSelector: { zone: 'nowhere' } } })
  await on.until('pods', (pod) => is('delpend')(pod) && pod.status.conditions?.[0].reason === 'Unschedulable')
  assert.is((await on.send('GET', `${pods}/kaniko-lambda-delpend/log`)).status, 204)
  await removed('delpend')
  assertTold(on, 'build/deleted-before-scheduled', 'pods')
})

test('no node has the labels that it asks for, or a GPU', async () => {
  await build(on, 'unsnode', { spec: { nodeSelector: { zone: 'nowhere' } } })
  await build(on, 'unsgpu', { container: { resources: { limits: { 'nvidia.com/gpu': '1' } } } })
  await on.until('pods', (pod) => is('unsgpu')(pod) && pod.status.conditions?.[0].reason === 'Unschedulable')
  await Promise.all([removed('unsnode'), removed('unsgpu')])
  assertTold(on, 'build/unschedulable-node-selector', 'pods')
  assertTold(on, 'build/unschedulable-node-selector', 'events')
  assertTold(on, 'build/unschedulable-gpu', 'pods')
})

test('an image that is not there: it is tried again after pauses, and both reasons are shown in turn', async () => {
  await build(on, 'pullbo', { container: { image: `${on.registry}/lambda-rec:no-such-tag` } })
  const renamed: [string, string] = ['kaniko-executor:no-such-tag', 'lambda-rec:no-such-tag']
  // Scheduled, started, and then both reasons twice.
  await on.until('pods', (pod) => is('pullbo')(pod) && (on.lines('pods', 'kaniko-lambda-pullbo')[0]?.length ?? 0) >= 7)
  assert.is((await log('pullbo')).message, 'container "kaniko" in pod "kaniko-lambda-pullbo" is waiting to start: trying and failing to pull image')
  await removed('pullbo')
  assertTold(on, 'build/image-pull-backoff', 'pods', { first: 7, renamed })
  assertTold(on, 'build/image-pull-backoff', 'pods', { from: 'deleting(30) 2/2', renamed })
  assertTold(on, 'build/image-pull-backoff', 'events', { upTo: 'Pulling x2', renamed })
})

test('an image that is never pulled, and a name that is none', async () => {
  await build(on, 'never', { container: { image: `${on.registry}/kaniko-executor:absent`, imagePullPolicy: 'Never' } })
  await build(on, 'pullbad', { container: { image: `${on.registry}/Kaniko executor` } })
  await Promise.all([waits('never', 'ErrImageNeverPull'), waits('pullbad', 'InvalidImageName')])
  await Promise.all([removed('never'), removed('pullbad')])
  assertTold(on, 'build/image-never-pull', 'pods')
  assertTold(on, 'build/image-name-invalid', 'pods')
})

test('a registry that does not answer', async () => {
  await build(on, 'away', { container: { image: '127.0.0.1:9/lambda-rec:v1' } })
  const pod = await waits('away', 'ErrImagePull')
  assert.is(state(pod).waiting.message, 'failed to pull and unpack image "127.0.0.1:9/lambda-rec:v1": failed to resolve reference "127.0.0.1:9/lambda-rec:v1": '
    + 'failed to do request: Head "http://127.0.0.1:9/v2/lambda-rec/manifests/v1": dial tcp 127.0.0.1:9: connect: connection refused')
  await removed('away')
})

test('a Secret for the environment that is not there, and then is', async () => {
  const env = (name: string): object => ({ env: [{ name: 'TOKEN', valueFrom: { secretKeyRef: { name, key: 'token' } } }] })
  await build(on, 'nosece', { container: env('no-such-secret') })
  await waits('nosece', 'CreateContainerConfigError')
  await removed('nosece')
  assertTold(on, 'build/missing-secret-env', 'pods')
  assertTold(on, 'build/missing-secret-env', 'events', { upTo: 'Failed x1' })
  await build(on, 'latesec', { container: env('late') })
  await waits('latesec', 'CreateContainerConfigError')
  await on.send('POST', '/api/v1/namespaces/default/secrets', { apiVersion: 'v1', kind: 'Secret', metadata: { name: 'late' }, data: { other: 'eA==' } })
  await on.until('pods', (pod) => is('latesec')(pod) && state(pod).waiting?.message === "couldn't find key token in Secret default/late")
  await on.send('PUT', '/api/v1/namespaces/default/secrets/late', { apiVersion: 'v1', kind: 'Secret', metadata: { name: 'late' }, data: { token: 'eA==' } })
  assert.is((await ended('latesec')).status.phase, 'Succeeded')
  await removed('latesec')
})

test('a ConfigMap for a volume that is not there: only an event tells, for ever', async () => {
  await build(on, 'nocm', { withContext: false })
  await on.until('events', (event) => event['reason'] === 'FailedMount' && is('nocm')({ metadata: event['involvedObject'] } as Thing) && event['count'] === 3)
  await removed('nocm')
  assertTold(on, 'build/missing-configmap-volume', 'pods')
  assertTold(on, 'build/missing-configmap-volume', 'events', { upTo: 'FailedMount x3' })
})

test('a ConfigMap for a volume that is there later: it heals', async () => {
  await build(on, 'secl', { withContext: false })
  await on.until('events', (event) => event['reason'] === 'FailedMount' && is('secl')({ metadata: event['involvedObject'] } as Thing))
  await on.send('POST', configMaps, { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: 'kaniko-lambda-secl' }, data: { 'Dockerfile': 'FROM base:latest\n', 'handler.py': '' } })
  assert.is((await ended('secl')).status.phase, 'Succeeded')
  await removed('secl')
  assertTold(on, 'build/missing-secret-volume-created-later', 'pods')
})

test('a program that is not in the image', async () => {
  await build(on, 'badcmd', { container: { command: ['/no/such/binary'] } })
  await ended('badcmd')
  await removed('badcmd')
  assertTold(on, 'build/container-command-not-found', 'pods')
})

test('beyond its deadline it fails, and says why', async () => {
  await build(on, 'deadline', { ...endless, spec: { activeDeadlineSeconds: 120 } })
  await speaks('deadline')
  const pod = await ended('deadline')
  assert.equal([pod.status.reason, pod.status.message], ['DeadlineExceeded', 'Pod was active on the node longer than the specified deadline'])
  await removed('deadline')
  assertTold(on, 'build/active-deadline-exceeded', 'pods')
  assertTold(on, 'build/active-deadline-exceeded', 'events')
})

test('without memory', async () => {
  await build(on, 'oomk', { dockerfile: 'FROM base:latest\nRUN echo KILN-TEST-OOM && exit 137\n' })
  await ended('oomk')
  await removed('oomk')
  assertTold(on, 'build/oom-kaniko-process', 'pods')
})

test('the end of the log stands for a message, where the pod asks for that', async () => {
  await build(on, 'failfb', { dockerfile: 'FROM base:latest\nRUN exit 42\n', container: { terminationMessagePolicy: 'FallbackToLogsOnError' } })
  const { terminated } = state(await ended('failfb'))
  assert.is(terminated.exitCode, 42)
  assert.match(terminated.message, /exit status 42\n$/)
  await removed('failfb')
})

test.run()
