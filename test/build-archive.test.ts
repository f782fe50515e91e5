// What a good archive of a build is: every rule, with archives as a stranger would forge them.
// Longer than 250 lines: a case for each rule.
import { spawnSync } from 'node:child_process'
import { createHash, randomBytes } from 'node:crypto'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { gunzipSync, gzip, gzipSync } from 'node:zlib'
import { pack, type Header } from 'tar-stream'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { readArchive } from '../services/ingest/build-archive.ts'
import type { Finding } from '../shared/finding.ts'
import { writeZip } from '../shared/zip.ts'
import { bytesOf } from './stand/contexts.ts'
import { unpackedEntries, unpackedFiles } from './stand/unpacked.ts'

const limits = { maxUnpackedBytes: 1 << 20, maxEntries: 200 }
const sha256 = (bytes: Buffer): string => createHash('sha256').update(bytes).digest('hex')

// ---- archives as they should be

const some = { Dockerfile: 'FROM base\nCOPY app /app\n', 'app/run.sh': '#!/bin/sh\necho hello\n', 'app/a/ü.txt': 'deep', 'app/empty': '' }

async function tarOf(files: Record<string, string | Buffer>, others: Header[] = []): Promise<Buffer> {
  const archive = pack()
  for (const header of others) archive.entry(header)
  for (const [name, content] of Object.entries(files)) archive.entry({ name, mtime: new Date(0) }, content as Buffer)
  archive.finalize()
  const chunks: Buffer[] = []
  for await (const chunk of archive) chunks.push(chunk as Buffer)
  return Buffer.concat(chunks)
}

// ---- and as they should not

interface Part {
  name: string | Buffer; type?: string; content?: string | Buffer
  /** As declared, and as written into the field when it is text. */
  size?: number | string
  magic?: string; checksum?: string
  /** What else is written over the header, by place. */
  over?: Record<number, string>
}

const zeros = (bytes: number): Buffer => Buffer.alloc(bytes)
const end = zeros(1024)
const from: Part = { name: 'Dockerfile', content: 'FROM base\n' }

