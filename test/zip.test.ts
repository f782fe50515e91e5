// Longer than 250 lines: a case for each rule.
import { randomBytes } from 'node:crypto'
import { crc32, deflateRawSync } from 'node:zlib'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { DamagedFile, openZip, readZip, writeZip, type ZipFile } from '../shared/zip.ts'

interface Part {
  name: string | Buffer; content?: string | Buffer; method?: number; flags?: number; mode?: number; disk?: number
  size?: number; crc?: number; localName?: string; localMethod?: number; localPacked?: number; at?: number
}

const limits = { maxUnpackedBytes: 100_000, maxEntries: 100 }

/** A zip as a stranger would forge it: every field may lie. */
function forge(parts: Part[], count = parts.length): Buffer {
  const locals: Buffer[] = []
  const centrals: Buffer[] = []
  for (const part of parts) {
    const at = part.at ?? locals.reduce((sum, local) => sum + local.length, 0)
    const [local, central] = recordsOf(part, at)
    locals.push(local)
    centrals.push(central)
  }
  const [body, directory] = [Buffer.concat(locals), Buffer.concat(centrals)]
  const end = Buffer.from('PK\x05\x06'.padEnd(22, '\0'), 'latin1')
  end.writeUInt16LE(count, 8)
  end.writeUInt16LE(count, 10)
  end.writeUInt32LE(directory.length, 12)
  end.writeUInt32LE(body.length, 16)
  return Buffer.concat([body, directory, end])
}

function recordsOf(part: Part, at: number): [Buffer, Buffer] {
  const content = Buffer.from(part.content as string ?? 'hello')
  const method = part.method ?? 0
  const packed = method === 8 ? deflateRawSync(content) : content
  const [size, crc] = [part.size ?? content.length, part.crc ?? crc32(content)]
  const name = Buffer.from(part.name as string)
  const localName = Buffer.from(part.localName ?? name)
  const local = Buffer.from('PK\x03\x04'.padEnd(30, '\0'), 'latin1')
  writeShared(local, 6, { flags: part.flags ?? 0, method: part.localMethod ?? method, crc, packed: part.localPacked ?? packed.length, size, name: localName.length })
  const central = Buffer.from('PK\x01\x02'.padEnd(46, '\0'), 'latin1')
  writeShared(central, 8, { flags: part.flags ?? 0, method, crc, packed: packed.length, size, name: name.length })
  central.writeUInt16LE(part.disk ?? 0, 34)
  central.writeUInt16LE(part.mode ?? 0, 40)
  central.writeUInt32LE(at, 42)
  return [Buffer.concat([local, localName, packed]), Buffer.concat([central, name])]
}

function writeShared(record: Buffer, at: number, fields: { flags: number; method: number; crc: number; packed: number; size: number; name: number }): void {
  record.writeUInt16LE(fields.flags, at)
  record.writeUInt16LE(fields.method, at + 2)
  record.writeUInt32LE(fields.crc, at + 8)
  record.writeUInt32LE(fields.packed, at + 12)
  record.writeUInt32LE(fields.size, at + 16)
  record.writeUInt16LE(fields.name, at + 20)
}

async function codes(bytes: Buffer, within = limits): Promise<string[]> {
  const reading = await readZip(bytes, within)
  return reading.ok ? [] : reading.findings.map(({ code }) => code)
}

async function names(bytes: Buffer): Promise<string[]> {
  const reading = await readZip(bytes, limits)
  return reading.ok ? [...reading.files.keys()] : reading.findings.map(({ message }) => message)
}

function changed(bytes: Buffer, at: number, value: number): Buffer {
  const copy = Buffer.from(bytes)
  copy[at] = value
  return copy
}

const reading = suite('readZip')
const good = writeZip(new Map<string, Buffer | string>([['lambda_main.py', 'async def main(request): ...\n'.repeat(30)], ['static/é.bin', Buffer.from([0, 255])], ['empty', '']]))
const forged = forge([{ name: 'a' }, { name: 'b', method: 8 }])

