// What every Objects adapter promises, written against the port alone: it runs unchanged on each store.
import { randomBytes } from 'node:crypto'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { archiveName, contextName, type Objects } from '../../shared/objects.ts'
import { Refusal } from '../../shared/trouble.ts'

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
    assert.equal(await objects.list('again'), [{ name: 'again', bytes: 4 }])
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
    for (const name of names) assert.equal((await objects.list(name)).find((one) => one.name === name), { name, bytes: Buffer.byteLength(name) })
    assert.is(await objects.get('deep/er'), null)
    await objects.remove('deep/er/tha')
    assert.is(String(await objects.get('deep/er/than/that.zip')), 'deep/er/than/that.zip')
  })
  test('a list holds what begins so', async () => {
    for (const [name, content] of [['list/a', '1'], ['list/b', '22'], ['list/in/c', '333'], ['listed', '4444']] as const) await objects.put(name, Buffer.from(content))
    assert.equal(sorted(await objects.list('list/')), [{ name: 'list/a', bytes: 1 }, { name: 'list/b', bytes: 2 }, { name: 'list/in/c', bytes: 3 }])
    assert.equal(sorted(await objects.list('list')).map(({ name }) => name), ['list/a', 'list/b', 'list/in/c', 'listed'])
    assert.equal(await objects.list('list/x'), [])
    const all = (await objects.list('')).map(({ name }) => name)
    for (const name of ['list/a', 'listed', 'view']) assert.ok(all.includes(name), name)
  })
  test('of many who put under one name at once, one wins whole', async () => {
    const contents = Array.from({ length: 8 }, (_, i) => Buffer.alloc(200_000 + i, 65 + i))
    await Promise.all(contents.map((bytes, i) => (i % 2 ? objects : under.another).put('contended', bytes)))
    const seen = await objects.get('contended')
    assert.ok(contents.some((one) => seen?.equals(one)), `${seen?.length}: ${seen?.subarray(0, 3)} … ${seen?.subarray(-3)}`)
    assert.ok(seen!.equals((await under.another.get('contended'))!))
    assert.equal(await objects.list('contended'), [{ name: 'contended', bytes: seen!.length }])
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
