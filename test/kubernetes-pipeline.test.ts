// A lambda's whole life on a cluster, as a user sees it: every service a process of its own, kaniko builds, a Deployment runs.
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { buildName, configName, lambdaName, path } from '../shared/kubernetes/names.ts'
import type { Cluster } from '../shared/kubernetes/client.ts'
import { watchPod } from '../shared/kubernetes/watched-pod.ts'
import { silentLog } from '../shared/log.ts'
import { writeZip } from '../shared/zip.ts'
import type { Heard } from '../shared/events.ts'
import { fact } from './stand/await.ts'
import { folded } from './stand/caller.ts'
import { kilnOnCluster, type KilnOnCluster } from './stand/kiln-on-cluster.ts'
import { standPorts, type StandPorts } from './stand/ports.ts'

const test = suite('a life on Kubernetes')
let kiln: KilnOnCluster
let ports: StandPorts
let client: Cluster
let id: string

test.before(async () => {
  kiln = await kilnOnCluster()
  ports = await standPorts(kiln.nats.url)
  client = kiln.under.client()
})
test.after(async () => {
  await Promise.all([ports.close(), client.close()])
  await kiln.close()
})

const patienceMs = 120_000
const code = (word: string): string => `print("${word} is loaded", flush=True)\nasync def main(request):\n    return {"word": "${word}", "colour": request.config.userConfig.get("colour")}\n`

async function send(method: 'POST' | 'PUT', to: string, files: Record<string, string> | null, parameters: unknown): Promise<{ status: number; body: { lambda_id: string; version: number; errors?: Array<{ code: string }> } }> {
  const form = new FormData()
  if (files) form.set('archive', new Blob([new Uint8Array(writeZip(new Map(Object.entries(files))))]), 'lambda.zip')
  form.set('parameters', JSON.stringify(parameters))
  const response = await fetch(`${kiln.address}${to}`, { method, body: form })
  return { status: response.status, body: (await response.json()) as { lambda_id: string; version: number } }
}
const read = async <T>(to: string): Promise<T> => (await (await fetch(`${kiln.address}${to}`)).json()) as T
const call = (): Promise<Response> => fetch(`${kiln.address}/lambdas/${id}/proxy/main`, { method: 'POST', body: '{}' })
const invoke = async (): Promise<unknown> => (await call()).json()
const wait = <N extends Parameters<typeof fact>[2]>(name: N, version?: number) => fact(ports, id, name, version, patienceMs)
const isThere = async (at: string): Promise<boolean> => (await client.get(at)) !== null

test('a zip becomes a running lambda', async () => {
  const { status, body } = await send('POST', '/lambdas', { 'lambda_main.py': code('one') }, { name: 'life', user_config: { colour: 'red' } })
  assert.is(status, 202)
  id = body.lambda_id
  const built = await wait('image.built', 1)
  assert.not((await ports.bus.history(id, 0, 100)).some((one) => one.fact === 'image.queued'), 'code alone waits for nobody')
  assert.match(built.data.image.reference, new RegExp(`^${kiln.config.registry}/lambda-${id}@sha256:[0-9a-f]{64}$`))
  await wait('workload.running', 1)
  assert.equal(await invoke(), { word: 'one', colour: 'red' })
})

test('its image is described and its build\'s log is kept, though the pod is gone', async () => {
  assert.not.ok(await isThere(path.pods('default', buildName(id))))
  const { status, reference } = await read<{ status: string; reference: string }>(`/lambdas/${id}/image/status`)
  assert.equal([status, reference.startsWith(kiln.config.registry)], ['completed', true])
  assert.match(JSON.stringify(await read(`/lambdas/${id}/image/logs`)), /Code: one layer of \d+ bytes on .*Pushed/)
})

test('its status is told per pod, and what it prints is kept per pod', async () => {
  const { status, pods } = await read<{ status: string; pods: Array<{ name: string; ready: boolean }> }>(`/lambdas/${id}/status`)
  assert.equal([status, pods.length, pods[0]?.ready], ['running', 1, true])
  const logs = await read<{ pods: Record<string, string[]> }>(`/lambdas/${id}/logs`)
  assert.match(logs.pods[pods[0]!.name]!.join('\n'), 'one is loaded')
})

test('user_config changes without a build', async () => {
  const { body } = await send('PUT', `/lambdas/${id}`, null, { user_config: { colour: 'blue' } })
  assert.is(body.version, 2)
  await wait('workload.running', 2)
  assert.equal(await answersAs(2), { word: 'one', colour: 'blue' })
  await wait('workload.terminated', 1)
  assert.equal((await ports.bus.history(id, 0, 1_000)).filter((one) => one.version === 2 && one.fact.startsWith('image.')), [])
})

