// A whole kiln in a process of its own, over the real local platform: started, killed and started again by tests.
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { freePort } from '../../shared/nats/server.ts'
import { serviceProcess } from './service.ts'

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

export async function testKiln(env: Record<string, string> = {}): Promise<TestKiln> {
  const dataDir = await mkdtemp(join(tmpdir(), 'kiln-test-'))
  const [port, natsPort] = [await freePort(0), await freePort(0)]
  const kiln = serviceProcess('all', { DATA_DIR: dataDir, PORT: String(port), NATS_PORT: String(natsPort), ...env })
  const pids = new Set<number>()

  async function note(): Promise<void> {
    for (const name of await readdir(join(dataDir, 'processes')).catch(() => [])) {
      const text = await readFile(join(dataDir, 'processes', name), 'utf8').catch(() => '{}')
      const pid = (JSON.parse(text || '{}') as { process?: { pid: number } }).process?.pid
      if (pid) pids.add(pid)
    }
  }
  async function end(signal: NodeJS.Signals): Promise<number | null> {
    await note()
    return kiln.end(signal)
  }

  return {
    address: `http://127.0.0.1:${port}`, dataDir, natsUrl: `nats://127.0.0.1:${natsPort}`,
    start: async () => (await kiln.start()) !== null,
    async kill() { await end('SIGKILL') },
    stop: () => end('SIGTERM'),
    output: () => kiln.output(),
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
