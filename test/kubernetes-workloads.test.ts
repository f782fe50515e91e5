// Workloads, on Kubernetes: the contract of every platform, and what only this one promises. On a real cluster when KUBECONFIG names one.
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import type { Image } from '../shared/builds.ts'
import { kubernetesBuilds } from '../shared/kubernetes/builds.ts'
import type { Cluster } from '../shared/kubernetes/client.ts'
import { lambdaName, path } from '../shared/kubernetes/names.ts'
import { kubernetesWorkloads } from '../shared/kubernetes/workloads.ts'
import { silentLog } from '../shared/log.ts'
import type { LogEntry, LogOf, Logs } from '../shared/logs.ts'
import type { Workloads } from '../shared/workloads.ts'
import { buildOf, quiet } from './contract/builds.ts'
import { ask, crash, runs, server, watched, workload, workloadsContract, type Watched, type WorkloadsUnderTest } from './contract/workloads.ts'
import { clusterUnderTest, type ClusterUnderTest } from './stand/cluster.ts'
import { bareRuntime, baseWith, contextMade } from './stand/contexts.ts'

const under: ClusterUnderTest = await clusterUnderTest()

interface Written { of: LogOf; pod: string; run: number; line: string; time: string }

interface OnCluster extends WorkloadsUnderTest {
  client: Cluster
  written: Written[]
  /** A kiln that is started after, or beside, the first. */
  again(): Workloads
}

const made = new Map<string, Promise<Image>>()
const config = under.config()
const unwanted = async (): Promise<never> => { throw new Error('no environment is made here') }
const builds = kubernetesBuilds({
  cluster: under.client(), config, s3: under.s3, bucket: under.bucket, objects: under.objects, registry: under.registry, claims: { claim: unwanted, release: unwanted }, log: silentLog,
})
const base = baseWith(under.baseImage)

/** Built as any lambda's image is; each once for all tests. */
function imageOf(files: Record<string, string>): Promise<Image> {
  const key = JSON.stringify(files)
  const image = made.get(key) ?? build(files)
  made.set(key, image)
  return image
}

async function build(files: Record<string, string>): Promise<Image> {
  // Its own run.py is kiln's to replace: here it is the runtime.
  const { 'run.py': run = '', ...own } = files
  const { archives, packaged } = await contextMade(own, { base, runtime: { ...bareRuntime, files: new Map([['run.py', Buffer.from(run)]]) } })
  for (const [name, archive] of archives) await under.objects.put(name, archive)
  const end = await builds.run(buildOf(packaged), quiet)
  if (!end.built) throw new Error(JSON.stringify(end))
  return end.image
}

async function onCluster({ readyTimeoutMs }: { readyTimeoutMs: number }): Promise<OnCluster> {
  const own = under.config()
  const written: Written[] = []
  const logs: Pick<Logs, 'writer' | 'read'> = {
    writer: (of, pod, run = 0) => ({ line: (line) => void written.push({ of, pod, run, line, time: new Date().toISOString() }), flush: async () => undefined }),
    read: async (of) => written.filter((one) => one.of.id === of.id).map(({ pod, run, line, time }, seq): LogEntry => ({ seq, time, pod, run, lines: [line] })),
  }
  const opened: Workloads[] = []
  const again = (): Workloads => {
    const workloads = kubernetesWorkloads({ cluster: under.client(), config: own, logs, log: silentLog, readyTimeoutMs })
    opened.push(workloads)
    return workloads
  }
  const client = under.client()
  const workloads = again()
  return {
    workloads, again, client, written, image: imageOf,
    async close() {
      const last = again()
      await Promise.all((await last.list()).map(({ id }) => last.remove(id)))
      await Promise.all(opened.map((one) => one.close()))
      await client.close()
    },
  }
}

workloadsContract('workloads, on Kubernetes', onCluster)

// ---
const test = suite<{ on: OnCluster; watch: Watched }>('workloads, on Kubernetes only')
test.before.each(async (context) => {
  context.on = await onCluster({ readyTimeoutMs: 30_000 })
  context.watch = await watched(context.on.workloads)
})
test.after.each(({ on }) => on.close())
test.after(async () => {
  await builds.close()
  await under.close()
})

const deploymentOf = (id: string): string => path.deployments('default', lambdaName(id))

test('what somebody deletes is told, and can be applied again', async ({ on, watch }) => {
  const wanted = workload(await on.image(server('hello')))
  await on.workloads.apply(wanted)
  await watch.until(runs(1))
  const from = watch.seen.length
  await on.client.remove(deploymentOf(wanted.id))
  const gone = await watch.until((o) => o.shows === 'terminated', from)
  assert.equal([gone.reason, gone.endpoints], ['Deleted', []])
  await on.workloads.apply(wanted)
  const { endpoints } = await watch.until(runs(1), from)
  assert.is((await ask(endpoints[0])).answer, 'hello')
})

test('what a person sets beside kiln\'s own fields stays, and what is kiln\'s comes back', async ({ on, watch }) => {
  const wanted = workload(await on.image(server('hello')))
  await on.workloads.apply(wanted)
  await watch.until(runs(1))
  await on.client.apply(deploymentOf(wanted.id), {
    apiVersion: 'apps/v1', kind: 'Deployment', metadata: { name: lambdaName(wanted.id), annotations: { team: 'blue' } }, spec: { replicas: 2, minReadySeconds: 1 },
  }, 'a-person')
  await on.workloads.apply({ ...wanted, version: 2 })
  await watch.until(runs(2))
  const { metadata, spec } = (await on.client.get<{ metadata: { annotations: Record<string, string> }; spec: { replicas: number; minReadySeconds: number } }>(deploymentOf(wanted.id)))!
  assert.equal([metadata.annotations['team'], spec.minReadySeconds, spec.replicas], ['blue', 1, 1])
})

