// Turns: what a controller is to look at again. Each key once, one after another, and never inside the change that caused it.

export interface Turns {
  add(key: string): void
  close(): void
}

export function turns(look: (key: string) => void): Turns {
  const waiting = new Set<string>()
  let next: NodeJS.Immediate | null = null
  let closed = false

  function turn(): void {
    next = null
    const [key] = waiting
    if (key === undefined) return
    waiting.delete(key)
    // Armed before the look, which may throw: that is a bug of the stand-in, and the others go on all the same.
    if (waiting.size > 0) next = setImmediate(turn)
    look(key)
  }

  return {
    add(key) {
      if (closed) return
      waiting.add(key)
      next ??= setImmediate(turn)
    },
    close() {
      closed = true
      waiting.clear()
      if (next) clearImmediate(next)
    },
  }
}
