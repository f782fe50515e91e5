// Zips: read with suspicion, written the same way every time. The only file that knows adm-zip.
// Longer than 250 lines: reading a zip safely and every rule that it is held to belong together.
//
// adm-zip writes. It does not read: it throws at the first of many faults, shows neither overlaps nor local names, makes
// every parent folder of every name, and computes checksums on the event loop. A zip from a stranger is judged by its raw
// records, so that no two readers can see different files in it.

import AdmZip from 'adm-zip'
import { isUtf8 } from 'node:buffer'
import { pipeline, Readable } from 'node:stream'
import { promisify } from 'node:util'
import { crc32, createInflateRaw, inflateRaw } from 'node:zlib'
import { aboutFile, fileName, nameFaults, notUtf8, visible, type FileName } from './file-names.ts'
import type { Finding } from './finding.ts'

export interface ZipLimits { maxUnpackedBytes: number; maxEntries: number }
export type ZipReading = { ok: true; files: Map<string, Buffer> } | { ok: false; findings: Finding[] }

/** A file of a zip whose structure and names are sound. */
export interface ZipFile {
  path: string
  /** As declared; no more is ever inflated. */
  bytes: number
  /** In the zip. */
  packedBytes: number
  /** Inflated now, and checked; or what is wrong with it. */
  content(): Promise<Buffer | Finding>
  /** The same, piece by piece: little of a large file is in memory. Throws DamagedFile, maybe after the last piece. */
  open(): AsyncIterable<Buffer>
}

/** A file's content is not what the zip says of it. */
export class DamagedFile extends Error {
  constructor(readonly finding: Finding) { super(finding.message) }
}

export type OpenZip = { ok: true; files: ZipFile[] } | { ok: false; findings: Finding[] }

/**
 * Looks at a zip's structure and names only: its files in byte order of their paths, without folders, `__MACOSX/` and `.DS_Store`.
 * Never throws. A zip that is broken, hostile or open to two readings is refused with everything that is wrong with it.
 */
export function openZip(bytes: Buffer, limits: ZipLimits): OpenZip {
  const outline = findEnd(bytes)
  if ('code' in outline) return refused([outline])
  const entries = readDirectory(outline, limits)
  if ('code' in entries) return refused([entries])
  const findings = [...entries.flatMap(entryFaults), ...nameClashes(entries), ...layoutFaults(outline, entries), ...declaredSize(entries, limits)]
  if (findings.length > 0) return refused(findings)
  const wanted = entries.filter(({ path, folder }) => !folder && !/^__MACOSX\/|(^|\/)\.DS_Store$/.test(path))
  const sorted = wanted.map((entry) => ({ entry, name: Buffer.from(entry.path) })).sort((a, b) => Buffer.compare(a.name, b.name))
  const files = sorted.map(({ entry }): ZipFile => ({
    path: entry.path, bytes: entry.size, packedBytes: entry.packed, content: () => unpackOne(outline.zip, entry), open: () => openOne(outline.zip, entry),
  }))
  return { ok: true, files }
}

/** Reads a whole zip into memory: path -> content. What `openZip` refuses is refused, and then what is wrong with the contents. */
export async function readZip(bytes: Buffer, limits: ZipLimits): Promise<ZipReading> {
  const zip = openZip(bytes, limits)
  return zip.ok ? unpack(zip.files) : zip
}

/** Writes path -> content (strings as UTF-8) as a zip with fixed times and sorted names: the same files make the same bytes. */
export function writeZip(files: Map<string, Buffer | string>): Buffer {
  const zip = new AdmZip(undefined, { noSort: true })
  for (const [path, content] of [...files].sort(([a], [b]) => Buffer.compare(Buffer.from(a), Buffer.from(b)))) {
    const entry = zip.addFile(path, Buffer.from(content as string))
    entry.header.time = new Date(1980, 0, 1)
    entry.header.made = MADE_ON_UNIX
  }
  return zip.toBuffer()
}

// ---- the records

const MADE_ON_UNIX = 0x0314
const LOCAL_SIGNATURE = 0x04034b50
const CENTRAL_SIGNATURE = 0x02014b50
const END64_LOCATOR_SIGNATURE = 0x07064b50
const END = Buffer.from('PK\x05\x06')
const RECORDS = [Buffer.from('PK\x03\x04'), Buffer.from('PK\x01\x02'), END]
const MOST_FINDINGS = 100
const AT_ONCE = 16
/** A stream for each of many small files would take longer than they do. */
const IN_ONE_GO_BYTES = 1 << 20
const PIECE_BYTES = 256 << 10

/** `before` is what was glued in front; `directory` and `end` are offsets in `zip`, which begins after it. */
interface Outline { before: Buffer; zip: Buffer; directory: number; end: number; count: number }

