// Pod: one place of a version, in which one process runs at a time and is started again when it ends.
import type { Log } from '../log.ts'
import type { Pod, Workload } from '../workloads.ts'
import { cannotStart, endOfRun, type PodEnd } from './ends.ts'
import { followHealth, pause, type Probing } from './health.ts'
import { ImageMissing, launch, type Launched, type LaunchParts } from './launch.ts'

export interface PodParts extends LaunchParts {
  log: Log
  probing: Probing
  readyTimeoutMs: number
  graceMs: number
  /** The pause before a restart: doubled from `first` to `most`, and back to `first` after so long a run as `most`. */
  restart: { firstMs: number; mostMs: number }
}

export interface RunningPod {
  show(): Pod
  /** null: it does not serve. */
  origin(): string | null
  /** The last lines of its last end. */
  lastLog(): string[]
  /** The last lines of the run that goes on, or of the last one. */
  printed(): string[]
  /** Resolves when no process of it is left. */
  stop(): Promise<void>
}

const flushMs = 2_000

export function pod(parts: PodParts, workload: Workload, name: string, changed: () => void): RunningPod {
  const stopping = new AbortController()
  let shown: Pod = { name, state: 'waiting', ready: false, restarts: 0, reason: 'Starting', message: null, exitCode: null, signal: null, startedAt: null }
  let origin: string | null = null
  let last: PodEnd | null = null
  let printed = (): string[] => []

  function show(change: Partial<Pod>, serves: string | null = null): void {
    shown = { ...shown, ready: serves !== null, ...change }
    origin = serves
    changed()
  }

  /** Resolves when the run has ended; an end that was asked for included. */
  async function follow({ process, writer, origin, clear }: Launched): Promise<PodEnd> {
    printed = () => process.lastLines()
    const over = new AbortController()
    const end = (): void => {
      over.abort()
      void parts.processes.end(process, parts.graceMs)
    }
    stopping.signal.addEventListener('abort', end, { once: true })
    if (stopping.signal.aborted) end()
    const unhealthy = untilUnhealthy(origin, over.signal, end)
    const ended = await process.ended
    over.abort()
    stopping.signal.removeEventListener('abort', end)
    const finished = Promise.allSettled([writer.flush(), clear()])
    if (stopping.signal.aborted) await Promise.race([finished, pause(flushMs)])
    return endOfRun(ended, process.lastLines(), workload.deploy, await unhealthy)
  }

  /** Shows it when it gets ready, or does not in time. True: it was ready, does not answer any more, and `end` was called. */
  async function untilUnhealthy(origin: string, over: AbortSignal, end: () => void): Promise<boolean> {
    void pause(parts.readyTimeoutMs, over).then(() => {
      if (!over.aborted && !shown.ready) show(notReady(parts.readyTimeoutMs))
    })
    await followHealth(origin, parts.probing, over, () =>
      show({ state: 'running', reason: null, message: null, startedAt: new Date().toISOString() }, origin))
    if (over.aborted) return false
    show({ state: 'waiting', reason: 'Unhealthy', message: 'It does not answer GET /healthz any more and is started again.' })
    end()
    return true
  }

  async function run(number: number): Promise<PodEnd> {
    try {
      return await follow(await launch(parts, workload, name, number))
    } catch (error) {
      if (error instanceof ImageMissing) return cannotStart('ImageMissing', error.message)
      parts.log.warn('a pod cannot be started', { id: workload.id, version: workload.version, pod: name, error })
      return cannotStart('CannotStart', `It cannot be started: ${(error as Error).message}. It is tried again.`)
    }
  }

  async function live(): Promise<void> {
    let backOffMs = parts.restart.firstMs
    for (let number = 0; !stopping.signal.aborted; number++) {
      if (number > 0) show({ state: 'waiting', reason: 'Starting', message: last ? `Starting again. ${last.message}` : null, restarts: number, startedAt: null })
      const began = performance.now()
      last = await run(number)
      if (stopping.signal.aborted) break
      if (performance.now() - began >= parts.restart.mostMs) backOffMs = parts.restart.firstMs
      show({ state: 'waiting', reason: last.reason, message: last.message, exitCode: last.exitCode, signal: last.signal })
      await pause(backOffMs, stopping.signal)
      backOffMs = Math.min(backOffMs * 2, parts.restart.mostMs)
    }
    show({ state: 'terminated', reason: null, message: null, exitCode: last?.exitCode ?? null, signal: last?.signal ?? null })
  }

  // Not before whoever makes the pod has it in hand.
  const lived = Promise.resolve().then(live)
  return {
    show: () => shown,
    origin: () => origin,
    lastLog: () => last?.log ?? [],
    printed: () => printed(),
    stop() {
      stopping.abort()
      return lived
    },
  }
}

const notReady = (ms: number): Partial<Pod> => ({
  reason: 'ProgressDeadlineExceeded',
  message: `It has not answered GET /healthz with 200 within ${ms / 1_000} s. It must listen on LAMBDA_HOST and LAMBDA_PORT; what it prints is in its logs.`,
})
