// The wiring: from configuration to ports. The only file that knows all adapters.
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Config } from './config.ts'
import { localBuilds } from './local/builds.ts'
import { environments, type Environments } from './local/environments.ts'
import { environmentsIn } from './local/images.ts'
import type { Processes } from './local/processes.ts'
import { localWorkloads } from './local/workloads.ts'
import type { Log } from './log.ts'
import { metrics } from './metrics.ts'
import { natsAnswers } from './nats/answers.ts'
import { natsBus } from './nats/bus.ts'
import { connectNats } from './nats/connect.ts'
import { natsLogs } from './nats/logs.ts'
import { natsObjects } from './nats/objects.ts'
import { natsRecords } from './nats/records.ts'
import { natsStatuses } from './nats/statuses.ts'
import type { Ports } from './ports.ts'

/** What this machine lends. */
export interface Machine {
  python: string
  uv: string
  /** The whole environment and the arguments of uv, translated from pip's configuration. */
  uvEnvironment: { env: Record<string, string>; args: string[] }
  /** kiln's own environment. */
  env: Record<string, string | undefined>
  processes: Processes
  /** The requirements.txt that every lambda is served with. */
  runtimeRequirements: string
}

export interface Wired {
  ports: Ports
  /** An interpreter that has the runtime's packages. Makes it at the first call; `line` gets what that prints. */
  runtimePython(line: (text: string) => void): Promise<string>
  close(): Promise<void>
}

export async function wire(config: Config, natsUrl: string, machine: Machine, log: Log): Promise<Wired> {
  const nats = await connectNats(natsUrl, { name: 'kiln', replicas: config.streamReplicas })
  const keeping = { replicas: config.streamReplicas }
  const folder = join(config.dataDir, 'local')
  const made = environments({ folder: environmentsIn(folder), ...machine })
  const objects = await natsObjects(nats, config.objects.bucket, keeping)
  const logs = natsLogs(nats, log)
  const builds = localBuilds({ folder, objects, environments: made, log })
  const workloads = localWorkloads({ folder, processes: machine.processes, logs, log, inherited: machine.env, readyTimeoutMs: config.readyTimeoutMs })
  const ports: Ports = {
    builds, workloads, objects, logs, log,
    answers: await natsAnswers(nats, keeping), bus: natsBus(nats, log), metrics: metrics({ processFigures: true }),
    records: await natsRecords(nats, keeping), statuses: await natsStatuses(nats, keeping),
  }
  return {
    ports,
    runtimePython: (line) => runtimePython(folder, made, machine, line),
    // In reverse: first what still writes logs, then the connection they go over.
    async close() {
      await Promise.all([builds.close(), workloads.close(), made.close()])
      await nats.nc.drain().catch(() => undefined)
      await nats.nc.close()
    },
  }
}

async function runtimePython(folder: string, made: Environments, { runtimeRequirements }: Machine, line: (text: string) => void): Promise<string> {
  const inputs = { codeFolder: folder, codeDigest: '', runtimeRequirements: await readFile(runtimeRequirements, 'utf8'), requirements: null }
  const key = await made.key(inputs)
  const failed = await made.make(key, inputs, { line, signal: new AbortController().signal })
  if (failed) throw new Error(`the Python runtime environment cannot be made: ${failed.failure.message}\n${(failed.failure.log ?? []).join('\n')}`)
  return join(environmentsIn(folder), key, 'bin', 'python')
}