interface Entry extends FileName {
  name: Buffer; flags: number; method: number; crc: number
  packed: number; size: number; disk: number; kind: number; local: number; next: number
}

function findEnd(bytes: Buffer): Outline | Finding {
  const fits = (at: number) => at + 22 <= bytes.length && at + 22 + bytes.readUInt16LE(at + 20) <= bytes.length
  let end = bytes.lastIndexOf(END)
  while (end >= 0 && !fits(end)) end = end === 0 ? -1 : bytes.lastIndexOf(END, end - 1)
  if (end < 0) return bytes.subarray(0, 2).toString('latin1') === 'PK' ? truncated : notAZip
  if (end >= 20 && bytes.readUInt32LE(end - 20) === END64_LOCATOR_SIGNATURE) return zip64
  const count = bytes.readUInt16LE(end + 10)
  if (bytes.readUInt32LE(end + 4) !== 0 || bytes.readUInt16LE(end + 8) !== count) return multiDisk
  const directory = bytes.readUInt32LE(end + 16)
  const glued = end - bytes.readUInt32LE(end + 12) - directory
  if (glued < 0) return truncated
  if (glued > 0 && bytes.readUInt32LE(directory) === CENTRAL_SIGNATURE) return ambiguous
  return { before: bytes.subarray(0, glued), zip: bytes.subarray(glued), directory, end: end - glued, count }
}

function readDirectory({ zip, directory, end, count }: Outline, limits: ZipLimits): Entry[] | Finding {
  const tooMany: Finding = {
    code: 'TooManyEntries', message: `The zip has more than ${limits.maxEntries} files and folders.`,
    fix: 'Leave out what the lambda does not need, or name packages in requirements.txt instead of bundling them.',
  }
  const entries: Entry[] = []
  for (let at = directory; at < end; at = entries.at(-1)!.next) {
    const entry = readRecord(zip, at, end)
    if (entry === null) return brokenDirectory
    if (entries.push(entry) > limits.maxEntries) return tooMany
  }
  return entries.length === count ? entries : brokenDirectory
}

function readRecord(zip: Buffer, at: number, end: number): Entry | null {
  if (at + 46 > end || zip.readUInt32LE(at) !== CENTRAL_SIGNATURE) return null
  const [nameLength, extraLength, commentLength] = [28, 30, 32].map((field) => zip.readUInt16LE(at + field)) as [number, number, number]
  const next = at + 46 + nameLength + extraLength + commentLength
  if (next > end) return null
  const name = zip.subarray(at + 46, at + 46 + nameLength)
  const text = name.toString('utf8')
  return {
    name, next, ...fileName(text),
    flags: zip.readUInt16LE(at + 8), method: zip.readUInt16LE(at + 10), crc: zip.readUInt32LE(at + 16),
    packed: zip.readUInt32LE(at + 20), size: zip.readUInt32LE(at + 24), disk: zip.readUInt16LE(at + 34),
    kind: zip.readUInt16LE(at + 40) & 0xf000, local: zip.readUInt32LE(at + 42),
  }
}

// ---- one entry by itself

interface Rule { code: string; breaks: (entry: Entry) => boolean; says: string; fix: string }

const REPACK = 'Make the zip again with a usual tool, for example `zip -r lambda.zip .` inside the folder.'
const REGULAR_KINDS = [0, 0x8000]
const FOLDER_KIND = 0x4000
const SYMBOLIC_LINK_KIND = 0xa000

const entryRules: Rule[] = [
  { code: 'Encrypted', breaks: (e) => (e.flags & 0x2041) !== 0, says: 'is encrypted', fix: 'Make the zip without a password.' },
  { code: 'UnsupportedMethod', breaks: (e) => ![0, 8].includes(e.method) || (e.flags & 0x20) !== 0, says: 'is compressed by a method other than deflate', fix: REPACK },
  { code: 'SymbolicLink', breaks: (e) => e.kind === SYMBOLIC_LINK_KIND, says: 'is a symbolic link', fix: 'Put the file itself in its place; `zip` does so unless told `-y`.' },
  { code: 'SpecialFile', breaks: isSpecial, says: 'is neither a regular file nor a folder', fix: 'Leave it out of the zip.' },
  { code: 'FolderHasContent', breaks: (e) => e.folder && e.size > 0, says: 'is named as a folder but has content', fix: REPACK },
  { code: 'MultiDisk', breaks: (e) => e.disk !== 0, says: 'lies in another part of a split zip', fix: 'Send one zip that is not split.' },
]

function entryFaults(entry: Entry): Finding[] {
  const ofName = [...(isUtf8(entry.name) ? [] : [notUtf8(entry)]), ...nameFaults(entry)]
  return [...ofName, ...entryRules.filter((rule) => rule.breaks(entry)).map(({ code, says, fix }) => about(entry, code, says, fix))]
}

