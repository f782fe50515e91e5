// Builds, in every situation that a real cluster was recorded to show: played in its order over HTTP, and what kiln then says. All are played at once.
// Longer than 250 lines: the table of situations and how they are played are read as one.
import { randomUUID } from 'node:crypto'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import type { Build, BuildEnd, Builds, BuildWatch } from '../shared/builds.ts'
import type { KubernetesConfig } from '../shared/config.ts'
import { kubernetesBuilds } from '../shared/kubernetes/builds.ts'
import type { Cluster } from '../shared/kubernetes/client.ts'
import { buildName, path } from '../shared/kubernetes/names.ts'
import { silentLog } from '../shared/log.ts'
import { Unavailable, type Cause } from '../shared/trouble.ts'
import { unpacked } from './contract/builds.ts'
import { bareCluster, isRunning, type BareCluster } from './stand/kubernetes/bare.ts'
import { badRequest } from './stand/kubernetes/errors.ts'
import { renamed, showEvent, showPod, situations, type Situation, type Step } from './stand/kubernetes/situations.ts'
import type { Thing } from './stand/kubernetes/store.ts'

const recorded = new Map(situations('builds').map((one) => [one.name, one]))

/** Long enough to show all that happens before it, also on a busy machine. */
const limitMs = 8_000
const namespace = 'default'

interface Expected {
  /** `sha256:…` of what was built. */
  digest?: string
  again?: boolean
  cause?: Cause
  reason?: string
  message?: RegExp
  /** How the last lines end that come with the failure; without it there are none. */
  log?: RegExp
  /** The reasons that were told while it waited; null: it goes on. */
  waits?: Array<string | null>
  limits?: Record<string, string>
  /** It ends since it has not begun for too long. */
  atLimit?: boolean
}

const failedStep = (message: RegExp, log: RegExp): Expected => ({ again: false, cause: 'user', reason: 'CommandFailed', message, log })
const deleted = (more: Expected = {}): Expected => ({ again: true, cause: 'infrastructure', reason: 'BuildPodDeleted', message: /deleted/, ...more })
const outOfMemory = (log?: RegExp): Expected =>
  ({ again: true, cause: 'infrastructure', reason: 'OOMKilled', message: /limit of 300Mi/, limits: { memory: '300Mi' }, ...(log && { log }) })
const unschedulable = (message: RegExp): Expected =>
  ({ again: true, cause: 'infrastructure', reason: 'Unschedulable', message, waits: ['Unschedulable'], atLimit: true })
const noImage = (message: RegExp): Expected =>
  ({ again: true, cause: 'registry', reason: 'ImagePullBackOff', message, waits: ['ImagePullBackOff'], atLimit: true })
const lacking = (reason: string, message: RegExp): Expected => ({ again: true, cause: 'infrastructure', reason, message, waits: [reason], atLimit: true })
const neverImage = (reason: string, message: RegExp): Expected => ({ again: false, cause: 'registry', reason, message, waits: [reason] })

const failedRun = failedStep(/`echo installing && ls \/does-not-exist` ended with exit code 2/, /installing\nls: cannot access .*\nerror building image: [^\n]*exit status 2$/)

