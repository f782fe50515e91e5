// Garbage: archives, contexts, images and environments that no version has referred to for a while. Says what there is, and removes it.
import { fewAtOnce } from '../../shared/few-at-once.ts'
import { groupsOf } from '../../shared/groups.ts'
import type { Log } from '../../shared/log.ts'
import type { Staying, StoredImage } from '../../shared/stored.ts'
import { Unavailable } from '../../shared/trouble.ts'
import { isNeeded, leftovers, type Leftover, type LeftoverPorts } from './leftovers.ts'
import { needed, neededBy } from './needed.ts'
import { removeObjects } from './remove-objects.ts'
import { sinceWhen, writeDown } from './unneeded.ts'

export interface Garbage {
  /** What is unneeded now, and what would be free without it. Changes nothing. */
  lookFor(): Promise<{ unneeded: Unneeded[]; bytes: number }>
  /** Removes what has been unneeded for the grace period. Never two at once. */
  collect(): Promise<Collected>
  /** Ends the collection that is under way, wherever it is. */
  close(): Promise<void>
}

export interface Piece {
  kind: Leftover['kind']
  name: string
  /** Of what nothing that stays is made of, too. */
  bytes: number
}

export interface Unneeded extends Piece {
  /** Epoch ms. */
  since: number
  removedAfter: number
  /** Why it could not be removed so far; null: it was not tried. */
  kept: string | null
}

export interface Collected {
  removed: Piece[]
  kept: Array<{ name: string; why: string }>
  bytes: number
}

export interface GarbageSettings {
  graceMs: number
  now?: () => number
}

/** A registry that is away is not asked for the rest of a collection. */
const mostFailures = 3

export function garbage(ports: LeftoverPorts, { graceMs, now = Date.now }: GarbageSettings): Garbage {
  const closing = new AbortController()
  const whyKept = new Map<string, string>()
  const said = new Set<string>()
  let collecting: Promise<unknown> = Promise.resolve()

  const removedAfter = ({ modifiedMs }: Leftover, since: number): number => Math.max(since, modifiedMs) + graceMs

  async function collectNow(): Promise<Collected> {
    const at = now()
    const { things, staying } = await leftovers(ports)
    const since = await writeDown(ports.objects, namesOf(things), at)
    const due = things.filter((thing) => removedAfter(thing, since(thing.name)) <= at)
    const images = due.flatMap(({ image }) => image ?? [])
    const partsStaying = images.length > 0 ? await partsOf(ports, staying) : []

    const { objects } = await needed(ports)
    const objectsDue = due.filter(({ name, image }) => image === null && !objects.has(name))
    const gone = new Set(await removeObjects(ports, namesOf(objectsDue), closing.signal))
    const putBack = closing.signal.aborted ? [] : namesOf(due.filter(({ name, image }) => image === null && !gone.has(name)))
    const { removed, kept, found } = await removeImages(images)
    for (const name of removed) gone.add(name)

    const others = things.filter(({ name }) => !gone.has(name))
    const neededAgain = new Set([...putBack, ...found])
    await writeDown(ports.objects, namesOf(others).filter((name) => !neededAgain.has(name)), at)
    remember(kept, others)
    const partsOfOthers = others.flatMap(({ parts }) => namesOf(parts))
    return { ...freedBy(things.filter(({ name }) => gone.has(name)), [...partsStaying, ...partsOfOthers]), kept: kept.map(({ name, why, remedy }) => ({ name, why: sentence(why, remedy) })) }
  }

  /** `found`: what somebody has come to need. */
  async function removeImages(images: StoredImage[]): Promise<{ removed: string[]; kept: Staying[]; found: string[] }> {
    const [removed, found, kept]: [string[], string[], Staying[]] = [[], [], []]
    let failures = 0
    for (const [lambda, own] of groupsOf(images, (image) => image.lambda)) {
      if (closing.signal.aborted || failures === mostFailures) break
      try {
        const { going, waiting, needed: again } = await stillUnneeded(lambda, own)
        found.push(...namesOf(again))
        const staying = going.length > 0 ? await ports.stored.remove(going) : []
        kept.push(...waiting, ...staying)
        removed.push(...namesOf(going).filter((name) => !staying.some((one) => one.name === name)))
      } catch (error) {
        if (!(error instanceof Unavailable)) throw error
        if (++failures === 1) ports.log.warn('garbage cannot be removed now; it is tried again', { error })
        kept.push(...own.map(({ name }) => ({ name, why: error.message, remedy: null })))
      }
    }
    return { removed, kept, found }
  }

  /** Looks as late as possible: an image that has gone cannot be put back. */
  async function stillUnneeded(lambda: string | null, images: StoredImage[]): Promise<{ going: StoredImage[]; waiting: Staying[]; needed: StoredImage[] }> {
    const need = await (lambda === null ? needed(ports) : neededBy(ports, lambda))
    const isNeededNow = await fewAtOnce(images, (image) => isNeeded(ports, image, need))
    const unneeded = images.filter((_, i) => !isNeededNow[i])
    // An environment that is missed is made again; an image that a version has just found must be there.
    const waits = (image: StoredImage): boolean => need.isSilent && image.kind === 'image'
    return {
      going: unneeded.filter((image) => !waits(image)), waiting: unneeded.filter(waits).map(({ name }) => ({ name, why: onItsWay, remedy: null })),
      needed: images.filter((_, i) => isNeededNow[i]),
    }
  }

  function remember(kept: Staying[], there: Leftover[]): void {
    for (const { name, why, remedy } of kept) whyKept.set(name, sentence(why, remedy))
    const names = new Set(namesOf(there))
    for (const name of [...whyKept.keys()]) if (!names.has(name)) whyKept.delete(name)
    for (const [why, remedy] of new Map(kept.flatMap(({ why, remedy }) => (remedy ? [[why, remedy] as const] : [])))) {
      if (!said.has(why)) ports.log.warn(`Garbage stays: ${sentence(why, remedy)}`, { images: kept.filter((one) => one.why === why).length })
      said.add(why)
    }
  }

  return {
    async lookFor() {
      const { things, staying } = await leftovers(ports)
      const at = now()
      const known = await sinceWhen(ports.objects, at)
      const { removed, bytes } = freedBy(things, things.some(({ image }) => image) ? await partsOf(ports, staying) : [])
      const unneeded = things.map((thing, i) => {
        const since = known(thing.name) ?? at
        return { ...removed[i]!, since, removedAfter: removedAfter(thing, since), kept: whyKept.get(thing.name) ?? null }
      })
      return { unneeded, bytes }
    },
    collect() {
      const collection = collecting.then(collectNow)
      collecting = collection.catch(() => undefined)
      return collection
    },
    async close() {
      closing.abort()
      await collecting
    },
  }
}

