// Runs what stands for the builder of images, as tests want it: its exit code, and what it printed.
import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const program = fileURLToPath(new URL('executor.ts', import.meta.url))

export interface Ran {
  code: number | null
  printed: string
  /** Its last line. */
  last: string
}

export interface ExecutorRuns {
  start(args: string[], more?: Record<string, string>): ChildProcess
  run(args: string[], more?: Record<string, string>): Promise<Ran>
  /** The folder of a context with these files. */
  context(files: Record<string, string>): Promise<string>
  /** Runs it with a context of these files, or of this Dockerfile, and without a destination unless one is given. */
  built(files: string | Record<string, string>, args?: string[], more?: Record<string, string>): Promise<Ran>
}

/** All that it makes is in the folder. */
export function executorRuns(folder: string, environment: Record<string, string> = {}): ExecutorRuns {
  let contexts = 0
  const start: ExecutorRuns['start'] = (args, more = {}) =>
    spawn(process.execPath, ['--import', import.meta.resolve('tsx'), program, ...args], { env: { ...process.env, TMPDIR: folder, ...environment, ...more }, stdio: ['ignore', 'pipe', 'pipe'] })

  async function run(args: string[], more: Record<string, string> = {}): Promise<Ran> {
    const child = start(args, more)
    let printed = ''
    for (const stream of [child.stdout!, child.stderr!]) stream.on('data', (chunk: Buffer) => { printed += chunk.toString() })
    const [code] = (await once(child, 'close')) as [number | null]
    return { code, printed, last: printed.trimEnd().split('\n').at(-1)! }
  }

  async function context(files: Record<string, string>): Promise<string> {
    const path = join(folder, `context-${contexts++}`)
    for (const [name, text] of Object.entries(files)) {
      await mkdir(dirname(join(path, name)), { recursive: true })
      await writeFile(join(path, name), text)
    }
    return path
  }

  return {
    start, run, context,
    built: async (files, args = ['--no-push'], more = {}) =>
      run([`--context=dir://${await context(typeof files === 'string' ? { Dockerfile: files } : files)}`, '--log-format=text', ...args], more),
  }
}
