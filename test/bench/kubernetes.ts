// kiln on Kubernetes, over the stand-in: what kiln adds to what the cluster does, and what a thousand lambdas cost the one who observes them.
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { startBuilderWatcher } from '../../services/builder-watcher/index.ts'
import { startDeployer } from '../../services/deployer/index.ts'
import type { KubernetesConfig } from '../../shared/config.ts'
import { kubernetesBuilds } from '../../shared/kubernetes/builds.ts'
import { cluster } from '../../shared/kubernetes/client.ts'
import { kubernetesWorkloads } from '../../shared/kubernetes/workloads.ts'
import { silentLog } from '../../shared/log.ts'
import type { LambdaRecord } from '../../shared/records.ts'
import { fact } from '../stand/await.ts'
import { digestFor, packaged, recordFor, state, write } from '../stand/lives.ts'
import { serveApi } from '../stand/kubernetes/api.ts'
import { kubeconfig, standCluster } from '../stand/kubernetes/cluster.ts'
import { memoryStore } from '../stand/kubernetes/memory.ts'
import type { Store, Thing } from '../stand/kubernetes/store.ts'
import { testNats, type TestNats } from '../stand/nats.ts'
import { standPorts, type StandPorts } from '../stand/ports.ts'
import { serviceProcess } from '../stand/service.ts'
import { each, median, quantile, type Line } from './line.ts'

const samples = 60
const lambdas = 1_000
const idleMs = 20_000

interface Stand {
  store: Store
  nats: TestNats
  ports: StandPorts
  config: KubernetesConfig
  close(): Promise<void>
}

/** A cluster whose pods the measurement itself moves: nothing runs, and what is deleted is gone. */
async function stillCluster(): Promise<{ kubeconfig: string; store: Store; close(): Promise<void> }> {
  const store = memoryStore()
  const api = await serveApi(store, {
    deletePod(pod) { store.drop('pods', pod.metadata.namespace, pod.metadata.name); return pod },
    async *log() { yield Buffer.from(`${new Date().toISOString()} built\n`) },
  })
  store.hear((kind, { type, object }) => { if (kind === 'pods' && type === 'ADDED') store.put('pods', running(object)) })
  return { kubeconfig: kubeconfig(api.address), store, close: () => api.close() }
}

async function stand(made: { kubeconfig: string; store: Store; close(): Promise<void> }): Promise<Stand> {
  const [nats, folder] = await Promise.all([testNats(), mkdtemp(join(tmpdir(), 'kiln-bench-'))])
  const file = join(folder, 'kubeconfig')
  await writeFile(file, made.kubeconfig)
  const ports = await standPorts(nats.url)
  const config: KubernetesConfig = {
    kubeconfig: file, namespaces: ['default'], installation: 'bench', registry: 'registry.example', imagePlatform: 'linux/amd64', insecureRegistries: [], registryAuthFile: null, registrySecret: null, s3Secret: null,
    kanikoImage: 'registry.example/kaniko', cacheRepository: null, buildLimits: {}, scheduleTimeoutMs: 60_000,
  }
  return {
    store: made.store, nats, ports, config,
    async close() {
      await ports.close()
      await Promise.all([made.close(), nats.close()])
      await rm(folder, { recursive: true, force: true })
    },
  }
}

const image = { reference: `registry.example/lambda@sha256:${'a'.repeat(64)}`, digest: `sha256:${'a'.repeat(64)}` }
const lines = (what: string, times: number[]): Line => ({ what, value: `p50 ${median(times).toFixed(0)} ms, p99 ${quantile(times, 0.99).toFixed(0)} ms`, reach: '<= 100 ms', met: median(times) <= 100 })

function running(pod: Thing): Thing {
  const container = { name: 'kaniko', ready: true, restartCount: 0, state: { running: { startedAt: new Date().toISOString() } } }
  return { ...pod, spec: { ...pod.spec, nodeName: 'node1' }, status: { ...pod.status, phase: 'Running', containerStatuses: [container] } }
}

/** The pod's container has ended well: the API shows that before the phase. */
function ended(pod: Thing): Thing {
  const time = new Date().toISOString()
  const status = { ...pod.status, phase: 'Succeeded', containerStatuses: [{ name: 'kaniko', ready: false, restartCount: 0, state: { terminated: { exitCode: 0, reason: 'Completed', message: image.digest, startedAt: time, finishedAt: time } } }] }
  return { ...pod, status }
}

const unwanted = async (): Promise<never> => { throw new Error('one kaniko makes all of it') }

