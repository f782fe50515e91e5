// Objects: archives and contexts by name. The port; `nats/objects.ts` on JetStream Object Store, `s3/objects.ts` on S3.

/** Bytes that can be read more than once. */
export interface Content {
  bytes: number
  /** From the beginning. A piece stays as it is once it is given. */
  open(): AsyncIterable<Uint8Array>
}

export interface Listed {
  name: string
  bytes: number
  /** Of the last put, as the store tells it: epoch ms, on some stores of a whole second. */
  modifiedMs: number
}

export interface Objects {
  /** Stores under this name, replacing what was there. Complete or not at all: a content that ends before or after its `bytes` is an Error, and what it throws is thrown. */
  put(name: string, content: Uint8Array | Content): Promise<void>
  /** null: there is no such object. */
  get(name: string): Promise<Buffer | null>
  /**
   * From byte `from` to the end, as it is read; nothing when it has no more than `from` bytes. null: there is no such object.
   * The reader sets the pace, and may stop where it likes. What breaks on the way, or is replaced before it was read, throws Unavailable.
   */
  part(name: string, from: number): Promise<AsyncIterable<Buffer> | null>
  has(name: string): Promise<boolean>
  /** Without asking the store: true may be a moment old, false may be for want of knowing. */
  knows(name: string): boolean
  /** Removing what is not there is fine. */
  remove(name: string): Promise<void>
  /** Every object whose name begins with `prefix`, in no order. */
  list(prefix: string): Promise<Listed[]>
  /** What an address such as `nats://bucket/name` or `s3://bucket/key` names, outside kiln's own store; null: nothing there. At most `limit` bytes, else Refusal 413. */
  read(address: string, limit: number): Promise<Buffer | null>
}

export const archiveName = (sha256: string): string => `archives/${sha256}.zip`
export const contextName = (digest: string): string => `contexts/${digest}.tar.gz`

/** In pieces of `size` bytes, but for the last; copied where its own pieces begin or end within one. Throws when there are more bytes than there should be, or, at the end, fewer. */
export async function* piecesOf(name: string, content: Content, size: number): AsyncGenerator<Uint8Array, void> {
  let [seen, filled] = [0, 0]
  let piece: Buffer | null = null
  for await (const given of content.open()) {
    seen += given.byteLength
    if (seen > content.bytes) throw new Error(`the content of ${name} does not end after the ${content.bytes} bytes that it should have`)
    for (let at = 0; at < given.byteLength;) {
      const taken = given.subarray(at, at + size - filled)
      at += taken.byteLength
      if (taken.byteLength === size) {
        yield taken
        continue
      }
      piece ??= Buffer.allocUnsafeSlow(Math.min(size, content.bytes))
      piece.set(taken, filled)
      filled += taken.byteLength
      if (filled < size) continue
      yield piece
      piece = null
      filled = 0
    }
  }
  if (seen < content.bytes) throw new Error(`the content of ${name} ended after ${seen} of the ${content.bytes} bytes that it should have`)
  if (piece) yield piece.subarray(0, filled)
}
