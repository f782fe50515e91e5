// The entries of a tar as the programs read it that the stand-ins stand for: up to two blocks of zeros, and nothing after them.
import { gunzipSync } from 'node:zlib'
import { extract, type Header } from 'tar-stream'

export interface TarEntry {
  header: Header
  content: Buffer
}

/** A tar as it is, or gzipped: in one piece, or in several, one after the other. */
export const plainTar = (bytes: Buffer): Buffer => (bytes[0] === 0x1f && bytes[1] === 0x8b ? gunzipSync(bytes) : bytes)

const block = 512
const end = Buffer.alloc(2 * block)

/** Of a tar as it is. What pax headers say of an entry is in its header. */
export async function* entriesOf(tar: Buffer): AsyncGenerator<TarEntry> {
  const entries = extract()
  entries.end(tar)
  for await (const entry of entries) {
    const { byteOffset, size } = entry.header as Header & { byteOffset: number }
    yield { header: entry.header, content: tar.subarray(byteOffset, byteOffset + size) }
    entry.resume()
    const next = byteOffset + Math.ceil(size / block) * block
    if (tar.subarray(next, next + end.length).equals(end)) return
  }
}
