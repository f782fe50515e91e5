// Objects, in a bucket of S3.
import type { HeadObjectCommandOutput, ListObjectsV2CommandOutput } from '@aws-sdk/client-s3'
import type { Listed, Objects } from '../objects.ts'
import { Unavailable } from '../trouble.ts'
import { isMissing, s3Store, said, unavailable, usualLimits, type Limits, type S3Options, type Store } from './client.ts'
import { bytesOf, partOf, readAddress } from './read.ts'
import { recentNames } from './recent.ts'
import { send } from './send.ts'

export { s3Reader } from './read.ts'

/** Makes the bucket when there is none. Throws Unavailable when the store cannot be asked, or lets kiln not use the bucket. */
export async function s3Objects({ bucket, ...options }: S3Options & { bucket: string }, limits: Limits = usualLimits): Promise<Objects> {
  const store = await s3Store(options, limits)
  const { s3, timeout } = store
  const recent = recentNames()
  const failing = (what: string) => (error: unknown): Unavailable => unavailable(store, `${what} in bucket ${bucket}`, error)
  const asked = async <T>(what: string, work: Promise<T>): Promise<T> => work.catch((error: unknown) => { throw failing(what)(error) })
  const headOf = async (name: string): Promise<HeadObjectCommandOutput | null> => {
    const head = await asked(`looking for ${name}`, s3.headObject({ Bucket: bucket, Key: name }).catch(nullIfNoKey))
    if (head === null) recent.missed(name)
    else recent.saw(name)
    return head
  }
  await makeSureOf(store, bucket)
  return {
    knows: (name) => recent.knows(name),
    async put(name, content) {
      const place = { Bucket: bucket, Key: name }
      if (content instanceof Uint8Array) await asked(`putting ${name}`, s3.putObject({ ...place, Body: content, ContentLength: content.byteLength }, timeout(content.byteLength)))
      else await send(store, place, content, failing(`putting ${name}`))
      recent.saw(name)
    },
    async get(name) {
      const bytes = await asked(`getting ${name}`, bytesOf(store, { Bucket: bucket, Key: name }, null).catch(nullIfNoKey))
      if (bytes === null) recent.missed(name)
      else recent.saw(name)
      return bytes
    },
    async part(name, from) {
      const head = await headOf(name)
      return head && partOf(store, { Bucket: bucket, Key: name }, head, from, failing(`getting ${name}`))
    },
    has: async (name) => (await headOf(name)) !== null,
    async remove(name) {
      // Also when it is tried in vain: who knows what became of it.
      recent.missed(name)
      await asked(`removing ${name}`, s3.deleteObject({ Bucket: bucket, Key: name }).catch(nullIfNoKey))
    },
    async list(prefix) {
      const found: Listed[] = []
      let next: string | undefined
      do {
        const page: ListObjectsV2CommandOutput = await asked('listing', s3.listObjectsV2({ Bucket: bucket, Prefix: prefix, ContinuationToken: next }))
        for (const { Key, Size, LastModified } of page.Contents ?? []) if (Key !== undefined) found.push({ name: Key, bytes: Size ?? 0, modifiedMs: LastModified?.getTime() ?? 0 })
        next = page.IsTruncated ? page.NextContinuationToken : undefined
      } while (next !== undefined)
      for (const { name } of found) recent.saw(name)
      return found
    },
    read: (address, limit) => readAddress(store, address, limit),
  }
}

/** A bucket that is missing is no missing object: kiln's own was there. */
function nullIfNoKey(error: unknown): null {
  if (isMissing(error) && said(error).code !== 'NoSuchBucket') return null
  throw error
}

/** Looks by listing: unlike a question for the bucket itself, that is answered with a reason. */
async function makeSureOf(store: Store, bucket: string): Promise<void> {
  const look = async (): Promise<boolean> => {
    try {
      await store.s3.listObjectsV2({ Bucket: bucket, MaxKeys: 1 })
      return true
    } catch (error) {
      if (said(error).code === 'NoSuchBucket') return false
      throw unavailable(store, `looking into bucket ${bucket}`, error)
    }
  }
  if (await look()) return
  const error = await store.s3.createBucket({ Bucket: bucket }).then(() => null, (thrown: unknown) => thrown)
  // 409: another kiln may have been faster.
  if (error === null || (said(error).status === 409 && (await look()))) return
  const { message } = unavailable(store, `making bucket ${bucket}`, error)
  throw new Unavailable(`${message} Kiln keeps its objects there and there is none: make it, or let kiln make it.`, { cause: error })
}
