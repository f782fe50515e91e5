// Waiting for facts, never for time.
import type { Heard, FactName } from '../../shared/events.ts'
import type { Ports } from '../../shared/ports.ts'

/** The first fact of this kind in a life (of `version`, when given), also when it was stated long ago. Rejects after `patienceMs`: a fact that never comes is a failure. */
export async function fact<N extends FactName>(ports: Pick<Ports, 'bus'>, id: string, name: N, version?: number, patienceMs = 20_000): Promise<Heard<N>> {
  const over = new AbortController()
  const seen: string[] = []
  const timer = setTimeout(() => over.abort(), patienceMs)
  try {
    for await (const heard of ports.bus.follow(id, 0, over.signal)) {
      seen.push(`${heard.fact} v${heard.version}`)
      if (heard.fact === name && (version === undefined || heard.version === version)) return heard as Heard<N>
    }
  } finally {
    clearTimeout(timer)
    over.abort()
  }
  throw new Error(`${name} of ${id} did not come; what came: ${seen.join(', ')}`)
}

/** A promise to be settled from outside. */
export function gate<T = void>(): { promise: Promise<T>; open(value: T): void } {
  let open = (_: T): void => undefined
  const promise = new Promise<T>((resolve) => { open = resolve })
  return { promise, open }
}
