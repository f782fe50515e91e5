// kaniko, on this machine: its executor makes one image at a time, in a private root.
import { createReadStream, createWriteStream } from 'node:fs'
import { open, rename, writeFile } from 'node:fs/promises'
import { resolve } from 'node:path'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { createGzip } from 'node:zlib'
import { kilnStops, type BuildWatch } from '../builds.ts'
import { cancelled, failed, failureInLog, kanikoLines, world, type Failed, type KanikoAdvice } from '../kaniko-log.ts'
import type { Watch } from '../sharing.ts'
import { Unavailable } from '../trouble.ts'
import { trustedCertificates } from './certificates.ts'
import { privateRoot, sweepRoots, type PrivateRoot } from './private-root.ts'
import type { End, Process, Processes } from './processes.ts'
import { turns } from './turns.ts'
import { failureOfSystem } from './uv.ts'

export { whyNoLocalKaniko } from './why-no-kaniko.ts'

export interface LocalKanikoOptions {
  /** The executor: a static program, as a path. */
  executor: string
  /** Where private roots are made and removed. */
  folder: string
  processes: Processes
  insecureRegistries: readonly string[]
  /** Text of a docker config.json; null: none. */
  auth: string | null
  /** Environment that the executor gets (proxies, certificates), and nothing else of kiln's own. */
  env: Record<string, string>
}

export interface LocalKanikoWish {
  /** A tar, gzipped or not, with the Dockerfile in it. */
  context: AsyncIterable<Uint8Array> | Buffer
  /** `registry/repository:tag` */
  destination: string
  buildArgs: Record<string, string>
  /** From its turn on. */
  timeoutMs: number
}

export type Watching = Pick<BuildWatch, 'line' | 'waits' | 'signal'>

export interface LocalKaniko {
  /**
   * One at a time: others wait their turn, in the order in which they came, and are told so. Resolves when every process of it has
   * ended and its root is gone. After an abort the failure's cause is `cancelled`; beyond `timeoutMs` it is `timeout`.
   */
  run(wish: LocalKanikoWish, watch: Watching): Promise<{ built: true; digest: string } | Failed>
  /**
   * The same, but nothing is pushed: what was made of the root stays, as the folder `to`, which is not there yet. `dockerfile` is built instead of the
   * context's own. Answers the environment variables of the image.
   */
  bake(wish: Pick<LocalKanikoWish, 'context' | 'timeoutMs'> & { dockerfile: string; to: string }, watch: Watching): Promise<{ built: true; env: Record<string, string> } | Failed>
  /** Ends what lives on in the roots of dead kilns, and removes them. */
  sweep(): Promise<void>
  /** Ends what runs and what waits: these resolve with `again`. */
  close(): Promise<void>
}

type Made = { built: true; digest: string } | Failed

const timedOut = Symbol('the build took too long')
const closed = Symbol('kiln ends')
const endGraceMs = 1_000

