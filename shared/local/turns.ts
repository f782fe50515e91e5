// Turns: of several that want the same one has it, the others wait in the order in which they came.

export interface Turns {
  /** Resolves when it is this one's turn, to what ends the turn. `waits` is told how many are before it. Throws the signal's reason, and nobody waits for it any more. */
  take(signal: AbortSignal, waits: (before: number) => void): Promise<() => void>
}

export function turns(): Turns {
  /** The first has its turn. */
  const queue: Array<{ call(): void }> = []

  const end = (): void => {
    queue.shift()
    queue[0]?.call()
  }

  return {
    take(signal, waits) {
      signal.throwIfAborted()
      if (queue.length > 0) waits(queue.length)
      return new Promise((resolve, reject) => {
        const leave = (): void => {
          queue.splice(queue.indexOf(one), 1)
          reject(signal.reason)
        }
        const one = {
          call(): void {
            signal.removeEventListener('abort', leave)
            resolve(once(end))
          },
        }
        signal.addEventListener('abort', leave, { once: true })
        if (queue.push(one) === 1) one.call()
      })
    },
  }
}

function once(act: () => void): () => void {
  let done = false
  return () => {
    if (!done) act()
    done = true
  }
}
