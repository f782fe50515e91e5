// Configuration: the environment, read once, as one frozen object; every complaint in one message. The only reader of the environment besides the scripts in deploy/.
// Longer than 250 lines: every setting, its meaning and its check are to be found in one place.
import { resolve } from 'node:path'
import { imageBuilders, type ImageBuilder } from './builds.ts'
import { bytesOf, namespace } from './parameters.ts'
import { levels, type Level } from './log.ts'

export interface Setting {
  name: string
  /** As text; null: none. */
  default: string | null
  means: string
}

/** Every setting, as README lists them. */
export const settings: Setting[] = [
  { name: 'HOST', default: '127.0.0.1', means: 'address that the gateway listens on' },
  { name: 'PORT', default: '8080', means: 'port of the gateway; 0 takes a free one' },
  { name: 'DATA_DIR', default: '.kiln', means: 'folder for everything that kiln keeps on this machine' },
  { name: 'NATS_URL', default: null, means: 'addresses of NATS, comma-separated; absent: `npm start` starts a nats-server of its own' },
  { name: 'NATS_PORT', default: '4222', means: 'port of that own nats-server; a free one when it is taken' },
  { name: 'STREAM_REPLICAS', default: '1', means: 'NATS servers that hold each stream and bucket' },
  { name: 'OBJECTS', default: 'nats://kiln', means: 'where archives and contexts are kept: `nats://<bucket>` or `s3://<bucket>`' },
  { name: 'S3_ENDPOINT', default: null, means: 'address of the S3; absent: Amazon\'s' },
  { name: 'AWS_REGION', default: 'us-east-1', means: 'region of the S3' },
  { name: 'AWS_ACCESS_KEY_ID', default: null, means: 'who reads and writes the S3; absent: as the AWS SDK finds it (a role of the machine)' },
  { name: 'AWS_SECRET_ACCESS_KEY', default: null, means: 'its secret' },
  { name: 'AWS_SESSION_TOKEN', default: null, means: 'its session token, if it has one' },
  { name: 'PLATFORM', default: 'local', means: 'what builds and runs lambdas: `local`, virtual environments and processes of this machine; `kubernetes`, kaniko pods and Deployments' },
  { name: 'IMAGE_BUILDER', default: 'auto', means: 'how images are made: `auto`, an environment shared by all who need the same (made by kaniko once) and the code as one layer on it; `kaniko`, one kaniko pod for each image' },
  { name: 'IMAGE_BUILDERS', default: null, means: 'what a lambda may ask for as its `image_builder`, comma-separated; absent: only IMAGE_BUILDER' },
  { name: 'KANIKO_EXECUTOR', default: null, means: 'kaniko\'s executor, a program of this machine: with PLATFORM=local it makes images (`local_kaniko`), and lambdas may have `user_docker_commands`' },
  { name: 'IMAGE_PLATFORM', default: null, means: 'platform that base images must be for, e.g. `linux/arm64`; absent: that of the machine kiln runs on' },
  { name: 'LAMBDA_REGISTRY', default: null, means: 'registry, and path in it, that images are pushed to and run from, e.g. `registry.example/team`' },
  { name: 'LAMBDA_INSECURE_REGISTRIES', default: null, means: 'registries that are reached by http or show a certificate that nobody vouches for, comma-separated' },
  { name: 'REGISTRY_AUTH_FILE', default: null, means: 'file with the registry\'s credentials for kiln itself, as Docker\'s `config.json`' },
  { name: 'LAMBDA_REGISTRY_SECRET', default: null, means: 'Secret (`kubernetes.io/dockerconfigjson`) in each namespace of lambdas: build pods push with it, lambdas are pulled with it' },
  { name: 'S3_SECRET', default: null, means: 'Secret in each namespace of lambdas with `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`, which build pods read contexts with' },
  { name: 'LAMBDA_NAMESPACES', default: 'default', means: 'namespaces in which lambdas may live, comma-separated' },
  { name: 'INSTALLATION', default: 'kiln', means: 'tells this kiln\'s objects from another\'s in the same cluster' },
  { name: 'KUBECONFIG', default: null, means: 'file that says how to reach the cluster; absent: the cluster that kiln runs in' },
  { name: 'KANIKO_IMAGE', default: 'martizih/kaniko:v1.25.6', means: 'image of kaniko\'s executor' },
  { name: 'KANIKO_CACHE_REPOSITORY', default: null, means: 'repository for kaniko\'s layer cache; absent: no cache' },
  { name: 'BUILD_LIMITS', default: null, means: 'what a build pod may use, e.g. `cpu=2,memory=4Gi`' },
  { name: 'SCHEDULE_TIMEOUT', default: '300', means: 'seconds that a build pod may wait for a node' },
  { name: 'BASE_INTERVAL', default: '300', means: 'seconds between two looks at whether base images have moved' },
  { name: 'LAMBDA_BASE_IMAGE', default: null, means: 'base image of lambdas that name none; absent: `lpa-lambda-base:latest` of LAMBDA_REGISTRY (with PLATFORM=local only those with `user_docker_commands` have one)' },
  { name: 'TOKENS', default: null, means: '`account=token` pairs, comma-separated: callers need `Authorization: Bearer <token>`; absent: everyone is account `default`' },
  { name: 'MAX_ARCHIVE_BYTES', default: '64Mi', means: 'largest archive that is taken' },
  { name: 'MAX_UNPACKED_BYTES', default: '512Mi', means: 'largest content of an archive' },
  { name: 'MAX_ARCHIVE_ENTRIES', default: '10000', means: 'most files in an archive' },
  { name: 'BUILD_CONCURRENCY', default: '2', means: 'builds at once, over all replicas; with PLATFORM=local kaniko makes one image at a time all the same' },
  { name: 'BUILD_CONCURRENCY_PER_ACCOUNT', default: null, means: 'builds at once of one account; absent: BUILD_CONCURRENCY' },
  { name: 'BUILDS_WAITING_PER_ACCOUNT', default: '1000', means: 'builds of one account that may wait; beyond that its lambdas and builds are refused with 429' },
  { name: 'BUILD_TIMEOUT', default: '600', means: 'seconds after which a build is ended' },
  { name: 'GARBAGE_GRACE', default: '86400', means: 'seconds that archives, contexts, images and environments stay when no version refers to them any more' },
  { name: 'GARBAGE_INTERVAL', default: '3600', means: 'seconds from one collection of garbage to the next' },
  { name: 'READY_TIMEOUT', default: '60', means: 'seconds in which a new version must get ready, else the old one stays' },
  { name: 'PROXY_TIMEOUT', default: '60', means: 'seconds that a lambda has to answer' },
  { name: 'LOG_LEVEL', default: 'info', means: '`debug`, `info`, `warn` or `error`' },
  { name: 'INGEST_URL', default: null, means: 'ingest, when the gateway runs in a process of its own' },
  { name: 'STATUS_API_URL', default: null, means: 'status-api, likewise' },
  { name: 'BUILDER_URL', default: null, means: 'builder-watcher, likewise; absent: that gateway does not answer `/garbage`' },
  { name: 'RUNTIME_PYTHON', default: null, means: 'Python that has the runtime\'s packages already; absent: kiln makes such an environment' },
  { name: 'KILN_PYTHON', default: null, means: 'Python >= 3.11 to use; absent: the newest on PATH' },
]

