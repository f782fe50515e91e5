// A whole kiln in a process of its own, over the real local platform: started, killed and started again by tests.
import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { freePort } from '../../shared/nats/server.ts'

export interface TestKiln {
  address: string
  dataDir: string
  natsUrl: string
  /** Resolves when it says that it is ready; false: it ended before. */
  start(): Promise<boolean>
  /** SIGKILL to the process itself; whatever it started is left to itself. */
  kill(): Promise<void>
  /** SIGTERM; resolves with the exit code when it has ended by itself. */
  stop(): Promise<number | null>
  /** Everything that the present process has printed. */
  output(): string
  /** Pids of processes recorded in its folder that still live. */
  leftovers(): Promise<number[]>
  /** Stops it if it runs and removes its folder. */
  remove(): Promise<void>
}

const main = fileURLToPath(new URL('../../services/main.ts', import.meta.url))

export async function testKiln(env: Record<string, string> = {}): Promise<TestKiln> {
  const dataDir = await mkdtemp(join(tmpdir(), 'kiln-test-'))
  const [port, natsPort] = [await freePort(0), await freePort(0)]
  let child: ChildProcess | null = null
  let printed: string[] = []
  const pids = new Set<number>()

  async function note(): Promise<void> {
    for (const name of await readdir(join(dataDir, 'processes')).catch(() => [])) {
      const text = await readFile(join(dataDir, 'processes', name), 'utf8').catch(() => '{}')
      const pid = (JSON.parse(text || '{}') as { process?: { pid: number } }).process?.pid
      if (pid) pids.add(pid)
    }
  }
  async function end(signal: NodeJS.Signals): Promise<number | null> {
    if (!child || child.exitCode !== null || child.signalCode !== null) return child?.exitCode ?? null
    await note()
    const exited = once(child, 'exit')
    child.kill(signal)
    return (await exited)[0] as number | null
  }

  return {
    address: `http://127.0.0.1:${port}`, dataDir, natsUrl: `nats://127.0.0.1:${natsPort}`,
    async start() {
      printed = []
      child = spawn(process.execPath, ['--import', 'tsx', main, 'all'], {
        stdio: ['ignore', 'pipe', 'pipe'],
        env: { ...process.env, DATA_DIR: dataDir, PORT: String(port), NATS_PORT: String(natsPort), LOG_LEVEL: 'warn', ...env },
      })
      const exited = once(child, 'exit').then(() => false)
      for (const stream of [child.stdout!, child.stderr!]) createInterface({ input: stream }).on('line', (line) => printed.push(line))
      const ready = new Promise<boolean>((resolve) => {
        createInterface({ input: child!.stderr! }).on('line', (line) => { if (line.startsWith('ready')) resolve(true) })
      })
      return Promise.race([ready, exited])
    },
    async kill() { await end('SIGKILL') },
    stop: () => end('SIGTERM'),
    output: () => printed.join('\n'),
    async leftovers() {
      await note()
      return [...pids].filter((pid) => { try { process.kill(pid, 0); return true } catch { return false } })
    },
    async remove() {
      await end('SIGTERM')
      await rm(dataDir, { recursive: true, force: true })
    },
  }
}
