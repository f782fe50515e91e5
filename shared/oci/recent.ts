// What was used lately: a map that never holds more than so many, and lets go of what was not asked for longest.

export interface Recent<T> {
  get(key: string): T | undefined
  set(key: string, value: T): void
  delete(key: string): void
  entries(): Iterable<[string, T]>
}

export function recent<T>(most: number): Recent<T> {
  const kept = new Map<string, T>()
  const set = (key: string, value: T): void => {
    // A map is in the order of its insertions.
    kept.delete(key)
    kept.set(key, value)
    if (kept.size > most) kept.delete(kept.keys().next().value!)
  }
  return {
    get(key) {
      const value = kept.get(key)
      if (value !== undefined) set(key, value)
      return value
    },
    set,
    delete: (key) => void kept.delete(key),
    entries: () => kept.entries(),
  }
}