test('with autoscaling the number of pods is the autoscaler\'s, from its least on', async ({ on, watch }) => {
  const one = workload(await on.image(server('hello')))
  await on.workloads.apply(one)
  await watch.until(runs(1))
  await on.workloads.apply({ ...one, version: 2, deploy: { ...one.deploy, autoscaling: { min: 2, max: 3, target_cpu: 80 } } })
  await watch.until((o) => o.version === 2 && o.endpoints.length === 2)
  const scaler = await on.client.get<{ spec: { minReplicas: number; maxReplicas: number } }>(path.autoscalers('default', lambdaName(one.id)))
  assert.equal([scaler?.spec.minReplicas, scaler?.spec.maxReplicas], [2, 3])
  await on.workloads.apply({ ...one, version: 3 })
  await watch.until((o) => o.version === 3 && o.endpoints.length === 1)
  assert.is(await on.client.get(path.autoscalers('default', lambdaName(one.id))), null)
})

test('removing leaves nothing in the cluster', async ({ on, watch }) => {
  const wanted = workload(await on.image(server('hello')))
  await on.workloads.apply(wanted)
  await watch.until(runs(1))
  await on.workloads.remove(wanted.id)
  for (const at of [path.deployments, path.services, path.configMaps, path.pods, path.replicaSets]) {
    assert.equal((await on.client.list(at('default'), { labelSelector: `kiln/lambda-id=${wanted.id}` })).items, [], at('default'))
  }
})

test('an image that cannot be pulled is named', async ({ on, watch }) => {
  const image = { reference: `${config.registry}/nobody-pushed-this@sha256:${'0'.repeat(64)}`, digest: `sha256:${'0'.repeat(64)}` }
  await on.workloads.apply(workload(image))
  const waiting = await watch.until((o) => o.reason === 'ImagePullBackOff')
  assert.equal(waiting.shows, 'waiting')
  assert.match(waiting.message, /nobody-pushed-this/)
})

test('a secret that is missing is named, and once it is there the lambda runs', async ({ on, watch }) => {
  const wanted = workload(await on.image(server('hello')), { secrets: { TOKEN: { name: `secret-${config.installation}`, key: 'token' } } })
  await on.workloads.apply(wanted)
  const waiting = await watch.until((o) => o.reason === 'CreateContainerConfigError')
  assert.match(waiting.message, `secret-${config.installation}`)
  const secret = `/api/v1/namespaces/default/secrets/secret-${config.installation}`
  await on.client.apply(secret, { apiVersion: 'v1', kind: 'Secret', metadata: { name: `secret-${config.installation}` }, stringData: { token: 'abc' } })
  const { endpoints } = await watch.until(runs(1))
  assert.is((await ask(endpoints[0])).env['TOKEN'], 'abc')
  await on.client.remove(secret)
})

test('what a lambda prints is kept by pod and run, and a restarted kiln goes on after it', async ({ on, watch }) => {
  const wanted = workload(await on.image(server('hello', 'print("begins", flush=True)')))
  await on.workloads.apply(wanted)
  const { endpoints, pods } = await watch.until(runs(1))
  await ask(`${endpoints[0]}/end`).catch(() => undefined)
  await watch.until((o) => runs(1)(o) && o.pods[0]?.restarts === 1)
  await linesOf(on, wanted.id, 1, 'serving')
  const lines = (run: number): string[] => on.written.filter((one) => one.of.id === wanted.id && one.pod === pods[0]!.name && one.run === run).map(({ line }) => line)
  assert.equal([lines(0), lines(1)], [['begins', 'serving'], ['begins', 'serving']])
  const late = await watched(on.again())
  await late.until(runs(1))
  await ask(`${endpoints[0]}/end`).catch(() => undefined)
  await linesOf(on, wanted.id, 2, 'serving')
  assert.equal(lines(1), ['begins', 'serving'])
})

/** Resolves when this line of this run has been kept. */
async function linesOf(on: OnCluster, id: string, run: number, line: string): Promise<void> {
  const has = (): boolean => on.written.some((one) => one.of.id === id && one.run === run && one.line === line)
  while (!has()) await new Promise((resolve) => setImmediate(resolve))
}

test('a restarted kiln says the same of a crash as the one before, with its last lines', async ({ on, watch }) => {
  await on.workloads.apply(workload(await on.image(crash('no such colour', 7))))
  const crashed = await watch.until((o) => o.reason === 'CrashLoopBackOff')
  const late = await watched(on.again())
  const again = await late.until((o) => o.log !== undefined)
  assert.equal([again.reason, again.message, again.log], [crashed.reason, crashed.message, crashed.log])
})

test('a value is what its user wrote, though the cluster would replace names in it', async ({ on, watch }) => {
  await on.workloads.apply(workload(await on.image(server('hello')), { env: { PRICE: '$(LAMBDA_ID) $$(x) $5' } }))
  const { endpoints } = await watch.until(runs(1))
  assert.is((await ask(endpoints[0])).env['PRICE'], '$(LAMBDA_ID) $$(x) $5')
})

test('a namespace that is not there is the user\'s to correct', async ({ on }) => {
  const wanted = workload(await on.image(server('hello')), { namespace: 'nobody-made-this' })
  const error = await on.workloads.apply(wanted).then(() => null, (e: Error) => e)
  assert.is(error?.name, 'Refusal')
  assert.match(error!.message, 'nobody-made-this')
})

test.run()
