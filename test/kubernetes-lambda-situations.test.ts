// Workloads, in every situation that a real cluster was recorded to show: played in its order over HTTP, and what kiln then tells.
import { randomUUID } from 'node:crypto'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import type { KubernetesConfig } from '../shared/config.ts'
import { lambdaName, path } from '../shared/kubernetes/names.ts'
import { kubernetesWorkloads } from '../shared/kubernetes/workloads.ts'
import { silentLog } from '../shared/log.ts'
import type { Logs } from '../shared/logs.ts'
import { deployParameters, type GivenParameters } from '../shared/parameters.ts'
import type { Observation, Workload } from '../shared/workloads.ts'
import { bareCluster } from './stand/kubernetes/bare.ts'
import { showRollout } from './stand/kubernetes/rollouts.ts'
import { badRequest } from './stand/kubernetes/errors.ts'
import { renamed, situations, type CallStep, type Situation } from './stand/kubernetes/situations.ts'
import type { Thing } from './stand/kubernetes/store.ts'

const recorded = new Map(situations('lambdas').map((one) => [one.name, one]))
const namespace = 'default'

interface Expected {
  /** `<version> <shows> <reason> <number of endpoints>`, in order; what is told several times over stands once. With a part of its message. */
  told: Array<string | [string, RegExp]>
  deploy?: GivenParameters['deploy_parameters']
  /** Of the pod that ended: as it was told last. */
  ended?: { exitCode: number; restarts: number }
  log?: string[]
  cause?: string
  /** One state, though the cluster words it in turns: told once. */
  once?: string
}

const [starts, runs, isDeleted] = ['1 waiting Starting 0', '1 running Running 1', '1 terminated Deleted 0']
const crashes = (message: RegExp): [string, RegExp] => ['1 waiting CrashLoopBackOff 0', message]
const killed: [string, RegExp] = ['1 waiting OOMKilled 0', /limit of 300Mi/]
/** Nothing serves beside it. */
const alone: [string, RegExp] = ['2 waiting Starting 0', /^0 of 1 pod is ready\.(?!.*serves)/]
const updated: Expected['told'] = [
  starts, runs, ['2 waiting Starting 0', /version 1 serves until then/], '2 running Running 1', '1 running Running 0', ['1 terminated Replaced 0', /Version 2/], '2 terminated Deleted 0',
]

const expectations: Record<string, Expected> = {
  'healthy-rollout': { told: [starts, runs, isDeleted] },
  'rolling-update': { told: updated },
  'rolling-update-app-ignores-sigterm': { told: updated },
  'rolling-update-3-replicas': {
    deploy: { pod_count: 3 },
    told: [
      starts, ['1 running Running 1', /1 of 3 pods/], ['1 running Running 2', /2 of 3 pods/], ['1 running Running 3', /3 of 3 pods/],
      ['2 waiting Starting 0', /version 1 serves until then/], '1 running Running 2', ['2 waiting Starting 0', /[12] of 3 pods/], '1 running Running 1', ['2 waiting Starting 0', /2 of 3 pods/],
      ['2 running Running 3', /3 of 3 pods/], '1 running Running 0', '1 terminated Replaced 0', '2 terminated Deleted 0',
    ],
  },
  'rolling-update-to-bad-image-then-rollback': {
    told: [
      starts, runs, '2 waiting Starting 0', ['2 waiting ImagePullBackOff 0', /lambda-rec:absent/],
      ['2 failed ImagePullBackOff 0', /Version 2 was not ready.*lambda-rec:absent/], isDeleted,
    ],
    cause: 'registry',
  },
  'crash-at-start': {
    told: [starts, crashes(/exit code 3: ImportError: no module named foo/), isDeleted], ended: { exitCode: 3, restarts: 5 }, log: ['ImportError: no module named foo'],
  },
  'crash-after-3s-without-readiness-probe': {
    told: [starts, ...Array.from({ length: 5 }, () => [runs, crashes(/exit code 3/)]).flat(), isDeleted], ended: { exitCode: 3, restarts: 4 },
  },
  'exit-0-at-start': { told: [starts, crashes(/exit code 0/), isDeleted], ended: { exitCode: 0, restarts: 2 } },
  'command-not-found': { told: [starts, ['1 waiting CreateContainerError 0', /no such file or directory/], isDeleted], ended: { exitCode: 128, restarts: 3 } },
  'never-ready-progress-deadline': {
    told: [starts, ['1 waiting ProgressDeadlineExceeded 0', /healthz/], alone, starts, alone, '2 running Running 1', '1 terminated Replaced 0', '2 terminated Deleted 0'],
  },
  'liveness-probe-fails': { told: [starts, ...Array.from({ length: 4 }, () => [runs, crashes(/exit code 0/)]).flat(), runs, isDeleted], ended: { exitCode: 0, restarts: 4 } },
  'image-not-pullable': { told: [starts, ['1 waiting ImagePullBackOff 0', /lambda-rec:absent/], isDeleted], once: 'ImagePullBackOff' },
  'unschedulable-gpu': { deploy: { enable_gpu: true }, told: [starts, ['1 pending Unschedulable 0', /Insufficient nvidia\.com\/gpu.*It asks for a GPU/], isDeleted] },
  'quota-exceeded': { told: [starts, ['1 pending FailedCreate 0', /exceeded quota: .*used: pods=0, limited: pods=0/], isDeleted] },
  'scale-to-0-and-back': {
    told: [
      starts, runs, '1 terminated ScaledToZero 0', starts, runs, ['1 running Running 2', /^(2 of 2 pods are|1 of 1 pod is) ready/], ['1 running Running 1', /^1 of [12] pods? (is|are) ready/],
      ['1 running Running 2', /^2 of 2 pods are ready/], isDeleted,
    ],
  },
  'oom-at-runtime': {
    deploy: { resources: { limits: { memory: '300Mi' } } },
    told: [starts, ...Array.from({ length: 4 }, () => [runs, killed]).flat(), isDeleted], ended: { exitCode: 137, restarts: 3 },
  },
  'pod-deleted-by-hand': { told: [starts, runs, starts, runs, isDeleted] },
  'delete-foreground': { told: [starts, runs, '1 running Running 2', '1 terminated Removed 0'], deploy: { pod_count: 2 } },
  'delete-foreground-app-ignores-sigterm': { told: [starts, runs, '1 terminated Removed 0'] },
  'delete-background-and-recreate-at-once': {
    told: [starts, runs, '1 running Running 2', isDeleted, starts, runs, '1 running Running 2', isDeleted], deploy: { pod_count: 2 },
  },
  'delete-orphan': { told: [starts, runs, isDeleted] },
}