/** Without its end. Every field may lie. */
function forged(...parts: Part[]): Buffer {
  return Buffer.concat(parts.flatMap(({ name, type = '0', content = '', size, magic = 'ustar\x0000', checksum, over = {} }) => {
    const body = Buffer.from(content as string)
    const block = zeros(512)
    block.set(Buffer.from(name as string).subarray(0, 100))
    const texts = { 124: typeof size === 'string' ? size : (size ?? body.length).toString(8).padStart(11, '0'), 156: type, 257: magic, ...over, 148: ' '.repeat(8) }
    for (const [at, text] of Object.entries(texts)) block.write(text, Number(at), 'latin1')
    const sum = block.reduce((all, byte) => all + byte, 0)
    block.write(checksum ?? `${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1')
    return [block, body, zeros((512 - (body.length % 512)) % 512)]
  }))
}

const whole = (...parts: Part[]): Buffer => Buffer.concat([forged(...parts), end])

/** A pax header of these records. */
const pax = (records: Record<string, string>, type = 'x'): Part => ({
  name: 'pax', type, content: Object.entries(records).map(([key, value]) => {
    const bytes = Buffer.byteLength(` ${key}=${value}\n`)
    const digits = String(bytes + String(bytes + 2).length).length
    return `${bytes + digits} ${key}=${value}\n`
  }).join(''),
})

async function findings(bytes: Buffer, within = limits): Promise<Finding[]> {
  const archive = await readArchive(bytes, within)
  return archive.ok ? [] : archive.findings
}

const codes = async (bytes: Buffer, within = limits): Promise<string[]> => (await findings(bytes, within)).map(({ code }) => code)

async function good(bytes: Buffer, within = limits) {
  const archive = await readArchive(bytes, within)
  if (!archive.ok) throw new Error(archive.findings.map(({ code, message }) => `${code}: ${message}`).join(' '))
  return archive
}

const archives = suite('archives of builds')

// ---- what is taken

archives('a good tar.gz is passed on as it was sent, and its digest is that of its bytes', async () => {
  const sent = gzipSync(await tarOf(some))
  const { context, content } = await good(sent)
  assert.ok((await bytesOf(content)).equals(sent))
  assert.equal([context.digest, content.bytes], [sha256(sent), sent.length])
})

archives('a good tar is gzipped, and unpacks to the same; the same tar gives the same bytes', async () => {
  const sent = await tarOf(some)
  const { context, content } = await good(sent)
  const bytes = await bytesOf(content)
  assert.ok(gunzipSync(bytes).equals(sent))
  assert.equal([context.digest, content.bytes, bytes[9]], [sha256(bytes), bytes.length, 255])
  assert.is((await good(sent)).context.digest, context.digest)
})

archives('a zip becomes a tar.gz of its files in the order of their bytes, which may all be executed, by nobody and at no time', async () => {
  const { context, content } = await good(writeZip(new Map(Object.entries(some))))
  const bytes = await bytesOf(content)
  assert.equal([context.digest, content.bytes, bytes[9]], [sha256(bytes), bytes.length, 255])
  assert.equal(await unpackedEntries(bytes), ['Dockerfile', 'app/a/ü.txt', 'app/empty', 'app/run.sh'].map((name) =>
    ({ name, type: 'file', mode: 0o755, mtime: 0, uid: 0, gid: 0, content: some[name as keyof typeof some] })))
})

archives('the same zip gives the same bytes, and so do the same files in another order', async () => {
  const zips = [some, some, Object.fromEntries(Object.entries(some).reverse())].map((files) => writeZip(new Map(Object.entries(files))))
  assert.is(new Set(await Promise.all(zips.map(async (zip) => (await good(zip)).context.digest))).size, 1)
})

archives('a zip of many files and of a large one comes through', async () => {
  const large = randomBytes(3 << 20).toString('latin1')
  const files = { Dockerfile: 'FROM base\n', large, ...Object.fromEntries(Array.from({ length: 500 }, (_, i) => [`many/${i}`, `file ${i}`])) }
  const { content } = await good(writeZip(new Map(Object.entries(files))), { maxUnpackedBytes: 8 << 20, maxEntries: 1000 })
  assert.equal(Object.entries(await unpackedFiles(await bytesOf(content))).sort(), Object.entries(files).sort())
})

archives('it can be read again, until it is dropped', async () => {
  for (const sent of [gzipSync(await tarOf(some)), await tarOf(some), writeZip(new Map(Object.entries(some)))]) {
    const { content, drop } = await good(sent)
    assert.ok((await bytesOf(content)).equals(await bytesOf(content)))
    await drop()
    assert.is((await bytesOf(content)).length, 0)
  }
})

archives('what the program tar makes of a folder is good, in each of its formats', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'kiln-test-archive-'))
  try {
    const long = `${'n'.repeat(120)}.txt`
    for (const name of ['Dockerfile', 'b', long]) await writeFile(join(folder, name), `FROM ${name}\n`)
    for (const format of ['gnu', 'oldgnu', 'pax', 'posix', 'ustar', 'v7']) {
      // Names as long as that are not for every format.
      const left = ['v7', 'ustar'].includes(format) ? [`--exclude=${long}`] : []
      const { stdout, status } = spawnSync('tar', ['-C', folder, `--format=${format}`, ...left, '-cf', '-', '.'])
      assert.equal([status, await codes(stdout), await codes(gzipSync(stdout))], [0, [], []], format)
    }
  } finally {
    await rm(folder, { recursive: true })
  }
})

const taken: [claim: string, bytes: Buffer][] = [
  ['`./Dockerfile` is a Dockerfile at the top', whole({ name: './', type: '5' }, { ...from, name: './Dockerfile' })],
  ['a folder without a slash at its end is a folder', whole({ name: 'app', type: '5' }, { name: 'app/a' }, from)],
  ['an old tar without a magic is a tar', whole({ ...from, magic: '' })],
  ['an old folder, a file by its kind, is a folder', whole({ name: 'app/', type: '\0', magic: '' }, { name: 'app/a', type: '\0' }, from)],
  ['a tar whose first file begins with PK is a tar', whole({ name: 'PKGBUILD' }, from)],
  ['a tar may end with any number of zeros', Buffer.concat([whole(from), zeros(9_999)])],
  ['a long name may come before its entry', whole({ name: 'long', type: 'L', content: 'Dockerfile\0' }, { ...from, name: 'short' })],
  ['a name may stand in a pax header, and so may a size', whole(pax({ path: 'Dockerfile', size: '3', mtime: '1.5' }), { name: 'short', content: 'abc', size: 0 })],
  ['a header for all may hold a comment, as git writes it', whole(pax({ comment: 'abc' }, 'g'), from)],
  ['a size may be binary', whole({ ...from, size: '\x80\0\0\0\0\0\0\0\0\0\0\x0a' })],
  ['an owner may be binary, and a time before 1970', whole({ ...from, over: { 108: '\x80\0\0\0\x7f\xff\xff\xff', 136: '\xff'.repeat(12) } })],
  ['GNU may write times where others write the beginning of a name', whole({ ...from, magic: 'ustar  \0', over: { 345: '14717600000', 357: '14717600000' } })],
  ['two gzips after each other are one', Buffer.concat([gzipSync(forged(from)), gzipSync(whole({ name: 'a' }))])],
]
for (const [claim, bytes] of taken) archives(claim, async () => assert.equal(await findings(bytes), []))

// ---- what is refused

const link = { type: '2', over: { 157: '/etc' } }
const refusals: [claim: string, codes: string[], bytes: Buffer][] = [
  ['no bytes at all are refused', ['NotAnArchive'], zeros(0)],
  ['text is refused', ['NotAnArchive'], Buffer.from('FROM base\n'.repeat(100))],
  ['a file that only says ustar is refused', ['NotAnArchive'], Buffer.from('ustar'.padStart(262).padEnd(2_000))],
  ['zeros are no tar', ['NotAnArchive'], zeros(10_240)],
  ['a gzip of something else is refused', ['NotAnArchive'], gzipSync(Buffer.from('hello'))],
  ['a gzip in a gzip is refused', ['NotAnArchive'], gzipSync(gzipSync(randomBytes(2_000)))],
  ['a broken zip is refused as such', ['Truncated'], Buffer.from('PK\x03\x04 and no more')],
  ['a name that climbs is refused', ['NameClimbs'], whole({ name: 'a/../../b' }, from)],
  ['an absolute name is refused', ['NameAbsolute'], whole({ name: '/etc/passwd' }, from)],
  ['a backslash is refused', ['NameHasBackslash'], whole({ name: 'a\\b' }, from)],
  ['a name that is not UTF-8 is refused', ['NameNotUtf8'], whole({ name: Buffer.from([0x61, 0xe9]) }, from)],
  ['an empty name is refused', ['NameEmpty'], whole({ name: '' }, from)],
  ['a folder that climbs is refused', ['NameClimbs'], whole({ name: '..', type: '5' }, from)],
  ['a beginning of a name that climbs is refused', ['NameClimbs'], whole({ name: 'a', over: { 345: '../..' } }, from)],
  ['a long name that climbs is refused', ['NameClimbs'], whole({ name: 'long', type: 'L', content: '../a\0' }, { name: 'a' }, from)],
  ['a pax name that climbs is refused', ['NameClimbs'], whole(pax({ path: '../a' }), { name: 'a' }, from)],
  ['a NUL in a pax name is refused', ['NameHasNul'], whole(pax({ path: 'a\0b' }), { name: 'a' }, from)],
  ['a symbolic link is refused', ['SymbolicLink'], whole({ name: 'a', ...link }, from)],
  ['a symbolic link with a long target is refused', ['SymbolicLink'], whole({ name: 'long', type: 'K', content: `/etc/${'a'.repeat(120)}\0` }, { name: 'a', ...link }, from)],
  ['a Dockerfile that is a link is refused as a link', ['SymbolicLink'], whole({ ...from, ...link, content: '' })],
  ['a hard link is refused', ['HardLink'], whole({ name: 'a', type: '1', over: { 157: 'Dockerfile' } }, from)],
  ...['3', '4', '6', '7', 'D', 'S', 'V', 'N', 'A'].map((type): [string, string[], Buffer] => [`an entry of kind ${type} is refused`, ['SpecialFile'], whole({ name: 'a', type }, from)]),
  ['a sparse file, whose name stands elsewhere, is refused', ['SpecialFile'], whole(pax({ 'GNU.sparse.major': '1', 'GNU.sparse.name': '../a' }), { name: 'a' }, from)],
  ['a folder with content is refused', ['FolderHasContent'], whole({ name: 'a/', type: '5', size: 512 }, from)],
  ['a file that is named as a folder is refused', ['FolderHasContent'], whole({ name: 'a/' }, from)],
  ['a name that comes twice is refused', ['DuplicateName'], whole({ name: 'a' }, from, { name: 'a' })],
  ['a name that comes twice by another spelling is refused', ['DuplicateName'], whole({ name: 'x/a' }, from, { name: './x/./a' })],
  ['a file that is also a folder by what it holds is refused', ['FileAndFolder'], whole({ name: 'a/b' }, from, { name: 'a!' }, { name: 'a' })],
  ['a file that is also a folder by entry is refused', ['FileAndFolder'], whole({ name: 'a', type: '5' }, from, { name: 'a' })],
  ['a header with a wrong checksum is refused', ['BrokenArchive'], whole(from, { name: 'a', checksum: '000001\0 ' })],
  ['a size that is no number is refused', ['BrokenArchive'], whole({ ...from, size: '0000000009x' })],
  ['a mode that is no number is refused', ['BrokenArchive'], whole({ ...from, over: { 100: 'rwxr-xr' } })],
  ['a size below nothing is refused', ['BrokenArchive'], whole({ ...from, size: '\xff'.repeat(12) })],
  ['a pax size that is no number is refused', ['BrokenArchive'], whole(pax({ size: '-1' }), from)],
  ['a pax record that is longer than all is refused', ['BrokenArchive'], whole({ name: 'pax', type: 'x', content: '99 path=a\n' }, from)],
  ['a pax record without a length is refused', ['BrokenArchive'], whole({ name: 'pax', type: 'x', content: 'path=a\n' }, from)],
  ['a pax header of 2 MiB is refused', ['BrokenArchive'], whole({ name: 'pax', type: 'x', content: zeros(2 << 20) }, from)],
  ['a tar without its end is refused', ['BrokenArchive'], forged(from)],
  ['a tar with half of its end is refused', ['BrokenArchive'], Buffer.concat([forged(from), zeros(512)])],
  ['what follows a gzip is refused', ['BrokenArchive'], Buffer.concat([gzipSync(whole(from)), Buffer.from('garbage')])],
  ['what follows a gzip after zeros is refused', ['BrokenArchive'], Buffer.concat([gzipSync(whole(from)), zeros(100), gzipSync(whole(from))])],
  ['what follows the end of a tar is refused', ['AmbiguousTar'], Buffer.concat([whole(from), zeros(512), whole({ name: 'a' })])],
  ['the end of a tar by halves is refused', ['AmbiguousTar'], Buffer.concat([forged(from), zeros(512), whole({ name: 'a' })])],
  ['a name for all entries is refused', ['AmbiguousTar'], whole(pax({ path: 'good' }, 'g'), pax({ comment: 'x' }), { name: '../a' }, from)],
  ['a size for all entries is refused', ['AmbiguousTar'], whole(pax({ size: '1' }, 'g'), from)],
  ['two long names are refused', ['AmbiguousTar'], whole(...['b', 'c'].map((content) => ({ name: 'long', type: 'L', content })), { name: 'a' }, from)],
  ['a long name beside a pax name is refused', ['AmbiguousTar'], whole({ name: 'long', type: 'L', content: 'b' }, pax({ path: 'c' }), { name: 'a' }, from)],
  ['a beginning of a name in place of times is refused', ['AmbiguousTar'], whole({ name: 'a', magic: 'ustar  \0', over: { 345: '../../up' } }, from)],
  ['a header of the format star is refused', ['AmbiguousTar'], whole({ name: 'a', over: { 345: 'b', 508: 'tar\0' } }, from)],
  ['a magic that nobody knows is refused', ['AmbiguousTar'], whole({ ...from, magic: 'ustar 00' })],
  ['a tar of nothing has no Dockerfile', ['NoDockerfile'], gzipSync(end)],
  ['a folder is no Dockerfile', ['NoDockerfile'], whole({ name: 'Dockerfile', type: '5' })],
  ['an empty Dockerfile is refused', ['EmptyDockerfile'], whole({ name: 'Dockerfile' })],
  ['an empty Dockerfile in a zip is refused', ['EmptyDockerfile'], writeZip(new Map([['Dockerfile', '']]))],
]

for (const [claim, expected, bytes] of refusals) {
  archives(claim, async () => {
    const found = await findings(bytes)
    assert.equal(found.map(({ code }) => code), expected)
    assert.ok(found.every(({ message, fix }) => message.endsWith('.') && fix.endsWith('.')))
  })
  const isTar = bytes.length >= 1024 && !['NotAnArchive', 'Truncated'].includes(expected[0]!) && bytes[0] !== 0x1f && bytes[0] !== 0x50
  if (isTar) archives(`${claim}, in a gzip too`, async () => assert.equal(await codes(gzipSync(bytes)), expected))
}

archives("what the reader of zips finds is the answer, whatever else is missing", async () => {
  // A writer of zips would mend such names.
  const zip = writeZip(new Map([['a123', 'x'], ['b1', 'y']])).toString('latin1').replaceAll('a123', '../a').replaceAll('b1', '/b')
  assert.equal(await codes(Buffer.from(zip, 'latin1')), ['NameClimbs', 'NameAbsolute'])
})

archives('a zip with damaged content is refused with what is damaged', async () => {
  const zip = writeZip(new Map([['Dockerfile', 'FROM base\n'], ['bad', 'x'.repeat(1000)]]))
  zip[zip.indexOf('bad') + 3] = 0xff
  const found = await findings(zip)
  assert.equal(found.map(({ code, file }) => [code, file]), [['BrokenContent', 'bad']])
})

archives('without a Dockerfile at the top, the nearest one is named', async () => {
  const files = { 'a/b/Dockerfile': 'FROM deep\n', 'app/Dockerfile': 'FROM base\n', 'NotADockerfile': 'x' }
  for (const bytes of [writeZip(new Map(Object.entries(files))), await tarOf(files), gzipSync(await tarOf(files))]) {
    const found = await findings(bytes)
    assert.equal(found.map(({ code }) => code), ['NoDockerfile'])
    assert.match(found[0]!.message, 'There is one at app/Dockerfile: pack from inside that folder.')
  }
  const [none] = await findings(await tarOf({ dockerfile: 'FROM base\n' }))
  assert.is(none?.message, 'There is no `Dockerfile` at the top of the archive.')
})

archives('every fault is told at once, with its file', async () => {
  const found = await findings(whole({ name: '/a' }, { name: 'b', ...link }, { name: 'c' }, { name: 'c' }, { name: 'd\x1b' }))
  assert.equal(found.map(({ code, file }) => `${code} ${file}`), ['NameAbsolute /a', 'SymbolicLink b', 'NameHasControlCharacter d\\x1b', 'DuplicateName c'])
})

archives('more than a hundred findings are counted, not listed', async () => {
  const found = await findings(whole(...Array.from({ length: 150 }, (_, i) => ({ name: `/${i}` }))))
  assert.equal([found.length, found[100]!.code, found[100]!.message.includes('50')], [101, 'MoreFindings', true])
})

// ---- the limits

const pair = [from, { name: 'a', content: 'x'.repeat(90) }]

archives('one entry over the limit is refused, the limit itself is not', async () => {
  for (const bytes of [whole(...pair), gzipSync(whole(...pair))]) {
    assert.equal(await codes(bytes, { ...limits, maxEntries: 1 }), ['TooManyEntries'])
    assert.equal(await codes(bytes, { ...limits, maxEntries: 2 }), [])
  }
})

archives('one byte over the limit is refused, the limit itself is not', async () => {
  for (const bytes of [whole(...pair), gzipSync(whole(...pair))]) {
    assert.equal(await codes(bytes, { ...limits, maxUnpackedBytes: 99 }), ['UnpacksTooLarge'])
    assert.equal(await codes(bytes, { ...limits, maxUnpackedBytes: 100 }), [])
  }
})

const bomb = promisify(gzip)
/** Read on to its end, it would be found broken: so it was not. */
const brokenLater = (packed: Buffer): Buffer => packed.subarray(0, packed.length - 1_000)

archives('a bomb that declares its size is not inflated', async () => {
  const packed = await bomb(whole(from, { name: 'zeros', content: zeros(200 << 20) }))
  assert.equal(await codes(brokenLater(packed)), ['UnpacksTooLarge'])
})

archives('nothing more is inflated than the limits allow: neither after the end, nor in headers without an entry', async () => {
  const after = await bomb(Buffer.concat([whole(from), zeros(50 << 20)]))
  const headers = await bomb(Buffer.concat(Array.from({ length: 60 }, () => forged(pax({ comment: ' '.repeat(1_000_000) }, 'g')))))
  for (const packed of [after, headers]) assert.equal(await codes(brokenLater(packed)), ['UnpacksTooLarge'])
})

// ---- damage

const mixed = gzipSync(whole({ name: './', type: '5' }, pax({ path: 'ü' }), { name: 'u', content: randomBytes(3_000) }, { name: 'text', content: 'text '.repeat(900) }, from))

archives('a tar.gz that is cut is refused, wherever it is cut', async () => {
  assert.equal(await codes(mixed), [])
  const cuts = [2, 3, 9, 10, 11, 17, ...Array.from({ length: 16 }, (_, i) => Math.floor((mixed.length * (i + 1)) / 17)), ...[9, 8, 4, 1].map((less) => mixed.length - less)]
  for (const cut of cuts) assert.equal([cut, await codes(mixed.subarray(0, cut))], [cut, ['BrokenArchive']])
})

archives('a tar that is cut is refused, wherever it is cut', async () => {
  const tar = gunzipSync(mixed)
  for (let cut = 512; cut < tar.length; cut += 256) assert.equal([cut, await codes(tar.subarray(0, cut))], [cut, ['BrokenArchive']])
})

/** mulberry32: the same mutations at every run. */
function dice(seed: number): () => number {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296
  }
}

/** The same content at every run, so that a seed that fails fails again. */
const fixed = whole({ name: './', type: '5' }, pax({ path: 'ü' }), { name: 'u', content: 'u'.repeat(3_000) }, { name: 'long', type: 'L', content: 'text\0' }, { name: 'text', content: 'text '.repeat(90) }, from)
for (const [what, bytes] of [['tar.gz', gzipSync(fixed)], ['tar', fixed], ['zip', writeZip(new Map(Object.entries(some)))]] as const) {
  archives(`whatever happens to the bytes of a ${what}, there is a verdict`, async () => {
    for (let seed = 0; seed < 200; seed++) {
      const roll = dice(seed)
      const hit = Buffer.from(bytes)
      for (let hits = 1 + roll() * 4; hits > 0; hits--) hit[Math.floor(roll() * hit.length)] = Math.floor(roll() * 256)
      const archive = await readArchive(hit, limits)
      if (archive.ok) assert.ok((await bytesOf(archive.content)).length > 0)
      else assert.ok(archive.findings.length > 0 && archive.findings.every(({ code, message, fix }) => code && message && fix), `seed ${seed}`)
    }
  })
}

archives.run()
