// Tars: read with suspicion. What is in one is told only when no two readers could read it in two ways.
// Longer than 250 lines: reading a tar safely and every rule that it is held to belong together.
//
// A tar.gz goes on as it was sent, and another reader than this one unpacks it. So a tar is judged by its raw headers, and what two
// readers could read in two ways is refused. tar-stream writes; it does not read: it takes some names from where others do not look.
import { isUtf8 } from 'node:buffer'
import type { Readable } from 'node:stream'
import { aboutFile, fileName, nameFaults, notUtf8, type FileName } from './file-names.ts'
import type { Finding } from './finding.ts'
import type { ZipLimits } from './zip.ts'

/** As those of a zip. */
export type TarLimits = ZipLimits
export type TarReading = { ok: true; files: Array<{ path: string; bytes: number }> } | { ok: false; findings: Finding[] }

/** Whether a tar may begin so. */
export const looksLikeTar = (bytes: Buffer): boolean => hasRightChecksum(bytes.subarray(0, blockBytes))

/** Reads it to its end, or to what is wrong with it. Everything that is wrong with names and kinds is told at once. Throws what the source throws, unless it says that it is damaged. */
export async function readTar(source: Readable, limits: TarLimits): Promise<TarReading> {
  try {
    const entries = await entriesOf(tarBytes(source, limits), limits)
    const findings = [...entries.flatMap(entryFaults), ...nameClashes(entries)]
    return findings.length > 0 ? { ok: false, findings } : { ok: true, files: entries.filter(({ folder }) => !folder) }
  } catch (error) {
    if (error instanceof Unreadable) return { ok: false, findings: [error.finding] }
    if (isDamage(error as NodeJS.ErrnoException)) return { ok: false, findings: [brokenArchive] }
    throw error
  } finally {
    source.destroy()
  }
}

// ---- the records of a tar

const blockBytes = 512
/** For its headers. */
const bytesBesideContent = 4_096
/** For what fills up its end. */
const bytesAtTheEnd = 1 << 20
const longestExtension = 1 << 20
const noBytes: Buffer = Buffer.alloc(0)

/** There is nothing more to learn from it. */
class Unreadable extends Error {
  constructor(readonly finding: Finding) { super(finding.message) }
}

interface Header { name: Buffer; kind: string; bytes: number }

/** `bytes`: as declared. */
interface Entry extends FileName { name: Buffer; kind: string; bytes: number; sparse: boolean }

/** What the headers in front of an entry say of it, by their kind: `x` pax, `L` long name, `K` long target of a link. */
type Extensions = Map<string, Buffer>

const isDamage = ({ code }: NodeJS.ErrnoException): boolean => code === 'Z_DATA_ERROR' || code === 'Z_BUF_ERROR'

type TarBytes = ReturnType<typeof tarBytes>

/** No more is read of it than is asked for, but for the rest of a piece; and never much more than the limits allow. */
function tarBytes(source: Readable, limits: TarLimits) {
  const pieces = source[Symbol.asyncIterator]() as AsyncIterator<Buffer>
  const most = limits.maxUnpackedBytes + limits.maxEntries * bytesBesideContent + bytesAtTheEnd
  let piece: Buffer = noBytes
  let seen = 0

  async function* parts(bytes: number): AsyncIterable<Buffer> {
    for (let missing = bytes; missing > 0;) {
      if (piece.length === 0) {
        const { done, value } = await pieces.next()
        if (done) return
        piece = value
        seen += piece.length
        if (seen > most) throw new Unreadable(tooLarge(limits))
      }
      const part = piece.subarray(0, missing)
      piece = piece.subarray(part.length)
      missing -= part.length
      yield part
    }
  }

  return {
    /** As they come; fewer when the archive ends before. */
    parts,
    /** The same in one. */
    async take(bytes: number): Promise<Buffer> {
      const taken: Buffer[] = []
      for await (const part of parts(bytes)) taken.push(part)
      return Buffer.concat(taken)
    },
    /** Takes them, and keeps nothing. */
    async pass(bytes: number): Promise<void> {
      let missing = bytes
      for await (const part of parts(missing)) missing -= part.length
      if (missing > 0) throw new Unreadable(brokenArchive)
    },
  }
}

/** With what fills up the last block. */
const inBlocks = (bytes: number): number => Math.ceil(bytes / blockBytes) * blockBytes

async function entriesOf(tar: TarBytes, limits: TarLimits): Promise<Entry[]> {
  const entries: Entry[] = []
  let [unpacked, extensions]: [number, Extensions] = [0, new Map()]
  const first = await tar.take(blockBytes)
  if (!isZeros(first) && !hasRightChecksum(first)) throw new Unreadable(notAnArchive)
  for (let block = first; !isZeros(block); block = await tar.take(blockBytes)) {
    const header = headerOf(block)
    if ('gxLK'.includes(header.kind)) {
      await readExtension(tar, header, extensions)
      continue
    }
    const entry = entryOf(header, extensions)
    extensions = new Map()
    if (entries.push(entry) > limits.maxEntries) throw new Unreadable(tooMany(limits))
    // Links, devices and folders have no content, whatever they declare.
    const content = /[1-6]/.test(entry.kind) ? 0 : entry.bytes
    unpacked += content
    if (unpacked > limits.maxUnpackedBytes) throw new Unreadable(tooLarge(limits))
    await tar.pass(inBlocks(content))
  }
  await readEnd(tar)
  return entries
}