const config: KubernetesConfig = {
  kubeconfig: null, namespaces: [namespace], installation: 'kiln', registry: 'registry.example:5000', imagePlatform: 'linux/amd64', insecureRegistries: [], registryAuthFile: null,
  registrySecret: null, s3Secret: null, kanikoImage: 'registry.example:5000/kaniko-executor:latest', cacheRepository: null, buildLimits: {}, scheduleTimeoutMs: 600_000,
}

const unread: Pick<Logs, 'writer' | 'read'> = { writer: () => ({ line: () => undefined, flush: async () => undefined }), read: async () => [] }

/** What the run that is asked of has printed; a run that has not begun, or is not kept any more, is a refusal. */
const prints = ({ log }: Situation) => (pod: Thing, { previous }: { previous: boolean }): string => {
  const { state, lastState, name } = pod.status?.containerStatuses?.[0] ?? {}
  if (previous && !lastState) throw badRequest(`previous terminated container "${name}" in pod "${pod.metadata.name}" not found`)
  const hasBegun = state?.running || state?.terminated || lastState
  if (!previous && !hasBegun) throw badRequest(`container "${name}" in pod "${pod.metadata.name}" is waiting to start: ContainerCreating`)
  return log?.body ?? ''
}

const imageOf = (version: number): Workload['image'] => ({ reference: `registry.example:5000/lambda-rec@sha256:${String(version).repeat(64)}`, digest: `sha256:${String(version).repeat(64)}` })

interface Played {
  told: Observation[]
  /** Versions that kiln still lists. */
  left: number[]
  /** How often kiln has written the Deployment. */
  writes: number
}