test('a command that fails is told with its last lines, and the version before serves on', async () => {
  await send('PUT', `/lambdas/${id}`, { 'lambda_main.py': code('two') }, { user_docker_commands: ['RUN echo looking && ls /nowhere'] })
  const failed = await wait('image.failed', 3)
  assert.equal([failed.data.cause, failed.data.reason], ['user', 'CommandFailed'])
  assert.match(failed.data.log!.join('\n'), 'nowhere')
  assert.equal(await invoke(), { word: 'one', colour: 'blue' })
})

test('a namespace that this kiln does not serve is refused before anything starts', async () => {
  const { status, body } = await send('PUT', `/lambdas/${id}`, null, { deploy_parameters: { namespace: 'elsewhere' } })
  assert.equal([status, body.errors?.[0]?.code], [400, 'NamespaceNotServed'])
})

test('disabled, nothing of it is in the cluster; enabled, it runs without a build', async () => {
  await send('PUT', `/lambdas/${id}`, { 'lambda_main.py': code('three') }, { user_docker_commands: ['RUN echo a command of the user'] })
  await wait('workload.running', 4)
  assert.match(JSON.stringify(await read(`/lambdas/${id}/image/logs`)), 'a command of the user')
  await fetch(`${kiln.address}/lambdas/${id}/disable`, { method: 'POST' })
  await wait('workload.terminated', 4)
  for (const at of [path.deployments('default', lambdaName(id)), path.services('default', lambdaName(id)), path.configMaps('default', configName(id, 4))]) assert.not.ok(await isThere(at), at)
  await fetch(`${kiln.address}/lambdas/${id}/enable`, { method: 'POST' })
  await until((heard) => heard.fact === 'workload.running' && heard.epoch === 2)
  assert.equal(await answersAs(4), { word: 'three', colour: 'blue' })
})

/** Until a fact is stated that is so; also when it was stated long ago. */
async function until(is: (heard: Heard) => boolean): Promise<void> {
  const over = new AbortController()
  const timer = setTimeout(() => over.abort(), patienceMs)
  for await (const heard of ports.bus.follow(id, 0, over.signal)) if (is(heard)) break
  clearTimeout(timer)
  over.signal.throwIfAborted()
}

/** The gateway hears of a version that replaces another by itself: the answer says whose it is. */
async function answersAs(version: number): Promise<unknown> {
  for (const from = Date.now(); Date.now() - from < patienceMs;) {
    const answer = await call()
    if (answer.headers.get('lambda-version') === String(version)) return answer.json()
    await answer.text()
  }
  throw new Error(`version ${version} never answered`)
}

test('cancelled, its build pod is ended', async () => {
  await send('PUT', `/lambdas/${id}`, { 'lambda_main.py': code('four') }, { deploy_parameters: { selector: { zone: 'moon' } }, user_docker_commands: ['ENV NEEDS=a pod'] })
  const pending = await wait('image.pending', 5)
  assert.is(pending.data.reason, 'Unschedulable')
  await folded(ports, id, pending.seq)
  const { status, message } = await read<{ status: string; message: string }>(`/lambdas/${id}/image/status`)
  assert.is(status, 'pending')
  assert.match(message, /0\/1 nodes are available/)
  assert.is((await fetch(`${kiln.address}/lambdas/${id}/cancel`, { method: 'POST' })).status, 202)
  await podGone()
  assert.equal(await invoke(), { word: 'three', colour: 'blue' })
})

/** Resolves when no build pod of it is there. */
async function podGone(): Promise<void> {
  const watched = watchPod(client, { namespace: 'default', name: buildName(id) }, silentLog)
  await watched.until(({ pod }) => pod === null)
  watched.close()
}

test('deleted, nothing is left of it: objects, images, contexts, archives', async () => {
  const built = await wait('image.built', 4)
  assert.is((await fetch(`${kiln.address}/lambdas/${id}`, { method: 'DELETE' })).status, 202)
  const cleaned = await wait('lambda.cleaned')
  assert.equal(cleaned.data.kept, [])
  assert.is(await kiln.under.registry.digest(built.data.image.reference), null)
  // Environments belong to nobody: they, and what they are made of, go when garbage is collected.
  const packed = (await ports.bus.history(id, 0, 1_000)).flatMap((one) => (one.fact === 'context.packaged' ? [(one as Heard<'context.packaged'>).data] : []))
  const environments = new Set(packed.map(({ foundation }) => foundation.environment?.context.name))
  const left = await kiln.under.objects.list('contexts/')
  assert.equal([await kiln.under.objects.list('archives/'), left.filter(({ name }) => !environments.has(name))], [[], []])
  await until((heard) => heard.fact === 'workload.terminated' && heard.epoch === 2)
  assert.not.ok(await isThere(path.deployments('default', lambdaName(id))))
})

test('how much work a stage has is told to autoscalers', async () => {
  const answer = await fetch(`${kiln.statusAddress}/queues/builder-watcher`)
  const depth = (await answer.json()) as unknown
  assert.equal(depth, { consumer: 'builder-watcher', waiting: 0, unacknowledged: 0, depth: 0 })
})

test.run()
