// Objects, on JetStream Object Store.
import { StorageType, type ObjectInfo, type ObjectStore } from 'nats'
import { Refusal } from '../trouble.ts'
import type { Objects } from '../objects.ts'
import type { Nats } from './connect.ts'
import { follow } from './follow.ts'
import { withTrouble } from './unavailable.ts'

export async function natsObjects(nats: Nats, bucket: string, options: { replicas: number }): Promise<Objects> {
  const store = await nats.js.views.os(bucket, { storage: StorageType.File })
  // The client hands an option `replicas` on to the server under that name, which newer servers refuse.
  const { config } = await nats.jsm.streams.info(`OBJ_${bucket}`)
  if (config.num_replicas !== options.replicas) await nats.jsm.streams.update(`OBJ_${bucket}`, { num_replicas: options.replicas })
  const names = await liveNames(nats, bucket)
  return withTrouble<Objects>({
    knows: (name) => names.has(name),
    async put(name, bytes) {
      await nats.whileConnected(store.putBlob({ name }, bytes))
    },
    get: (name) => whole(nats, store, name),
    async has(name) {
      const info = await nats.whileConnected(store.info(name))
      return info !== null && !info.deleted && (await isWhole(nats, bucket, info))
    },
    async remove(name) {
      const info = await store.info(name)
      if (info !== null && !info.deleted) await store.delete(name)
    },
    async list(prefix) {
      const all = await store.list()
      return all.filter((one) => !one.deleted && one.name.startsWith(prefix)).map((one) => ({ name: one.name, bytes: one.size }))
    },
    read: natsReader(nats),
  })
}

const readingMs = 5_000
const slowestBytesPerMs = 4_096

/** A put that failed half-way can leave a name whose content is gone: such an object is not there. */
async function isWhole({ jsm }: Nats, bucket: string, { nuid, chunks }: ObjectInfo): Promise<boolean> {
  const subject = `$O.${bucket}.C.${nuid}`
  const { state } = await jsm.streams.info(`OBJ_${bucket}`, { subjects_filter: subject })
  return (state.subjects?.[subject] ?? 0) === chunks
}

/** The names of all objects, as the bucket's own stream tells them. */
async function liveNames(nats: Nats, bucket: string): Promise<ReadonlySet<string>> {
  const names = new Set<string>()
  await follow(nats, { stream: `OBJ_${bucket}`, subject: `$O.${bucket}.M.>`, from: 'lastOfEach' }, (message) => {
    const { name, deleted } = message.json<{ name: string; deleted?: boolean }>()
    if (deleted) names.delete(name)
    else names.add(name)
  })
  return names
}

/** Reading goes on for ever when the server restarts at a bad moment: it gets the time that its size needs, and is tried again by whoever asked. */
async function whole(nats: Nats, store: ObjectStore, name: string): Promise<Buffer | null> {
  const info = await nats.whileConnected(store.info(name))
  if (info === null || info.deleted || !(await isWhole(nats, info.bucket, info))) return null
  const blob = await nats.whileConnected(store.getBlob(name), readingMs + info.size / slowestBytesPerMs)
  return blob === null ? null : Buffer.from(blob.buffer, blob.byteOffset, blob.byteLength)
}

/** What reads addresses of JetStream, wherever kiln keeps its own objects. */
export const natsReader = (nats: Nats): Objects['read'] => withTrouble<Pick<Objects, 'read'>>({ read: (address, limit) => readAddress(nats, address, limit) }).read

/** `nats://<bucket>/<name>`: an object in any bucket of the same JetStream. */
async function readAddress(nats: Nats, address: string, limit: number): Promise<Buffer | null> {
  const [, bucket, name] = /^nats:\/\/([A-Za-z0-9_-]+)\/(.+)$/.exec(address) ?? []
  if (!bucket || !name) return null
  // Opening a bucket would make it: ask for its stream first.
  const exists = await nats.jsm.streams.info(`OBJ_${bucket}`).then(() => true, () => false)
  if (!exists) return null
  const store = await nats.js.views.os(bucket)
  const info = await store.info(name)
  if (info === null || info.deleted) return null
  if (info.size > limit) throw new Refusal(413, 42005, `${address} has ${info.size} bytes; at most ${limit} are taken.`)
  return whole(nats, store, name)
}
