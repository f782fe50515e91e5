// What every Objects adapter promises, written against the port alone: it runs unchanged on each store.
import { randomBytes } from 'node:crypto'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { archiveName, contextName, type Content, type Objects } from '../../shared/objects.ts'
import { Refusal, Unavailable } from '../../shared/trouble.ts'

export interface ObjectsUnderTest {
  objects: Objects
  /** The same store, as another process sees it. */
  another: Objects
  /** Stores in a bucket that is not kiln's, and tells its address. */
  elsewhere(name: string, bytes: Buffer): Promise<string>
  /** The address of `name` in a bucket that is not there. */
  nowhere(name: string): string
  close(): Promise<void>
}

const MB = 1_000_000
const sorted = <T extends { name: string }>(list: T[]): T[] => [...list].sort((a, b) => (a.name < b.name ? -1 : 1))
/** Without the times, which no test knows beforehand. */
const sizes = async (list: ReturnType<Objects['list']>): Promise<Array<{ name: string; bytes: number }>> => sorted(await list).map(({ name, bytes }) => ({ name, bytes }))
const chunk = 128 * 1_024

/** These bytes in pieces of that size, some of them empty; `left` counts how often a reading was ended, at its end or before. */
function inPieces(bytes: Buffer, piece: number, told = bytes.length): Content & { left: number } {
  const content = {
    bytes: told, left: 0,
    async *open() {
      try {
        for (let at = 0; at < bytes.length; at += piece) {
          yield bytes.subarray(at, at + piece)
          yield Buffer.alloc(0)
        }
      } finally {
        content.left++
      }
    },
  }
  return content
}

const trouble = async (work: Promise<unknown>): Promise<Error> => work.then(() => { throw new Error('it should have failed') }, (error: Error) => error)

async function allOf(part: AsyncIterable<Buffer> | null): Promise<Buffer> {
  const pieces: Buffer[] = []
  for await (const piece of part!) pieces.push(piece)
  return Buffer.concat(pieces)
}

