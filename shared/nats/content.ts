// The content of an object on JetStream Object Store: cut into chunks, each a message of one subject, and read as such. The client's own way holds the whole of it in memory.
import { createHash } from 'node:crypto'
import { AckPolicy, DeliverPolicy, headers, JsHeaders, nanos, nuid, type Msg, type ObjectInfo, type ObjectStore } from 'nats'
import { piecesOf, type Content } from '../objects.ts'
import { Unavailable } from '../trouble.ts'
import { apiErrorCode, wrongLastSequence, type Nats } from './connect.ts'

const chunkBytes = 128 * 1_024
/** How much is under way at once: to the server without its word that it has it, or from it without being asked for. */
const windowBytes = 2 * 1_024 * 1_024
/** Chunks asked for at once, however small they are: the server allows 512. */
const mostAsked = 64
/** For one chunk. Reading goes on for ever when the server restarts at a bad moment: it gets the time that it needs, and is tried again by whoever asked. */
const chunkMs = 5_000
/** A reader may take its time between two chunks, or may have died: then the server forgets it. */
const forgottenMs = 10 * 60_000
/** The end of a reading is waited for so long and no longer: it is for the server's sake. */
const closeMs = 1_000

const chunkSubject = (bucket: string, id: string): string => `$O.${bucket}.C.${id}`
const infoSubject = (bucket: string, name: string): string => `$O.${bucket}.M.${forUrl(btoa(name))}`
/** With the padding that other clients want, and Node's own leaves out. */
const forUrl = (base64: string): string => base64.replaceAll('+', '-').replaceAll('/', '_')

/** Stores a content under a name; what was there stays until all of it is. */
export async function putContent(nats: Nats, store: ObjectStore, bucket: string, name: string, content: Content): Promise<void> {
  const { js, whileConnected } = nats
  const id = nuid.next()
  const [subject, underName] = [chunkSubject(bucket, id), infoSubject(bucket, name)]
  const size = Math.min(chunkBytes, nats.nc.info?.max_payload ?? chunkBytes)
  const [sha, underWay] = [createHash('sha256'), [] as Array<Promise<unknown>>]
  let chunks = 0
  try {
    for await (const chunk of piecesOf(name, content, size)) {
      sha.update(chunk)
      chunks++
      underWay.push(caught(js.publish(subject, chunk)))
      if (underWay.length * size >= windowBytes) await whileConnected(underWay.shift()!)
    }
    for (const stored of underWay) await whileConnected(stored)
  } catch (error) {
    await dropChunks(nats, bucket, id, underWay)
    throw error
  }
  const info = {
    name, description: '', options: { max_chunk_size: size }, bucket, nuid: id, size: content.bytes, chunks,
    mtime: new Date().toISOString(), digest: `SHA-256=${forUrl(sha.digest('base64'))}`, deleted: false,
  }
  // When this fails nobody knows whether it is stored: the chunks stay, so that no name stands for nothing.
  const old = await whileConnected(replaceInfo(nats, store, underName, info))
  if (old !== null && !old.deleted) await dropChunks(nats, bucket, old.nuid)
}

/** What fails while nobody waits for it is told to whoever waits for it later, and is no failure of the process. */
function caught<T>(work: Promise<T>): Promise<T> {
  work.catch(() => undefined)
  return work
}

/** Tells what was there. Of many who put under one name, each replaces the one before it, so that no chunks are left over. */
async function replaceInfo({ js }: Nats, store: ObjectStore, subject: string, info: { name: string }): Promise<ObjectInfo | null> {
  for (;;) {
    const old = await store.info(info.name)
    // As other clients store it: the last message of the subject alone is kept.
    const rollup = headers()
    rollup.set(JsHeaders.RollupHdr, JsHeaders.RollupValueSubject)
    try {
      await js.publish(subject, JSON.stringify(info), { headers: rollup, expect: { lastSubjectSequence: old?.revision ?? 0 } })
      return old
    } catch (error) {
      if (apiErrorCode(error) !== wrongLastSequence) throw error
    }
  }
}

const dropTimes = 3

/** Chunks that no name stands for are seen by nobody. While the server is away it goes on by itself, for a while. */
async function dropChunks({ jsm, whileConnected }: Nats, bucket: string, id: string, underWay: Array<Promise<unknown>> = []): Promise<void> {
  const drop = async (): Promise<void> => {
    // The server may well drop what it has before it stores what it was sent.
    await Promise.allSettled(underWay)
    for (let times = 1; times <= dropTimes; times++) {
      if (await jsm.streams.purge(`OBJ_${bucket}`, { filter: chunkSubject(bucket, id) }).then(() => true, () => false)) return
    }
  }
  await whileConnected(drop(), chunkMs).catch(() => undefined)
}

/** A put that failed half-way can leave a name whose content is gone: such an object is not there. */
export async function isWhole({ jsm }: Nats, { bucket, nuid: id, chunks }: ObjectInfo): Promise<boolean> {
  const subject = chunkSubject(bucket, id)
  const { state } = await jsm.streams.info(`OBJ_${bucket}`, { subjects_filter: subject })
  return (state.subjects?.[subject] ?? 0) === chunks
}

