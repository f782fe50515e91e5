// Workloads, on this machine: child processes. Nothing that a lambda does may end or block kiln.
import { resolve } from 'node:path'
import type { Log } from '../log.ts'
import type { Logs } from '../logs.ts'
import { Unavailable } from '../trouble.ts'
import type { Observation, Workloads } from '../workloads.ts'
import { sweep } from './folders.ts'
import { usualProbing, type Probing } from './health.ts'
import { findPrlimit } from './limits.ts'
import type { Processes } from './processes.ts'
import { rollout, type Rollout, type RolloutParts } from './rollout.ts'

export interface LocalWorkloadsOptions {
  /** The builds' folder: its images are run, and what running needs is kept beside them. */
  folder: string
  processes: Processes
  logs: Pick<Logs, 'writer'>
  log: Log
  /** kiln's own environment; lambdas get of it what finds programs, languages, certificates and proxies. */
  inherited: Record<string, string | undefined>
  /** How long a new version may take to get ready beside an old one. */
  readyTimeoutMs?: number
  /** How long a replaced version goes on serving requests that were routed to it. */
  drainMs?: number
  /** From SIGTERM to SIGKILL. */
  graceMs?: number
  host?: string
  gpuDevice?: string
  probing?: Probing
  restart?: RolloutParts['restart']
}

export function localWorkloads(options: LocalWorkloadsOptions): Workloads {
  const { inherited, log } = options
  const parts: RolloutParts = {
    ...options,
    folder: resolve(options.folder),
    readyTimeoutMs: options.readyTimeoutMs ?? 60_000,
    drainMs: options.drainMs ?? 1_000,
    graceMs: options.graceMs ?? 35_000,
    host: options.host ?? '127.0.0.1',
    gpuDevice: options.gpuDevice ?? '/dev/nvidia0',
    probing: options.probing ?? usualProbing,
    restart: options.restart ?? { firstMs: 500, mostMs: 60_000 },
    prlimit: findPrlimit(inherited['PATH'] ?? ''),
  }
  const lambdas = new Map<string, Rollout>()
  const observers = new Set<(observation: Observation) => void>()
  let closed = false
  const swept = sweep(parts.folder).catch((error: unknown) => log.warn('configurations that an earlier kiln left could not be removed', { error }))

  function tellTo(observer: (observation: Observation) => void, observation: Observation): void {
    try {
      observer(observation)
    } catch (error) {
      log.error('an observer of workloads broke', { id: observation.id, version: observation.version, error })
    }
  }

  /** Whoever was let go of hears no more: that kiln ends says nothing about a lambda. */
  const tell = (observation: Observation): void => {
    if (!closed) for (const observer of observers) tellTo(observer, observation)
  }

  function lambdaOf(id: string): Rollout {
    const lambda = lambdas.get(id) ?? rollout(parts, tell)
    lambdas.set(id, lambda)
    return lambda
  }

  return {
    async apply(workload) {
      await swept
      if (closed) throw new Unavailable('the local platform is closed')
      lambdaOf(workload.id).apply(workload)
    },
    async remove(id) {
      const lambda = lambdas.get(id)
      await lambda?.remove()
      if (lambda?.isEmpty() && lambdas.get(id) === lambda) lambdas.delete(id)
    },
    async list() {
      return [...lambdas.values()].flatMap((lambda) => {
        const wanted = lambda.wanted()
        return wanted ? [{ id: wanted.id, version: wanted.version, epoch: wanted.epoch }] : []
      })
    },
    async observe(observer) {
      for (const lambda of lambdas.values()) for (const observation of lambda.observations()) tellTo(observer, observation)
      // Its own function, so that observing twice with the same one is observing twice.
      const own = (observation: Observation): void => observer(observation)
      observers.add(own)
      return { close: () => void observers.delete(own) }
    },
    async close() {
      closed = true
      await Promise.all([...lambdas.values()].map((lambda) => lambda.remove()))
      lambdas.clear()
      await swept
    },
  }
}