/** The second of two blocks of zeros, and nothing but zeros after it. */
async function readEnd(tar: TarBytes): Promise<void> {
  const second = await tar.take(blockBytes)
  if (second.length < blockBytes) throw new Unreadable(brokenArchive)
  if (!isZeros(second)) throw new Unreadable(ambiguous)
  for await (const part of tar.parts(Infinity)) if (!isZeros(part)) throw new Unreadable(ambiguous)
}

/** Two of a kind are read in two ways, and so is one for all entries that names them or says how long they are. */
async function readExtension(tar: TarBytes, { kind, bytes }: Header, extensions: Extensions): Promise<void> {
  if (bytes > longestExtension) throw new Unreadable(brokenArchive)
  const blocks = await tar.take(inBlocks(bytes))
  if (blocks.length < inBlocks(bytes)) throw new Unreadable(brokenArchive)
  const content = blocks.subarray(0, bytes)
  const isForAll = kind === 'g'
  if (isForAll && [...recordsOf(content).keys()].some((key) => /^(path|linkpath|size|GNU\.sparse\..*)$/.test(key))) throw new Unreadable(ambiguous)
  if (extensions.has(kind)) throw new Unreadable(ambiguous)
  if (!isForAll) extensions.set(kind, content)
}

function entryOf(header: Header, extensions: Extensions): Entry {
  const pax = recordsOf(extensions.get('x') ?? noBytes)
  const [path, long] = [pax.get('path') ?? noBytes, untilNul(extensions.get('L') ?? noBytes)]
  if (path.length > 0 && long.length > 0) throw new Unreadable(ambiguous)
  const name = [path, long].find(({ length }) => length > 0) ?? header.name
  const text = name.toString('utf8')
  // Before there was a kind of their own, folders were files whose names end with a slash.
  const kind = header.kind === '\0' ? (text.endsWith('/') ? '5' : '0') : header.kind
  const sparse = [...pax.keys()].some((key) => key.startsWith('GNU.sparse.'))
  return { name, kind, sparse, bytes: sizeOf(pax) ?? header.bytes, ...fileName(kind === '5' && !text.endsWith('/') ? `${text}/` : text) }
}

function sizeOf(pax: ReadonlyMap<string, Buffer>): number | null {
  const text = pax.get('size')?.toString('latin1') ?? ''
  if (text === '') return null
  if (!/^\d{1,15}$/.test(text)) throw new Unreadable(brokenArchive)
  return Number(text)
}

/** `<length> <key>=<value>\n`, again and again; the length is that of all of it. */
function recordsOf(pax: Buffer): Map<string, Buffer> {
  const records = new Map<string, Buffer>()
  for (let at = 0, end = 0; at < pax.length; at = end) {
    const space = pax.indexOf(' ', at)
    const length = pax.toString('latin1', at, Math.max(at, space))
    if (!/^[1-9]\d{0,7}$/.test(length)) throw new Unreadable(brokenArchive)
    end = at + Number(length)
    const equals = pax.indexOf('=', space)
    if (end > pax.length || pax[end - 1] !== 0x0a || equals < 0 || equals >= end) throw new Unreadable(brokenArchive)
    records.set(pax.toString('utf8', space + 1, equals), pax.subarray(equals + 1, end - 1))
  }
  return records
}

/** Mode, owner, group and time: who unpacks it stops at one that is none. */
const otherNumbers = [[100, 108], [108, 116], [116, 124], [136, 148]] as const
const isNumber = (field: Buffer): boolean => field[0] === 0x80 || field[0] === 0xff || octalIn(field) !== null

function headerOf(block: Buffer): Header {
  if (!hasRightChecksum(block)) throw new Unreadable(brokenArchive)
  const bytes = numberIn(block.subarray(124, 136))
  if (bytes === null || !otherNumbers.every(([from, to]) => isNumber(block.subarray(from, to)))) throw new Unreadable(brokenArchive)
  const [name, prefix] = [untilNul(block.subarray(0, 100)), prefixOf(block)]
  return { name: prefix.length > 0 ? Buffer.concat([prefix, Buffer.from('/'), name]) : name, kind: String.fromCharCode(block[156]!), bytes }
}

