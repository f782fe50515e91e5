// Uploads to a registry: small blobs in one go, large ones in chunks; what breaks off goes on where the registry is, or begins again, a few times.
import { setTimeout as pause } from 'node:timers/promises'
import { Unavailable } from '../trouble.ts'
import type { Host } from './answers.ts'
import { digesting } from './digests.ts'
import { readingOf, type Blob, type Reading } from './reading.ts'
import { inOneGoBytes, mountOrSession, openSession, Setback, type Session, type Wish } from './upload-session.ts'

/** How an upload may be spared. */
export interface Means {
  /** A repository of the same registry that has the blob: it is mounted from there if the registry does that. */
  from?: string | undefined
  /** Nobody has it yet: the registry is not asked whether it does. */
  isNew?: boolean
}

export type Upload = (repository: string, blob: Blob, signal?: AbortSignal, means?: Means) => Promise<void>

export interface Uploads {
  mount(repository: string, digest: string, from: string): Promise<boolean>
  upload: Upload
}

type HasBlob = (repository: string, digest: string, actions: 'pull,push', signal?: AbortSignal) => Promise<boolean>

/** The blob is not what its digest says: whoever made it is wrong. */
export class WrongDigest extends Error {}

const chunkBytes = 8 << 20
/** So often without getting any further. */
const triesAtMost = 5
const pauseMs = 100

export function uploads(host: Host, hasBlob: HasBlob): Uploads {
  return {
    async mount(repository, digest, from) {
      const opened = await mountOrSession(host, { repository, digest }, from)
      if (opened === 'mounted') return true
      await opened?.cancel()
      return false
    },
    async upload(repository, blob, signal, { from, isNew = false } = {}) {
      const wish: Wish = { repository, digest: blob.digest, signal }
      const has = (): Promise<boolean> => hasBlob(repository, blob.digest, 'pull,push', signal)
      // Whatever it has against mounting: it may still take an upload.
      const opened = from === undefined ? null : await mountOrSession(host, wish, from).catch((error: unknown) => { if (error instanceof Unavailable) return null; throw error })
      if (opened === 'mounted') return
      const journey: Journey = { session: opened, offset: 0, farthest: 0, tries: 0, restarts: 0, inOneGo: blob.bytes <= inOneGoBytes, unsure: null }
      const reading = readingOf(blob)
      try {
        if (isNew || !(await has())) await until(journey, { host, wish, blob, reading, has })
      } finally {
        reading.close()
        await journey.session?.cancel()
      }
    },
  }
}

/** Where an upload stands. */
interface Journey {
  session: Session | null
  offset: number
  farthest: number
  /** Failures since it got farther than ever before. */
  tries: number
  restarts: number
  inOneGo: boolean
  /** The registry has to say how far it is, after this. */
  unsure: Setback['how'] | null
}

interface Parts { host: Host; wish: Wish; blob: Blob; reading: Reading; has(): Promise<boolean> }

async function until(journey: Journey, parts: Parts): Promise<void> {
  for (;;) {
    try {
      await goOn(journey, parts)
      // It is over: there is nothing to cancel.
      journey.session = null
      return
    } catch (error) {
      await turn(journey, parts, error)
    }
  }
}

/** From where it stands to its end. */
async function goOn(journey: Journey, { host, wish, blob, reading, has }: Parts): Promise<void> {
  if (journey.unsure) await takeStock(journey, blob)
  if (journey.session === null) {
    // The answer that got lost may have been a good one.
    if (journey.restarts > 0 && (await asSetback(has()))) return
    journey.session = await openSession(host, wish)
  }
  const { session } = journey
  if (journey.inOneGo) return session.finish(reading.part(0, blob.bytes))
  while (journey.offset < blob.bytes) {
    const bytes = Math.min(blob.bytes - journey.offset, Math.max(chunkBytes, session.minimum))
    await session.send(journey.offset, reading.part(journey.offset, bytes))
    arrive(journey, journey.offset + bytes)
  }
  return session.finish(null)
}

async function takeStock(journey: Journey, blob: Blob): Promise<void> {
  const { session, unsure, offset } = journey
  const held = await session!.held()
  journey.unsure = null
  // It was where it was thought to be, and did not take the chunk: it takes none of this size.
  const takesNone = unsure === 'elsewhere' && held === offset
  if (held !== null && held <= blob.bytes && !takesNone) return arrive(journey, held)
  startAgain(journey, takesNone)
  if (held !== null) await session!.cancel()
}

function arrive(journey: Journey, offset: number): void {
  journey.offset = offset
  if (offset <= journey.farthest) return
  journey.farthest = offset
  journey.tries = 0
}

/** What did not work out in chunks, or twice, is sent in one go: not every registry is good at chunks. */
function startAgain(journey: Journey, inOneGo = false): void {
  journey.inOneGo ||= inOneGo || journey.restarts > 0
  journey.restarts++
  journey.session = null
  journey.offset = 0
  journey.unsure = null
}

/** After a failure: prepares the way on, or throws when there is none. */
async function turn(journey: Journey, { host, wish, blob, reading }: Parts, error: unknown): Promise<void> {
  // The reason may look like trouble that could pass.
  wish.signal?.throwIfAborted()
  const own = reading.trouble()
  if (own) throw own.error
  if (!(error instanceof Setback)) throw error
  const { how, trouble } = error
  if (how === 'wrong' && journey.inOneGo) throw await wrongDigest(host, wish, blob)
  if (how === 'refused' && journey.inOneGo) throw trouble
  journey.tries++
  if (journey.tries >= triesAtMost) throw new Unavailable(`The blob ${blob.digest} does not get into ${wish.repository} of the registry ${host.name}, in ${journey.tries} tries: ${trouble.message}`, { cause: trouble })
  const { session } = journey
  // That there is no session yet is nothing to begin again.
  if (session === null && how !== 'broken') throw trouble
  if (session !== null && !journey.inOneGo && (how === 'broken' || how === 'elsewhere')) {
    journey.unsure = how
  } else if (session !== null) {
    startAgain(journey, how === 'refused' || how === 'wrong')
    if (how !== 'gone') await session.cancel()
  }
  await pause(pauseMs * 2 ** (journey.tries - 1), undefined, { signal: wish.signal }).catch(() => wish.signal?.throwIfAborted())
}

async function asSetback<T>(asking: Promise<T>): Promise<T> {
  return asking.catch((error: unknown) => { throw error instanceof Unavailable ? new Setback('broken', error) : error })
}

async function wrongDigest({ name }: Host, { repository }: Wish, blob: Blob): Promise<Error> {
  const made = digesting(blob.digest)
  let bytes = 0
  for await (const chunk of blob.open(0)) {
    made.update(chunk)
    bytes += chunk.length
  }
  const digest = made.digest()
  if (digest === blob.digest && bytes === blob.bytes) return new Unavailable(`The registry ${name} says that what it got for ${repository} is not ${digest}, which it is.`)
  return new WrongDigest(`The blob for ${repository} of the registry ${name} is said to be ${blob.digest} of ${blob.bytes} bytes, and is ${digest} of ${bytes} bytes.`)
}