const onItsWay = 'A version that is on its way has not said yet what it is made of.'
const sentence = (why: string, remedy: string | null): string => (remedy ? `${why} ${remedy}` : why)
const namesOf = (things: ReadonlyArray<{ name: string }>): string[] => things.map(({ name }) => name)

async function partsOf({ stored }: LeftoverPorts, images: readonly StoredImage[]): Promise<string[]> {
  return (await fewAtOnce(images, (image) => stored.parts(image))).flatMap((parts) => namesOf(parts ?? []))
}

/** What is free when these are gone. `staying`: names of the parts that something else is made of. */
function freedBy(gone: readonly Leftover[], staying: readonly string[]): { removed: Piece[]; bytes: number } {
  const kept = new Set(staying)
  const own = gone.map(({ parts }) => parts.filter(({ name }) => !kept.has(name)))
  const sum = (parts: ReadonlyArray<{ bytes: number }>): number => parts.reduce((all, { bytes }) => all + bytes, 0)
  return {
    removed: gone.map(({ kind, name }, i) => ({ kind, name, bytes: sum(own[i]!) })),
    bytes: sum([...new Map(own.flat().map((part) => [part.name, part])).values()]),
  }
}

/** Collects so often, the first time after one interval. What fails is said, and tried again the next time. */
export function collectRegularly(collector: Garbage, { intervalMs, log }: { intervalMs: number; log: Log }): { stop(): Promise<void> } {
  const collect = async (): Promise<void> => {
    try {
      const { removed, bytes } = await collector.collect()
      if (removed.length > 0) log.info('garbage was removed', { things: removed.length, bytes })
    } catch (error) {
      log.error('garbage could not be collected; it is tried again', { error })
    }
  }
  let isStopped = false
  const begin = (): NodeJS.Timeout => setTimeout(() => void collect().then(() => { if (!isStopped) timer = begin() }), intervalMs).unref()
  let timer = begin()
  return {
    async stop() {
      isStopped = true
      clearTimeout(timer)
      await collector.close()
    },
  }
}