export interface Config {
  host: string
  port: number
  dataDir: string
  natsUrl: string | null
  natsPort: number
  streamReplicas: number
  objects: { kind: 'nats' | 's3'; bucket: string }
  s3: S3Config
  platform: 'local' | 'kubernetes'
  /** null unless the platform is Kubernetes. */
  kubernetes: KubernetesConfig | null
  /** What images are built with on the local platform. */
  localImages: { executor: string | null; registry: string | null; insecureRegistries: string[]; registryAuthFile: string | null; ignoredLimits: string | null }
  /** What the platform can do for a lambda; ingest refuses the rest. */
  can: Capabilities
  baseImage: string
  baseIntervalMs: number
  imageBuilder: ImageBuilder
  /** token -> account; empty: no tokens are asked for. */
  tokens: ReadonlyMap<string, string>
  maxArchiveBytes: number
  maxUnpackedBytes: number
  maxArchiveEntries: number
  buildConcurrency: number
  buildsOfAccount: { running: number; waiting: number }
  buildTimeoutMs: number
  garbageGraceMs: number
  garbageIntervalMs: number
  readyTimeoutMs: number
  proxyTimeoutMs: number
  logLevel: Level
  ingestUrl: string | null
  statusApiUrl: string | null
  builderUrl: string | null
  runtimePython: string | null
}

