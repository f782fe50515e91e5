// Work done side by side, so many at a time: it ends when all of it has, and what fails stops the rest.

export type Work = (signal: AbortSignal) => Promise<void>

/** Rejects with the first failure, or with the signal's reason, when nothing of it goes on any more. */
export async function abreast(most: number, works: Work[], signal?: AbortSignal): Promise<void> {
  const over = new AbortController()
  const stop = (): void => over.abort(signal?.reason)
  signal?.addEventListener('abort', stop, { once: true })
  if (signal?.aborted) stop()
  const left = [...works]
  const lane = async (): Promise<void> => {
    for (let work = left.shift(); work; work = left.shift()) {
      over.signal.throwIfAborted()
      await work(over.signal)
    }
  }
  try {
    const lanes = Array.from({ length: Math.min(most, works.length) }, () => lane().catch((error: unknown) => { over.abort(error) }))
    await Promise.all(lanes)
    over.signal.throwIfAborted()
  } finally {
    signal?.removeEventListener('abort', stop)
  }
}
