// The process of a container: a child of this one with a process group of its own, and one pipe for all that it prints.
import { spawn } from 'node:child_process'
import { accessSync, constants as access, statSync } from 'node:fs'
import { constants } from 'node:os'
import { delimiter, isAbsolute, join } from 'node:path'
import type { Keeper } from './keeper.ts'

/** It cannot be started: StartError, with these words. */
export class StartTrouble extends Error {}

export interface ContainerProcess {
  /** Its exit code, as a shell would say it; nobody of its group is left then. Never rejects. */
  readonly ended: Promise<number>
  /** To the whole group. */
  signal(name: 'SIGTERM' | 'SIGKILL'): void
}

export interface ProcessParts {
  command: string[]
  cwd: string
  env: Record<string, string>
  keeper: Keeper
  write(chunk: Buffer): void
}

/** A descendant that left the group may hold the pipe for ever; it is not waited for longer than this. */
const outputMs = 500

export function startProcess({ command, cwd, env, keeper, write }: ProcessParts): ContainerProcess {
  const [first = '', ...args] = command
  if (keeper.closed) throw new Error('The stand-in is closed')
  const program = found(first, cwd, env['PATH'] ?? '')
  // The shell joins both outputs in one pipe, so that their order is kept, and then is the program.
  const child = spawn('/bin/sh', ['-c', 'exec "$@" 2>&1', 'sh', program, ...args], { cwd, env, detached: true, stdio: ['ignore', 'pipe', 'ignore'] })
  const { pid } = child
  if (pid !== undefined) keeper.keep(pid)
  child.stdout.on('data', write)
  const signal = (name: 'SIGTERM' | 'SIGKILL'): void => {
    try {
      if (pid !== undefined) process.kill(-pid, name)
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error
    }
  }
  const read = new Promise<void>((resolve) => child.stdout.once('close', resolve))
  const ended = new Promise<number>((resolve) => {
    child.once('error', () => resolve(128))
    child.once('exit', (code, name) => {
      // A container is gone with its first process.
      signal('SIGKILL')
      if (pid !== undefined) keeper.forget(pid)
      const enough = setTimeout(() => child.stdout.destroy(), outputMs)
      void read.then(() => {
        clearTimeout(enough)
        resolve(code ?? 128 + constants.signals[name!])
      })
    })
  })
  return { ended, signal }
}

function found(name: string, cwd: string, path: string): string {
  const runtime = 'failed to create containerd task: failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process'
  if (name.includes('/')) {
    const file = isAbsolute(name) ? name : join(cwd, name)
    if (isProgram(file)) return file
    throw new StartTrouble(`${runtime}: exec: "${name}": stat ${name}: no such file or directory: unknown`)
  }
  const file = path.split(delimiter).map((folder) => join(folder, name)).find(isProgram)
  if (name !== '' && file) return file
  throw new StartTrouble(`${runtime}: exec: "${name}": executable file not found in $PATH: unknown`)
}

function isProgram(file: string): boolean {
  try {
    accessSync(file, access.X_OK)
    return statSync(file).isFile()
  } catch {
    return false
  }
}
