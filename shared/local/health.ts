// Health: asks a pod whether it serves, often while it starts, then now and then.
import { get } from 'node:http'
import { setTimeout as timer } from 'node:timers/promises'

export interface Probing {
  /** How often it is asked while it starts; after 10 s of that a little less often. */
  startingMs: number
  /** How often it is asked once it was ready. */
  everyMs: number
  /** Longer than this is no answer. */
  limitMs: number
  /** So many unanswered in a row, and it does not serve any more. One that stands still has ended itself before that, and said where. */
  failures: number
}

export const usualProbing: Probing = { startingMs: 20, everyMs: 5_000, limitMs: 2_000, failures: 12 }

const slowStartMs = 10_000
const slowStartingMs = 250

/** Resolves when it was ready and does not answer any more, or when the signal aborts. */
export async function followHealth(origin: string, probing: Probing, signal: AbortSignal, ready: () => void): Promise<void> {
  const began = performance.now()
  while (!(await answers(origin, probing.limitMs)) && !signal.aborted) {
    await pause(performance.now() - began < slowStartMs ? probing.startingMs : slowStartingMs, signal)
  }
  if (signal.aborted) return
  ready()
  for (let failures = 0; failures < probing.failures && !signal.aborted; ) {
    await pause(probing.everyMs, signal)
    failures = (await answers(origin, probing.limitMs)) ? 0 : failures + 1
  }
}

/** Ends early, without complaint, when the signal aborts. Keeps no process alive. */
export function pause(ms: number, signal?: AbortSignal): Promise<void> {
  return timer(ms, undefined, { signal, ref: false }).catch(() => undefined)
}

/** True: GET /healthz answered 200 in time. */
function answers(origin: string, limitMs: number): Promise<boolean> {
  return new Promise((resolve) => {
    const request = get(`${origin}/healthz`, { agent: false })
    const late = setTimeout(() => end(false), limitMs).unref()
    const end = (well: boolean): void => {
      clearTimeout(late)
      resolve(well)
      request.destroy()
    }
    request.on('response', ({ statusCode }) => end(statusCode === 200))
    request.on('error', () => end(false))
  })
}
