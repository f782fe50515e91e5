// Everything a service may need from outside, by name. A service takes only what it uses: `Pick<Ports, 'bus' | 'records'>`.
import type { Answers } from './answers.ts'
import type { Bases } from './bases.ts'
import type { Builds } from './builds.ts'
import type { BuildRecords } from './build-records.ts'
import type { Bus } from './bus.ts'
import type { ImageBuilds } from './image-builds.ts'
import type { Log } from './log.ts'
import type { Logs } from './logs.ts'
import type { Metrics } from './metrics.ts'
import type { Objects } from './objects.ts'
import type { Queue } from './queue.ts'
import type { Records } from './records.ts'
import type { Statuses } from './statuses.ts'
import type { StoredImages } from './stored.ts'
import type { Workloads } from './workloads.ts'

export interface Ports {
  answers: Answers
  bases: Bases
  buildRecords: BuildRecords
  builds: Builds
  bus: Bus
  imageBuilds: ImageBuilds
  log: Log
  logs: Logs
  metrics: Metrics
  objects: Objects
  queue: Queue
  records: Records
  statuses: Statuses
  stored: StoredImages
  workloads: Workloads
}
