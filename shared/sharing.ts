// Sharing: equal work wished for by several at once is done once. Who leaves does not end it for the others; the last one does.

export interface Watch {
  line(text: string): void
  signal: AbortSignal
}

interface Shared<T, W> {
  members: Set<W>
  /** What was said so far, for those who come later. */
  said: string[]
  ending: AbortController
  result: Promise<T>
}

const saidKept = 200

/** What the work is given: a line goes to every member, the signal is that of the last who leaves. */
export interface Together<W extends Watch> extends Watch {
  /** Who wishes for it at this moment. */
  members(): W[]
}

export interface Sharing<T, W extends Watch = Watch> {
  /** Rejects with the reason of `watch.signal` once that aborts; for the last member, when the work has ended. */
  join(key: string, watch: W, work: (together: Together<W>) => Promise<T>): Promise<T>
  /** Keys of the work under way. */
  underWay(): string[]
  /** Resolves when everything under way has ended, after `reason` told it to. */
  end(reason: unknown): Promise<void>
}

/** `late`: what is said to whoever joins work under way. */
export function sharing<T, W extends Watch = Watch>(late: (key: string) => string): Sharing<T, W> {
  const underway = new Map<string, Shared<T, W>>()
  const running = new Set<Shared<T, W>>()

  function begin(key: string, first: W, work: (together: Together<W>) => Promise<T>): Shared<T, W> {
    const ending = new AbortController()
    const members = new Set([first])
    const said: string[] = []
    const line = (text: string): void => {
      if (said.push(text) > saidKept) said.shift()
      for (const member of members) member.line(text)
    }
    const result = work({ line, signal: ending.signal, members: () => [...members] }).finally(() => {
      running.delete(shared)
      if (underway.get(key) === shared) underway.delete(key)
    })
    result.catch(() => undefined)
    const shared: Shared<T, W> = { members, said, ending, result }
    running.add(shared)
    underway.set(key, shared)
    return shared
  }

  async function leave(key: string, shared: Shared<T, W>, watch: W): Promise<void> {
    shared.members.delete(watch)
    if (shared.members.size > 0) return
    // Whoever wishes for it from now on begins anew.
    if (underway.get(key) === shared) underway.delete(key)
    shared.ending.abort(watch.signal.reason)
    await shared.result.catch(() => undefined)
  }

  return {
    async join(key, watch, work) {
      watch.signal.throwIfAborted()
      const there = underway.get(key)
      if (there) for (const text of [late(key), ...there.said]) watch.line(text)
      const shared = there ?? begin(key, watch, work)
      shared.members.add(watch)
      const left = aborted(watch.signal, () => leave(key, shared, watch))
      try {
        return await Promise.race([shared.result, left.rejection])
      } finally {
        left.forget()
        shared.members.delete(watch)
      }
    },
    underWay: () => [...underway.keys()],
    async end(reason) {
      for (const shared of running) shared.ending.abort(reason)
      await Promise.allSettled([...running].map(({ result }) => result))
    },
  }
}

/** Rejects with the signal's reason when `first` is done. */
function aborted(signal: AbortSignal, first: () => Promise<void>): { rejection: Promise<never>; forget(): void } {
  let forget = (): void => undefined
  const rejection = new Promise<never>((_resolve, reject) => {
    const leave = (): void => void first().then(() => reject(signal.reason))
    signal.addEventListener('abort', leave, { once: true })
    forget = () => signal.removeEventListener('abort', leave)
  })
  rejection.catch(() => undefined)
  return { rejection, forget }
}
