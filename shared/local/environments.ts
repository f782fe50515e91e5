// Environments: virtual environments, each under the digest of everything that determines it, made once and shared.
import { mkdir, rm, stat, writeFile } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { environmentKey, environmentSays } from '../environment.ts'
import { Unavailable } from '../trouble.ts'
import { namesIn, reveal, sweep, unseen, vanish } from './folders.ts'
import { dropIfDead, lock } from './lock.ts'
import type { End, Processes } from './processes.ts'
import { requirementLines } from '../requirements.ts'
import { sharing, type Watch } from '../sharing.ts'
import { failureOf, failureOfSystem, type Failed } from './uv.ts'

const endGraceMs = 2_000
const linesKept = 40

export interface Inputs {
  /** Where the archive's files lie: the requirements' relative paths begin here. */
  codeFolder: string
  codeDigest: string
  runtimeRequirements: string
  /** The user's requirements.txt; null: there is none. */
  requirements: string | null
}

export interface Environments {
  /** Equal keys, equal environments. Throws Unavailable when Python cannot be asked for its version. */
  key(inputs: Inputs): Promise<string>
  has(key: string): Promise<boolean>
  /** Makes it, or finds it, or waits for whoever makes it already. null: it is there. Throws the signal's reason. */
  make(key: string, inputs: Inputs, watch: Watch): Promise<Failed | null>
  /** It holds nothing but the runtime, as far as this process knows: that one stays, for kiln uses it too and the next lambda will. */
  stands(key: string): boolean
  /** Removes it, unless it stands. */
  remove(key: string): Promise<void>
  /** Removes what dead kilns left half done. */
  sweep(): Promise<void>
  close(): Promise<void>
}

export interface EnvironmentsOptions {
  folder: string
  /** A Python interpreter and uv, as commands or paths. */
  python: string
  uv: string
  /** The whole environment of uv, and what it is told besides: index, certificates. Its configuration files are not read. */
  uvEnvironment: { env: Record<string, string>; args: string[] }
  processes: Processes
}

interface Python {
  executable: string
  /** Full version, implementation and platform. */
  version: string
}

export function environments({ python, uv, uvEnvironment, processes, ...options }: EnvironmentsOptions): Environments {
  const folder = resolve(options.folder)
  const work = sharing<Failed | null>((key) => environmentSays.waits(key, 'of this process'))
  const path = (key: string): string => join(folder, key)
  const standing = new Set<string>()
  let asked: Promise<Python> | undefined

  function interpreter(): Promise<Python> {
    asked ??= askPython(python, uvEnvironment.env, processes).catch((error: unknown) => {
      asked = undefined
      throw new Unavailable(`Python (${python}) cannot be asked for its version`, { cause: error })
    })
    return asked
  }

  async function run(args: string[], cwd: string, { line, signal }: Watch): Promise<Failed | null> {
    signal.throwIfAborted()
    const last: string[] = []
    const process = await processes.start(uv, args, {
      cwd, env: { ...uvEnvironment.env, NO_COLOR: '1' }, kind: 'build', stdin: 'ignore',
      line: (text) => { if (last.push(text) > linesKept) last.shift(); line(text) },
    })
    const end = await endOn(signal, process.ended, () => processes.end(process, endGraceMs))
    signal.throwIfAborted()
    return end.code === 0 ? null : failureOf(last, end)
  }

  async function install(key: string, inputs: Inputs, watch: Watch): Promise<Failed | null> {
    const making = await unseen(folder, `making-${key}`)
    try {
      const { executable } = await interpreter()
      const quiet = ['--no-config', '--no-progress', ...uvEnvironment.args]
      const bare = await run(['venv', '--quiet', '--relocatable', '--no-project', '--no-python-downloads', '--python', executable, ...quiet, making], folder, watch)
      if (bare) return bare
      const runtime = join(making, 'runtime-requirements.txt')
      await writeFile(runtime, inputs.runtimeRequirements)
      const files = filesOf(inputs, runtime)
      const failed = files.length === 0 ? null : await run(['pip', 'install', '--python', join(making, 'bin', 'python'), ...files, ...quiet], inputs.codeFolder, watch)
      if (!failed) await reveal(making, path(key))
      return failed
    } finally {
      await rm(making, { recursive: true, force: true })
    }
  }

  async function makeAlone(key: string, inputs: Inputs, watch: Watch): Promise<Failed | null> {
    await mkdir(folder, { recursive: true })
    const release = await lock(join(folder, `.lock-${key}`), watch.signal, ({ pid }) =>
      watch.line(environmentSays.waits(key, `process ${pid}`)))
    try {
      if (await isFolder(path(key))) return reused(key, watch)
      watch.line(environmentSays.making(key, `with ${countOf(inputs)}`))
      const failed = await install(key, inputs, watch)
      if (!failed) watch.line(environmentSays.made(key))
      return failed
    } finally {
      await release()
    }
  }

  return {
    async key(inputs) {
      const { version } = await interpreter()
      return environmentKey({ on: [version, ...indexOf(uvEnvironment)], commands: [], ...inputs, code: inputs.codeDigest })
    },
    has: (key) => isFolder(path(key)),
    async make(key, inputs, watch) {
      if (requirementLines(inputs.requirements ?? '').length === 0) standing.add(key)
      if (await isFolder(path(key))) return reused(key, watch)
      return work.join(key, watch, (shared) => makeAlone(key, inputs, shared).catch((error: unknown) => systemTrouble(error, shared.signal)))
    },
    stands: (key) => standing.has(key),
    async remove(key) {
      if (!standing.has(key)) await vanish(path(key))
    },
    async sweep() {
      await sweep(folder)
      for (const name of (await namesIn(folder)).filter((name) => name.startsWith('.lock-'))) await dropIfDead(join(folder, name))
    },
    close: () => work.end(new Error('kiln ends')),
  }
}

