// Packing: one gzipped tar whose end is the code's own, the same bytes for the same files, and no more in memory than it must be.
import { createHash, randomBytes } from 'node:crypto'
import { spawnSync } from 'node:child_process'
import { mkdir, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { gunzipSync } from 'node:zlib'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { inMemory, pack, type Packed, type PackedFile } from '../services/packager/pack.ts'
import { spool } from '../services/packager/spool.ts'
import { gate } from './stand/await.ts'
import { bytesOf } from './stand/contexts.ts'
import { ownTemporary, type OwnTemporary } from './stand/temporary.ts'
import { unpackedEntries, unpackedFiles } from './stand/unpacked.ts'

const sha256 = (bytes: Buffer): string => createHash('sha256').update(bytes).digest('hex')
const fileOf = (path: string, content: string | Buffer): PackedFile => inMemory(path, Buffer.from(content as string))
/** Its content is there when it has been asked for. */
const lateFile = (path: string, bytes: number, content: () => Promise<Buffer>): PackedFile => ({ path, bytes, async *open() { yield* inMemory(path, await content()).open() } })
const filesOf = (given: Record<string, string | Buffer>): PackedFile[] => Object.entries(given).map(([path, content]) => fileOf(path, content))
const head = new Map([['Dockerfile', Buffer.from('FROM base\n')]])


async function packed(files: PackedFile[], top: ReadonlyMap<string, Buffer> = head): Promise<Packed & { bytes: Buffer; layer: Buffer }> {
  const made = await pack(top, files)
  const bytes = await bytesOf(made.content)
  await made.drop()
  return { ...made, bytes, layer: bytes.subarray(made.code.offset) }
}

const packing = suite<{ temporary: OwnTemporary }>('packing')
packing.before.each(async (context) => { context.temporary = await ownTemporary() })
packing.after.each(({ temporary }) => temporary.close())

const some = { 'lambda/lambda_main.py': 'main', 'lambda/a/b/ü.txt': 'deep', 'lambda/a.txt': 'beside a/', 'lambda/A': 'capital' }

packing('the same files make the same bytes, whatever their order', async () => {
  const tops = [new Map([['Dockerfile', Buffer.from('FROM base\n')], ['also', Buffer.from('x')]]), new Map([['also', Buffer.from('x')], ['Dockerfile', Buffer.from('FROM base\n')]])]
  const [one, two] = [await packed(filesOf(some), tops[0]), await packed(filesOf(some).reverse(), tops[1])]
  assert.ok(one.bytes.equals(two.bytes))
  assert.equal([one.digest, one.code], [two.digest, two.code])
  assert.is(one.digest, sha256(one.bytes))
  assert.is(one.content.bytes, one.bytes.length)
})

packing('neither part says when, by whom or on which system it was made', async () => {
  const { bytes, layer } = await packed(filesOf(some))
  for (const gzip of [bytes, layer]) assert.equal([...gzip.subarray(0, 10)].map((byte, i) => (i === 8 ? 'effort' : byte)), [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 'effort', 255])
  for (const { name, type, mode, mtime, uid, gid } of await unpackedEntries(bytes)) assert.equal([name, mode, mtime, uid, gid], [name, type === 'directory' ? 0o755 : 0o644, 0, 0, 0])
})

packing('the whole is one archive: every folder comes before what lies in it, all in the order of their bytes', async () => {
  const entries = await unpackedEntries((await packed(filesOf(some))).bytes)
  assert.equal(entries.map(({ name, type }) => [name, type]), [
    ['Dockerfile', 'file'], ['lambda/', 'directory'], ['lambda/A', 'file'], ['lambda/a.txt', 'file'], ['lambda/a/', 'directory'], ['lambda/a/b/', 'directory'], ['lambda/a/b/ü.txt', 'file'], ['lambda/lambda_main.py', 'file'],
  ])
})

packing('the program tar unpacks the whole, and the code alone', async ({ temporary: { folder } }) => {
  const { bytes, layer } = await packed(filesOf(some))
  for (const [name, archive, top] of [['whole', bytes, ['Dockerfile', 'lambda']], ['code', layer, ['lambda']]] as const) {
    const into = join(folder, name)
    await mkdir(into)
    await writeFile(`${into}.tar.gz`, archive)
    const { status, stderr } = spawnSync('tar', ['-xzf', `${into}.tar.gz`, '-C', into], { encoding: 'utf8' })
    assert.equal([status, stderr], [0, ''])
    assert.equal((await readdir(into)).sort(), top)
    assert.is(await readFile(join(into, 'lambda/a/b/ü.txt'), 'utf8'), 'deep')
    assert.equal([(await stat(join(into, 'lambda/a/b'))).mode & 0o777, (await stat(join(into, 'lambda/A'))).mode & 0o777], [0o755, 0o644])
  }
})

packing('from its offset on, the code is an archive of its own with the digests that are said of it', async () => {
  const { bytes, layer, code } = await packed(filesOf(some))
  assert.is(code.bytes, layer.length)
  assert.is(code.offset + code.bytes, bytes.length)
  assert.equal([code.digest, code.unpacked], [`sha256:${sha256(layer)}`, `sha256:${sha256(gunzipSync(layer))}`])
  assert.equal(await unpackedFiles(layer), some)
})

packing('what stands at the top does not change the code; the code changes both', async () => {
  const one = await packed(filesOf(some))
  const other = await packed(filesOf(some), new Map([['Dockerfile', Buffer.from(`FROM other\n${'RUN x\n'.repeat(500)}`)], ['lambda/requirements.txt', Buffer.from('x')]]))
  assert.ok(one.layer.equals(other.layer))
  assert.equal([other.code.digest, other.code.unpacked, other.code.bytes], [one.code.digest, one.code.unpacked, one.code.bytes])
  assert.is.not(one.digest, other.digest)
  const changed = await packed(filesOf({ ...some, 'lambda/A': 'Capital' }))
  assert.is.not(changed.code.digest, one.code.digest)
  assert.is.not(changed.digest, one.digest)
})

packing('names of any length, empty files and files of many blocks come through', async () => {
  const long = `lambda/${'folder/'.repeat(40)}${'n'.repeat(120)}.py`
  const given = { [long]: 'x', [`lambda/${'ü'.repeat(100)}`]: 'y', 'lambda/empty': '', 'lambda/z/empty too': '', 'lambda/block': 'b'.repeat(512), 'lambda/more': 'm'.repeat(700_001) }
  const { bytes, layer } = await packed(filesOf(given))
  for (const archive of [bytes, layer]) assert.equal(Object.entries(await unpackedFiles(archive)).filter(([name]) => name !== 'Dockerfile').sort(), Object.entries(given).sort())
})

packing('no files at all are an archive too', async () => {
  const { bytes, layer, code } = await packed([])
  assert.equal(await unpackedFiles(bytes), { Dockerfile: 'FROM base\n' })
  assert.equal(await unpackedEntries(layer), [])
  assert.is(code.unpacked, `sha256:${sha256(gunzipSync(layer))}`)
  assert.equal(await unpackedFiles((await packed(filesOf(some), new Map())).bytes), some)
})

const large = 6 << 20

packing('what is small stays in memory; what is large lies in a file, and is gone when it is dropped', async ({ temporary }) => {
  const small = await pack(head, filesOf(some))
  assert.equal(await temporary.left(), [])
  await small.drop()
  const content = randomBytes(large)
  const made = await pack(head, [fileOf('lambda/large', content)])
  assert.is((await temporary.left()).length, 1)
  for (const _ of ['once', 'again']) {
    const bytes = await bytesOf(made.content)
    assert.equal([sha256(bytes), bytes.length], [made.digest, made.content.bytes])
    assert.ok(gunzipSync(bytes.subarray(made.code.offset)).includes(content))
  }
  await made.drop()
  assert.equal(await temporary.left(), [])
})

packing('a content that throws, at once or in its middle, is what packing throws, and nothing is left of what came before', async ({ temporary }) => {
  const trouble = new Error('this file is damaged')
  for (const before of [[], [fileOf('lambda/a', 'small')], [fileOf('lambda/a', randomBytes(large)), fileOf('lambda/b', 'small')]]) for (const good of [0, large]) {
    const asked: string[] = []
    const after = lateFile('lambda/z', 1, async () => { asked.push('z'); return Buffer.from('z') })
    const bad: PackedFile = { path: 'lambda/m', bytes: 2 * large, async *open() { if (good) yield randomBytes(good); throw trouble } }
    const thrown = await pack(head, [...before, bad, after]).catch((error: unknown) => error)
    assert.is(thrown, trouble)
    assert.equal([await temporary.left(), asked], [[], []])
  }
})

packing('a disk that cannot be written to is what packing throws', async ({ temporary }) => {
  await rm(temporary.folder, { recursive: true })
  const thrown = await pack(head, [fileOf('lambda/a', randomBytes(large)), fileOf('lambda/b', randomBytes(large))]).then(() => null, (error: NodeJS.ErrnoException) => error)
  assert.is(thrown?.code, 'ENOENT')
})

packing('one file is asked for at a time, and the next when the last has been taken', async ({ temporary }) => {
  const bytes = 3 << 20
  const written = async (): Promise<number> => {
    const [name] = await temporary.left()
    return name ? (await stat(join(temporary.folder, name, 'context'))).size : 0
  }
  const open = new Set<number>()
  const behind: number[] = []
  const files = Array.from({ length: 6 }, (_, i) => lateFile(`lambda/${i}`, bytes, async () => {
    assert.equal([...open], [], 'another is being read')
    open.add(i)
    // What was given before is compressed and written but for a rest; the first of it may still lie in memory.
    behind.push(i > 1 ? i * bytes - (await written()) : 0)
    open.delete(i)
    return randomBytes(bytes)
  }))
  await (await pack(head, files)).drop()
  assert.is(behind.length, 6)
  assert.ok(behind.every((rest) => rest < bytes / 2), behind.join(' '))
})

packing('while one file is being read no other is asked for', async () => {
  const [first, asked] = [gate<Buffer>(), gate()]
  let others = 0
  const waits = lateFile('lambda/a', 1, () => { asked.open(); return first.promise })
  const making = pack(head, [waits, ...['b', 'c'].map((name) => lateFile(`lambda/${name}`, 1, async () => { others += 1; return Buffer.from(name) }))])
  await asked.promise
  assert.is(others, 0)
  first.open(Buffer.from('a'))
  const made = await making
  assert.equal([others, await unpackedFiles(await bytesOf(made.content))], [2, { Dockerfile: 'FROM base\n', 'lambda/a': 'a', 'lambda/b': 'b', 'lambda/c': 'c' }])
  await made.drop()
})

packing.run()

// ---
const spooling = suite<{ temporary: OwnTemporary }>('the spool')
spooling.before.each(async (context) => { context.temporary = await ownTemporary() })
spooling.after.each(({ temporary }) => temporary.close())

spooling('up to its limit it holds bytes in memory, beyond it in a file, and gives them back in order', async ({ temporary }) => {
  const held = spool(10)
  const parts = ['0123', '456789', 'a', '', 'bcdef'].map((text) => Buffer.from(text))
  const files: number[] = []
  for (const [i, part] of parts.entries()) {
    await held.write(part)
    files.push((await temporary.left()).length)
    const said = Buffer.concat(parts.slice(0, i + 1))
    assert.equal([await bytesOf(held), held.bytes], [said, said.length])
  }
  assert.equal(files, [0, 0, 1, 1, 1])
  await held.drop()
  assert.equal(await temporary.left(), [])
})

spooling('two at once do not meet', async ({ temporary }) => {
  const [one, two] = [spool(0), spool(0)]
  await Promise.all([one.write(Buffer.from('one')), two.write(Buffer.from('two'))])
  assert.equal([await bytesOf(one), await bytesOf(two)].map(String), ['one', 'two'])
  await one.drop()
  assert.is(String(await bytesOf(two)), 'two')
  await two.drop()
  assert.equal(await temporary.left(), [])
})

spooling.run()
