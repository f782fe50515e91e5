// How long a container waits before it is started again: not at all the first time, then 10 seconds, doubled each time.

export interface BackOff {
  /** `finishedAt` (ms) of the run that the kubelet looks at; null: there is none. `wait` and `told` in seconds of the cluster. */
  next(finishedAt: number | null): { wait: number; told: number }
}

const first = 10
const most = 300

/** `ms`: how long a second of the cluster lasts. */
export function backOff(secondMs: number): BackOff {
  let current: number | null = null
  return {
    next(finishedAt) {
      if (finishedAt === null) return { wait: 0, told: 0 }
      const since = (Date.now() - finishedAt) / secondMs
      if (current === null || since > 2 * most) {
        current = first
        return { wait: 0, told: 0 }
      }
      const told = current
      current = Math.min(current * 2, most)
      return { wait: Math.max(0, told - since), told }
    },
  }
}

/** `10s`, `1m20s`, `5m0s`. */
export const durationText = (seconds: number): string => (seconds < 60 ? `${seconds}s` : `${Math.floor(seconds / 60)}m${seconds % 60}s`)
