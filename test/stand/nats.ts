// A real nats-server for a test: its own port, its own folder, gone afterwards.
import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { freePort } from '../../shared/nats/server.ts'

export interface TestNats {
  url: string
  port: number
  /** SIGKILL, then the same server on the same port and data again. */
  restart(): Promise<void>
  close(): Promise<void>
}

const conf = fileURLToPath(new URL('../../nats.conf', import.meta.url))

export async function testNats(): Promise<TestNats> {
  const folder = await mkdtemp(join(tmpdir(), 'kiln-test-nats-'))
  const port = await freePort(0)
  let server = await start(folder, port)
  const stop = async (): Promise<void> => {
    const exited = once(server, 'exit')
    server.kill('SIGKILL')
    await exited
  }
  return {
    url: `nats://127.0.0.1:${port}`, port,
    async restart() {
      await stop()
      server = await start(folder, port)
    },
    async close() {
      await stop()
      await rm(folder, { recursive: true, force: true })
    },
  }
}

async function start(folder: string, port: number): Promise<ChildProcess> {
  const server = spawn(process.env['KILN_TEST_NATS'] ?? 'nats-server', ['-c', conf, '-p', String(port), '-sd', folder], { stdio: ['ignore', 'ignore', 'pipe'] })
  const said: string[] = []
  for await (const line of createInterface({ input: server.stderr! })) {
    said.push(line)
    if (line.includes('Server is ready')) {
      server.stderr!.resume()
      return server
    }
  }
  throw new Error(`nats-server did not start:\n${said.join('\n')}`)
}
