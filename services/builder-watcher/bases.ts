// Base images move: the same name comes to stand for another digest. A lambda stays on its own until it is updated; that there is a newer one is said.
import { nextFact } from '../../shared/events.ts'
import { baseOf, servingVersion, type Life } from '../../shared/lifecycle.ts'
import type { Ports } from '../../shared/ports.ts'
import type { LambdaRecord } from '../../shared/records.ts'
import { stateAll } from '../../shared/worker.ts'

type BasePorts = Pick<Ports, 'bases' | 'bus' | 'log' | 'records' | 'statuses'>

export interface BaseWatch {
  /** Resolves when the look that is under way has ended. */
  close(): Promise<void>
}

/** Looks at once, and then so often. Two replicas that look at the same time state the same fact. */
export function watchBases(ports: BasePorts, { intervalMs }: { intervalMs: number }): BaseWatch {
  const closing = new AbortController()
  const look = (): Promise<void> => sayWhatMoved(ports, closing.signal).catch((error: unknown) => ports.log.warn('base images could not be looked at', { error }))
  let looking = look()
  const timer = setInterval(() => { looking = looking.then(look) }, intervalMs)
  return {
    async close() {
      closing.abort()
      clearInterval(timer)
      await looking
    },
  }
}

/** States `image.outdated` of every lambda whose base image stands for another digest than when it was last said. */
export async function sayWhatMoved(ports: BasePorts, signal: AbortSignal): Promise<void> {
  const now = new Map<string, Promise<string | null>>()
  for (const { record, version, life, base } of await onBases(ports)) {
    if (signal.aborted) return
    if (!now.has(base.name)) now.set(base.name, referenceOf(ports, base.name))
    const newer = await now.get(base.name)
    if (!newer || newer === (base.newer ?? base.reference)) continue
    const from = { fact: record.change.fact, id: record.id, account: record.account, version, epoch: life.epoch, cause: record.change.cause, traceparent: null, data: {}, time: '', source: '' }
    await stateAll(ports, { service: 'builder-watcher' }, [nextFact(from, 'image.outdated', { base: base.name, reference: base.reference, newer }, { nth: newer.replace(/^.*@/, '') })])
  }
}

/** null: nobody can tell. A base image that has vanished harms no lambda that is built. */
async function referenceOf({ bases, log }: BasePorts, name: string): Promise<string | null> {
  try {
    const resolved = await bases.resolve(name)
    return 'base' in resolved ? (resolved.base?.reference ?? null) : null
  } catch (error) {
    log.warn('a base image cannot be looked at', { base: name, error })
    return null
  }
}

interface OnBase { record: LambdaRecord; version: number; life: Life; base: NonNullable<ReturnType<typeof baseOf>> }

/** The version of each lambda that serves, or else the newest, where it is made on a base image. */
async function onBases({ records, statuses }: BasePorts): Promise<OnBase[]> {
  const living = new Map<string, LambdaRecord>()
  const following = [await records.follow((record) => (record.deleted ? living.delete(record.id) : living.set(record.id, record)))]
  const lives = new Map<string, Life>()
  following.push(await statuses.follow((life) => lives.set(life.id, life)))
  for (const one of following) one.close()
  return [...living.values()].flatMap((record) => {
    const life = lives.get(record.id)
    const version = life && (servingVersion(life) ?? record.version)
    const base = version ? baseOf(record, life, version) : null
    return life && version && base ? [{ record, version, life, base }] : []
  })
}
