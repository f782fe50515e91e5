// Code: the files of a context, unpacked under its digest, whole or not at all.
import { createHash } from 'node:crypto'
import { mkdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { PassThrough, Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { createGunzip } from 'node:zlib'
import { extract, type Extract } from 'tar-stream'
import { reveal, unseen } from './folders.ts'

type Entry = Extract extends AsyncIterable<infer One> ? One : never

/** The context is not what kiln packs. */
export class BadContext extends Error {}

export interface Code {
  folder: string
  runtimeRequirements: string
  /** The user's requirements.txt; null: there is none. */
  requirements: string | null
}

/** Finds the context's code below `folder`, or unpacks it there. Throws BadContext, or the signal's reason. */
export async function codeOf(folder: string, digest: string, archive: () => Promise<Buffer>, signal: AbortSignal): Promise<Code> {
  const home = join(folder, digest)
  if (!(await stat(home).then(() => true, () => false))) await unpack(await archive(), digest, home, signal)
  return {
    folder: codeFolder(folder, digest),
    runtimeRequirements: (await textOf(join(codeFolder(folder, digest), 'luna_lambda_tools', 'requirements.txt'))) ?? '',
    requirements: await textOf(join(codeFolder(folder, digest), 'requirements.txt')),
  }
}

/** Its Dockerfile. Throws BadContext when there is none at its top. */
export async function dockerfileIn(archive: Buffer): Promise<string> {
  const tar = extract()
  const unpacking = pipeline(Readable.from([archive]), createGunzip(), tar)
  unpacking.catch(() => undefined)
  for await (const entry of tar) {
    if (entry.header.name !== 'Dockerfile') {
      entry.resume()
      continue
    }
    const text: Buffer[] = []
    for await (const piece of entry as AsyncIterable<Buffer>) text.push(piece)
    tar.destroy()
    return Buffer.concat(text).toString()
  }
  throw new BadContext('it has no Dockerfile')
}

/** As in an image, without its Dockerfile. */
export const codeFolder = (folder: string, digest: string): string => join(folder, digest, 'lambda')

async function unpack(archive: Buffer, digest: string, home: string, signal: AbortSignal): Promise<void> {
  const found = createHash('sha256').update(archive).digest('hex')
  if (found !== digest) throw new BadContext(`its digest is ${found}, and not ${digest}`)
  await mkdir(dirname(home), { recursive: true })
  const draft = await unseen(dirname(home), 'unpacking')
  try {
    await mkdir(join(draft, 'lambda'), { recursive: true })
    await writeEntries(archive, draft, signal)
    await reveal(draft, home)
  } finally {
    await rm(draft, { recursive: true, force: true })
  }
}

async function writeEntries(archive: Buffer, draft: string, signal: AbortSignal): Promise<void> {
  const tar = extract()
  const plain = new PassThrough()
  const unpacking = pipeline(Readable.from([archive]), createGunzip(), plain, { signal })
  const feeding = pipeline(plain, tar, { signal })
  try {
    for await (const entry of tar) await writeEntry(entry, draft)
    await Promise.all([unpacking, feeding])
  } catch (error) {
    plain.destroy()
    await Promise.allSettled([unpacking, feeding])
    signal.throwIfAborted()
    throw isDamage(error) ? new BadContext(`it cannot be unpacked (${(error as Error).message})`, { cause: error }) : error
  }
}

async function writeEntry(entry: Entry, draft: string): Promise<void> {
  const { name, type, mode } = entry.header
  if (!isWanted(name)) return void entry.resume()
  if (type !== 'file' && type !== 'directory') throw new BadContext(`${name} is neither a file nor a folder`)
  if (climbs(name)) throw new BadContext(`${name} lies outside of it`)
  const path = join(draft, name)
  if (type === 'directory') {
    entry.resume()
    return void (await mkdir(path, { recursive: true }))
  }
  await mkdir(dirname(path), { recursive: true })
  await writeFile(path, entry as AsyncIterable<Uint8Array>, { flag: 'wx', mode: mode & 0o111 ? 0o755 : 0o644 })
}

const isWanted = (name: string): boolean => /^(\.\/)*lambda(\/|$)/.test(name) || climbs(name)

const climbs = (name: string): boolean => name.startsWith('/') || name.includes('\\') || name.includes('\0') || name.split('/').includes('..')

/** The archive's own fault, in contrast to the disk's. */
function isDamage(error: unknown): boolean {
  if (error instanceof BadContext) return false
  const { code } = error as NodeJS.ErrnoException
  return code === undefined || code === 'EEXIST' || code === 'ENOTDIR' || code === 'EISDIR' || code.startsWith('Z_') || code.startsWith('ERR_')
}

const textOf = (path: string): Promise<string | null> => readFile(path, 'utf8').catch((error: NodeJS.ErrnoException) => {
  if (error.code === 'ENOENT' || error.code === 'EISDIR') return null
  throw error
})
