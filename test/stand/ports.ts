// Real ports over a real nats-server, with the stand-in platform: what tests of services are given.
import { metrics } from '../../shared/metrics.ts'
import { jsonLog } from '../../shared/log.ts'
import { natsAnswers } from '../../shared/nats/answers.ts'
import { natsBuildRecords } from '../../shared/nats/build-records.ts'
import { natsBus } from '../../shared/nats/bus.ts'
import { connectNats } from '../../shared/nats/connect.ts'
import { natsLogs } from '../../shared/nats/logs.ts'
import { natsObjects } from '../../shared/nats/objects.ts'
import { natsQueue } from '../../shared/nats/queue.ts'
import { natsRecords } from '../../shared/nats/records.ts'
import { natsStatuses } from '../../shared/nats/statuses.ts'
import type { Ports } from '../../shared/ports.ts'
import { standBases, standBuilds, standImageBuilds, standWorkloads, type StandBases, type StandBuilds, type StandImageBuilds, type StandWorkloads } from './platform.ts'
import { standStored, type StandStored } from './stored.ts'

export interface StandPorts extends Ports {
  bases: StandBases
  builds: StandBuilds
  imageBuilds: StandImageBuilds
  workloads: StandWorkloads
  stored: StandStored
  /** Lines that were logged at warn or error. */
  complaints: string[]
  close(): Promise<void>
}

interface StandPlatform { bases?: StandBases; builds: StandBuilds; imageBuilds?: StandImageBuilds; workloads: StandWorkloads; stored?: StandStored }

/** Two calls with the same url are two replicas; pass the platform on to share it. */
export async function standPorts(url: string, platform: StandPlatform = { builds: standBuilds(), workloads: standWorkloads() }): Promise<StandPorts> {
  const complaints: string[] = []
  const log = jsonLog('warn', (line) => complaints.push(line))
  const nats = await connectNats(url, { name: 'test' })
  const keeping = { replicas: 1 }
  return {
    bases: standBases(), imageBuilds: standImageBuilds(), stored: standStored(), ...platform, complaints, log,
    answers: await natsAnswers(nats, keeping), buildRecords: await natsBuildRecords(nats, keeping), bus: natsBus(nats, log), logs: natsLogs(nats, log), metrics: metrics({ processFigures: false }),
    objects: await natsObjects(nats, 'kiln', keeping), queue: natsQueue(nats, log), records: await natsRecords(nats, keeping), statuses: await natsStatuses(nats, keeping),
    close: async () => { await nats.nc.drain().catch(() => undefined); await nats.nc.close() },
  }
}
