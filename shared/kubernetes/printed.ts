// What lambdas print: the log of each run of each pod, followed into Logs, its last lines kept at hand to say why a run ended.
import { setMaxListeners } from 'node:events'
import type { Log } from '../log.ts'
import type { Logs } from '../logs.ts'
import type { Cluster } from './client.ts'
import { container } from './lambda-manifests.ts'
import { label } from './names.ts'
import { readLog } from './pod-log.ts'
import type { PodResource } from './resources.ts'

export interface Printed {
  /** Begins to follow what this pod prints, and what it printed in the run before if nobody did. */
  follow(pod: PodResource): void
  /** The last lines of a run; null: they are not all here yet. */
  linesOfRun(pod: PodResource, run: number): string[] | null
  /** The last lines of its current run so far. */
  lines(pod: PodResource): string[]
  /** The pod is no more: what it printed last is still read to its end. */
  forget(uid: string): void
  close(): Promise<void>
}

interface Run {
  lines: string[]
  isComplete: boolean
}


const linesKept = 40
const runsKept = 2

/** What an earlier kiln has kept of a run already: its last lines, and when the last of them was kept (RFC 3339). */
export interface Kept {
  lines: string[]
  time: string
}

/** `complete`: called when all of a run's lines are here. `kept`: what Logs holds of it already, or null. */
export function printed({ cluster, logs, log, complete, kept }: {
  cluster: Cluster; logs: Pick<Logs, 'writer'>; log: Log; complete(pod: PodResource): void; kept(pod: PodResource, run: number): Promise<Kept | null>
}): Printed {
  const pods = new Map<string, Map<number, Run>>()
  const over = new AbortController()
  // One for each pod listens.
  setMaxListeners(0, over.signal)
  const reading = new Set<Promise<void>>()

  async function read(pod: PodResource, number: number, run: Run, previous: boolean): Promise<void> {
    const { name, namespace, labels } = pod.metadata
    const of = { account: labels?.[label.account] ?? '', id: labels?.[label.id] ?? '', version: Number(labels?.[label.version]), kind: 'run' as const }
    try {
      const known = await kept(pod, number)
      run.lines.push(...(known?.lines.slice(-linesKept) ?? []))
      const writer = logs.writer(of, name, number)
      await readLog(cluster, { namespace, pod: name, container, ...(previous && { previous }), ...(known && { after: known.time }) }, (text) => {
        if (run.lines.push(text) > linesKept) run.lines.shift()
        writer.line(text)
      }, over.signal)
    } catch (error) {
      log.warn('what a lambda prints cannot be read', { lambda_id: of.id, pod: name, error })
    }
    if (over.signal.aborted) return
    run.isComplete = true
    complete(pod)
  }

  function begin(pod: PodResource, runs: Map<number, Run>, number: number, previous: boolean): void {
    if (number < 0 || runs.has(number)) return
    const run: Run = { lines: [], isComplete: false }
    runs.set(number, run)
    for (const old of [...runs.keys()].sort((a, b) => a - b).slice(0, -runsKept)) runs.delete(old)
    const one = read(pod, number, run, previous)
    reading.add(one)
    void one.finally(() => reading.delete(one))
  }

  return {
    follow(pod) {
      const status = pod.status?.containerStatuses?.[0]
      const hasBegun = status?.state?.running || status?.state?.terminated || status?.lastState?.terminated
      if (!status || !hasBegun) return
      const runs = pods.get(pod.metadata.uid) ?? new Map<number, Run>()
      pods.set(pod.metadata.uid, runs)
      // While it runs again, the run before is the "previous" one; while it waits or has ended, the last run is the current one.
      if (status.state?.running) begin(pod, runs, status.restartCount - 1, true)
      begin(pod, runs, status.restartCount, false)
    },
    linesOfRun(pod, number) {
      const run = pods.get(pod.metadata.uid)?.get(number)
      return run?.isComplete ? run.lines : null
    },
    lines: (pod) => pods.get(pod.metadata.uid)?.get(pod.status?.containerStatuses?.[0]?.restartCount ?? 0)?.lines ?? [],
    forget: (uid) => void pods.delete(uid),
    async close() {
      over.abort()
      await Promise.all(reading)
    },
  }
}

/** The run that ended last; -1: none. In CrashLoopBackOff the count has not moved on yet. */
export function endedRun(pod: PodResource): number {
  const status = pod.status?.containerStatuses?.[0]
  if (!status || !(status.state?.terminated ?? status.lastState?.terminated)) return -1
  return status.state?.running ? status.restartCount - 1 : status.restartCount
}