/** Allocates once. Throws when it is not what was put. */
export async function wholeContent(nats: Nats, info: ObjectInfo): Promise<Buffer> {
  const bytes = Buffer.allocUnsafeSlow(info.size)
  const sha = createHash('sha256')
  let at = 0
  for await (const piece of contentFrom(nats, info, 0)) {
    bytes.set(piece, at)
    at += piece.byteLength
    sha.update(piece)
  }
  const told = info.digest.replace(/^SHA-256=/, '')
  // Some clients write it in hexadecimal.
  const digest = Buffer.from(told, /^[0-9a-f]{64}$/i.test(told) ? 'hex' : 'base64')
  if (!sha.digest().equals(digest)) throw new Error(`the content of ${info.name} in bucket ${info.bucket} is not what was put: its digest is another`)
  return bytes
}

/** From a byte on, asked for as it is read: nothing is held at the server for whoever has not begun or has stopped. */
export async function* contentFrom(nats: Nats, info: ObjectInfo, from: number): AsyncGenerator<Buffer, void> {
  if (from >= info.size) return
  const broken = (error: unknown): never => {
    throw error instanceof Unavailable ? error : new Unavailable(`NATS broke off while ${info.name} was read.`, { cause: error })
  }
  const reading = await open(nats, info, from).catch(broken)
  try {
    let at = reading.at
    if (at > from) throw new Unavailable(`${info.name} was replaced before it was read.`)
    while (at < info.size) {
      const chunk = await reading.next().catch(broken)
      const unwanted = Math.max(0, from - at)
      at += chunk.byteLength
      if (at > info.size) throw new Unavailable(`${info.name} has more than its ${info.size} bytes.`)
      if (unwanted < chunk.byteLength) yield chunk.subarray(unwanted)
    }
  } finally {
    await reading.close()
  }
}

interface Reading {
  /** Where the first chunk begins. */
  at: number
  next(): Promise<Buffer>
  close(): Promise<void>
}

async function open(nats: Nats, info: ObjectInfo, from: number): Promise<Reading> {
  const { nc, jsm, whileConnected } = nats
  const [stream, subject] = [`OBJ_${info.bucket}`, chunkSubject(info.bucket, info.nuid)]
  const size = sizeOfChunks(info)
  const skipped = size === null ? 0 : Math.floor(from / size)
  const { name, num_pending: kept } = await whileConnected(jsm.consumers.add(stream, {
    // Each message lies at least as far from the first as it has before it: none that is wanted is skipped.
    filter_subject: subject, deliver_policy: DeliverPolicy.StartSequence, opt_start_seq: skipped === 0 ? 1 : skipped + (await firstSequence(nats, stream, subject)),
    ack_policy: AckPolicy.None, mem_storage: true, num_replicas: 1, inactive_threshold: nanos(forgottenMs),
  }), chunkMs)
  const before = skipped === 0 ? 0 : info.chunks - kept
  let [left, delivered] = [info.chunks - before, 0]
  const underWay: Array<Promise<Msg>> = []
  const most = Math.min(mostAsked, Math.max(1, Math.floor(windowBytes / (size ?? windowBytes))))
  const ask = JSON.stringify({ batch: 1, expires: nanos(chunkMs) })
  return {
    at: before * (size ?? 0),
    async next() {
      // The answer is the message under its own subject: the client must listen for each by itself.
      for (; underWay.length < most && left > 0; left--) underWay.push(caught(nc.request(`$JS.API.CONSUMER.MSG.NEXT.${stream}.${name}`, ask, { timeout: chunkMs, noMux: true })))
      const message = await whileConnected(underWay.shift() ?? Promise.reject(new Unavailable(`${info.name} has fewer than its ${info.size} bytes.`)), chunkMs)
      if (placeOf(message) !== ++delivered) throw new Unavailable(`Not all chunks of ${info.name} came.`)
      return Buffer.from(message.data.buffer, message.data.byteOffset, message.data.byteLength)
    },
    // When the server is away it forgets by itself.
    close: async () => void await whileConnected(jsm.consumers.delete(stream, name), closeMs).catch(() => undefined),
  }
}

/** null: they are of sizes that nobody knows beforehand, as some clients make them. */
function sizeOfChunks({ size, chunks, options }: ObjectInfo): number | null {
  const most = options?.max_chunk_size
  return most && Math.ceil(size / most) === chunks ? most : null
}

/** As the leader of the stream has it, who knows all. */
async function firstSequence({ jsm, whileConnected }: Nats, stream: string, subject: string): Promise<number> {
  const query = { seq: 1, next_by_subj: subject }
  return (await whileConnected(jsm.streams.getMessage(stream, query), chunkMs)).seq
}

/** Which message of its consumer it is, counted from 1; NaN: it is no message of a stream. Servers of domains name two things more in front. */
function placeOf({ reply = '' }: Msg): number {
  const words = reply.split('.')
  return Number(words[words.length > 9 ? 8 : 6])
}
