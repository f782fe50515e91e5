// One checker process: started, spoken to in JSON lines, ended by closing its input.

import { spawn } from 'node:child_process'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import type { Finding } from '../../shared/finding.ts'

export interface Answer { id: number; findings?: Finding[]; error?: string }

export interface Checker {
  /** Whether it has said that it can work. */
  ready: boolean
  write(line: string): void
  /** Closes its input: it answers what it was asked, then ends. */
  finish(): void
  kill(): void
  /** The last line it wrote to stderr, or why it could not start. */
  complaint(): string
}

export interface Listener { ready(): void; heard(answer: Answer): void; ended(): void }

const SCRIPT = fileURLToPath(new URL('check.py', import.meta.url))
const START_TIMEOUT_MS = 30_000

/** Not detached: it shares our process group, and its input closes when we end in any way, so it never outlives us. */
export function startChecker(python: string, listener: Listener): Checker {
  // -B: no __pycache__ beside the sources, which may lie on a read-only disk.
  const child = spawn(python, ['-B', '-X', 'utf8', SCRIPT], { stdio: 'pipe' })
  const slowStart = setTimeout(() => child.kill('SIGKILL'), START_TIMEOUT_MS)
  let lastWords = 'it ended before it was ready'
  let over = false
  const end = () => {
    clearTimeout(slowStart)
    if (!over) listener.ended()
    over = true
  }
  const checker: Checker = {
    ready: false,
    write: (line) => child.stdin.write(line),
    finish: () => child.stdin.end(),
    kill: () => child.kill('SIGKILL'),
    complaint: () => lastWords,
  }
  const hear = (line: string) => {
    clearTimeout(slowStart)
    if (checker.ready) return listener.heard(JSON.parse(line) as Answer)
    checker.ready = true
    listener.ready()
  }
  createInterface({ input: child.stdout }).on('line', hear)
  createInterface({ input: child.stderr }).on('line', (line) => { lastWords = line })
  child.stdin.on('error', () => {}) // It died while we wrote; `close` tells.
  child.on('error', (error) => { lastWords = error.message; if (child.pid === undefined) end() })
  child.on('close', end)
  return checker
}