export function objectsContract(name: string, make: () => Promise<ObjectsUnderTest>): void {
  const test = suite(`objects, ${name}`)
  let under: ObjectsUnderTest
  let objects: Objects
  test.before(async () => { under = await make(); ({ objects } = under) })
  test.after(() => under.close())

  test('what was put is got, byte for byte, whatever its size', async () => {
    for (const size of [0, 1, 128 * 1024, 3 * MB, 20 * MB]) {
      const bytes = randomBytes(size)
      await objects.put(`sizes/${size}`, bytes)
      assert.ok((await objects.get(`sizes/${size}`))!.equals(bytes), String(size))
      assert.ok((await under.another.get(`sizes/${size}`))!.equals(bytes), String(size))
    }
  })
  test('only the bytes of a view are put, not what lies around them', async () => {
    await objects.put('view', new Uint8Array(Buffer.from('around the view')).subarray(7, 10))
    assert.is(String(await objects.get('view')), 'the')
  })
  test('putting again replaces', async () => {
    await objects.put('again', Buffer.from('a longer content than the next'))
    await objects.put('again', Buffer.from('next'))
    assert.is(String(await objects.get('again')), 'next')
    assert.equal(await sizes(objects.list('again')), [{ name: 'again', bytes: 4 }])
  })
  test('absence is null, and removing what is not there is fine', async () => {
    assert.equal([await objects.get('nothing'), await objects.has('nothing'), objects.knows('nothing')], [null, false, false])
    await objects.remove('nothing')
    await objects.put('gone', Buffer.from('x'))
    assert.is(await objects.has('gone'), true)
    await objects.remove('gone')
    assert.equal([await objects.get('gone'), await objects.has('gone'), await under.another.has('gone')], [null, false, false])
    await objects.remove('gone')
    assert.equal(await objects.list('gone'), [])
    await objects.put('gone', Buffer.from('back'))
    assert.is(String(await objects.get('gone')), 'back')
  })
  test('names are as kiln makes them, one may be the beginning of another', async () => {
    const names = [archiveName('a'.repeat(64)), contextName('b'.repeat(64)), 'deep/er/than/that.zip', 'with space/and+plus%41&more=ü', 'deep/er/tha']
    for (const name of names) await objects.put(name, Buffer.from(name))
    for (const name of names) assert.is(String(await objects.get(name)), name)
    for (const name of names) assert.equal((await sizes(objects.list(name))).find((one) => one.name === name), { name, bytes: Buffer.byteLength(name) })
    assert.is(await objects.get('deep/er'), null)
    await objects.remove('deep/er/tha')
    assert.is(String(await objects.get('deep/er/than/that.zip')), 'deep/er/than/that.zip')
  })
  test('a list holds what begins so', async () => {
    for (const [name, content] of [['list/a', '1'], ['list/b', '22'], ['list/in/c', '333'], ['listed', '4444']] as const) await objects.put(name, Buffer.from(content))
    assert.equal(await sizes(objects.list('list/')), [{ name: 'list/a', bytes: 1 }, { name: 'list/b', bytes: 2 }, { name: 'list/in/c', bytes: 3 }])
    assert.equal((await sizes(objects.list('list'))).map(({ name }) => name), ['list/a', 'list/b', 'list/in/c', 'listed'])
    assert.equal(await objects.list('list/x'), [])
    const all = (await objects.list('')).map(({ name }) => name)
    for (const name of ['list/a', 'listed', 'view']) assert.ok(all.includes(name), name)
  })
  test('a list tells when each was put last', async () => {
    const lastPut = async (): Promise<number> => (await objects.list('when'))[0]!.modifiedMs
    await objects.put('when', Buffer.from('before'))
    const before = await lastPut()
    // The store has a clock of its own.
    assert.ok(Math.abs(before - Date.now()) < 60_000, String(before))
    // Some tell whole seconds: it is put again until the next has begun.
    const until = Date.now() + 10_000
    do await objects.put('when', inPieces(Buffer.from('after'), 2))
    while (await lastPut() === before && Date.now() < until)
    assert.ok(await lastPut() > before)
  })
  test('a content is put as its bytes are, in whatever pieces it comes', async () => {
    for (const [size, piece] of [[0, 1], [1, 1], [chunk, chunk], [chunk + 1, 1_000], [3 * MB, 3 * MB], [20 * MB, 999_999]] as const) {
      const content = inPieces(randomBytes(size), piece)
      await objects.put(`content/${size}`, content)
      const bytes = await allOf(content.open() as AsyncIterable<Buffer>)
      assert.ok((await objects.get(`content/${size}`))!.equals(bytes), String(size))
      assert.ok((await under.another.get(`content/${size}`))!.equals(bytes), String(size))
      assert.equal(await sizes(objects.list(`content/${size}`)), [{ name: `content/${size}`, bytes: size }])
    }
  })
  test('a content that ends early or late is an error, and what was there stays', async () => {
    await objects.put('length', Buffer.from('what was there'))
    const small = [[0, 1], [1, 0], [chunk, 0], [chunk, chunk - 1], [chunk, chunk + 1]] as const
    const large = [[12 * MB, 12 * MB - 1], [12 * MB, 12 * MB + 1], [12 * MB, 6 * MB], [6 * MB, 12 * MB]] as const
    for (const [size, told] of [...small, ...large]) {
      for (const name of ['length', `length-${size}-${told}`]) {
        const content = inPieces(randomBytes(size), 100_000, told)
        const error = await trouble(objects.put(name, content))
        assert.not.instance(error, Unavailable)
        assert.match(error.message, size < told ? `the content of ${name} ended after ${size} of the ${told} bytes` : `the content of ${name} does not end after the ${told} bytes`)
        assert.is(content.left, 1)
      }
    }
    assert.equal(await sizes(objects.list('length')), [{ name: 'length', bytes: 14 }])
    assert.is(String(await under.another.get('length')), 'what was there')
    assert.equal([await objects.get('length-0-1'), await objects.has('length-1-0'), await objects.part(`length-${12 * MB}-${6 * MB}`, 0)], [null, false, null])
  })
  test('what a content throws is thrown, and nothing is put', async () => {
    const broken = new Error('the disk is gone')
    await objects.put('throws', Buffer.from('what was there'))
    for (const before of [0, 1, 12 * MB]) {
      const content: Content = { bytes: 20 * MB, async *open() { yield Buffer.alloc(before); throw broken } }
      for (const name of ['throws', 'throws-new']) assert.is(await trouble(objects.put(name, content)), broken)
    }
    assert.equal(await sizes(objects.list('throws')), [{ name: 'throws', bytes: 14 }])
    assert.is(String(await objects.get('throws')), 'what was there')
  })
  test('a part is what lies between a byte and the end', async () => {
    const bytes = randomBytes(3 * MB)
    await objects.put('part', bytes)
    for (const from of [0, 1, chunk - 1, chunk, chunk + 1, 2 * MB, 3 * MB - 1, 3 * MB, 3 * MB + 1]) {
      assert.ok((await allOf(await objects.part('part', from))).equals(bytes.subarray(from)), String(from))
    }
    await objects.put('part-of-none', Buffer.alloc(0))
    assert.equal([await allOf(await objects.part('part-of-none', 0)), await allOf(await under.another.part('part-of-none', 1))], [Buffer.alloc(0), Buffer.alloc(0)])
    assert.equal([await objects.part('part-of-absent', 0), await objects.part('part-of-absent', 1)], [null, null])
  })
  test('a part of what was put as a content and replaced is of what is there now', async () => {
    await objects.put('part-again', inPieces(randomBytes(7 * MB), 1_000_000))
    const bytes = randomBytes(12 * MB)
    await objects.put('part-again', inPieces(bytes, 700_001))
    assert.ok((await allOf(await under.another.part('part-again', 5 * MB))).equals(bytes.subarray(5 * MB)))
  })
  test('who stops reading, or does not begin, is in nobody\'s way', async () => {
    const bytes = randomBytes(6 * MB)
    await objects.put('stop', bytes)
    // More than a client has connections.
    for (let i = 0; i < 120; i++) {
      const part = (await objects.part('stop', i * 1_000))!
      if (i % 2) for await (const piece of part) { assert.ok(piece.length < bytes.length); break }
    }
    // All that was asked for has been read, and its end not.
    for (let i = 0; i < 120; i++) for await (const piece of (await objects.part('stop', bytes.length - 1))!) { assert.ok(piece.equals(bytes.subarray(-1))); break }
    assert.ok((await allOf(await objects.part('stop', 1))).equals(bytes.subarray(1)))
    assert.ok((await objects.get('stop'))!.equals(bytes))
  })
  test('parts are read side by side, each at its own pace', async () => {
    const bytes = randomBytes(4 * MB)
    await objects.put('beside', bytes)
    const slow = (await objects.part('beside', 0))![Symbol.asyncIterator]()
    const pieces = [(await slow.next()).value as Buffer]
    for (const from of [0, 1_000_000]) assert.ok((await allOf(await objects.part('beside', from))).equals(bytes.subarray(from)))
    for (let next = await slow.next(); !next.done; next = await slow.next()) pieces.push(next.value)
    assert.ok(Buffer.concat(pieces).equals(bytes))
  })
  test('what was replaced before it was read is no mixture', async () => {
    await objects.put('mixed', randomBytes(3 * MB))
    const parts = [(await objects.part('mixed', 0))!, (await objects.part('mixed', 2 * MB))!]
    await under.another.put('mixed', randomBytes(3 * MB))
    for (const error of await Promise.all(parts.map((part) => trouble(allOf(part))))) assert.instance(error, Unavailable, error.stack)
  })
  test('of many who put under one name at once, one wins whole', async () => {
    const contents = Array.from({ length: 8 }, (_, i) => Buffer.alloc(200_000 + i, 65 + i))
    await Promise.all(contents.map((bytes, i) => (i % 2 ? objects : under.another).put('contended', bytes)))
    const seen = await objects.get('contended')
    assert.ok(contents.some((one) => seen?.equals(one)), `${seen?.length}: ${seen?.subarray(0, 3)} … ${seen?.subarray(-3)}`)
    assert.ok(seen!.equals((await under.another.get('contended'))!))
    assert.equal(await sizes(objects.list('contended')), [{ name: 'contended', bytes: seen!.length }])
  })
  test('another bucket is read by its address, within the limit', async () => {
    const address = await under.elsewhere('in/a.zip', Buffer.from('zip'))
    assert.is(String(await objects.read(address, 3)), 'zip')
    assert.is(await objects.read(`${address}x`, 3), null)
    assert.is(await objects.read(under.nowhere('a.zip'), 3), null)
    const refusal = await objects.read(address, 2).catch((error: unknown) => error)
    assert.instance(refusal, Refusal)
    const { status, errorCode, message } = refusal as Refusal
    assert.equal([status, errorCode, message], [413, 42005, `${address} has 3 bytes; at most 2 are taken.`])
  })
  test('an address of another kind names nothing', async () => {
    const [scheme] = (await under.elsewhere('a', Buffer.from('a'))).split('://')
    for (const address of ['https://example.org/x', 'kiln/a', '', `${scheme}://`, `${scheme}://bucket`, `${scheme}://bucket/`, `${scheme}:///a`, `${scheme}://../a`]) {
      assert.is(await objects.read(address, 10), null, address)
    }
  })
  test.run()
}
