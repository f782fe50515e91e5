// kiln's own nats-server, for those who have none: started with nats.conf, started again when it ends unasked.
import { createServer } from 'node:net'
import { join } from 'node:path'
import type { Log } from '../log.ts'
import type { Process, Processes } from '../local/processes.ts'

export interface OwnServer {
  url: string
  close(): Promise<void>
}

export interface OwnServerOptions {
  binary: string
  conf: string
  /** JetStream's data lie under it. */
  folder: string
  /** The port that is liked; a free one when it is taken. */
  port: number
  processes: Processes
  env: Record<string, string>
  log: Log
}

const graceMs = 10_000
const pauseMs = 200

/** Resolves when it is ready. Throws with its last lines when it does not get there. */
export async function ownServer(options: OwnServerOptions): Promise<OwnServer> {
  const port = await freePort(options.port)
  let closing = false
  let process = await started(options, port)

  async function keepUp(): Promise<void> {
    while (!closing) {
      const { code, signal } = await process.ended
      if (closing) return
      options.log.error('nats-server ended; it is started again', { code, signal, lines: process.lastLines() })
      await new Promise((resolve) => setTimeout(resolve, pauseMs))
      process = await started(options, port).catch((error: unknown) => { options.log.error('nats-server does not start', { error }); return process })
    }
  }
  void keepUp()
  return {
    url: `nats://127.0.0.1:${port}`,
    async close() {
      closing = true
      await options.processes.end(process, graceMs)
    },
  }
}

async function started({ binary, conf, folder, processes, env }: OwnServerOptions, port: number): Promise<Process> {
  let ready = (): void => undefined
  const isReady = new Promise<true>((resolve) => { ready = () => resolve(true) })
  const process = await processes.start(binary, ['-c', conf, '-p', String(port), '-sd', join(folder, 'jetstream')], {
    cwd: folder, env, kind: 'nats-server', stdin: 'ignore', line: (line) => { if (line.includes('Server is ready')) ready() },
  })
  const ended = process.ended.then(() => false as const)
  if (await Promise.race([isReady, ended])) return process
  throw new Error(`nats-server did not start:\n${process.lastLines().join('\n')}`)
}

/** `liked` if nobody listens there, else any free port of the loopback. */
export async function freePort(liked: number): Promise<number> {
  const listen = (port: number): Promise<number | null> => new Promise((resolve) => {
    const server = createServer()
    server.once('error', () => resolve(null))
    server.listen(port, '127.0.0.1', () => {
      const got = (server.address() as { port: number }).port
      server.close(() => resolve(got))
    })
  })
  return (await listen(liked)) ?? (await listen(0))!
}