const refusals: [claim: string, code: string, bytes: Buffer][] = [
  ['bytes that are no zip are refused', 'NotAZip', Buffer.from('hello')],
  ['no bytes at all are refused', 'NotAZip', Buffer.alloc(0)],
  ['a zip without its end is refused as truncated', 'Truncated', good.subarray(0, good.length - 1)],
  ['a zip without its beginning is refused as truncated', 'Truncated', good.subarray(9)],
  ['an encrypted entry is refused', 'Encrypted', forge([{ name: 'a', flags: 1 }])],
  ['a method other than stored and deflate is refused', 'UnsupportedMethod', forge([{ name: 'a', method: 12 }])],
  ['a name that climbs is refused', 'NameClimbs', forge([{ name: 'a/../../b' }])],
  ['an absolute name is refused', 'NameAbsolute', forge([{ name: '/etc/passwd' }])],
  ['a drive letter is refused', 'NameHasDriveLetter', forge([{ name: 'C:/a' }])],
  ['a backslash is refused', 'NameHasBackslash', forge([{ name: 'a\\b' }])],
  ['a NUL is refused', 'NameHasNul', forge([{ name: 'a\0.py' }])],
  ['a control character is refused', 'NameHasControlCharacter', forge([{ name: 'a\x1b[2J' }])],
  ['a name that is not UTF-8 is refused', 'NameNotUtf8', forge([{ name: Buffer.from([0x61, 0xe9]) }])],
  ['an empty name is refused', 'NameEmpty', forge([{ name: '' }])],
  ['nothing between two slashes is refused', 'NameEmpty', forge([{ name: 'a//b' }])],
  ['a file named as the folder itself is refused', 'NameEmpty', forge([{ name: '.' }])],
  ['a segment of 256 bytes is refused', 'NameTooLong', forge([{ name: `a/${'é'.repeat(128)}` }])],
  ['a name of 1025 bytes is refused', 'NameTooLong', forge([{ name: `${'a/'.repeat(512)}b` }])],
  ['a name that comes twice is refused', 'DuplicateName', forge([{ name: 'a' }, { name: 'b' }, { name: 'a' }])],
  ['a name that comes twice by another spelling is refused', 'DuplicateName', forge([{ name: 'x/a' }, { name: './x/./a' }])],
  ['a file that is also a folder by what it holds is refused', 'FileAndFolder', forge([{ name: 'a' }, { name: 'a!' }, { name: 'a/b' }])],
  ['a file that is also a folder by entry is refused', 'FileAndFolder', forge([{ name: 'a/', content: '' }, { name: 'a' }])],
  ['names that differ by case alone are refused', 'NamesCollide', forge([{ name: 'Readme' }, { name: 'README' }])],
  ['a file that is a folder when case is ignored is refused', 'NamesCollide', forge([{ name: 'A' }, { name: 'a/b' }])],
  ['two spellings of an accent are refused', 'NamesCollide', forge([{ name: 'e\u0301' }, { name: '\u00e9' }])],
  ['a symbolic link is refused', 'SymbolicLink', forge([{ name: 'a', content: '/etc/passwd', mode: 0o120777 }])],
  ['a device is refused', 'SpecialFile', forge([{ name: 'a', mode: 0o020666 }])],
  ['a folder with content is refused', 'FolderHasContent', forge([{ name: 'a/' }])],
  ['entries that share bytes are refused', 'OverlappingEntries', forge([{ name: 'a', content: recordsOf({ name: 'b' }, 0)[0] }, { name: 'b', at: 31 }])],
  ['an entry that reaches into the directory is refused', 'OverlappingEntries', changed(forged, forged.indexOf('PK\x01\x02') + 20, 80)],
  ['an entry that is not where the directory says is refused', 'BrokenDirectory', changed(forged, forged.lastIndexOf('PK\x01\x02') + 42, 3)],
  ['a directory that holds less than it counts is refused', 'BrokenDirectory', forge([{ name: 'a' }], 2)],
  ['a directory that holds more than it counts is refused', 'BrokenDirectory', forge([{ name: 'a' }, { name: 'b' }], 1)],
  ['a directory that reaches beyond its end is refused', 'BrokenDirectory', changed(forged, forged.lastIndexOf('PK\x01\x02') + 32, 5)],
  ['a local header of another name is refused', 'HeadersDisagree', forge([{ name: 'a', localName: 'b' }])],
  ['a local header of another method is refused', 'HeadersDisagree', forge([{ name: 'a', localMethod: 8 }])],
  ['a local header of another size is refused', 'HeadersDisagree', forge([{ name: 'a', localPacked: 4 }])],
  ['a zip in several parts is refused', 'MultiDisk', changed(forged, forged.length - 18, 1)],
  ['a zip with files in other parts is refused', 'MultiDisk', changed(forged, forged.length - 14, 1)],
  ['an entry in another part is refused', 'MultiDisk', forge([{ name: 'a', disk: 1 }])],
  ['zip64 is refused', 'Zip64', Buffer.concat([forged.subarray(0, -22), Buffer.from('PK\x06\x07'.padEnd(20, '\0'), 'latin1'), forged.subarray(-22)])],
  ['a stored file with a wrong checksum is refused', 'BadChecksum', forge([{ name: 'a', crc: 1 }])],
  ['a deflated file with a wrong checksum is refused', 'BadChecksum', forge([{ name: 'a', method: 8, crc: 1 }])],
  ['a damaged deflate stream is refused', 'BrokenContent', changed(forge([{ name: 'a', method: 8 }]), 31, 0xff)],
  ['a file shorter than declared is refused', 'BrokenContent', forge([{ name: 'a', method: 8, size: 6 }])],
  ['a file that inflates to more than it declares is refused', 'UnpacksTooLarge', forge([{ name: 'a', method: 8, content: Buffer.alloc(10_000_000), size: 10 }])],
  ['two zips one after the other are refused', 'AmbiguousZip', Buffer.concat([good, forged])],
  ['a zip followed by half a zip is refused', 'AmbiguousZip', Buffer.concat([forged, good.subarray(0, 60)])],
  ['a zip cut within after a whole zip stored in it is refused', 'AmbiguousZip', forge([{ name: 'a' }, { name: 'inner.zip', content: good }]).subarray(0, 36 + 39 + good.length)],
]