export interface S3Config {
  endpoint: string | null
  region: string
  /** null: as the AWS SDK finds them. */
  credentials: { accessKeyId: string; secretAccessKey: string; sessionToken?: string } | null
}

export interface KubernetesConfig {
  kubeconfig: string | null
  namespaces: string[]
  installation: string
  registry: string
  /** `linux/amd64`: what base images must be for. */
  imagePlatform: string
  insecureRegistries: string[]
  registryAuthFile: string | null
  registrySecret: string | null
  s3Secret: string | null
  kanikoImage: string
  cacheRepository: string | null
  buildLimits: Record<string, string>
  scheduleTimeoutMs: number
}

export interface Capabilities {
  runDockerCommands: boolean
  readSecrets: boolean
  /** null: any, since they are names only. */
  namespaces: string[] | null
  /** What a lambda may ask for. */
  imageBuilders: ImageBuilder[]
}

/** Throws one Error that lists everything that is wrong. */
export function readConfig(env: Record<string, string | undefined>): Readonly<Config> {
  const complaints: string[] = []
  const given = withAliases(env, complaints)
  const text = (name: string): string | null => given[name] || (settings.find((s) => s.name === name)?.default ?? null)
  const number = (name: string, least: number, most = Number.MAX_SAFE_INTEGER): number => {
    const value = Number(text(name))
    if (!Number.isInteger(value) || value < least || value > most) complaints.push(`${name} is "${text(name)}"; it must be a whole number from ${least} to ${most}`)
    return value
  }
  const seconds = (name: string): number => number(name, 1, 86_400) * 1_000
  const bytes = (name: string): number => {
    try { return bytesOf(text(name)!) } catch { complaints.push(`${name} is "${text(name)}"; it must be a number of bytes such as 64Mi`); return 0 }
  }
  const oneOf = <T extends string>(name: string, allowed: readonly T[]): T => {
    const value = text(name) as T
    if (!allowed.includes(value)) complaints.push(`${name} is "${value}"; it must be one of ${allowed.join(', ')}`)
    return value
  }
  const [, kind, bucket] = /^(nats|s3):\/\/([A-Za-z0-9._-]+)$/.exec(text('OBJECTS')!) ?? []
  if (!bucket) complaints.push(`OBJECTS is "${text('OBJECTS')}"; it must be nats://<bucket> or s3://<bucket>`)
  const platform = oneOf('PLATFORM', ['local', 'kubernetes'] as const)
  const imageBuilder = oneOf('IMAGE_BUILDER', imageBuilders)
  const allowed = [...new Set([imageBuilder, ...listIn(text('IMAGE_BUILDERS'))])] as ImageBuilder[]
  for (const one of allowed) if (!imageBuilders.includes(one)) complaints.push(`IMAGE_BUILDERS names "${one}"; there are ${imageBuilders.join(', ')}`)
  if (platform === 'local' && allowed.some((one) => one !== 'auto')) complaints.push('IMAGE_BUILDER and IMAGE_BUILDERS must be auto with PLATFORM=local: there are no pods to build in')
  const kubernetes = platform === 'kubernetes' ? kubernetesIn(text, seconds, complaints) : null
  if (kubernetes && kind === 'nats') complaints.push('OBJECTS must be s3://<bucket> with PLATFORM=kubernetes: build pods read contexts from there')

  const config: Config = {
    host: text('HOST')!, port: number('PORT', 0, 65_535), dataDir: resolve(text('DATA_DIR')!),
    natsUrl: text('NATS_URL'), natsPort: number('NATS_PORT', 1, 65_535), streamReplicas: number('STREAM_REPLICAS', 1, 5),
    objects: { kind: kind as 'nats' | 's3', bucket: bucket ?? '' }, s3: s3In(text, complaints), platform, kubernetes,
    can: { runDockerCommands: kubernetes !== null || text('KANIKO_EXECUTOR') !== null, readSecrets: kubernetes !== null, namespaces: kubernetes?.namespaces ?? null, imageBuilders: allowed }, imageBuilder,
    baseImage: text('LAMBDA_BASE_IMAGE') ?? [...(text('LAMBDA_REGISTRY') ? [text('LAMBDA_REGISTRY')] : []), usualBase].join('/'), tokens: tokensIn(text('TOKENS'), complaints),
    baseIntervalMs: seconds('BASE_INTERVAL'), maxArchiveBytes: bytes('MAX_ARCHIVE_BYTES'), maxUnpackedBytes: bytes('MAX_UNPACKED_BYTES'), maxArchiveEntries: number('MAX_ARCHIVE_ENTRIES', 1),
    buildConcurrency: number('BUILD_CONCURRENCY', 1, 1_000),
    buildsOfAccount: { running: text('BUILD_CONCURRENCY_PER_ACCOUNT') === null ? number('BUILD_CONCURRENCY', 1, 1_000) : number('BUILD_CONCURRENCY_PER_ACCOUNT', 1, 1_000), waiting: number('BUILDS_WAITING_PER_ACCOUNT', 1) },
    localImages: { executor: text('KANIKO_EXECUTOR'), registry: text('LAMBDA_REGISTRY'), insecureRegistries: listIn(text('LAMBDA_INSECURE_REGISTRIES')), registryAuthFile: text('REGISTRY_AUTH_FILE'), ignoredLimits: text('BUILD_LIMITS') },
    buildTimeoutMs: seconds('BUILD_TIMEOUT'), readyTimeoutMs: seconds('READY_TIMEOUT'),
    garbageGraceMs: number('GARBAGE_GRACE', 1, 31_536_000) * 1_000, garbageIntervalMs: seconds('GARBAGE_INTERVAL'),
    proxyTimeoutMs: seconds('PROXY_TIMEOUT'), logLevel: oneOf('LOG_LEVEL', levels), ingestUrl: text('INGEST_URL'), statusApiUrl: text('STATUS_API_URL'), builderUrl: text('BUILDER_URL'),
    runtimePython: text('RUNTIME_PYTHON'),
  }
  if (complaints.length > 0) throw new Error(`kiln cannot start with these settings:\n${complaints.map((c) => `  - ${c}`).join('\n')}`)
  return Object.freeze(config)
}

