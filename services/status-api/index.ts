// status-api: every fact -> statuses. Folds what was stated into what users read; the only writer of statuses.
import type { Hearing } from '../../shared/bus.ts'
import type { Heard } from '../../shared/events.ts'
import { fold, isOfALife, type Life } from '../../shared/lifecycle.ts'
import type { Ports } from '../../shared/ports.ts'
import type { Held } from '../../shared/records.ts'

export type ProjectionPorts = Pick<Ports, 'bus' | 'log' | 'metrics' | 'statuses'>

/** Facts in the works at once, and writes: in a burst facts wait for a place, and one write serves all that waited. */
const limit = 4_096
const writesAtOnce = 8
/** Lives whose last written revision is remembered, so that a fact needs no read before its write. */
const remembered = 20_000

interface Waiting {
  heard: Heard
  settle(): void
  fail(error: unknown): void
}

export function startProjection(ports: ProjectionPorts): Promise<Hearing> {
  ports.metrics.measure('kiln_queue_depth', 'Messages that wait for a stage', { stage: 'status-api' }, async () => (await ports.bus.depth('status-api')).waiting)
  const project = projection(ports)
  return ports.bus.hear({ name: 'status-api', fact: null, limit, refused: () => ports.metrics.refused('status-api') }, async (heard) => {
    const end = ports.metrics.begin('status-api')
    // A refused command is no part of a life.
    if (isOfALife(heard.fact)) await project(heard)
    end({ fact: heard.fact, verdict: 'done' })
    return 'settled'
  })
}

/** Folds one fact and resolves when it is written. Facts of one lambda that come while its write is under way are written together. */
export function projection({ statuses }: Pick<Ports, 'statuses'>): (heard: Heard) => Promise<void> {
  const waiting = new Map<string, Waiting[]>()
  const turn = places(writesAtOnce)
  const written = new Map<string, Held<Life>>()

  async function drain(id: string): Promise<void> {
    while (waiting.get(id)!.length > 0) {
      const leave = await turn()
      const batch = waiting.get(id)!
      waiting.set(id, [])
      await write(id, batch.map((one) => one.heard)).then(
        () => batch.forEach((one) => one.settle()),
        (error: unknown) => { written.delete(id); batch.forEach((one) => one.fail(error)) },
      )
      leave()
    }
    waiting.delete(id)
  }

  async function write(id: string, batch: Heard[]): Promise<void> {
    const begins = batch.some((heard) => heard.version === 1 && heard.fact === (heard.kind === 'build' ? 'image.queued' : 'lambda.accepted'))
    for (let again = false; ; again = true) {
      // A life that begins here is most often unknown; if it is not, the write says so.
      const held = written.get(id) ?? (begins && !again ? null : await statuses.get(id))
      const life = batch.reduce<Life | null>(fold, held?.value ?? null)
      if (!life || (held && isTold(held.value, batch) && JSON.stringify(life) === JSON.stringify(held.value))) return
      const revision = await statuses.put(life, held?.revision ?? 0)
      if (revision !== null) return remember(id, { value: life, revision })
      // Another replica wrote in between: fold onto what it wrote.
      written.delete(id)
    }
  }

  const isTold = (known: Life, batch: Heard[]): boolean => batch.every((heard) => heard.seq <= known.seq)

  function remember(id: string, held: Held<Life>): void {
    written.delete(id)
    written.set(id, held)
    if (written.size > remembered) written.delete(written.keys().next().value!)
  }

  return (heard) => new Promise((settle, fail) => {
    const queue = waiting.get(heard.id)
    if (queue) return void queue.push({ heard, settle, fail })
    waiting.set(heard.id, [{ heard, settle, fail }])
    void drain(heard.id)
  })
}

/** So many at once; who comes then waits in line. The answer gives the place back. */
function places(count: number): () => Promise<() => void> {
  const line: Array<() => void> = []
  let free = count
  const leave = (): void => {
    const next = line.shift()
    if (next) next()
    else free += 1
  }
  return async () => {
    if (free > 0) free -= 1
    else await new Promise<void>((resolve) => line.push(resolve))
    return leave
  }
}
