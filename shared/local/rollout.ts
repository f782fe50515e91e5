// Rollout: one lambda's versions: the one that serves, the one that is to replace it, and those on their way out.
import { isOlder, type Observation, type Workload } from '../workloads.ts'
import { deployment, type Deployment, type DeploymentParts } from './deployment.ts'
import { pause } from './health.ts'

export interface RolloutParts extends DeploymentParts {
  drainMs: number
}

export interface Rollout {
  apply(workload: Workload): void
  /** The newest that is wanted; null: nothing. */
  wanted(): Workload | null
  /** Nothing runs, nothing is wanted, nothing is being stopped. */
  isEmpty(): boolean
  /** All that there is to tell, older versions first. */
  observations(): Observation[]
  /** Resolves when no process is left. */
  remove(): Promise<void>
}

interface Leaving {
  deployment: Deployment
  /** Ends the wait for requests in flight. */
  hurry: AbortController
  gone: Promise<void>
}

export function rollout(parts: RolloutParts, tell: (observation: Observation) => void): Rollout {
  let current: Deployment | null = null
  let next: Deployment | null = null
  let deadline = new AbortController()
  /** What was tried last and failed, so that applying it again changes nothing. */
  let givenUp: { workload: Workload; observation: Observation | null } | null = null
  const leaving = new Map<Deployment, Leaving>()
  const told = new Map<Deployment, Observation>()

  const observe = (one: Deployment): Observation => one.observation(one === next ? current?.workload.version ?? null : null)

  /** Telling the same again would tell nothing. */
  function say(one: Deployment, observation: Observation): void {
    if (JSON.stringify(told.get(one)) === JSON.stringify(observation)) return
    told.set(one, observation)
    tell(observation)
  }

  function changed(one: Deployment): void {
    if (one === next && one.allReady()) return promote()
    if (one === next || one === current) say(one, observe(one))
  }

  /** First the new version is told to run, so that requests go there; only then the old one leaves. */
  function promote(): void {
    const [old, drainMs] = [current, current?.serves() ? parts.drainMs : 0]
    deadline.abort()
    ;[current, next, givenUp] = [next, null, null]
    if (current) say(current, observe(current))
    if (old) leave(old, drainMs, () => old.stopped('Replaced', `Version ${current?.workload.version ?? 'unknown'} has replaced it.`))
  }

  /** Takes its endpoints back, stops it, and tells what came of it. */
  function leave(one: Deployment, drainMs: number, end: () => Observation): Promise<void> {
    const hurry = new AbortController()
    const go = async (): Promise<void> => {
      if (drainMs > 0) await pause(drainMs, hurry.signal)
      const now = one.observation(null)
      if (now.endpoints.length > 0) say(one, { ...now, endpoints: [] })
      await one.stop()
      leaving.delete(one)
      say(one, end())
      told.delete(one)
    }
    const gone = go()
    leaving.set(one, { deployment: one, hurry, gone })
    return gone
  }

  /** At the deadline: an old version that serves stays, and the new one goes. Where nothing serves, the new one may go on trying. */
  function giveUp(): void {
    if (!next || !current) return
    if (!current.serves()) return promote()
    const failed = next
    const failure = failed.failure()
    const tried: typeof givenUp = { workload: failed.workload, observation: null }
    ;[next, givenUp] = [null, tried]
    void leave(failed, 0, () => (tried.observation = { ...failure, pods: [] }))
  }

  function begin(workload: Workload): void {
    if (next) supersede(next, workload)
    givenUp = null
    const one: Deployment = deployment(parts, workload, () => changed(one))
    deadline.abort()
    next = one
    if (!current?.hasServed() || one.allReady()) return promote()
    say(one, observe(one))
    const mine = (deadline = new AbortController())
    void pause(parts.readyTimeoutMs, mine.signal).then(() => { if (!mine.signal.aborted) giveUp() })
  }

  function supersede(half: Deployment, by: Workload): void {
    next = null
    void leave(half, 0, () => half.stopped('Replaced', `Version ${by.version} came before it was ready.`))
  }

  const wanted = (): Workload | null => (next ?? current)?.workload ?? null

  return {
    wanted,
    apply(workload) {
      const [now, tried] = [wanted(), givenUp?.workload]
      if ([now, tried].some((known) => known != null && same(known, workload))) return
      if (now && isOlder(workload, now)) return
      begin(workload)
    },
    isEmpty: () => !current && !next && !givenUp && leaving.size === 0,
    observations() {
      const there = [current, next].filter((one) => one !== null).map(observe)
      return [...[...leaving.keys()].map((one) => told.get(one)), ...there, givenUp?.observation].filter((one) => one != null).sort((a, b) => a.version - b.version || a.epoch - b.epoch)
    },
    async remove() {
      const removed = [current, next].filter((one) => one !== null)
      deadline.abort()
      ;[current, next, givenUp] = [null, null, null]
      for (const { hurry } of leaving.values()) hurry.abort()
      for (const one of removed) void leave(one, 0, () => one.stopped('Removed', 'It was stopped and removed.'))
      await Promise.all([...leaving.values()].map(({ gone }) => gone))
    },
  }
}

const same = (a: Workload, b: Workload): boolean => canonical(a) === canonical(b)

/** Equal content, equal text, however its keys are ordered. */
const canonical = (value: unknown): string => JSON.stringify(value, (_key, part: unknown) =>
  typeof part === 'object' && part !== null && !Array.isArray(part) ? Object.fromEntries(Object.entries(part).sort(([a], [b]) => (a < b ? -1 : 1))) : part)
