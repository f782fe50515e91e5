// What every store of images promises, wherever they lie.
import { randomUUID } from 'node:crypto'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import type { StoredImage, StoredImages } from '../../shared/stored.ts'
import { digestFor } from '../stand/lives.ts'

export interface StoredUnderTest {
  stored: StoredImages
  /** Makes an image of this context, with code of so many bytes; all else it has in common with every other. Answers its digest, as a build would. */
  image(lambda: string, context: string, codeBytes: number): Promise<string>
  environment(key: string, bytes: number): Promise<void>
  close(): Promise<void>
}

export const contextFor = (): string => digestFor(randomUUID())

/** Those of these keys, in their order. */
export async function listed(stored: StoredImages, lambdas: string[], keys: string[]): Promise<StoredImage[]> {
  const all = await stored.list(lambdas)
  return keys.flatMap((key) => all.filter((one) => one.key === key))
}

export function storedContract(name: string, make: () => Promise<StoredUnderTest>): void {
  const test = suite<{ on: StoredUnderTest }>(name)
  test.before.each(async (context) => { context.on = await make() })
  test.after.each(({ on }) => on.close())

  test('where nothing was built there is nothing', async ({ on: { stored } }) => {
    assert.equal(await stored.list([randomUUID()]), [])
  })

  test('images of the lambdas that are named, and every environment, have names of their own', async ({ on }) => {
    const [one, other, contexts, key] = [randomUUID(), randomUUID(), [contextFor(), contextFor(), contextFor()], contextFor()]
    await on.image(one, contexts[0]!, 10)
    await on.image(one, contexts[1]!, 10)
    await on.image(other, contexts[2]!, 10)
    await on.environment(key, 10)
    const found = await listed(on.stored, [one, other], [...contexts, key])
    assert.equal(found.map(({ kind }) => kind), ['image', 'image', 'image', 'environment'])
    assert.equal(found.map(({ lambda }, i) => lambda === null || lambda === [one, one, other][i]), [true, true, true, true])
    assert.is(found[3]!.lambda, null)
    assert.is(new Set(found.map((image) => image.name)).size, 4)
    assert.ok(found.every((image) => image.name.endsWith(image.key)))
  })

  test('an image tells the digest that its build told', async ({ on }) => {
    const [id, context] = [randomUUID(), contextFor()]
    const digest = await on.image(id, context, 10)
    const [image] = await listed(on.stored, [id], [context])
    assert.is(await on.stored.digest(image!), digest)
  })

  test('what several are made of is one part of the same name, what is their own is theirs', async ({ on }) => {
    const [one, other, contexts, key] = [randomUUID(), randomUUID(), [contextFor(), contextFor()], contextFor()]
    await on.image(one, contexts[0]!, 20_000)
    await on.image(other, contexts[1]!, 30_000)
    await on.environment(key, 40_000)
    const parts = await Promise.all((await listed(on.stored, [one, other], [...contexts, key])).map((image) => on.stored.parts(image)))
    const own = parts.map((mine) => mine!.filter(({ name }) => !parts.some((theirs) => theirs !== mine && theirs!.some((part) => part.name === name))))
    assert.ok(parts[0]!.length > own[0]!.length && parts[1]!.length > own[1]!.length, 'they have something in common')
    for (const [i, bytes] of [20_000, 30_000, 40_000].entries()) assert.ok(Math.max(...own[i]!.map((part) => part.bytes)) >= bytes)
    for (const mine of parts) assert.is(new Set(mine!.map((part) => part.name)).size, mine!.length)
  })

  test('what is removed is gone, and all else stays', async ({ on }) => {
    const [id, contexts, keys] = [randomUUID(), [contextFor(), contextFor(), contextFor()], [contextFor(), contextFor()]]
    for (const context of contexts) await on.image(id, context, 10)
    for (const key of keys) await on.environment(key, 10)
    const [first, second, third, own, foreign] = await listed(on.stored, [id], [...contexts, ...keys])
    assert.equal(await on.stored.remove([first!, second!, own!]), [])
    assert.equal(await listed(on.stored, [id], [...contexts, ...keys]), [third, foreign])
    for (const gone of [first!, second!, own!]) assert.equal([await on.stored.parts(gone), await on.stored.digest(gone)], [null, null])
    assert.ok(await on.stored.parts(third!))
    assert.ok(await on.stored.digest(third!))
  })

  test('removing what is not there is fine', async ({ on }) => {
    const [id, context] = [randomUUID(), contextFor()]
    await on.image(id, context, 10)
    const [image] = await listed(on.stored, [id], [context])
    for (const _ of [1, 2]) assert.equal(await on.stored.remove([image!]), [])
    assert.equal(await on.stored.remove([]), [])
  })

  test.run()
}
