// Reading from S3: an object as a whole or from a byte on, bounded in size and time; also by its address, from any bucket that the credentials reach.
import { Refusal, Unavailable } from '../trouble.ts'
import { isMissing, isOfCredentials, s3Store, said, unavailable, usualLimits, type Limits, type S3Options, type Store } from './client.ts'

interface Place { Bucket: string; Key: string }
interface Limit { bytes: number; beyond: (bytes: number) => Error }

/** Reads `s3://<bucket>/<key>` as `Objects.read` promises, wherever kiln keeps its own objects. Connects when it is first asked. */
export function s3Reader(options: S3Options, limits: Limits = usualLimits): (address: string, limit: number) => Promise<Buffer | null> {
  let store: Promise<Store> | null = null
  return async (address, limit) => readAddress(await (store ??= s3Store(options, limits)), address, limit)
}

export async function readAddress(store: Store, address: string, limit: number): Promise<Buffer | null> {
  const place = placeOf(address)
  if (place === null) return null
  const tooLarge = (bytes: number): Refusal => new Refusal(413, 42005, `${address} has ${bytes} bytes; at most ${limit} are taken.`)
  try {
    const bytes = await sizeOf(store, place)
    if (bytes !== null && bytes > limit) throw tooLarge(bytes)
    return await bytesOf(store, place, { bytes: limit, beyond: tooLarge })
  } catch (error) {
    if (error instanceof Refusal) throw error
    if (isMissing(error)) return null
    if (said(error).status === 403 && !isOfCredentials(error)) throw new Refusal(400, 42005, `kiln may not read ${address}: ${store.name} answered ${said(error).text}`)
    throw unavailable(store, `reading ${address}`, error)
  }
}

const longestKey = 1_024

function placeOf(address: string): Place | null {
  const [, bucket, key] = /^s3:\/\/([A-Za-z0-9][A-Za-z0-9._-]{1,253}[A-Za-z0-9])\/(.+)$/s.exec(address) ?? []
  if (!bucket || !key || Buffer.byteLength(key) > longestKey) return null
  return { Bucket: bucket, Key: key }
}

/** null: that is not told, and getting the object will tell why; a HEAD is answered without reasons. */
async function sizeOf({ s3 }: Store, place: Place): Promise<number | null> {
  try {
    return (await s3.headObject(place)).ContentLength ?? null
  } catch (error) {
    const { status } = said(error)
    if (status !== null && status < 500 && status !== 429 && !isMissing(error)) return null
    throw error
  }
}

/** The whole object, or nothing: a connection that breaks off, and an answer that drips, are errors. Throws what the client throws. */
export async function bytesOf(store: Store, place: Place, limit: Limit | null): Promise<Buffer> {
  const over = new AbortController()
  const { Body: body, ContentLength: length } = await store.s3.getObject(place, { abortSignal: over.signal })
  const late = setTimeout(() => over.abort(), store.timeout(length ?? 0).requestTimeout)
  try {
    if (limit && length !== undefined && length > limit.bytes) throw limit.beyond(length)
    return length === undefined ? await gathered(body as AsyncIterable<Buffer>, limit) : await filled(Buffer.allocUnsafeSlow(length), body as AsyncIterable<Buffer>)
  } catch (error) {
    if (over.signal.aborted) throw new Unavailable(`${store.name} began to answer and did not end in time.`, { cause: error })
    // What is left of the answer goes with its connection.
    over.abort()
    throw error
  } finally {
    clearTimeout(late)
  }
}

async function filled(whole: Buffer, body: AsyncIterable<Buffer>): Promise<Buffer> {
  let bytes = 0
  for await (const chunk of body) {
    whole.set(chunk, bytes)
    bytes += chunk.length
  }
  if (bytes < whole.length) throw new Error(`the answer ended after ${bytes} of ${whole.length} bytes`)
  return whole
}

/** Of an answer that does not tell its length. */
async function gathered(body: AsyncIterable<Buffer>, limit: Limit | null): Promise<Buffer> {
  const chunks: Buffer[] = []
  let bytes = 0
  for await (const chunk of body) {
    bytes += chunk.length
    // It has grown since it was measured.
    if (limit && bytes > limit.bytes) throw limit.beyond(bytes)
    chunks.push(chunk)
  }
  return Buffer.concat(chunks, bytes)
}

/** What a HEAD tells of an object. */
interface Seen { ContentLength?: number; ETag?: string }

/**
 * Of the object that was seen, and no other. Asks when the reading begins: who does not begin holds no connection, and who stops ends it.
 * `unavailable`: what is made of the client's errors.
 */
export async function* partOf(store: Store, place: Place, seen: Seen, from: number, unavailable: (error: unknown) => Error): AsyncGenerator<Buffer, void> {
  const wrong = (how: string): Error => new Unavailable(`${store.name} was asked for a part of ${place.Key}, and ${how}.`)
  const { ContentLength: bytes, ETag } = seen
  if (bytes === undefined) throw wrong('does not tell its size')
  if (from >= bytes) return
  const over = new AbortController()
  let [left, hasEnded] = [bytes - from, false]
  try {
    const range = from === 0 ? {} : { Range: `bytes=${from}-` }
    const { Body: body, ContentRange } = await store.s3.getObject({ ...place, ...range, IfMatch: ETag }, { abortSignal: over.signal })
    if (from > 0 && !ContentRange?.startsWith(`bytes ${from}-`)) throw wrong('answered with something else')
    const { next } = withinTime(body as AsyncIterable<Buffer>, store.timeout(left).requestTimeout, () => over.abort())
    for (let chunk = await next(); chunk !== null; chunk = await next()) {
      left -= chunk.length
      yield chunk
    }
    hasEnded = true
    if (left !== 0) throw wrong('answered with too much or too little')
  } catch (error) {
    throw over.signal.aborted ? new Unavailable(`${store.name} began to answer and did not end in time.`, { cause: error }) : unavailable(error)
  } finally {
    // What is left of the answer goes with its connection.
    if (!hasEnded) over.abort()
  }
}

/** null at the end. Time counts while it is waited for; what the reader does between is its own. */
function withinTime(body: AsyncIterable<Buffer>, patienceMs: number, late: () => void): { next(): Promise<Buffer | null> } {
  const reader = body[Symbol.asyncIterator]()
  let left = patienceMs
  return {
    async next() {
      const from = performance.now()
      const timer = setTimeout(late, left)
      const { done, value } = await reader.next().finally(() => clearTimeout(timer))
      left -= performance.now() - from
      return done ? null : value
    },
  }
}
