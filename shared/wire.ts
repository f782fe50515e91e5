// The wiring: from configuration to ports. The only file that knows all adapters.
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Claims } from './claims.ts'
import type { Config, KubernetesConfig } from './config.ts'
import { localBases } from './local/bases.ts'
import { localBuilds } from './local/builds.ts'
import { localImageBuilds } from './local/image-builds.ts'
import { localKaniko, type LocalKaniko } from './local/kaniko.ts'
import { environments, type Environments } from './local/environments.ts'
import { environmentsIn } from './local/images.ts'
import type { Processes } from './local/processes.ts'
import { localStored } from './local/stored.ts'
import { localWorkloads } from './local/workloads.ts'
import type { Log } from './log.ts'
import { metrics } from './metrics.ts'
import { natsAnswers } from './nats/answers.ts'
import { natsBuildRecords } from './nats/build-records.ts'
import { natsBus } from './nats/bus.ts'
import { natsClaims } from './nats/claims.ts'
import { connectNats, type Nats } from './nats/connect.ts'
import { natsLogs } from './nats/logs.ts'
import { natsObjects, natsReader } from './nats/objects.ts'
import { natsQueue } from './nats/queue.ts'
import { natsRecords } from './nats/records.ts'
import { natsStatuses } from './nats/statuses.ts'
import type { Objects } from './objects.ts'
import type { Ports } from './ports.ts'
import { Refusal } from './trouble.ts'

/** What this machine lends. */
export interface Machine {
  python: string
  uv: string
  /** The whole environment and the arguments of uv, translated from pip's configuration. */
  uvEnvironment: { env: Record<string, string>; args: string[] }
  /** kiln's own environment. */
  env: Record<string, string | undefined>
  processes: Processes
  /** The requirements.txt that every lambda is served with. */
  runtimeRequirements: string
}

export interface Wired {
  ports: Ports
  /** An interpreter that has the runtime's packages. Makes it at the first call; `line` gets what that prints. */
  runtimePython(line: (text: string) => void): Promise<string>
  close(): Promise<void>
}

/** What builds and runs lambdas. */
type Platform = Pick<Ports, 'bases' | 'builds' | 'imageBuilds' | 'stored' | 'workloads'> & { close(): Promise<void> }

/** `lend` finds Python and uv on this machine, or gets them: a service that needs neither does not ask. */
export async function wire(config: Config, natsUrl: string, lend: () => Promise<Machine>, log: Log): Promise<Wired> {
  const nats = await connectNats(natsUrl, {
    name: 'kiln', replicas: config.streamReplicas, firstMs: config.natsUrl ? 60_000 : 5_000, waits: () => log.warn('NATS does not answer yet; it is waited for', { nats: natsUrl }),
  })
  const keeping = { replicas: config.streamReplicas }
  const folder = join(config.dataDir, 'local')
  let made: Promise<Environments> | null = null
  const environmentsHere = (): Promise<Environments> => made ??= lend().then((machine) => environments({ folder: environmentsIn(folder), ...machine }))
  const objects = await objectsOf(config, nats)
  const logs = natsLogs(nats, log)
  const platform = config.kubernetes
    ? await onKubernetes(config, config.kubernetes, { objects, logs, log, claims: await natsClaims(nats, keeping) })
    : await onThisMachine(config, folder, await environmentsHere(), await lend(), { objects, logs, log })
  const ports: Ports = {
    bases: platform.bases, buildRecords: await natsBuildRecords(nats, keeping), builds: platform.builds, imageBuilds: platform.imageBuilds, stored: platform.stored, workloads: platform.workloads, objects, logs, log,
    answers: await natsAnswers(nats, keeping), bus: natsBus(nats, log), metrics: metrics({ processFigures: true }),
    queue: natsQueue(nats, log), records: await natsRecords(nats, keeping), statuses: await natsStatuses(nats, keeping),
  }
  return {
    ports,
    runtimePython: async (line) => config.runtimePython ?? runtimePython(folder, await environmentsHere(), await lend(), line),
    // In reverse: first what still writes logs, then the connection they go over.
    async close() {
      await Promise.all([platform.close(), made?.then((one) => one.close())])
      await nats.nc.drain().catch(() => undefined)
      await nats.nc.close()
    },
  }
}

type Around = Pick<Ports, 'objects' | 'logs' | 'log'>

async function onThisMachine(config: Config, folder: string, made: Environments, machine: Machine, { objects, logs, log }: Around): Promise<Platform> {
  const kaniko = await kanikoHere(config, folder, machine)
  const builds = localBuilds({ folder, objects, environments: made, kaniko, log })
  const workloads = localWorkloads({ folder, processes: machine.processes, logs, log, inherited: machine.env, readyTimeoutMs: config.readyTimeoutMs })
  const stored = localStored({ folder, environments: made, inUse: builds.inUse, runtimeRequirements: () => readFile(machine.runtimeRequirements, 'utf8') })
  const { executor, registry, ignoredLimits } = config.localImages
  const imageBuilds = localImageBuilds({ kaniko, executor, registry, objects, ignoredLimits })
  return { bases: localBases, builds, imageBuilds, stored, workloads, close: async () => { await Promise.all([builds.close(), imageBuilds.close(), workloads.close()]) } }
}