for (const [claim, code, bytes] of refusals) {
  reading(claim, async () => assert.ok((await codes(bytes)).includes(code), `${await codes(bytes)} lacks ${code}`))
}

for (const [place, index] of [['before', 0], ['between', 1], ['after', 2]] as const) {
  reading(`an entry hidden ${place} the others is refused`, async () => {
    const three = forge([{ name: 'a' }, { name: 'b' }, { name: 'c' }])
    const at = three.indexOf('PK\x01\x02') + 47 * index
    const shorter = Buffer.concat([three.subarray(0, at), three.subarray(at + 47)])
    for (const [field, value] of [[8, 2], [10, 2], [12, 94]] as const) shorter.writeUInt16LE(value, shorter.length - 22 + field)
    assert.equal(await codes(shorter), ['AmbiguousZip'])
  })
}

reading('a directory that is another one when offsets count from the first byte is refused', async () => {
  const [, other] = recordsOf({ name: 'evil' }, 0)
  assert.equal(await codes(Buffer.concat([Buffer.alloc(other.length), forge([{ name: 'a', content: other }])])), ['AmbiguousZip'])
})

reading('every fault is told at once, with its file and what to do', async () => {
  const result = await readZip(forge([{ name: '/a\\b', flags: 1 }, { name: '../c' }, { name: 'd' }, { name: 'd' }]), limits)
  assert.not(result.ok)
  if (result.ok) return
  assert.equal(result.findings.map(({ code, file }) => `${code} ${file}`), ['NameHasBackslash /a\\b', 'NameAbsolute /a\\b', 'Encrypted /a\\b', 'NameClimbs ../c', 'DuplicateName d'])
  assert.ok(result.findings.every(({ message, fix }) => message.endsWith('.') && fix.endsWith('.')))
})

reading('a control character does not reach the message', async () => {
  const result = await readZip(forge([{ name: 'a\x1b\n' }]), limits)
  assert.ok(!result.ok && !/[\x00-\x1f]/.test(JSON.stringify(result.findings)) && result.findings[0]!.file === 'a\\x1b\\x0a')
})

reading('more than a hundred findings are counted, not listed', async () => {
  const result = await readZip(forge(Array.from({ length: 150 }, (_, i) => ({ name: `/${i}` }))), { ...limits, maxEntries: 150 })
  assert.ok(!result.ok && result.findings.length === 101 && result.findings[100]!.message.includes('50'))
})

reading('one entry over the limit is refused, the limit itself is not', async () => {
  const zip = forge([{ name: 'a' }, { name: 'b' }, { name: 'c' }])
  assert.equal(await codes(zip, { ...limits, maxEntries: 2 }), ['TooManyEntries'])
  assert.equal(await codes(zip, { ...limits, maxEntries: 3 }), [])
})

