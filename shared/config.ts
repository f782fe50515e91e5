// Configuration: the environment, read once, as one frozen object; every complaint in one message. The only reader of the environment besides the scripts in deploy/.
import { resolve } from 'node:path'
import { bytesOf } from './parameters.ts'
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
  { name: 'OBJECTS', default: 'nats://kiln', means: 'where archives and contexts are kept: `nats://<bucket>`' },
  { name: 'PLATFORM', default: 'local', means: 'what builds and runs lambdas: `local`, virtual environments and processes of this machine' },
  { name: 'LAMBDA_BASE_IMAGE', default: 'lpa-lambda-base:latest', means: 'base image of lambdas that name none (it does not matter on the local platform)' },
  { name: 'TOKENS', default: null, means: '`account=token` pairs, comma-separated: callers need `Authorization: Bearer <token>`; absent: everyone is account `default`' },
  { name: 'MAX_ARCHIVE_BYTES', default: '64Mi', means: 'largest archive that is taken' },
  { name: 'MAX_UNPACKED_BYTES', default: '512Mi', means: 'largest content of an archive' },
  { name: 'MAX_ARCHIVE_ENTRIES', default: '10000', means: 'most files in an archive' },
  { name: 'BUILD_CONCURRENCY', default: '2', means: 'builds at once, over all replicas' },
  { name: 'BUILD_TIMEOUT', default: '600', means: 'seconds after which a build is ended' },
  { name: 'READY_TIMEOUT', default: '60', means: 'seconds in which a new version must get ready, else the old one stays' },
  { name: 'PROXY_TIMEOUT', default: '60', means: 'seconds that a lambda has to answer' },
  { name: 'LOG_LEVEL', default: 'info', means: '`debug`, `info`, `warn` or `error`' },
  { name: 'INGEST_URL', default: null, means: 'ingest, when the gateway runs in a process of its own' },
  { name: 'STATUS_API_URL', default: null, means: 'status-api, likewise' },
  { name: 'KILN_PYTHON', default: null, means: 'Python >= 3.11 to use; absent: the newest on PATH' },
]

export interface Config {
  host: string
  port: number
  dataDir: string
  natsUrl: string | null
  natsPort: number
  streamReplicas: number
  objects: { kind: 'nats'; bucket: string }
  platform: 'local'
  /** What the platform can do for a lambda; ingest refuses the rest. */
  can: { runDockerCommands: boolean; readSecrets: boolean }
  baseImage: string
  /** token -> account; empty: no tokens are asked for. */
  tokens: ReadonlyMap<string, string>
  maxArchiveBytes: number
  maxUnpackedBytes: number
  maxArchiveEntries: number
  buildConcurrency: number
  buildTimeoutMs: number
  readyTimeoutMs: number
  proxyTimeoutMs: number
  logLevel: Level
  ingestUrl: string | null
  statusApiUrl: string | null
}

/** Throws one Error that lists everything that is wrong. */
export function readConfig(env: Record<string, string | undefined>): Readonly<Config> {
  const complaints: string[] = []
  const text = (name: string): string | null => env[name] || (settings.find((s) => s.name === name)?.default ?? null)
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
  const bucket = /^nats:\/\/([A-Za-z0-9_-]+)$/.exec(text('OBJECTS')!)?.[1]
  if (!bucket) complaints.push(`OBJECTS is "${text('OBJECTS')}"; it must be nats://<bucket>`)

  const config: Config = {
    host: text('HOST')!, port: number('PORT', 0, 65_535), dataDir: resolve(text('DATA_DIR')!),
    natsUrl: text('NATS_URL'), natsPort: number('NATS_PORT', 1, 65_535), streamReplicas: number('STREAM_REPLICAS', 1, 5),
    objects: { kind: 'nats', bucket: bucket ?? '' }, platform: oneOf('PLATFORM', ['local'] as const),
    can: { runDockerCommands: false, readSecrets: false },
    baseImage: text('LAMBDA_BASE_IMAGE')!, tokens: tokensIn(text('TOKENS'), complaints),
    maxArchiveBytes: bytes('MAX_ARCHIVE_BYTES'), maxUnpackedBytes: bytes('MAX_UNPACKED_BYTES'), maxArchiveEntries: number('MAX_ARCHIVE_ENTRIES', 1),
    buildConcurrency: number('BUILD_CONCURRENCY', 1, 1_000), buildTimeoutMs: seconds('BUILD_TIMEOUT'), readyTimeoutMs: seconds('READY_TIMEOUT'),
    proxyTimeoutMs: seconds('PROXY_TIMEOUT'), logLevel: oneOf('LOG_LEVEL', levels), ingestUrl: text('INGEST_URL'), statusApiUrl: text('STATUS_API_URL'),
  }
  if (complaints.length > 0) throw new Error(`kiln cannot start with these settings:\n${complaints.map((c) => `  - ${c}`).join('\n')}`)
  return Object.freeze(config)
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