/** Other names of kiln's settings, so that the environment of an existing luna-builder works as it is. */
export const aliases: Array<{ name: string; of: string; as: (value: string) => string | null }> = [
  { name: 'USE_KUBERNETES', of: 'PLATFORM', as: (value) => ({ 0: 'local', 1: 'kubernetes' })[value] ?? null },
  { name: 'LUNA_BUILDER_REGISTRY', of: 'LAMBDA_REGISTRY', as: (value) => value },
  { name: 'LUNA_BUILDER_INSECURE_REGISTRIES', of: 'LAMBDA_INSECURE_REGISTRIES', as: (value) => value },
  { name: 'LUNA_BUILDER_BUILD_LIMITS', of: 'BUILD_LIMITS', as: (value) => value },
]

function withAliases(env: Record<string, string | undefined>, complaints: string[]): Record<string, string | undefined> {
  const all = { ...env }
  for (const { name, of, as } of aliases) {
    const said = env[name]
    if (!said) continue
    const value = as(said)
    if (value === null) complaints.push(`${name} is "${said}"; it must be 0 or 1`)
    else if (env[of] && env[of] !== value) complaints.push(`${name} is "${said}" and ${of} is "${env[of]}": they are two names of one setting, give one of them`)
    else all[of] = value
  }
  return all
}

const usualBase = 'lpa-lambda-base:latest'

/** As registries name it. */
const platformHere = (): string => `linux/${{ x64: 'amd64', ia32: '386' }[process.arch as string] ?? process.arch}`

type Text = (name: string) => string | null

const listIn = (given: string | null): string[] => (given ?? '').split(',').map((one) => one.trim()).filter(Boolean)

