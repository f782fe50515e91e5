// Objects, on JetStream Object Store.
import { StorageType, type ObjectInfo, type ObjectStore } from 'nats'
import type { Content, Objects } from '../objects.ts'
import { Refusal } from '../trouble.ts'
import type { Nats } from './connect.ts'
import { contentFrom, isWhole, putContent, wholeContent } from './content.ts'
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
    put: (name, content) => putContent(nats, store, bucket, name, content instanceof Uint8Array ? contentOf(content) : content),
    async get(name) {
      const info = await present(nats, store, name)
      return info && wholeContent(nats, info)
    },
    async part(name, from) {
      const info = await present(nats, store, name)
      return info && contentFrom(nats, info, from)
    },
    has: async (name) => (await present(nats, store, name)) !== null,
    async remove(name) {
      const info = await store.info(name)
      if (info !== null && !info.deleted) await store.delete(name)
    },
    async list(prefix) {
      const all = await store.list()
      return all.filter((one) => !one.deleted && one.name.startsWith(prefix)).map((one) => ({ name: one.name, bytes: one.size, modifiedMs: Date.parse(one.mtime) }))
    },
    read: natsReader(nats),
  })
}

const contentOf = (bytes: Uint8Array): Content => ({ bytes: bytes.byteLength, async *open() { yield bytes } })

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

/** null: there is no such object, or only its name. */
async function present(nats: Nats, store: ObjectStore, name: string): Promise<ObjectInfo | null> {
  const info = await nats.whileConnected(store.info(name))
  return info !== null && !info.deleted && (await isWhole(nats, info)) ? info : null
}

/** What reads addresses of JetStream, wherever kiln keeps its own objects. */
export const natsReader = (nats: Nats): Objects['read'] => withTrouble<Pick<Objects, 'read'>>({ read: (address, limit) => readAddress(nats, address, limit) }).read

/** `nats://<bucket>/<name>`: an object in any bucket of the same JetStream, or what it is a link to. */
async function readAddress(nats: Nats, address: string, limit: number, isLinked = false): Promise<Buffer | null> {
  const [, bucket, name] = /^nats:\/\/([A-Za-z0-9_-]+)\/(.+)$/.exec(address) ?? []
  if (!bucket || !name) return null
  // Opening a bucket would make it: ask for its stream first.
  const exists = await nats.jsm.streams.info(`OBJ_${bucket}`).then(() => true, () => false)
  if (!exists) return null
  const store = await nats.js.views.os(bucket)
  const info = await store.info(name)
  if (info === null || info.deleted) return null
  const link = info.options?.link
  if (link) return isLinked || !link.name ? null : readAddress(nats, `nats://${link.bucket}/${link.name}`, limit, true)
  if (info.size > limit) throw new Refusal(413, 42005, `${address} has ${info.size} bytes; at most ${limit} are taken.`)
  return (await isWhole(nats, info)) ? wholeContent(nats, info) : null
}
