// What lies in a gzipped tar, entry by entry, in its order.
import { Readable } from 'node:stream'
import { gunzipSync } from 'node:zlib'
import { extract } from 'tar-stream'

export interface UnpackedEntry {
  name: string
  /** `file`, `directory` … */
  type: string
  mode: number
  /** Epoch ms. */
  mtime: number
  uid: number
  gid: number
  content: string
}

export async function unpackedEntries(gzipped: Buffer): Promise<UnpackedEntry[]> {
  const entries: UnpackedEntry[] = []
  for await (const entry of Readable.from([gunzipSync(gzipped)]).pipe(extract())) {
    const chunks: Buffer[] = []
    for await (const chunk of entry) chunks.push(chunk as Buffer)
    const { name, type, mode, mtime, uid, gid } = entry.header
    entries.push({ name, type: type!, mode: mode!, mtime: mtime!.getTime(), uid: uid!, gid: gid!, content: Buffer.concat(chunks).toString() })
  }
  return entries
}

/** Files only: name -> content. */
export const unpackedFiles = async (gzipped: Buffer): Promise<Record<string, string>> =>
  Object.fromEntries((await unpackedEntries(gzipped)).filter(({ type }) => type === 'file').map(({ name, content }) => [name, content]))
