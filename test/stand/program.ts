// A server of other makers for a test: it ends, and its folder goes, with `close` or with the test process, however that dies.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { PROGRAMS } from '../../deploy/go-programs.mjs'

export interface Program {
  /** The first line that it printed, or prints, which matches. Rejects with what it printed when it ends without one. */
  line(pattern: RegExp): Promise<RegExpExecArray>
  /** Resolves when it has ended, whoever ended it. */
  ended: Promise<void>
  /** What it printed last. */
  printed(): string
  /** SIGKILL; resolves when it is gone and its folder too. */
  close(): Promise<void>
}

/** Its standard input is ours: it closes when this process ends, even by SIGKILL. It has a group of its own, so that Ctrl-C leaves it alive for that. */
const keeper = '"$@" </dev/null & child=$!; exec >/dev/null 2>&1; read -r line; kill -9 $child; wait $child; rm -rf "$0"'
const linesKept = 200

/** The path of one that `npm test` has got: as it said, or where it keeps it. */
export function builtByGo(name: 'versitygw' | 'registry'): string {
  const { version, variable } = PROGRAMS.find((one) => one.name === name)!
  return process.env[variable] ?? join(fileURLToPath(new URL('../..', import.meta.url)), '.kiln', 'bin', `${name}-${version}`)
}

export function program(folder: string, command: string, args: string[], env: Record<string, string> = {}): Program {
  const child = spawn('/bin/sh', ['-c', keeper, folder, command, ...args], { stdio: ['pipe', 'pipe', 'pipe'], detached: true, env: { ...process.env, ...env } })
  child.stdin.on('error', () => undefined)
  const exited = once(child, 'exit')
  const lines: string[] = []
  const seekers = new Set<(line: string) => void>()
  const outputs = [child.stdout, child.stderr].map((stream) => {
    const reader = createInterface({ input: stream })
    reader.on('line', (line) => {
      if (lines.push(line) > linesKept) lines.shift()
      for (const seek of seekers) seek(line)
    })
    return once(reader, 'close')
  })
  const ended = Promise.all(outputs).then(() => undefined)
  const printed = (): string => lines.join('\n')
  return {
    ended, printed,
    async line(pattern) {
      const found = new Promise<RegExpExecArray>((resolve) => {
        const seek = (line: string): void => {
          const match = pattern.exec(line)
          if (match) resolve(match)
        }
        lines.forEach(seek)
        seekers.add(seek)
      })
      const without = ended.then(() => { throw new Error(`${command} ended without printing ${pattern}:\n${printed()}`) })
      return Promise.race([found, without])
    },
    async close() {
      child.stdin.end()
      await exited
      await ended
    },
  }
}