const isFolder = (path: string): Promise<boolean> => stat(path).then((is) => is.isDirectory(), () => false)

function reused(key: string, { line }: Watch): null {
  line(environmentSays.reused(key))
  return null
}

function systemTrouble(error: unknown, signal: AbortSignal): Failed {
  const failed = signal.aborted ? null : failureOfSystem(error, 'making the environment')
  if (failed) return failed
  throw error
}

/** Ends the process when the signal aborts; resolves when it has ended, either way. */
async function endOn(signal: AbortSignal, ended: Promise<End>, end: () => Promise<End>): Promise<End> {
  const stop = (): void => void end()
  signal.addEventListener('abort', stop, { once: true })
  if (signal.aborted) stop()
  return ended.finally(() => signal.removeEventListener('abort', stop))
}

function filesOf({ requirements, runtimeRequirements }: Inputs, runtime: string): string[] {
  return [
    ...(requirementLines(runtimeRequirements).length > 0 ? ['-r', runtime] : []),
    ...(requirements !== null && requirementLines(requirements).length > 0 ? ['-r', 'requirements.txt'] : []),
  ]
}

function countOf({ runtimeRequirements, requirements }: Inputs): string {
  const count = requirementLines(runtimeRequirements).length + requirementLines(requirements ?? '').length
  return count === 0 ? 'no requirements' : count === 1 ? '1 requirement' : `${count} requirements`
}

const script = 'import sys, sysconfig, platform; print(sys.executable); print("|".join([sys.implementation.cache_tag or "", platform.python_version(), sys.version.replace(chr(10), " "), sysconfig.get_platform(), "-".join(platform.libc_ver())]))'

async function askPython(python: string, env: Record<string, string>, processes: Processes): Promise<Python> {
  const process = await processes.start(python, ['-c', script], { cwd: '/', env, kind: 'python', stdin: 'ignore' })
  const { code } = await process.ended
  const [executable, version] = process.lastLines()
  if (code !== 0 || !executable || !version) throw new Error(`it ended with ${code}: ${process.lastLines().join(' ')}`)
  return { executable, version }
}

/** What of uv's settings can decide which packages it takes; where it keeps its cache or how long it waits cannot. */
function indexOf({ env, args }: EnvironmentsOptions['uvEnvironment']): string[] {
  const indifferent = /^UV_(CACHE_DIR|NO_CACHE|HTTP_\w+|REQUEST_TIMEOUT|CONCURRENT_\w+|NO_PROGRESS|LINK_MODE|LOCK_TIMEOUT)$/
  const settings = Object.keys(env).filter((name) => name.startsWith('UV_') && !indifferent.test(name)).sort()
  return [...settings.map((name) => `${name}=${env[name]}`), ...args]
}