function isSpecial({ kind, folder }: Entry): boolean {
  return !REGULAR_KINDS.includes(kind) && kind !== SYMBOLIC_LINK_KIND && !(kind === FOLDER_KIND && folder)
}

// ---- the entries together

/** Sorted with NUL for the slash, equal names and a file before "its" content become neighbours. */
function nameClashes(entries: Entry[]): Finding[] {
  const keyed = entries.filter((entry) => entry.path !== '')
    .map((entry) => ({ entry, key: entry.path.normalize('NFC').toLowerCase().replaceAll('/', '\0') }))
    .sort((a, b) => (a.key < b.key ? -1 : a.key > b.key ? 1 : 0))
  return keyed.slice(1).flatMap((b, i) => clash(keyed[i]!, b))
}

function clash(a: { entry: Entry; key: string }, b: { entry: Entry; key: string }): Finding[] {
  const [first, second] = [a.entry, b.entry]
  const within = !first.folder && b.key.startsWith(a.key + '\0')
  if (a.key !== b.key && !within) return []
  const exact = first.path === second.path || second.path.startsWith(first.path + '/')
  if (exact && (within || first.folder !== second.folder)) return [about(first, 'FileAndFolder', 'is both a file and a folder', 'Rename one of the two.')]
  if (exact) return [about(first, 'DuplicateName', 'is in the zip more than once', 'Keep one of them; make the zip afresh rather than adding to an old one.')]
  if (first.folder && second.folder) return []
  return [about(first, 'NamesCollide', `is the same as ${visible(second.text)} where upper and lower case (or two spellings of an accent) do not count`, 'Rename one of the two.')]
}

function layoutFaults({ before, zip, directory, end }: Outline, entries: Entry[]): Finding[] {
  const findings: Finding[] = []
  const between = [before, zip.subarray(end + 22)]
  let reached = 0
  for (const entry of [...entries].sort((a, b) => a.local - b.local)) {
    const fault = localFault(zip, entry, directory)
    if (fault !== null) { findings.push(fault); continue }
    if (entry.local < reached) findings.push(about(entry, 'OverlappingEntries', 'shares bytes with another file in the zip', REPACK))
    else between.push(zip.subarray(reached, entry.local))
    reached = Math.max(reached, contentStart(zip, entry) + entry.packed)
  }
  between.push(zip.subarray(reached, directory))
  const hidden = between.some((gap) => RECORDS.some((signature) => gap.includes(signature)))
  return findings.length === 0 && hidden ? [ambiguous] : findings
}

function localFault(zip: Buffer, entry: Entry, directory: number): Finding | null {
  const { local, name } = entry
  const outside = about(entry, 'BrokenDirectory', 'is not where the zip says it is', REPACK)
  if (local + 30 > directory || zip.readUInt32LE(local) !== LOCAL_SIGNATURE) return outside
  if (contentStart(zip, entry) + entry.packed > directory) return about(entry, 'OverlappingEntries', "reaches into the zip's list of files", REPACK)
  const sameName = zip.subarray(local + 30, local + 30 + zip.readUInt16LE(local + 26)).equals(name)
  const sameWay = zip.readUInt16LE(local + 8) === entry.method && ((zip.readUInt16LE(local + 6) ^ entry.flags) & 1) === 0
  const packed = zip.readUInt32LE(local + 18)
  // Bit 3 says that the size follows the content; all ones say that it stands in the zip64 field.
  const sameSize = packed === entry.packed || packed === 0xffffffff || (zip.readUInt16LE(local + 6) & 8) !== 0
  return sameName && sameWay && sameSize ? null : about(entry, 'HeadersDisagree', 'is described in two ways that contradict each other', REPACK)
}

function contentStart(zip: Buffer, { local }: Entry): number {
  return local + 30 + zip.readUInt16LE(local + 26) + zip.readUInt16LE(local + 28)
}

function declaredSize(entries: Entry[], { maxUnpackedBytes }: ZipLimits): Finding[] {
  const size = entries.reduce((sum, entry) => sum + entry.size, 0)
  if (size <= maxUnpackedBytes) return []
  return [{ code: 'UnpacksTooLarge', message: `The zip unpacks to ${size} bytes; ${maxUnpackedBytes} are allowed.`, fix: 'Leave out what the lambda does not need; fetch large data when the lambda starts.' }]
}

// ---- the contents

const inflate = promisify(inflateRaw)