reading('a count that lies low does not lift the limit on entries', async () => {
  assert.equal(await codes(forge([{ name: 'a' }, { name: 'b' }, { name: 'c' }], 1), { ...limits, maxEntries: 2 }), ['TooManyEntries'])
})

reading('one declared byte over the limit is refused, the limit itself is not', async () => {
  const zip = forge([{ name: 'a', content: 'xxxxx' }, { name: 'b', content: 'yyyyy', method: 8 }])
  assert.equal(await codes(zip, { ...limits, maxUnpackedBytes: 9 }), ['UnpacksTooLarge'])
  assert.equal(await codes(zip, { ...limits, maxUnpackedBytes: 10 }), [])
})

reading('files come sorted by the bytes of their names, folders and what macOS adds do not come', async () => {
  const parts = ['é', 'b', 'a/b', 'a!', '__MACOSX/._b', 'x/.DS_Store', '.DS_Store', 'Z', '\u{1f600}', '\uff5e'].map((name) => ({ name }))
  assert.equal(await names(forge([...parts, { name: 'a/', content: '' }, { name: './', content: '' }])), ['Z', 'a!', 'a/b', 'b', 'é', '\uff5e', '\u{1f600}'])
})

reading('folders may differ by case, and `./` before a name does not count', async () => {
  assert.equal(await names(forge([{ name: './Docs/', content: '' }, { name: './Docs/a' }, { name: 'docs/', content: '' }, { name: 'docs/b' }])), ['Docs/a', 'docs/b'])
})

reading('a name like a property of every object is a name', async () => {
  assert.equal(await names(forge([{ name: '__proto__' }, { name: 'constructor' }])), ['__proto__', 'constructor'])
})

reading('plain bytes before or after the zip are tolerated', async () => {
  assert.equal(await names(Buffer.concat([Buffer.from('#!/usr/bin/env python3\n'), forged])), ['a', 'b'])
  assert.equal(await names(Buffer.concat([forged, Buffer.from('\n')])), ['a', 'b'])
})

reading('a zip within a zip is a file like any other', async () => {
  assert.equal(await names(forge([{ name: 'inner.zip', content: good }])), ['inner.zip'])
})

reading('an empty zip holds no files', async () => assert.equal(await names(forge([])), []))

/** mulberry32: the same mutations at every run. */
function dice(seed: number): () => number {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296
  }
}

reading('whatever happens to its bytes, there is a verdict, and what is accepted is within the limits', async () => {
  const roll = dice(20)
  for (let round = 0; round < 5000; round++) {
    const bytes = Buffer.from(round % 2 ? good : forged)
    for (let hits = 1 + roll() * 4; hits > 0; hits--) bytes[Math.floor(roll() * bytes.length)] = [0, 1, 0xff, Math.floor(roll() * 256)][Math.floor(roll() * 4)]!
    const cut = roll() < 0.1 ? bytes.subarray(0, Math.floor(roll() * bytes.length)) : bytes
    const result = await readZip(cut, limits)
    if (!result.ok) assert.ok(result.findings.length > 0 && result.findings.every(({ code, message, fix }) => code && message && fix))
    else for (const path of result.files.keys()) assert.not.match(path, /(^|\/)(\.{0,2})(\/|$)|\0|\\/)
  }
})

reading.run()

const opening = suite('openZip')

function opened(bytes: Buffer, within = limits) {
  const zip = openZip(bytes, within)
  if (!zip.ok) throw new Error(zip.findings.map(({ message }) => message).join(' '))
  return zip.files
}

opening('files come in byte order of their paths, with their declared sizes, without folders and what a Mac adds', async () => {
  const files = opened(forge([{ name: 'b/c', content: 'three' }, { name: 'b/', content: '' }, { name: './b.txt', content: '1' }, { name: '__MACOSX/x' }, { name: 'b/.DS_Store' }, { name: 'Z', content: '' }, { name: 'é', method: 8, content: 'deflated'.repeat(40) }]))
  assert.equal(files.map(({ path, bytes }) => [path, bytes]), [['Z', 0], ['b.txt', 1], ['b/c', 5], ['é', 320]])
  assert.equal((await Promise.all(files.map(({ content }) => content()))).map(String), ['', '1', 'three', 'deflated'.repeat(40)])
})

