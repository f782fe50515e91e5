// One kiln service, or all, in a process of its own: started, killed and started again by tests.
import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'

export interface ServiceProcess {
  /** Resolves with the port when it says that it is ready; null: it ended before. */
  start(): Promise<number | null>
  /** Ends the process itself; whatever it started is left to itself. Resolves with its exit code when it has ended. */
  end(signal: NodeJS.Signals): Promise<number | null>
  /** null: it does not run. */
  pid(): number | null
  /** Everything that the present process has printed. */
  output(): string
}

const main = fileURLToPath(new URL('../../services/main.ts', import.meta.url))

export function serviceProcess(what: string, env: Record<string, string | undefined>): ServiceProcess {
  let child: ChildProcess | null = null
  let printed: string[] = []
  return {
    async start() {
      printed = []
      child = spawn(process.execPath, ['--import', 'tsx', main, what], { stdio: ['ignore', 'pipe', 'pipe'], env: { ...process.env, LOG_LEVEL: 'warn', ...env } })
      const exited = once(child, 'exit').then(() => null)
      createInterface({ input: child.stdout! }).on('line', (line) => printed.push(line))
      const errors = createInterface({ input: child.stderr! }).on('line', (line) => printed.push(line))
      const ready = new Promise<number>((resolve) => {
        errors.on('line', (line) => {
          const port = /^ready on port (\d+)/.exec(line)?.[1]
          if (port) resolve(Number(port))
        })
      })
      return Promise.race([ready, exited])
    },
    async end(signal) {
      if (!child || child.exitCode !== null || child.signalCode !== null) return child?.exitCode ?? null
      const exited = once(child, 'exit')
      child.kill(signal)
      return (await exited)[0] as number | null
    },
    pid: () => (child && child.exitCode === null && child.signalCode === null ? child.pid! : null),
    output: () => printed.join('\n'),
  }
}