function s3In(text: Text, complaints: string[]): S3Config {
  const [endpoint, accessKeyId, secretAccessKey, sessionToken] = [text('S3_ENDPOINT'), text('AWS_ACCESS_KEY_ID'), text('AWS_SECRET_ACCESS_KEY'), text('AWS_SESSION_TOKEN')]
  if (endpoint !== null && !/^https?:\/\/[^/]+\/?$/.test(endpoint)) complaints.push(`S3_ENDPOINT is "${endpoint}"; it must be http(s)://<host>[:<port>]`)
  if ((accessKeyId === null) !== (secretAccessKey === null)) complaints.push('AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY must be given together')
  const credentials = accessKeyId && secretAccessKey ? { accessKeyId, secretAccessKey, ...(sessionToken && { sessionToken }) } : null
  return { endpoint, region: text('AWS_REGION')!, credentials }
}

function kubernetesIn(text: Text, seconds: (name: string) => number, complaints: string[]): KubernetesConfig {
  const registry = text('LAMBDA_REGISTRY')
  if (!registry || !/^[a-zA-Z0-9.-]+(:\d+)?(\/[a-z0-9._/-]+)?$/.test(registry)) complaints.push(`LAMBDA_REGISTRY is "${registry ?? ''}"; with PLATFORM=kubernetes it must be a registry such as registry.example:5000/team`)
  const namespaces = listIn(text('LAMBDA_NAMESPACES'))
  for (const name of namespaces) if (!namespace.safeParse(name).success) complaints.push(`LAMBDA_NAMESPACES names "${name}", which no namespace of lambdas can be called`)
  if (namespaces.length === 0) complaints.push('LAMBDA_NAMESPACES must name at least one namespace')
  const imagePlatform = text('IMAGE_PLATFORM')
  if (imagePlatform !== null && !/^[a-z0-9]+\/[a-z0-9]+(\/[a-z0-9]+)?$/.test(imagePlatform)) complaints.push(`IMAGE_PLATFORM is "${imagePlatform}"; it must be like linux/amd64`)
  const installation = text('INSTALLATION')!
  if (!/^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/.test(installation)) complaints.push(`INSTALLATION is "${installation}"; it must be of lower-case letters, digits and -`)
  return {
    kubeconfig: text('KUBECONFIG'), namespaces, installation, registry: registry ?? '', imagePlatform: imagePlatform ?? platformHere(), insecureRegistries: listIn(text('LAMBDA_INSECURE_REGISTRIES')),
    registryAuthFile: text('REGISTRY_AUTH_FILE'), registrySecret: text('LAMBDA_REGISTRY_SECRET'), s3Secret: text('S3_SECRET'),
    kanikoImage: text('KANIKO_IMAGE')!, cacheRepository: text('KANIKO_CACHE_REPOSITORY'), buildLimits: limitsIn(text('BUILD_LIMITS'), complaints),
    scheduleTimeoutMs: seconds('SCHEDULE_TIMEOUT'),
  }
}

function limitsIn(given: string | null, complaints: string[]): Record<string, string> {
  const limits = Object.fromEntries(listIn(given).map((pair) => pair.split('=', 2) as [string, string]))
  const isGood = Object.entries(limits).every(([name, amount]) => /^(cpu|memory|ephemeral-storage)$/.test(name) && /^\d+(\.\d+)?(m|Ki|Mi|Gi|Ti|k|M|G|T)?$/.test(amount ?? ''))
  if (!isGood) complaints.push(`BUILD_LIMITS is "${given}"; it must be amounts such as cpu=2,memory=4Gi`)
  return isGood ? limits : {}
}

function tokensIn(given: string | null, complaints: string[]): Map<string, string> {
  const tokens = new Map<string, string>()
  for (const pair of given?.split(',') ?? []) {
    const [, account, token] = /^\s*([a-z0-9][a-z0-9-]{0,62})=(\S{8,})\s*$/.exec(pair) ?? []
    if (account && token) tokens.set(token, account)
    else complaints.push('TOKENS must be account=token pairs: accounts of lower-case letters, digits and -, tokens of at least 8 characters')
  }
  return tokens
}
