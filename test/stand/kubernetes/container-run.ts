// One run of a container: its process is started, shown, probed, and ended when it is asked for; what is left is how it ended.
import { randomBytes } from 'node:crypto'
import { existsSync } from 'node:fs'
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { delimiter, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { runLog, type RunLog } from './container-log.ts'
import { containerPaths } from './container-paths.ts'
import { startProcess, type ContainerProcess } from './container-process.ts'
import type { Ready } from './container-needs.ts'
import { expand } from './environment.ts'
import type { Keeper } from './keeper.ts'
import { now } from './memory.ts'
import type { Terminated } from './pod-status.ts'
import type { Probes } from './probes.ts'
import { isBuilder } from './pull.ts'
import { mountAll, type Mount } from './volumes.ts'

/** A part of a pod's container as its spec has it. */
export interface ContainerSpec extends Probes {
  name: string
  image: string
  command?: string[]
  args?: string[]
  workingDir?: string
  volumeMounts?: Mount[]
  terminationMessagePath?: string
  terminationMessagePolicy?: string
  lifecycle?: { preStop?: { sleep?: { seconds: number }; exec?: { command: string[] } } }
}

export interface RunParts {
  spec: ContainerSpec
  ready: Ready
  ip: string
  /** Volume name -> folder. */
  volumes: Map<string, string>
  /** A folder of the container's own. */
  folder: string
  keeper: Keeper
}

export interface Run {
  /** `containerd://…` */
  id: string
  log: RunLog
  process: ContainerProcess
  startedAt: string
  /** How it ended, when it has: `code` is that of its process. */
  terminated(code: number): Promise<Terminated>
}

const executor = fileURLToPath(new URL('executor.ts', import.meta.url))
const messageBytes = 4096
const logTail = { lines: 80, bytes: 2048 }
/** A process that exits with 137 after this line has met its memory limit, for tests of that. */
const outOfMemory = 'KILN-TEST-OOM'

/** Throws StartTrouble. */
export async function startRun({ spec, ready, ip, volumes, folder, keeper }: RunParts): Promise<Run> {
  const { image, env: given } = ready
  const messageFile = join(folder, 'termination-log')
  await mkdir(folder, { recursive: true })
  await writeFile(messageFile, '')
  const mountRoot = join(folder, 'mounts')
  const mounts = await mountAll(spec.volumeMounts ?? [], volumes, mountRoot)
  mounts.set(spec.terminationMessagePath ?? '/dev/termination-log', messageFile)
  const paths = containerPaths(mounts, mountRoot, isBuilder(spec.image) ? null : image.folder)
  // A process has no network namespace of its own here: what listens on all addresses would meet the other pods there.
  const here = (text: string): string => (text === '0.0.0.0' ? ip : paths.real(text))
  const machine = ofThisMachine(spec.image, folder)
  const env = Object.fromEntries(Object.entries({ ...machine, ...given }).map(([name, value]) => [name, name in given ? here(value) : value]))
  // Programs that the image does not hold are this machine's.
  if ('PATH' in given) env['PATH'] = [env['PATH'], machine['PATH']].filter(Boolean).join(delimiter)
  const cwd = workingFolder(paths.real(spec.workingDir ?? image.config.WorkingDir ?? '/'), image.folder)
  const log = runLog()
  let printed = ''
  const process = startProcess({
    command: commandOf(spec, ready, given).map(here), cwd, env, keeper,
    write(chunk) {
      printed = (printed + chunk.toString('latin1')).slice(-1024)
      log.write(chunk)
    },
  })
  const id = newId()
  const startedAt = now()
  return {
    id, log, process, startedAt,
    async terminated(exitCode) {
      // The builder is a Go program, and those end with 2 as first process; its stand-in does, too, as soon as it is up.
      const code = isBuilder(spec.image) && exitCode === 143 ? 2 : exitCode
      log.end()
      const written = await readFile(messageFile).catch(() => Buffer.alloc(0))
      const message = written.subarray(-messageBytes).toString() || (fallsBack(spec, code) ? log.tail(logTail.lines, logTail.bytes) : '')
      const reason = code === 0 ? 'Completed' : code === 137 && printed.includes(outOfMemory) ? 'OOMKilled' : 'Error'
      return { exitCode: code, reason, ...(message && { message }), startedAt, finishedAt: now(), containerID: id }
    },
  }
}

export const newId = (): string => `containerd://${randomBytes(32).toString('hex')}`

const fallsBack = (spec: ContainerSpec, code: number): boolean => spec.terminationMessagePolicy === 'FallbackToLogsOnError' && code !== 0

/** PATH and HOME where the image has none. The builder's stand-in also needs what this machine says of Python and its packages; what it leaves goes with the pod. */
function ofThisMachine(image: string, folder: string): Record<string, string> {
  const wanted = isBuilder(image) ? /^(PATH|HOME|KILN_TEST_PYTHON|PIP_\w+|UV_\w+|SSL_CERT_\w+|REQUESTS_CA_BUNDLE|\w+_(proxy|PROXY))$/ : /^(PATH|HOME)$/
  const found = Object.fromEntries(Object.entries(process.env).filter(([name]) => wanted.test(name))) as Record<string, string>
  return { ...found, ...(isBuilder(image) && { TMPDIR: folder }) }
}

/** Of the pod where it says one, else of the image. The first word `python3` is the interpreter that the tests use. */
function commandOf(spec: ContainerSpec, { image }: Ready, values: Record<string, string>): string[] {
  const args = (spec.args ?? []).map((text) => expand(text, values))
  if (isBuilder(spec.image) && !spec.command) return [process.execPath, '--import', import.meta.resolve('tsx'), executor, ...args]
  const command = spec.command?.map((text) => expand(text, values)) ?? image.config.Entrypoint ?? []
  const all = [...command, ...(spec.args ? args : spec.command ? [] : image.config.Cmd ?? [])]
  return all[0] === 'python3' || all[0] === 'python' ? [process.env['KILN_TEST_PYTHON'] ?? 'python3', ...all.slice(1)] : all
}

/** Below the image's folder, unless it is the folder of a volume. */
const workingFolder = (wanted: string, image: string): string => {
  const folder = existsSync(wanted) && wanted !== '/' ? wanted : join(image, wanted)
  return existsSync(folder) ? folder : image
}
