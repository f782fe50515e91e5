// In use: the contexts and environments that builds of this process need at this moment, which nobody may remove under them.

export interface Mark {
  /** One more of them. */
  use(name: string): void
  /** The build is over. A removal that runs now began before, and has not seen what was made: for that one they stay in use. */
  end(): void
}

export interface InUse {
  begin(name: string): Mark
  has(name: string): boolean
  /** One removal after the other. */
  removing<T>(work: () => Promise<T>): Promise<T>
  /** Resolves when no removal runs any more. */
  removed(): Promise<void>
}

export function inUse(): InUse {
  const marks = new Set<Set<string>>()
  let last: Promise<unknown> = Promise.resolve()
  return {
    begin(name) {
      const names = new Set([name])
      marks.add(names)
      return { use: (more) => void names.add(more), end: () => void last.then(() => marks.delete(names)) }
    },
    has: (name) => [...marks].some((names) => names.has(name)),
    removing(work) {
      const removal = last.then(work)
      last = removal.catch(() => undefined)
      return removal
    },
    removed: () => last.then(() => undefined),
  }
}
