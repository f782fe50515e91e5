// Processes: every child process of the local platform is started, recorded and ended here.
// Each has its own process group, so that ending it ends whatever it started, and a record on disk,
// so that the next kiln ends what a killed one left behind.
import { spawn, type ChildProcess } from 'node:child_process'
import { mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { groupLives, identify, lives, self, type Identity } from './identity.ts'
import { readLines } from './output.ts'

export interface End {
  code: number | null
  signal: string | null
}

export interface Process {
  readonly pid: number
  /** Resolves when the leader has exited, nobody of its group is left and its output is read. Never rejects. */
  readonly ended: Promise<End>
  /** The last lines that it printed, oldest first. */
  lastLines(): string[]
}

export interface Start {
  cwd: string
  env: Record<string, string>
  /** What it is, for whoever reads the record: `build`, `lambda`. */
  kind: string
  /** `pipe` stays open as long as kiln lives, so the child can notice kiln's death. */
  stdin: 'pipe' | 'ignore'
  line?(text: string): void
}

export interface Processes {
  /** Resolves when it runs and is recorded. Throws when it cannot be started. */
  start(command: string, args: string[], how: Start): Promise<Process>
  /** SIGTERM to the whole group, SIGKILL to what is left of it after `graceMs`. Ending what has ended is fine. */
  end(process: Process, graceMs: number): Promise<End>
  /** Ends what dead kilns left running: how many. To be called once, at start-up. */
  reap(): Promise<number>
}

interface Kept {
  process: Identity
  owner: Identity
  kind: string
}

interface Group {
  pid: number
  /** Someone asked for its end: its members have their grace. Otherwise they go with their leader. */
  ending: boolean
  killedAt: number | null
  /** Nobody is left: from now on the system may give its number to others. */
  over: boolean
}

const linesKept = 20
const reapGraceMs = 2_000
/** A member that outlives SIGKILL by this hangs in the kernel: waiting on is no use. */
const afterKillMs = 5_000
/** A descendant that left the group may hold the pipes for ever; the output is not waited for longer than this. */
const outputMs = 500

export function processes(folder: string): Processes {
  const groups = new WeakMap<Process, Group>()
  return {
    async start(command, args, how) {
      const child = spawn(command, args, { cwd: how.cwd, env: how.env, detached: true, stdio: [how.stdin, 'pipe', 'pipe'] })
      child.stdin?.on('error', () => undefined)
      const last: string[] = []
      const output = outputOf(child, (line) => {
        if (last.push(line) > linesKept) last.shift()
        how.line?.(line)
      })
      const exited = exitOf(child)
      await spawned(child)
      const group: Group = { pid: child.pid!, ending: false, killedAt: null, over: false }
      const recorded = record(folder, group.pid, how.kind)
      const ended = endOf(group, exited, output).finally(async () => (await recorded)())
      await recorded
      const process = { pid: group.pid, ended, lastLines: () => [...last] }
      groups.set(process, group)
      return process
    },

    async end(process, graceMs) {
      const group = groups.get(process)
      if (!group || group.over) return process.ended
      group.ending = true
      signal(group.pid, 'SIGTERM')
      const kill = setTimeout(() => { if (!group.over) killNow(group) }, graceMs)
      return process.ended.finally(() => clearTimeout(kill))
    },

    async reap() {
      const names = (await readdir(folder).catch(() => [])).filter((name) => name.endsWith('.json'))
      const reaped = await Promise.all(names.map((name) => reapOne(join(folder, name))))
      return reaped.filter(Boolean).length
    },
  }
}

/** 'spawn' or 'error' comes before anything else of a child. */
function spawned(child: ChildProcess): Promise<void> {
  return new Promise((resolve, reject) => {
    child.once('spawn', resolve)
    child.on('error', reject)
  })
}

function exitOf(child: ChildProcess): Promise<End> {
  return new Promise((resolve) => child.once('exit', (code, name) => resolve({ code, signal: name })))
}

interface Output {
  /** Resolves when all of it is read, or when its pipes are held by somebody who is none of ours. */
  finish(): Promise<void>
}

function outputOf(child: ChildProcess, line: (text: string) => void): Output {
  // Without file descriptors to spare there are no streams either; the error that says so follows.
  const streams = [child.stdout, child.stderr].filter((stream) => stream != null)
  const readers = streams.map((stream) => readLines(stream, line))
  const closed = new Promise<void>((resolve) => child.once('close', () => resolve()))
  return {
    async finish() {
      for (const reader of readers) reader.hurry()
      await Promise.race([closed, pause(outputMs, undefined, { ref: false })])
      for (const stream of streams) stream.destroy()
      for (const reader of readers) reader.end()
      child.stdin?.destroy()
    },
  }
}

async function endOf(group: Group, exited: Promise<End>, output: Output): Promise<End> {
  const end = await exited
  if (!group.ending) killNow(group)
  await groupGone(group)
  group.over = true
  await output.finish()
  return end
}

/** The system tells nobody when the last member of a group goes, so this looks, lightly, and not for ever. */
async function groupGone(group: Group): Promise<void> {
  for (let ms = 2; signal(group.pid, 0); ms = Math.min(ms * 2, 128)) {
    if (group.killedAt !== null && performance.now() - group.killedAt > afterKillMs) return
    await pause(ms)
    // Zombies that their new parent is slow to collect still answer. Telling them from the living costs more than asking.
    if (ms >= 8 && !(await groupLives(group.pid))) return
  }
}

function killNow(group: Group): void {
  group.killedAt = performance.now()
  signal(group.pid, 'SIGKILL')
}

/** False: nobody of the group is left whom kiln could reach. */
function signal(group: number, name: NodeJS.Signals | 0): boolean {
  try {
    return process.kill(-group, name)
  } catch {
    return false
  }
}

/** Resolves, when the record is written, to what removes it. Without a record the process still runs: only reaping would miss it. */
async function record(folder: string, pid: number, kind: string): Promise<() => Promise<void>> {
  const path = join(folder, `${pid}.json`)
  const [identity, owner] = await Promise.all([identify(pid), self()])
  if (identity === null) return async () => undefined
  const content: Kept = { process: identity, owner, kind }
  await mkdir(folder, { recursive: true }).then(() => writeFile(path, JSON.stringify(content))).catch(() => undefined)
  return () => rm(path, { force: true }).catch(() => undefined)
}

/** Never ends a living kiln's process, nor a stranger that has got the pid of one long gone. */
async function reapOne(path: string): Promise<boolean> {
  const kept = await readFile(path, 'utf8').then((text) => JSON.parse(text) as Kept).catch(() => null)
  if (kept?.owner && (await lives(kept.owner))) return false
  const runs = kept?.process !== undefined && (await lives(kept.process))
  if (runs) await endGroup(kept.process.pid)
  await rm(path, { force: true })
  return runs
}

async function endGroup(pid: number): Promise<void> {
  const group: Group = { pid, ending: true, killedAt: null, over: false }
  signal(pid, 'SIGTERM')
  const kill = setTimeout(() => killNow(group), reapGraceMs)
  await groupGone(group).finally(() => clearTimeout(kill))
}
