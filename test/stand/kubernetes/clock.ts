// The time of the stand-in cluster: its seconds may be shorter than real ones, and closing it forgets all that is awaited.

export interface Clock {
  /** Resolves after that many seconds of the cluster, and at once when the signal aborts. Never, when the clock is closed first. */
  pause(seconds: number, signal?: AbortSignal): Promise<void>
  /** Between what happened and what is shown of it. */
  lag(signal?: AbortSignal): Promise<void>
  /** Acts after that many seconds of the cluster, or not at all when the returned function is called first. */
  after(seconds: number, act: () => void): () => void
  /** The same in real milliseconds, and without keeping the program alive. */
  afterReal(ms: number, act: () => void): () => void
  /** Milliseconds that so many seconds of the cluster last. */
  ms(seconds: number): number
  close(): void
}

export function clock(timeScale: number, lagMs: number): Clock {
  const timers = new Set<NodeJS.Timeout>()
  let closed = false

  function arm(ms: number, act: () => void): NodeJS.Timeout | null {
    if (closed) return null
    const timer = setTimeout(() => { timers.delete(timer); act() }, ms)
    timers.add(timer)
    return timer
  }
  function disarm(timer: NodeJS.Timeout | null): void {
    if (timer === null) return
    clearTimeout(timer)
    timers.delete(timer)
  }
  function wait(ms: number, signal?: AbortSignal): Promise<void> {
    if (signal?.aborted) return Promise.resolve()
    return new Promise((resolve) => {
      const stop = (): void => { disarm(timer); resolve() }
      const timer = arm(ms, () => { signal?.removeEventListener('abort', stop); resolve() })
      signal?.addEventListener('abort', stop, { once: true })
    })
  }
  const ms = (seconds: number): number => seconds * 1_000 * timeScale

  return {
    ms,
    pause: (seconds, signal) => wait(ms(seconds), signal),
    lag: (signal) => wait(lagMs, signal),
    after(seconds, act) {
      const timer = arm(ms(seconds), act)
      return () => disarm(timer)
    },
    afterReal(real, act) {
      const timer = arm(real, act)
      timer?.unref()
      return () => disarm(timer)
    },
    close() {
      closed = true
      for (const timer of timers) clearTimeout(timer)
      timers.clear()
    },
  }
}
