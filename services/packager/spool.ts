// A spool: bytes that come before it is known what they are. Few are held in memory, many in a file.
import { createReadStream } from 'node:fs'
import { mkdtemp, open, rm, type FileHandle } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Content } from '../../shared/objects.ts'

export interface Spool extends Content {
  write(chunk: Buffer): Promise<void>
  /** Forgets everything. What `open` gave must have been read by then. */
  drop(): Promise<void>
}

/** Most lambdas are smaller. */
const inMemoryBytes = 4 << 20

export function spool(limit = inMemoryBytes): Spool {
  let chunks: Buffer[] = []
  let bytes = 0
  let file: { folder: string; path: string; handle: FileHandle } | null = null

  async function toFile(): Promise<FileHandle> {
    const folder = await mkdtemp(join(tmpdir(), 'kiln-packing-'))
    const path = join(folder, 'context')
    file = { folder, path, handle: await open(path, 'w') }
    for (const chunk of chunks) await file.handle.appendFile(chunk)
    chunks = []
    return file.handle
  }

  return {
    get bytes() { return bytes },
    async write(chunk) {
      bytes += chunk.length
      if (file) await file.handle.appendFile(chunk)
      else if (chunks.push(chunk) && bytes > limit) await toFile()
    },
    open: () => (file ? createReadStream(file.path, { highWaterMark: 1 << 20 }) : chunked(chunks)),
    async drop() {
      chunks = []
      if (!file) return
      await file.handle.close()
      await rm(file.folder, { recursive: true, force: true })
    },
  }
}

async function* chunked(chunks: readonly Buffer[]): AsyncIterable<Buffer> {
  yield* chunks
}
