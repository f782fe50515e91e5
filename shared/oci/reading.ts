// Reading a blob in parts, one after the other or again from where a registry wants it: opened once as long as the parts follow each other.
import type { Stream } from './requests.ts'

export interface Blob {
  digest: string
  /** Exactly. */
  bytes: number
  /** Its bytes from this one on, as often as somebody asks. */
  open(from: number): AsyncIterable<Buffer>
}

export interface Reading {
  /** So many bytes of it, from this one on. */
  part(from: number, bytes: number): Stream
  /** What the blob itself failed with; null: it did not. */
  trouble(): { error: unknown } | null
  close(): void
}

interface Cursor {
  at: number
  chunks: AsyncIterator<Buffer>
  /** Read, and not yet given out. */
  rest: Buffer
  /** Nobody reads with it at the moment: the part it was for is complete. */
  isFree: boolean
}

/** So that whoever sends it sees that it moves, however large the blob's own chunks are. */
const pieceBytes = 64 << 10

export function readingOf(blob: Blob): Reading {
  let cursor: Cursor | null = null
  let trouble: { error: unknown } | null = null

  function close(): void {
    // It may wait for something that never comes: nobody waits for that.
    cursor?.chunks.return?.().catch(() => undefined)
    cursor = null
  }
  function cursorAt(from: number): Cursor {
    if (cursor !== null && cursor.isFree && cursor.at === from) return cursor
    close()
    cursor = { at: from, chunks: blob.open(from)[Symbol.asyncIterator](), rest: Buffer.alloc(0), isFree: false }
    return cursor
  }
  async function next(mine: Cursor): Promise<Buffer> {
    const { done, value } = await mine.chunks.next()
    if (done) throw new Error(`${blob.digest} ended after ${mine.at} of ${blob.bytes} bytes`)
    return value
  }
  async function* read(from: number, bytes: number): AsyncGenerator<Buffer, void> {
    const end = from + bytes
    let mine: Cursor | null = null
    try {
      mine = cursorAt(from)
      mine.isFree = false
      while (mine.at < end) {
        if (mine.rest.length === 0) mine.rest = await next(mine)
        const piece = mine.rest.subarray(0, Math.min(pieceBytes, end - mine.at))
        mine.rest = mine.rest.subarray(piece.length)
        mine.at += piece.length
        mine.isFree = mine.at === end
        yield piece
      }
    } catch (error) {
      // What was closed may fail as it likes.
      if (mine === cursor) trouble = { error }
      throw error
    }
  }
  return { close, trouble: () => trouble, part: (from, bytes) => ({ bytes, open: () => read(from, bytes) }) }
}

/** What comes after the first `bytes`. */
export async function* beyond(bytes: number, chunks: AsyncIterable<Buffer>): AsyncGenerator<Buffer, void> {
  let left = bytes
  for await (const chunk of chunks) {
    if (chunk.length > left) yield chunk.subarray(left)
    left = Math.max(0, left - chunk.length)
  }
}