async function kanikoHere({ localImages: { executor, insecureRegistries, registryAuthFile } }: Config, folder: string, { processes, env }: Machine): Promise<LocalKaniko> {
  const auth = registryAuthFile && (await textOf(registryAuthFile))
  const proxies = Object.fromEntries(Object.entries(env).filter((entry): entry is [string, string] => entry[1] !== undefined && /^((https?|no|all)_proxy|SSL_CERT_(FILE|DIR))$/i.test(entry[0])))
  const kaniko = localKaniko({ executor: executor ?? '', folder: join(folder, 'kaniko'), processes, insecureRegistries, auth, env: proxies })
  await kaniko.sweep()
  return kaniko
}

/** Loaded when it is wanted: the clients of Kubernetes and of S3 are large, and a laptop needs neither. */
async function onKubernetes({ objects: { bucket }, s3, readyTimeoutMs }: Config, config: KubernetesConfig, { objects, logs, log, claims }: Around & { claims: Claims }): Promise<Platform> {
  const [{ cluster }, { kubernetesBuilds }, { kubernetesImageBuilds }, { kubernetesWorkloads }, { oci }] = await Promise.all([
    import('./kubernetes/client.ts'), import('./kubernetes/builds.ts'), import('./kubernetes/image-builds.ts'), import('./kubernetes/workloads.ts'), import('./oci/adapters.ts'),
  ])
  const auth = config.registryAuthFile && (await textOf(config.registryAuthFile))
  const { bases, images, stored } = oci({ insecureRegistries: config.insecureRegistries, auth, platform: config.imagePlatform, objects })
  const api = cluster(config)
  const builds = kubernetesBuilds({ cluster: api, config, s3, bucket, registry: images, objects, claims, log })
  const imageBuilds = kubernetesImageBuilds({ cluster: api, config, s3, bucket, registry: images, log })
  const workloads = kubernetesWorkloads({ cluster: api, config, logs, log, readyTimeoutMs })
  return { bases, builds, imageBuilds, stored: stored(config.registry, log), workloads, close: async () => { await Promise.all([builds.close(), imageBuilds.close(), workloads.close()]); await api.close() } }
}

/** null: there is no such file. Credentials may be left out where a registry asks for none. */
const textOf = (file: string): Promise<string | null> => readFile(file, 'utf8').catch((error: NodeJS.ErrnoException) => {
  if (error.code === 'ENOENT') return null
  throw error
})

/** Made when it is first used: most services of a cluster need no objects, and get no credentials for them. */
function whenUsed(make: () => Promise<Objects>): Omit<Objects, 'read'> {
  let made: Objects | null = null
  let making: Promise<Objects> | null = null
  const get = (): Promise<Objects> => making ??= make().then((one) => made = one, (error: unknown) => { making = null; throw error })
  return {
    knows: (name) => made?.knows(name) ?? false,
    put: async (name, content) => (await get()).put(name, content),
    get: async (name) => (await get()).get(name),
    part: async (name, from) => (await get()).part(name, from),
    has: async (name) => (await get()).has(name),
    remove: async (name) => (await get()).remove(name),
    list: async (prefix) => (await get()).list(prefix),
  }
}

/** Archives may come from both stores, wherever kiln keeps its own. */
async function objectsOf({ objects: { kind, bucket }, s3, streamReplicas }: Config, nats: Nats): Promise<Objects> {
  const hasS3 = kind === 's3' || s3.endpoint !== null || s3.credentials !== null
  const { s3Objects, s3Reader } = hasS3 ? await import('./s3/objects.ts') : { s3Objects: null, s3Reader: null }
  const own = kind === 's3' ? whenUsed(() => s3Objects!({ bucket, ...s3 })) : await natsObjects(nats, bucket, { replicas: streamReplicas })
  const [fromNats, fromS3] = [natsReader(nats), s3Reader?.(s3) ?? null]
  return {
    ...own,
    async read(address, limit) {
      if (!address.startsWith('s3://')) return fromNats(address, limit)
      if (!fromS3) throw new Refusal(400, 42005, 'This kiln has no S3: send the archive itself, or have the operator set S3_ENDPOINT and credentials.')
      return fromS3(address, limit)
    },
  }
}

async function runtimePython(folder: string, made: Environments, { runtimeRequirements }: Machine, line: (text: string) => void): Promise<string> {
  const inputs = { codeFolder: folder, codeDigest: '', runtimeRequirements: await readFile(runtimeRequirements, 'utf8'), requirements: null }
  const key = await made.key(inputs)
  const failed = await made.make(key, inputs, { line, signal: new AbortController().signal })
  if (failed) throw new Error(`the Python runtime environment cannot be made: ${failed.failure.message}\n${(failed.failure.log ?? []).join('\n')}`)
  return join(environmentsIn(folder), key, 'bin', 'python')
}