async function benchBuilds(on: Stand): Promise<Line> {
  const api = cluster(on.config)
  const builds = kubernetesBuilds({
    cluster: api, config: on.config, s3: { endpoint: null, region: 'us-east-1', credentials: null }, bucket: 'kiln', log: silentLog,
    objects: { has: async () => true }, registry: { digest: async () => null, remove: async () => null, putCode: unwanted }, claims: { claim: unwanted, release: unwanted },
  })
  const hearing = await startBuilderWatcher({ ...on.ports, builds }, { concurrency: 4, perAccount: 100, timeoutMs: 600_000, builder: 'kaniko', namespace: 'default' })
  const times: number[] = []
  for (let i = 0; i < samples; i++) {
    const record = await write(on.ports, recordFor())
    const runs = podRuns(on, `kaniko-lambda-${record.id}`)
    await state(on.ports, record, 'context.packaged', packaged(`bench ${i}`))
    const pod = await runs
    const from = performance.now()
    on.store.put('pods', ended(pod))
    await fact(on.ports, record.id, 'image.built')
    times.push(performance.now() - from)
  }
  await hearing.stop()
  await builds.close()
  await api.close()
  return lines('pod Succeeded shown by the API to image.built stated', times)
}

/** Resolves when the pod of this name runs. */
function podRuns({ store }: Stand, name: string): Promise<Thing> {
  return new Promise((resolve) => {
    const stop = store.hear((kind, { object }) => {
      if (kind !== 'pods' || object.metadata.name !== name || object.status?.phase !== 'Running') return
      stop()
      resolve(object)
    })
  })
}

async function benchDeployments(on: Stand): Promise<Line> {
  const api = cluster(on.config)
  const workloads = kubernetesWorkloads({ cluster: api, config: on.config, logs: on.ports.logs, log: silentLog, readyTimeoutMs: 60_000 })
  const hearing = await startDeployer({ ...on.ports, workloads })
  const times: number[] = []
  for (let i = 0; i < samples; i++) {
    const record = await write(on.ports, recordFor())
    const from = performance.now()
    await built(on, record)
    await fact(on.ports, record.id, 'workload.applied')
    times.push(performance.now() - from)
  }
  await hearing.stop()
  await workloads.close()
  await api.close()
  return lines('image.built stated to Deployment applied', times)
}

const built = (on: Stand, record: LambdaRecord): Promise<void> =>
  state(on.ports, record, 'image.built', { image, context: digestFor('bench'), reused: false, seconds: 1 })

async function benchObserver(on: Stand): Promise<Line[]> {
  const deployer = serviceProcess('deployer', {
    NATS_URL: on.nats.url, PORT: '0', DATA_DIR: dirname(on.config.kubeconfig!), PLATFORM: 'kubernetes', OBJECTS: 's3://kiln', KUBECONFIG: on.config.kubeconfig!, LAMBDA_REGISTRY: on.config.registry,
    INSTALLATION: on.config.installation,
  })
  const port = await deployer.start()
  if (port === null) throw new Error(deployer.output())
  const before = await figures(port)
  await each(Array(lambdas).keys(), 32, async () => {
    const record = await write(on.ports, recordFor())
    await built(on, record)
    await fact(on.ports, record.id, 'workload.running', 1, 120_000)
  })
  const from = await figures(port)
  await new Promise((resolve) => setTimeout(resolve, idleMs))
  const after = await figures(port)
  await deployer.end('SIGTERM')
  const cpu = (after.cpuSeconds - from.cpuSeconds) / (idleMs / 1_000)
  return [
    { what: `${lambdas} lambdas observed by one deployer: memory of the process`, value: `${(after.residentBytes / 2 ** 20).toFixed(0)} MB (${(before.residentBytes / 2 ** 20).toFixed(0)} MB without them)`, reach: '–', met: true },
    { what: `${lambdas} lambdas observed by one deployer: CPU when idle`, value: `${(cpu * 100).toFixed(1)} % of a core`, reach: '< 2 %', met: cpu < 0.02 },
  ]
}

async function figures(port: number): Promise<{ residentBytes: number; cpuSeconds: number }> {
  const text = await (await fetch(`http://127.0.0.1:${port}/metrics`)).text()
  const figure = (name: string): number => Number(new RegExp(`^${name} (\\S+)`, 'm').exec(text)?.[1])
  return { residentBytes: figure('process_resident_memory_bytes'), cpuSeconds: figure('process_cpu_seconds_total') }
}

export async function benchKubernetes(): Promise<Line[]> {
  const builds = await stand(await stillCluster())
  const first = await benchBuilds(builds)
  await builds.close()
  const on = await stand(await standCluster({ runs: false }))
  try {
    return [first, await benchDeployments(on), ...(await benchObserver(on))]
  } finally {
    await on.close()
  }
}
