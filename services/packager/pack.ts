// Packing: a reproducible gzipped tar whose end is a gzipped tar of its own, the code as an image's layer. Same input, same bytes.
//
// Two gzip members after each other are one gzip, and a tar without its end goes on in the next: so the whole is what a builder takes as its
// context, and its second member, untouched, is what a registry takes as the layer. Nothing is packed twice.
import { createHash, type Hash } from 'node:crypto'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { createGzip } from 'node:zlib'
import { pack as tar, type Pack } from 'tar-stream'
import type { CodePart } from '../../shared/builds.ts'
import type { Content } from '../../shared/objects.ts'
import { spool } from './spool.ts'

/** One file, read when its turn comes. */
export interface PackedFile {
  path: string
  bytes: number
  open(): AsyncIterable<Buffer>
}

export const inMemory = (path: string, content: Buffer): PackedFile => ({ path, bytes: content.length, open: () => inPieces(content) })

export interface Packed {
  content: Content
  /** SHA-256 (hex) of the archive. */
  digest: string
  code: CodePart
  /** Frees what holds it. */
  drop(): Promise<void>
}

/** gzip levels. `usual` takes half the time of 6, for a tenth more bytes. `none` is for what is packed already: trying takes long and gains nothing. */
export const levels = { usual: 3, none: 0 } as const
const endOfTarBytes = 1_024
const pieceBytes = 256 << 10

/**
 * `head`: small files at the archive's top. `code`: what becomes the layer, its paths as they are in the image, without the first slash;
 * their folders are added. One file is open at a time. Throws what `open` throws.
 */
export async function pack(head: ReadonlyMap<string, Buffer>, code: readonly PackedFile[], level: number = levels.usual): Promise<Packed> {
  const archive = spool()
  const [whole, part, unpacked] = [createHash('sha256'), createHash('sha256'), createHash('sha256')]
  const write = (...hashes: Hash[]) => async (source: AsyncIterable<Buffer>): Promise<void> => {
    let isFirst = true
    for await (const chunk of source) {
      // The tenth byte of a gzip names the operating system.
      if (isFirst) chunk[9] = 255
      isFirst = false
      for (const hash of hashes) hash.update(chunk)
      await archive.write(chunk)
    }
  }
  try {
    await pipeline(Readable.from([await headOf(head)]), createGzip({ level: levels.usual }), write(whole))
    const offset = archive.bytes
    await pipeline(tarOf(code), hashing(unpacked), createGzip({ level, chunkSize: 256 << 10 }), write(whole, part))
    return {
      content: archive, digest: whole.digest('hex'), drop: () => archive.drop(),
      code: { offset, bytes: archive.bytes - offset, digest: `sha256:${part.digest('hex')}`, unpacked: `sha256:${unpacked.digest('hex')}` },
    }
  } catch (error) {
    await archive.drop()
    throw error
  }
}

/** In pieces worth a turn of the compressor's: of small files a tar gives three small chunks each. */
const hashing = (hash: Hash) => async function* (source: AsyncIterable<Buffer>): AsyncIterable<Buffer> {
  let [chunks, bytes]: [Buffer[], number] = [[], 0]
  for await (const chunk of source) {
    hash.update(chunk)
    chunks.push(chunk)
    bytes += chunk.length
    if (bytes < pieceBytes) continue
    yield chunks.length === 1 ? chunk : Buffer.concat(chunks, bytes)
    chunks = []
    bytes = 0
  }
  if (bytes > 0) yield Buffer.concat(chunks, bytes)
}

/** A tar that goes on: without the blocks that end one. */
async function headOf(files: ReadonlyMap<string, Buffer>): Promise<Buffer> {
  const chunks: Buffer[] = []
  for await (const chunk of tarOf([...files].map(([path, content]) => inMemory(path, content)))) chunks.push(chunk)
  return Buffer.concat(chunks).subarray(0, -endOfTarBytes)
}

const owned = { uid: 0, gid: 0, mtime: new Date(0) }

async function* tarOf(files: readonly PackedFile[]): AsyncIterable<Buffer> {
  const archive = tar()
  const fed = feed(archive, files)
  // It is told by the reading, which it ends.
  fed.catch((error: Error) => archive.destroy(error))
  for await (const chunk of archive) yield chunk as Buffer
  await fed
}

/** Folders before what lies in them, everything in the order of its bytes. */
async function feed(archive: Pack, files: readonly PackedFile[]): Promise<void> {
  const folders = [...new Set(files.flatMap(({ path }) => foldersOf(path)))].map((path) => ({ path, open: null }))
  for (const file of [...folders, ...files].sort((a, b) => Buffer.compare(Buffer.from(a.path), Buffer.from(b.path)))) {
    if (file.open === null) archive.entry({ ...owned, name: file.path, type: 'directory', mode: 0o755 })
    else await entry(archive, file)
  }
  archive.finalize()
}

/** Resolves when the archive has taken it: no more than one is waiting. */
async function entry(archive: Pack, { path, bytes, open }: PackedFile): Promise<void> {
  const header = { ...owned, name: path, mode: 0o644, size: bytes }
  if (bytes > pieceBytes) return pipeline(open(), archive.entry(header))
  // Most files are small, and a pipeline for each would take longer than they do.
  const content = await contentOf(open())
  if (content.length !== bytes) throw new Error(`${path} is said to have ${bytes} bytes, and has ${content.length}.`)
  await new Promise<void>((resolve, reject) => archive.entry(header, content, (error) => (error ? reject(error) : resolve())))
}

export async function contentOf(pieces: AsyncIterable<Buffer>): Promise<Buffer> {
  const all: Buffer[] = []
  for await (const piece of pieces) all.push(piece)
  return all.length === 1 ? all[0]! : Buffer.concat(all)
}

/** Small ones: whoever has taken the last has compressed nearly all, and a large file holds up nobody else while it is hashed. */
async function* inPieces(content: Buffer): AsyncIterable<Buffer> {
  for (let at = 0; at < content.length; at += pieceBytes) yield content.subarray(at, at + pieceBytes)
}

/** `a/b/c.txt` → `a/`, `a/b/` */
const foldersOf = (path: string): string[] => path.split('/').slice(0, -1).map((_, i, parts) => `${parts.slice(0, i + 1).join('/')}/`)