opening('what readZip refuses is refused with the same findings, and what lies inside when it is asked for', async () => {
  const inside: string[] = []
  for (const [claim, code, bytes] of refusals) {
    const [read, open] = [await readZip(bytes, limits), openZip(bytes, limits)]
    const findings = open.ok ? (await Promise.all(open.files.map(({ content }) => content()))).filter((one) => !Buffer.isBuffer(one)) : open.findings
    assert.equal(!read.ok && read.findings, findings, claim)
    if (open.ok) inside.push(code)
  }
  assert.equal(inside, ['BadChecksum', 'BadChecksum', 'BrokenContent', 'BrokenContent', 'UnpacksTooLarge'])
})

opening('nothing is looked at inside before it is asked for, and then each file says what is wrong with itself', async () => {
  const files = opened(forge([{ name: 'bad', crc: 7 }, { name: 'good', content: 'whole' }, { name: 'lies', method: 8, content: 'x'.repeat(1_000), size: 3 }]))
  const [bad, sound, lies] = await Promise.all(files.map(({ content }) => content()))
  assert.is(String(sound), 'whole')
  for (const [name, finding] of [['bad', bad], ['lies', lies]] as const) assert.is(!Buffer.isBuffer(finding) && finding!.file, name)
  assert.is(String(await files[1]!.content()), 'whole', 'asked again')
})

/** As `content`, by the other road. */
async function inPieces(file: ZipFile): Promise<Awaited<ReturnType<ZipFile['content']>>> {
  const pieces: Buffer[] = []
  try {
    for await (const piece of file.open()) pieces.push(piece)
  } catch (error) {
    if (error instanceof DamagedFile) return error.finding
    throw error
  }
  return Buffer.concat(pieces)
}

opening('in pieces a file is what it is as a whole, sound or damaged, small or large', async () => {
  const seen: string[] = []
  for (const bytes of [0, 10, 3 << 20]) for (const method of [0, 8]) {
    const content = randomBytes(bytes)
    const cut = (zip: Buffer): Buffer => { if (bytes > 0) zip.fill(0xff, 32 + bytes / 2, 35 + bytes / 2); return zip }
    const part = { name: 'a', content, method }
    const zips = [forge([part]), forge([{ ...part, crc: 7 }]), forge([{ ...part, size: bytes + 1 }]), forge([{ ...part, size: Math.max(0, bytes - 1) }]), cut(forge([part]))]
    for (const zip of zips) {
      const [file] = opened(zip, { maxUnpackedBytes: 1 << 23, maxEntries: 1 })
      const [whole, pieces] = [await file!.content(), await inPieces(file!)]
      assert.ok(Buffer.isBuffer(whole) ? whole.equals(pieces as Buffer) : JSON.stringify(whole) === JSON.stringify(pieces), `${bytes} ${method}: ${JSON.stringify(whole).slice(0, 200)}, ${JSON.stringify(pieces).slice(0, 200)}`)
      seen.push(Buffer.isBuffer(whole) ? 'sound' : whole.code)
    }
  }
  for (const code of ['sound', 'BadChecksum', 'BrokenContent', 'UnpacksTooLarge']) assert.ok(seen.includes(code), code)
})

opening('of a large file little is in memory', async () => {
  const [file] = opened(forge([{ name: 'a', content: Buffer.alloc(64 << 20), method: 8 }]), { maxUnpackedBytes: 1 << 30, maxEntries: 1 })
  let longest = 0
  for await (const piece of file!.open()) longest = Math.max(longest, piece.length)
  assert.ok(longest <= 1 << 20, String(longest))
})

opening.run()

const writing = suite('writeZip')

writing('what is written is read back, whatever the kind of content', async () => {
  const result = await readZip(good, limits)
  assert.ok(result.ok)
  if (!result.ok) return
  assert.equal([...result.files.keys()], ['empty', 'lambda_main.py', 'static/é.bin'])
  assert.equal(result.files.get('static/é.bin'), Buffer.from([0, 255]))
  assert.is(result.files.get('empty')!.length, 0)
})

writing('the same files make the same bytes, in whatever order they come', () => {
  const [one, other] = [new Map([['b', '1'], ['B/c', '2'], ['a', '3']]), new Map([['a', '3'], ['b', '1'], ['B/c', '2']])]
  assert.equal(writeZip(one), writeZip(other))
})

writing('no time of writing is in the bytes', () => {
  const at = writeZip(new Map([['a', '1']]))
  assert.is(at.readUInt32LE(10), 0x00210000)
  assert.is(at.readUInt32LE(at.indexOf('PK\x01\x02') + 12), 0x00210000)
})

writing.run()