/** What stands before the name. One format has less room for it than another, and one has times in its place, which some take for a name when they are none. */
function prefixOf(block: Buffer): Buffer {
  const magic = block.toString('latin1', 257, 265)
  if (magic === '\0'.repeat(8)) return noBytes
  if (magic.startsWith('ustar\0') && block.toString('latin1', 508) !== 'tar\0') return untilNul(block.subarray(345, 500))
  const times = [block.subarray(345, 357), block.subarray(357, 369)]
  if (magic === 'ustar  \0' && times.every((time) => time[0] === 0 || octalIn(time) !== null)) return noBytes
  throw new Unreadable(ambiguous)
}

function hasRightChecksum(block: Buffer): boolean {
  if (block.length < blockBytes) return false
  let sum = 0
  for (let at = 0; at < blockBytes; at++) sum += at >= 148 && at < 156 ? 0x20 : block[at]!
  return octalIn(block.subarray(148, 156)) === sum
}

/** Octal, or for what is too large for that, binary after a byte of 0x80. null: neither. */
function numberIn(field: Buffer): number | null {
  if (field[0] !== 0x80) return octalIn(field)
  return isZeros(field.subarray(1, 6)) ? field.readUIntBE(6, 6) : null
}

function octalIn(field: Buffer): number | null {
  const digits = /^ *([0-7]*)[ \0]*$/.exec(field.toString('latin1'))?.[1]
  return digits === undefined ? null : parseInt(`0${digits}`, 8)
}

function untilNul(field: Buffer): Buffer {
  const end = field.indexOf(0)
  return end < 0 ? field : field.subarray(0, end)
}

const isZeros = (bytes: Buffer): boolean => bytes.length > 0 && bytes.equals(Buffer.alloc(bytes.length))

// ---- the rules

interface Rule { code: string; breaks(entry: Entry): boolean; says: string; fix: string }

const repack = 'Make it again with a usual tool, for example `tar -czf build.tar.gz .` inside the folder.'

const rules: Rule[] = [
  { code: 'SymbolicLink', breaks: ({ kind }) => kind === '2', says: 'is a symbolic link', fix: 'Put the file itself in its place; `tar --dereference` does so.' },
  { code: 'HardLink', breaks: ({ kind }) => kind === '1', says: 'is a hard link', fix: 'Put the file itself in its place; `tar --hard-dereference` does so.' },
  { code: 'SpecialFile', breaks: ({ kind, sparse }) => !'0125'.includes(kind) || sparse, says: 'is neither a regular file nor a folder', fix: 'Leave it out, or put a regular file in its place.' },
  { code: 'FolderHasContent', breaks: ({ folder, kind, bytes }) => folder && (kind === '0' || (kind === '5' && bytes > 0)), says: 'is named as a folder but is a file', fix: repack },
]

function entryFaults(entry: Entry): Finding[] {
  const ofName = [...(isUtf8(entry.name) ? [] : [notUtf8(entry)]), ...nameFaults(entry)]
  return [...ofName, ...rules.filter((rule) => rule.breaks(entry)).map(({ code, says, fix }) => aboutFile(entry.text, code, says, fix))]
}

/** Sorted with NUL for the slash, equal names and a file before "its" content become neighbours. */
function nameClashes(entries: readonly Entry[]): Finding[] {
  const keyed = entries.map((entry) => ({ entry, key: entry.path.replaceAll('/', '\0') })).sort((a, b) => (a.key < b.key ? -1 : a.key > b.key ? 1 : 0))
  return keyed.slice(1).flatMap(({ entry, key }, i) => {
    const before = keyed[i]!
    const within = !before.entry.folder && key.startsWith(`${before.key}\0`)
    if (key !== before.key && !within) return []
    if (within || entry.folder !== before.entry.folder) return [aboutFile(before.entry.text, 'FileAndFolder', 'is both a file and a folder', 'Rename one of the two.')]
    return [aboutFile(entry.text, 'DuplicateName', 'is in the archive more than once', 'Keep one of them; make the archive afresh rather than adding to an old one.')]
  })
}

// ---- the words

export const notAnArchive: Finding = { code: 'NotAnArchive', message: 'This is neither a zip, nor a tar, nor a gzipped tar.', fix: 'Send one of these, for example what `tar -czf build.tar.gz .` makes inside the folder.' }
export const brokenArchive: Finding = { code: 'BrokenArchive', message: 'The archive is damaged or cut short, or something follows it.', fix: 'Send it again, whole; or make it afresh.' }
const ambiguous: Finding = { code: 'AmbiguousTar', message: 'The tar can be read in more than one way: tools would not agree on the names or the number of its files.', fix: repack }

const leaveOut = 'Leave out what the image does not need.'
const tooMany = ({ maxEntries }: TarLimits): Finding => ({ code: 'TooManyEntries', message: `The archive has more than ${maxEntries} files and folders.`, fix: leaveOut })
const tooLarge = ({ maxUnpackedBytes }: TarLimits): Finding => ({ code: 'UnpacksTooLarge', message: `The archive unpacks to more than the ${maxUnpackedBytes} bytes that are allowed.`, fix: leaveOut })