export function localKaniko({ executor, processes, insecureRegistries, auth, env, ...options }: LocalKanikoOptions): LocalKaniko {
  const folder = resolve(options.folder)
  const closing = new AbortController()
  const running = new Set<Promise<unknown>>()
  const queue = turns()

  /** Before anything of the build runs: later on nobody but the build knows what its paths lead to. */
  async function furnish(root: PrivateRoot, context: LocalKanikoWish['context'], signal: AbortSignal): Promise<Record<string, string>> {
    await writeContext(context, root.path('kaniko/context.tar.gz'), signal)
    if (auth !== null) await writeFile(root.path('kaniko/.docker/config.json'), auth, { mode: 0o600 })
    const { SSL_CERT_FILE: _file, SSL_CERT_DIR: _folder, ...others } = env
    const certificates = await trustedCertificates(env)
    if (certificates !== null) await writeFile(root.path('kaniko/ssl/certificates.pem'), certificates)
    return { ...others, HOME: '/root', USER: 'root', DOCKER_CONFIG: '/kaniko/.docker', ...(certificates !== null && { SSL_CERT_FILE: '/kaniko/ssl/certificates.pem' }) }
  }

  /** `made`: what comes of a root in which the executor has ended. */
  async function build<T>({ context, dockerfile, args }: Baking, { line, signal }: Watch, made: (root: PrivateRoot, end: End) => Promise<T>): Promise<T> {
    const root = await privateRoot(folder, executor, processes)
    try {
      const environment = await furnish(root, context, signal)
      if (dockerfile !== null) await writeFile(root.path('kaniko/Dockerfile.whole'), dockerfile)
      signal.throwIfAborted()
      const process = await root.start([...args, ...always(insecureRegistries)], environment, line)
      const end = await endOn(signal, process, () => processes.end(process, endGraceMs))
      signal.throwIfAborted()
      return await made(root, end)
    } finally {
      if (!(await root.remove())) line('What this build left behind could not be removed; the next start of kiln tries it again.')
    }
  }

  async function inTurn<T>(wish: Baking, watch: Watching, made: (root: PrivateRoot, end: End, last: string[]) => Promise<T>): Promise<T | Failed> {
    const { line, last } = kanikoLines((text) => watch.line(text))
    const limit = new AbortController()
    const signal = AbortSignal.any([watch.signal, closing.signal, limit.signal])
    let timer: NodeJS.Timeout | undefined
    let endTurn = (): void => undefined
    try {
      let waited = false
      endTurn = await queue.take(signal, (before) => {
        waited = true
        watch.waits({ reason: 'OneAtATime', message: `One image is made at a time: ${before === 1 ? 'one other is' : `${before} others are`} before it.` })
      })
      if (waited) watch.waits(null)
      timer = setTimeout(() => limit.abort(timedOut), wish.timeoutMs)
      return await build(wish, { line, signal }, (root, end) => made(root, end, last))
    } catch (error) {
      return signal.aborted ? interrupted(signal.reason, wish.timeoutMs, last) : troubleOf(error)
    } finally {
      clearTimeout(timer)
      endTurn()
    }
  }

  function counted<T>(building: Promise<T>): Promise<T> {
    running.add(building)
    return building.finally(() => running.delete(building))
  }

  return {
    run: (wish, watch) => counted(inTurn<Made>({ ...wish, dockerfile: null, args: argumentsOf(wish) }, watch, async (root, end, last) => {
      const trouble = await troubleIn(root, end, last)
      const digest = /^sha256:[0-9a-f]{64}/.exec(await root.digest())?.[0]
      return trouble ?? (digest ? { built: true, digest } : world('ImageNotPushed', 'kaniko ended well, but names no image. It is built again.', last))
    })),
    bake: ({ to, dockerfile, ...wish }, watch) => counted(inTurn<{ built: true; env: Record<string, string> } | Failed>({
      ...wish, dockerfile: `${dockerfile}\nRUN env -0 > /kaniko/environment\n`, args: ['--dockerfile=/kaniko/Dockerfile.whole', '--no-push'],
    }, watch, async (root, end, last) => (await troubleIn(root, end, last)) ?? { built: true, env: environmentIn(await root.keep(to)) })),
    sweep: () => sweepRoots(folder, processes),
    async close() {
      closing.abort(closed)
      await Promise.allSettled(running)
    },
  }
}

/** What is made in a root. `dockerfile` null: that of the context. */
interface Baking extends Pick<LocalKanikoWish, 'context' | 'timeoutMs'> {
  dockerfile: string | null
  args: string[]
}

const argumentsOf = ({ destination, buildArgs }: LocalKanikoWish): string[] => [
  '--dockerfile=Dockerfile', `--destination=${destination}`, '--digest-file=/kaniko/digest', '--push-retry=3', ...Object.entries(buildArgs).map(([name, value]) => `--build-arg=${name}=${value}`),
]

const always = (insecureRegistries: readonly string[]): string[] => [
  '--context=tar:///kaniko/context.tar.gz', '--image-download-retry=3', '--log-format=text', '--log-timestamp=false', '--cache=false',
  // By the usual signs it is in no container, where some versions of it refuse to work.
  '--force',
  ...insecureRegistries.flatMap((registry) => [`--insecure-registry=${registry}`, `--skip-tls-verify-registry=${registry}`]),
]