async function unpack(zipped: ZipFile[]): Promise<ZipReading> {
  const files = new Map<string, Buffer>()
  const findings: Finding[] = []
  for (let from = 0; from < zipped.length; from += AT_ONCE) {
    const batch = zipped.slice(from, from + AT_ONCE).map(async ({ path, content }) => [path, await content()] as const)
    for (const [path, content] of await Promise.all(batch)) {
      if (Buffer.isBuffer(content)) files.set(path, content)
      else findings.push(content)
    }
  }
  return findings.length > 0 ? refused(findings) : { ok: true, files }
}

/** No more is inflated than declared, so that all entries together keep the limit that their declared sizes keep. */
async function unpackOne(zip: Buffer, entry: Entry): Promise<Buffer | Finding> {
  const packed = packedOf(zip, entry)
  const inflating = entry.method === 0 ? Buffer.from(packed) : inflate(packed, { maxOutputLength: Math.max(1, entry.size) })
  const content = await Promise.resolve(inflating).catch((error: NodeJS.ErrnoException) => error)
  if (Buffer.isBuffer(content) && content.length === entry.size) return crc32(content) === entry.crc ? content : badChecksum(entry)
  return Buffer.isBuffer(content) || content.code !== 'ERR_BUFFER_TOO_LARGE' ? brokenContent(entry) : tooMuch(entry)
}

async function* openOne(zip: Buffer, entry: Entry): AsyncIterable<Buffer> {
  if (entry.size <= IN_ONE_GO_BYTES) return yield* piecesOf(sound(await unpackOne(zip, entry)))
  let [bytes, crc] = [0, 0]
  try {
    for await (const piece of unpackedPieces(packedOf(zip, entry), entry)) {
      bytes += piece.length
      if (bytes > entry.size) throw new DamagedFile(entry.method === 0 ? brokenContent(entry) : tooMuch(entry))
      crc = crc32(piece, crc)
      yield piece
    }
  } catch (error) {
    throw error instanceof DamagedFile ? error : new DamagedFile(brokenContent(entry))
  }
  if (bytes < entry.size) throw new DamagedFile(brokenContent(entry))
  if (crc !== entry.crc) throw new DamagedFile(badChecksum(entry))
}

function unpackedPieces(packed: Buffer, { method }: Entry): AsyncIterable<Buffer> {
  const pieces = Readable.from(piecesOf(packed))
  if (method === 0) return pieces
  // Whoever reads it is told of an error.
  return pipeline(pieces, createInflateRaw({ chunkSize: PIECE_BYTES }), () => undefined)
}

function* piecesOf(bytes: Buffer): Iterable<Buffer> {
  for (let at = 0; at < bytes.length; at += PIECE_BYTES) yield bytes.subarray(at, at + PIECE_BYTES)
}

function sound(content: Buffer | Finding): Buffer {
  if (Buffer.isBuffer(content)) return content
  throw new DamagedFile(content)
}

function packedOf(zip: Buffer, entry: Entry): Buffer {
  const start = contentStart(zip, entry)
  return zip.subarray(start, start + entry.packed)
}

const badChecksum = (entry: Entry): Finding => about(entry, 'BadChecksum', 'does not match its checksum', REPACK)
const brokenContent = (entry: Entry): Finding => about(entry, 'BrokenContent', 'cannot be unpacked: its content is damaged', REPACK)
const tooMuch = (entry: Entry): Finding => about(entry, 'UnpacksTooLarge', `unpacks to more than the ${entry.size} bytes that it declares`, REPACK)

// ---- the words

const notAZip: Finding = { code: 'NotAZip', message: 'This is not a zip.', fix: 'Send the zip itself: its first two bytes are `PK`.' }
const truncated: Finding = { code: 'Truncated', message: 'The zip is cut short: its end is missing or does not fit its beginning.', fix: 'Send it again, whole.' }
const zip64: Finding = { code: 'Zip64', message: 'The zip is in the zip64 format, which is for more than 4 GB.', fix: REPACK }
const multiDisk: Finding = { code: 'MultiDisk', message: 'The zip is split into several parts.', fix: 'Send one zip that is not split.' }
const brokenDirectory: Finding = { code: 'BrokenDirectory', message: "The zip's list of files is damaged.", fix: REPACK }
const ambiguous: Finding = { code: 'AmbiguousZip', message: 'The zip can be read in more than one way: there is another zip, or part of one, around or between its files.', fix: REPACK }

function refused(findings: Finding[]): { ok: false; findings: Finding[] } {
  const rest = findings.length - MOST_FINDINGS
  const more: Finding = { code: 'MoreFindings', message: `There are ${rest} more faults of these kinds.`, fix: 'Mend these first.' }
  return { ok: false, findings: rest > 0 ? [...findings.slice(0, MOST_FINDINGS), more] : findings }
}

const about = ({ text }: Entry, code: string, says: string, fix: string): Finding => aboutFile(text, code, says, fix)
