// Sending a content to S3 as it is read, in parts: each is signed, and sent again by the client when that helps.
// One request for all of it would be unsigned, and of such a request that breaks off some servers keep what came.
import { piecesOf, type Content } from '../objects.ts'
import type { Store } from './client.ts'

interface Place { Bucket: string; Key: string }

/** The least that Amazon takes. */
const partBytes = 5 * 1_024 * 1_024
/** So many are on their way at once, and one more is read meanwhile: a store answers only when it has written a part. */
const partsAtOnce = 2
const abortMs = 5_000

/** Throws what the content throws, and what `unavailable` makes of the client's errors. */
export async function send(store: Store, place: Place, content: Content, unavailable: (error: unknown) => Error): Promise<void> {
  const pieces = piecesOf(place.Key, content, partBytes)
  const told = (error: unknown): never => { throw unavailable(error) }
  if (content.bytes > partBytes) return sendParts(store, place, content.bytes, pieces, told)
  let whole: Uint8Array = new Uint8Array(0)
  for await (const piece of pieces) whole = piece
  await store.s3.putObject({ ...place, Body: whole, ContentLength: whole.byteLength }, store.timeout(whole.byteLength)).catch(told)
}

/** `told`: throws what is made of an error of the client. */
async function sendParts({ s3, timeout }: Store, place: Place, bytes: number, pieces: AsyncIterable<Uint8Array>, told: (error: unknown) => never): Promise<void> {
  const { UploadId } = await s3.createMultipartUpload(place).catch(told)
  const over = new AbortController()
  const sendPart = async (part: Uint8Array, PartNumber: number): Promise<{ PartNumber: number; ETag: string | undefined }> => {
    const request = { ...place, UploadId, PartNumber, Body: part, ContentLength: part.byteLength }
    const { ETag } = await s3.uploadPart(request, { abortSignal: over.signal, ...timeout(part.byteLength) }).catch(told)
    return { PartNumber, ETag }
  }
  const sent: Array<ReturnType<typeof sendPart>> = []
  try {
    for await (const piece of pieces) {
      await sent.at(-partsAtOnce)
      const sending = sendPart(piece, sent.length + 1)
      // Who waits for it is told.
      sending.catch(() => undefined)
      sent.push(sending)
    }
    const Parts = await Promise.all(sent)
    await s3.completeMultipartUpload({ ...place, UploadId, MultipartUpload: { Parts } }, timeout(bytes)).catch(told)
  } catch (error) {
    // What came is seen by nobody, and the store would keep it; also a part that comes after this.
    over.abort()
    await Promise.allSettled(sent)
    await s3.abortMultipartUpload({ ...place, UploadId }, { abortSignal: AbortSignal.timeout(abortMs) }).catch(() => undefined)
    throw error
  }
}