/** `<name>=<value>`, each ended by a NUL. What belongs to the RUN that wrote them is left out. */
function environmentIn(text: string): Record<string, string> {
  const pairs = text.split('\0').filter((pair) => pair.includes('=')).map((pair) => [pair.slice(0, pair.indexOf('=')), pair.slice(pair.indexOf('=') + 1)] as const)
  return Object.fromEntries(pairs.filter(([name]) => !/^(HOME|PWD|OLDPWD|SHLVL|_)$/.test(name)))
}

/** Gzipped, as the executor wants it, which unpacks it where only it is harmed. */
async function writeContext(context: LocalKanikoWish['context'], path: string, signal: AbortSignal): Promise<void> {
  await pipeline(Readable.from(Buffer.isBuffer(context) ? [context] : context), createWriteStream(path), { signal })
  if (await isGzipped(path)) return
  await pipeline(createReadStream(path), createGzip({ level: 1 }), createWriteStream(`${path}.whole`), { signal })
  await rename(`${path}.whole`, path)
}

async function isGzipped(path: string): Promise<boolean> {
  const file = await open(path)
  try {
    const { buffer } = await file.read(Buffer.alloc(2), 0, 2, 0)
    return buffer[0] === 0x1f && buffer[1] === 0x8b
  } finally {
    await file.close()
  }
}

/** Ends it when the signal aborts; resolves when it has ended, either way. */
async function endOn(signal: AbortSignal, { ended }: Process, end: () => Promise<End>): Promise<End> {
  const stop = (): void => void end()
  signal.addEventListener('abort', stop, { once: true })
  if (signal.aborted) stop()
  return ended.finally(() => signal.removeEventListener('abort', stop))
}

const diskFull = /no space left on device|disk quota exceeded/i

const advice: KanikoAdvice = {
  credentials: 'The operator should look at REGISTRY_AUTH_FILE.',
  registry: 'The operator should look at LAMBDA_REGISTRY and LAMBDA_INSECURE_REGISTRIES.',
  whoInstalls: 'builds on this machine',
  context(last, log) {
    if (/resolving dockerfile path/.test(last)) return failed('user', 'DockerfileMissing', 'There is no Dockerfile at the top of the archive: put one there, and send it again.', false, log)
    if (/resolving source context/.test(last)) return failed('user', 'ContextUnreadable', `The archive cannot be unpacked: ${last}. Correct it, and send it again.`, false, log)
    return null
  },
}

/** An executor that gives up has a last word; what its commands print looks otherwise. */
const saysWhy = (log: string[]): boolean =>
  log.some((line, at) => /^error (building image|pushing image|checking push permissions)/.test(line) || (line.startsWith('Error: ') && log[at + 1] === 'Usage:'))

/** null: it went well. */
async function troubleIn(root: PrivateRoot, { code }: End, log: string[]): Promise<Failed | null> {
  const said = log.at(-1) ?? 'it says nothing'
  if (!(await root.began())) return world('BuilderCannotWork', `The private root of the build cannot be made: ${said}. It is tried again; the operator must make it possible.`, log)
  if (code !== 0 && !saysWhy(log)) return world('BuilderKilled', 'The build ended without saying why, as it does when it is killed from outside, perhaps for want of memory. It is tried again.', log)
  if (code !== 0 && diskFull.test(log.join('\n'))) return world('DiskFull', 'There is no room on the disk for the build. It is tried again; free some space meanwhile.', log)
  return code === 0 ? null : failureInLog(log, code, advice)
}

function interrupted(why: unknown, timeoutMs: number, log: string[]): Failed {
  if (why === closed || why === kilnStops) return world('BuilderStopped', 'kiln was stopped during the build; it is built again when kiln is back.', log)
  if (why !== timedOut) return cancelled(log)
  return failed('timeout', 'BuildTimeout', `The build took longer than ${timeoutMs / 1_000} seconds. Let it do less, or raise BUILD_TIMEOUT, and send it again.`, false, log)
}

/** What no process said: the store that does not give the context, a disk that refuses. */
function troubleOf(error: unknown): Failed {
  if (error instanceof Unavailable) return world('BuilderCannotWork', `${error.message}. It is tried again.`)
  const system = failureOfSystem(error, 'making the private root')
  if (system) return system
  throw error
}