/** `goesOn`: right after kiln has gone back to version 1, another version is wished for. */
async function play(situation: Situation, { deploy = {} }: Pick<Expected, 'deploy'>, goesOn = false): Promise<Played> {
  const stage = await bareCluster(prints(situation))
  const workloads = kubernetesWorkloads({ cluster: stage.client, config, logs: unread, log: silentLog, readyTimeoutMs: 60_000 })
  const told: Observation[] = []
  let wanted: Workload = {
    id: randomUUID(), account: 'default', version: 1, epoch: 0, image: imageOf(1), userConfig: {}, deploy: deployParameters.parse(deploy),
  }
  const name = lambdaName(wanted.id)
  const removing: Array<Promise<void>> = []
  const deployment = (): Thing | null => stage.store.get('deployments', namespace, name)

  /** What was asked to make the situation is here kiln's to ask, or somebody else's. */
  async function call({ call, path: at, label, status, options }: CallStep): Promise<void> {
    const [kind, of] = at.split('/') as [string, string]
    if (call === 'POST' && of === 'deployments' && status === 201) return workloads.apply(wanted)
    const isBack = call === 'PATCH' && label === 'PATCH image back to v1'
    if (isBack) await stage.until(() => deployment()!.spec.template.metadata.labels['kiln/version'] === '1')
    if (isBack ? goesOn : call === 'PATCH' && /^PATCH (image|readiness)/.test(label)) {
      wanted = { ...wanted, version: wanted.version + 1, image: imageOf(wanted.version + 1) }
      return workloads.apply(wanted)
    }
    if (call !== 'DELETE') return
    if (kind === 'pods') return stage.somebody.remove(path.pods(namespace, of))
    if (of.startsWith('replicasets')) return stage.store.list('replicasets', namespace).forEach((one) => stage.store.drop('replicasets', namespace, one.metadata.name))
    if (kind !== 'deployments' || label.endsWith('again')) return
    if (options?.propagationPolicy === 'Foreground') return void removing.push(workloads.remove(wanted.id))
    const query = `?propagationPolicy=${options?.propagationPolicy ?? 'Background'}`
    await (await fetch(`${stage.api.address}${path.deployments(namespace, name)}${query}`, { method: 'DELETE', headers: { authorization: 'Bearer somebody' } })).text()
  }

  try {
    await workloads.observe((observation) => void told.push(observation))
    const there = situation.steps.find((step) => 'deployment' in step)!.name
    for (const step of renamed(situation.steps, there, name)) {
      if ('call' in step) await call(step)
      else showRollout(stage.store, namespace, name, step)
      await stage.settled()
    }
    await Promise.all(removing)
    const left = (await workloads.list()).map(({ version }) => version)
    return { told, left, writes: stage.api.requests.filter(({ method, path }) => method === 'PATCH' && path.includes('/deployments/')).length }
  } finally {
    await workloads.close()
    await stage.close()
  }
}

/** Without those that say again what was told just before of anything. */
function shortly(told: Observation[]): Observation[][] {
  const groups: Observation[][] = []
  for (const one of told) {
    const last = groups.at(-1)
    if (last && brief(last[0]!) === brief(one)) last.push(one)
    else groups.push([one])
  }
  return groups
}
const brief = ({ version, shows, reason, endpoints }: Observation): string => `${version} ${shows} ${reason} ${endpoints.length}`

const test = suite('workloads, in recorded situations')

test('every recorded situation is a case', () => {
  assert.equal(Object.keys(expectations).sort(), [...recorded.keys()].sort())
})

for (const [name, expected] of Object.entries(expectations)) {
  test(name, async () => {
    const { told, left } = await play(recorded.get(name)!, expected)
    assert.equal(left, [])
    const groups = shortly(told)
    assert.equal(groups.map(([first]) => brief(first!)), expected.told.map((one) => (typeof one === 'string' ? one : one[0])))
    expected.told.forEach((one, at) => {
      const messages = groups[at]!.map(({ message }) => message)
      if (typeof one !== 'string') assert.ok(messages.every((message) => one[1].test(message)), `${one[1]} is not in each of ${messages.join(' | ')}`)
    })
    const pods = told.flatMap(({ pods }) => pods)
    const ended = pods.findLast(({ exitCode }) => exitCode !== null)
    if (expected.ended) assert.equal({ exitCode: ended?.exitCode, restarts: ended?.restarts }, expected.ended)
    if (expected.log) told.filter(({ reason }) => reason === 'CrashLoopBackOff').forEach(({ log }) => assert.equal(log, expected.log))
    if (expected.once) assert.is(told.filter(({ reason }) => reason === expected.once).length, 1, `${expected.once} is told again and again`)
    assert.is(told.find(({ shows }) => shows === 'failed')?.cause, expected.cause)
    assert.ok(told.every(({ shows, endpoints }) => shows === 'running' || endpoints.length === 0), 'only what runs has endpoints')
  })
}

test('a version that is late is given up once', async () => {
  const { writes } = await play(recorded.get('rolling-update-to-bad-image-then-rollback')!, {})
  assert.is(writes, 3)
})

test('the verdict on it stands for a moment longer, and is not on the version that follows', async () => {
  const { steps, ...situation } = recorded.get('rolling-update-to-bad-image-then-rollback')!
  const end = steps.findIndex((step) => 'deployment' in step && step.generation === 3 && step.status.observedGeneration === 3)
  const { told, left, writes } = await play({ ...situation, steps: steps.slice(0, end + 1) }, {}, true)
  assert.equal([left, writes], [[3], 4])
  assert.not(told.some(({ version, shows }) => version === 3 && shows === 'failed'))
})

test.run()
