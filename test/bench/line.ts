// One line of the table, and the figures that lines are made of.

export interface Line {
  what: string
  value: string
  /** `–`: for comparison only. */
  reach: string
  met: boolean
}

export function quantile(values: number[], q: number): number {
  const sorted = values.toSorted((a, b) => a - b)
  return sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))]!
}

export const median = (values: number[]): number => quantile(values, 0.5)

/** Runs `act` for each item, so many at a time. */
export async function each<T>(items: Iterable<T>, atOnce: number, act: (item: T) => Promise<void>): Promise<void> {
  const iterator = items[Symbol.iterator]()
  await Promise.all(Array.from({ length: atOnce }, async () => {
    for (let next = iterator.next(); !next.done; next = iterator.next()) await act(next.value)
  }))
}