const expectations: Record<string, Expected> = {
  'success': { digest: 'sha256:a343b629a575e06d2e92ac50579845acb4983e5f4b9035fcccacb86899e663ab' },
  'success-image-already-present': { digest: 'sha256:f4acfa71b9b9327a5f0eae61a771ae58486c049b3bc177cf8fa59b62d56a7a1e' },
  'fail-run': failedRun,
  'fail-run-exit-42': failedStep(/`exit 42` ended with exit code 42/, /exit status 42$/),
  'fail-run-fallback-to-logs': failedRun,
  'fail-base-image': { again: false, cause: 'user', reason: 'BaseImageMissing', message: /no-such-base/, log: /MANIFEST_UNKNOWN.*$/ },
  'fail-dockerfile-syntax': { again: false, cause: 'user', reason: 'DockerfileInvalid', message: /line 1: unknown instruction: FORM/, log: /^error building image: parsing dockerfile.*$/ },
  'fail-push': { again: true, cause: 'registry', reason: 'RegistryUnreachable', message: /pushed.*connection refused/, log: /connection refused$/ },
  'deleted-while-running': deleted(),
  'deleted-while-running-grace0': deleted(),
  'deleted-before-scheduled': deleted({ waits: ['Unschedulable'] }),
  'recreate-while-terminating': { digest: 'sha256:a343b629a575e06d2e92ac50579845acb4983e5f4b9035fcccacb86899e663ab' },
  'active-deadline-exceeded': { again: false, cause: 'timeout', reason: 'BuildTimeout', message: /longer than 600 seconds/, log: /Unpacking rootfs as cmd RUN sleep 300 requires it\.$/ },
  'active-deadline-while-unschedulable': unschedulable(/didn't match Pod's node affinity\/selector/),
  'unschedulable-node-selector': unschedulable(/didn't match Pod's node affinity\/selector/),
  'unschedulable-gpu': unschedulable(/Insufficient nvidia\.com\/gpu/),
  'oom-kaniko-process': outOfMemory(/Taking snapshot of full filesystem\.\.\.$/),
  'oom-run-step': outOfMemory(/Killed\nerror building image: [^\n]*exit status 137$/),
  'oom-run-step-ignored-by-dockerfile': { digest: 'sha256:8eaf0b59ebaa3ad9cd60fb0e47b205f99bb81b25e17773ccfc9f2fc44b7d399a', limits: { memory: '300Mi' } },
  'oom-too-small-to-start': outOfMemory(),
  'evicted-ephemeral-storage': { again: true, cause: 'infrastructure', reason: 'Evicted', message: /evicted.*ephemeral local storage usage exceeds .* 200Mi/ },
  'image-pull-backoff': noImage(/kaniko-executor:no-such-tag/),
  'image-pull-registry-unreachable': noImage(/registry\.invalid/),
  'image-name-invalid': neverImage('InvalidImageName', /repository name \(Kaniko executor\) must be lowercase/),
  'image-never-pull': neverImage('ErrImageNeverPull', /kaniko-executor:absent" is not present with pull policy of Never/),
  'container-command-not-found': { again: false, cause: 'infrastructure', reason: 'StartError', message: /cannot be started.*no such file or directory/ },
  'missing-secret-env': lacking('CreateContainerConfigError', /secret "no-such-secret" not found/),
  'missing-secret-key-env': lacking('CreateContainerConfigError', /couldn't find key token in Secret/),
  'missing-secret-volume': lacking('FailedMount', /secret "no-such-secret" not found/),
  'missing-configmap-volume': lacking('FailedMount', /configmap "kaniko-lambda-[^"]+" not found/),
  'missing-configmap-key-volume': lacking('FailedMount', /references non-existent config key/),
  'missing-secret-volume-created-later': { digest: 'sha256:363571022f9c3233102098841a06a6a9ce6aef5d0287ea4b5ead66781368a963', waits: ['FailedMount', null] },
}

interface Played {
  end: BuildEnd
  lines: string[]
  waits: Array<string | null>
}

/** What one kaniko makes alone asks for neither. */
const unwanted = async (): Promise<never> => { throw new Error('nobody asked for this') }

const place = {
  s3: { endpoint: null, region: 'eu', credentials: null }, bucket: 'kiln', registry: { digest: async () => null, remove: async () => null, putCode: unwanted }, claims: { claim: unwanted, release: unwanted },
  objects: { has: async () => true }, log: silentLog,
}
const config: KubernetesConfig = {
  kubeconfig: null, namespaces: [namespace], installation: 'kiln', registry: 'registry.example:5000', imagePlatform: 'linux/amd64', insecureRegistries: [], registryAuthFile: null,
  registrySecret: null, s3Secret: null, kanikoImage: 'registry.example:5000/kaniko-executor:latest', cacheRepository: null, buildLimits: {}, scheduleTimeoutMs: 600_000,
}
const buildsOn = ({ client }: BareCluster, more: Partial<KubernetesConfig> = {}): Builds => kubernetesBuilds({ cluster: client, config: { ...config, ...more }, ...place })

function newBuild(version = 1): Build {
  const digest = randomUUID().replaceAll('-', '').repeat(2)
  return { id: randomUUID(), account: 'default', version, ...unpacked(digest), builder: 'kaniko', commands: [], timeoutMs: 600_000, namespace, selector: {} }
}

/** A build under way, and what it says meanwhile. */
function begin(builds: Builds, build: Build): { end: Promise<BuildEnd>; lines: string[]; waits: Array<string | null> } {
  const lines: string[] = []
  const waits: Array<string | null> = []
  const watch: BuildWatch = {
    line: (text) => void lines.push(text), waits: (why) => void waits.push(why?.reason ?? null), kept: async () => undefined, signal: new AbortController().signal,
  }
  return { end: builds.run(build, watch), lines, waits }
}

/** The log as the kubelet answered: text, nothing yet (204) or a refusal. */
const prints = ({ log }: Situation) => (pod: Thing): string | null => {
  if (!log) return ''
  if (log.status === 204) return null
  if (log.status !== 200) throw badRequest(renamed(log.body, /kaniko-lambda-[a-z0-9]+/.exec(log.body)?.[0] ?? '-', pod.metadata.name))
  return log.body
}

/** Each step on the pod that is there, as fast as the adapter reads. Deletions are somebody's, or kiln's own, which are waited for. */
async function show(stage: BareCluster, { id }: Build, steps: Step[], deletions: 'by somebody' | 'by kiln'): Promise<void> {
  const name = buildName(id)
  const first = steps.find((step) => 'pod' in step)!.name
  const pod = (): Thing | null => stage.store.get('pods', namespace, name)
  await stage.until(() => pod() !== null)
  await stage.settled()
  const { uid } = pod()!.metadata
  for (const step of renamed(steps, first, name)) {
    if ('call' in step && step.call === 'DELETE') {
      if (deletions === 'by somebody') await stage.somebody.remove(path.pods(namespace, name), { graceSeconds: step.options?.gracePeriodSeconds })
      else await stage.until(() => pod()?.metadata.uid !== uid || pod()!.metadata.deletionTimestamp !== undefined)
    }
    if (pod()?.metadata.uid !== uid) return
    if ('pod' in step) showPod(stage.store, namespace, step)
    if ('event' in step) showEvent(stage.store, namespace, step)
    await stage.settled()
  }
}

async function play({ limits = {}, atLimit }: Expected, situation: Situation): Promise<Played> {
  const { name } = situation
  if (name === 'recreate-while-terminating') return recreated('by somebody')
  const stage = await bareCluster(prints(situation), isRunning)
  const builds = buildsOn(stage, { buildLimits: limits, ...(atLimit && { scheduleTimeoutMs: limitMs }) })
  try {
    const build = newBuild()
    const { end, lines, waits } = begin(builds, build)
    await show(stage, build, situation.steps, name.startsWith('deleted-') ? 'by somebody' : 'by kiln')
    const ended = await end
    await stage.settled()
    assert.equal(stage.store.list('pods', namespace), [], 'its pod is left behind')
    return { end: ended, lines, waits }
  } finally {
    await builds.close()
    await stage.close()
  }
}

/** The name is taken by a pod that somebody deletes, or that kiln itself has to: of another version. */
async function recreated(deletions: 'by somebody' | 'by kiln'): Promise<Played> {
  const [first, second] = [recorded.get('recreate-while-terminating')!, recorded.get('success')!]
  const stage = await bareCluster(prints(second), isRunning)
  const earlier = buildsOn(stage)
  const builds = buildsOn(stage)
  try {
    const old = newBuild()
    const build = deletions === 'by kiln' ? { ...newBuild(2), id: old.id } : old
    const before = begin(earlier, old)
    const untilDeleted = first.steps.findIndex((step) => 'call' in step && step.call === 'DELETE')
    await show(stage, old, first.steps.slice(0, untilDeleted), deletions)
    await earlier.close()
    await before.end
    const { uid } = stage.store.get('pods', namespace, buildName(old.id))!.metadata
    if (deletions === 'by somebody') await stage.somebody.remove(path.pods(namespace, buildName(old.id)))
    const { end, lines, waits } = begin(builds, build)
    const rest = first.steps.slice(untilDeleted + (deletions === 'by somebody' ? 1 : 0))
    await show(stage, old, rest.filter((step) => !('call' in step && step.label.endsWith('while terminating'))), 'by kiln')
    await stage.until(() => ![undefined, uid].includes(stage.store.get('pods', namespace, buildName(old.id))?.metadata.uid))
    await show(stage, build, second.steps, 'by kiln')
    return { end: await end, lines, waits }
  } finally {
    await builds.close()
    await stage.close()
  }
}

// --- All are under way before the first is looked at: some wait for a limit.
const outcome = (playing: Promise<Played>): Promise<{ is: Played } | { error: unknown }> => playing.then((is) => ({ is }), (error: unknown) => ({ error }))
const played = new Map(Object.entries(expectations).map(([name, expected]) => [name, outcome(play(expected, recorded.get(name)!))]))
const removedByKiln = recreated('by kiln')
removedByKiln.catch(() => undefined)

const test = suite('builds, in recorded situations')

test('every recorded situation is a case', () => {
  assert.equal(Object.keys(expectations).sort(), [...recorded.keys()].sort())
})

for (const [name, expected] of Object.entries(expectations)) {
  test(name, async () => {
    const found = (await played.get(name))!
    if ('error' in found) throw found.error
    const { end, lines, waits } = found.is
    if (expected.digest) {
      assert.ok(end.built, JSON.stringify(end))
      assert.is(end.image.digest, expected.digest)
      assert.match(end.image.reference, new RegExp(`/lambda-[0-9a-f-]{36}@${expected.digest}$`))
    } else {
      assert.not(end.built, 'it was built')
      const { again, failure: { cause, reason, message, log } } = end as Extract<BuildEnd, { built: false }>
      assert.equal({ again, cause, reason }, { again: expected.again, cause: expected.cause, reason: expected.reason })
      assert.match(message, expected.message!)
      if (expected.log) assert.match(log?.join('\n') ?? '', expected.log)
      else assert.is(log, undefined)
    }
    assert.equal(waits, expected.waits ?? [])
    const said = recorded.get(name)!.log
    if (said?.status === 200 && !expected.atLimit && !expected.waits) assert.is(lines.length, said.body.split('\n').length - 1)
  })
}

test('a pod of another version that has the name is removed and waited for', async () => {
  const { end } = await removedByKiln
  assert.ok(end.built, JSON.stringify(end))
})

/** As `fail-run`, but what runs is the installation of the requirements, with these last words. */
async function installing(...said: string[]): Promise<Extract<BuildEnd, { built: false }>> {
  const { log, ...failRun } = recorded.get('fail-run')!
  const body = log!.body.replaceAll('echo installing && ls /does-not-exist', 'python3 -m pip install --no-cache-dir -r requirements.txt')
    .replace(/installing\nls: .*\n/, said.map((line) => `${line}\n`).join('')).replace(/exit status 2/, 'exit status 1')
  const { end } = await play({}, { ...failRun, log: { status: 200, body } })
  assert.not(end.built)
  return end as Extract<BuildEnd, { built: false }>
}

test('requirements that pip cannot install are a trouble of the dependencies, with its last lines', async () => {
  const { again, failure } = await installing(
    'Collecting no-such-thing', 'ERROR: Could not find a version that satisfies the requirement no-such-thing (from versions: none)',
    'ERROR: No matching distribution found for no-such-thing')
  assert.equal([again, failure.cause, failure.reason], [false, 'dependency', 'RequirementsNotInstallable'])
  assert.ok(failure.log?.includes('ERROR: No matching distribution found for no-such-thing'))
})

test('an index of packages that does not answer is worth another try', async () => {
  const { again, failure } = await installing(
    'WARNING: Retrying (Retry(total=0)) after connection broken by NewConnectionError: [Errno -3] Temporary failure in name resolution: /simple/numpy/',
    'ERROR: Could not find a version that satisfies the requirement numpy (from versions: none)', 'ERROR: No matching distribution found for numpy')
  assert.equal([again, failure.cause, failure.reason], [true, 'registry', 'PackageIndexUnreachable'])
})

test('an image is no worse for a log that could not be read', async () => {
  const stage = await bareCluster(() => '', isRunning)
  const stream: Cluster['stream'] = (at, ...more) => (at.endsWith('/log') ? Promise.reject(new Unavailable('the log is away')) : stage.client.stream(at, ...more))
  const builds = buildsOn({ ...stage, client: { ...stage.client, stream } })
  const build = newBuild()
  const { end } = begin(builds, build)
  await show(stage, build, recorded.get('success')!.steps, 'by kiln')
  assert.ok((await end).built)
  await builds.close()
  await stage.close()
})

test.run()
