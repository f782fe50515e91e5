// What every Builds adapter promises, written against the port alone: it runs unchanged on each platform.
import { createHash, randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { gzipSync } from 'node:zlib'
import { pack } from 'tar-stream'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import type { Build, BuildEnd, Builds, Image, ImageBuilder, Kept, Packaged } from '../../shared/builds.ts'
import { contextName } from '../../shared/objects.ts'
import { caller, type Caller } from './package-that-calls.ts'

export { caller, type Caller }

export interface BuildsUnderTest {
  builds: Builds
  /** Stores a context of these files, and what its environment is made of where the platform needs that. */
  context(files: Record<string, string>, commands?: string[]): Promise<Packaged>
  /** Where a build reaches this process. */
  host: string
  close(): Promise<void>
}

/** An archive that no packager made, and what a build would be told of it. */
export async function contextArchive(files: Record<string, string>): Promise<{ archive: Buffer; digest: string; packaged: Packaged }> {
  const tar = pack()
  for (const [name, text] of Object.entries(files)) tar.entry({ name, mtime: new Date(0) }, text)
  tar.finalize()
  const chunks: Buffer[] = []
  for await (const chunk of tar as AsyncIterable<Buffer>) chunks.push(chunk)
  const archive = gzipSync(Buffer.concat(chunks))
  const digest = createHash('sha256').update(archive).digest('hex')
  return { archive, digest, packaged: unpacked(digest) }
}

/** The build of a context that nothing more is known of. */
export function unpacked(digest: string): Packaged {
  const code = { offset: 0, bytes: 1, digest: `sha256:${digest}`, unpacked: `sha256:${digest}` }
  return { context: { name: contextName(digest), digest, bytes: 1, code }, foundation: { base: null, environment: null } }
}

const base = { 'lambda_main.py': 'async def main(request): return {}\n' }

/** A context that differs from every other. */
export const plainFiles = (): Record<string, string> => ({ ...base, 'note.txt': randomUUID() })

export const buildWith = (packaged: Packaged, timeoutMs = 120_000, builder: ImageBuilder = 'auto'): Build =>
  ({ ...packaged, commands: [], id: randomUUID(), account: 'default', version: 1, builder, timeoutMs, namespace: 'default', selector: {} })
export const buildOf = (packaged: Packaged, timeoutMs?: number): Build => buildWith(packaged, timeoutMs)

export const imageOf = async (builds: Builds, build: Build): Promise<Image | null> => (await builds.find(build)).image

export const quiet = { line: (): void => undefined, waits: (): void => undefined, kept: async (): Promise<void> => undefined, signal: new AbortController().signal }

export const removing = (builds: Builds, { id, namespace, context }: Build): Promise<Kept[]> =>
  builds.remove({ id, namespaces: [namespace] }, new Set([context.digest]), new Set())

/** A fact to wait for. */
export function gate(): { opened: Promise<void>; open(): void } {
  let open = (): void => undefined
  const opened = new Promise<void>((resolve) => { open = resolve })
  return { opened, open }
}

export function failureOf(end: BuildEnd): Extract<BuildEnd, { built: false }> {
  if (end.built) throw new Error('it was built')
  return end
}

export function buildsContract(name: string, make: () => Promise<BuildsUnderTest>, builder: ImageBuilder = 'auto'): void {
  const buildOf = (packaged: Packaged, timeoutMs?: number): Build => buildWith(packaged, timeoutMs, builder)
  const test = suite<{ on: BuildsUnderTest; caller: Caller }>(name)
  test.before.each(async (context) => {
    context.on = await make()
    context.caller = await caller(context.on.host)
  })
  test.after.each(async ({ on, caller }) => {
    await caller.close()
    await on.close()
  })

  test('an image is not found before it is built, and found afterwards', async ({ on }) => {
    const build = buildOf(await on.context(plainFiles()))
    assert.is(await imageOf(on.builds, build), null)
    const end = await on.builds.run(build, quiet)
    assert.ok(end.built, JSON.stringify(end))
    assert.match(end.image.digest, /^sha256:[0-9a-f]{64}$/)
    assert.equal(await imageOf(on.builds, build), end.image)
  })

  test('equal contexts give equal images', async ({ on }) => {
    const build = buildOf(await on.context(plainFiles()))
    const first = await on.builds.run(build, quiet)
    assert.equal(await on.builds.run({ ...build, version: 2 }, quiet), first)
  })

  test('what the build prints is told line by line', async ({ on }) => {
    const lines: string[] = []
    await on.builds.run(buildOf(await on.context(plainFiles())), { ...quiet, line: (text) => lines.push(text) })
    assert.ok(lines.length > 0)
    assert.not(lines.some((line) => line.includes('\n')))
  })

  test('two equal builds at once are one', async ({ on, caller }) => {
    const build = buildOf(await on.context({ ...plainFiles(), ...caller.files }))
    const ends = [on.builds.run(build, quiet), on.builds.run(build, quiet)]
    const call = await caller.called(ends[0]!)
    call.write('.')
    const [one, other] = await Promise.all(ends)
    assert.ok(one!.built, JSON.stringify(one))
    assert.equal(other, one)
    assert.is(caller.calls(), 1)
  })

  test('requirements that cannot be installed are the user\'s to correct, and not tried again', async ({ on }) => {
    const context = await on.context({ ...plainFiles(), 'requirements.txt': './is-not-there-1.0-py3-none-any.whl\n' })
    const { again, failure } = failureOf(await on.builds.run(buildOf(context), quiet))
    assert.is(again, false)
    assert.equal([failure.cause, failure.reason], ['dependency', 'RequirementsNotInstallable'])
    assert.match(failure.message, /requirements\.txt.*PUT/)
    assert.ok(failure.log?.some((line) => line.includes('is-not-there')))
    assert.is(await imageOf(on.builds, buildOf(context)), null)
    assert.equal(failureOf(await on.builds.run(buildOf(context), quiet)).failure.reason, failure.reason, 'and fails again')
  })

  test('a build beyond its time is ended, and its failure names the limit', async ({ on, caller }) => {
    const context = await on.context({ ...plainFiles(), ...caller.files })
    const { failure } = failureOf(await on.builds.run(buildOf(context, 1_500), quiet))
    assert.equal([failure.cause, failure.reason], ['timeout', 'BuildTimeout'])
    assert.match(failure.message, /1\.5 seconds/)
  })

  test('a cancelled build has ended all its processes when it resolves', async ({ on, caller }) => {
    const context = await on.context({ ...plainFiles(), ...caller.files })
    const cancel = new AbortController()
    const end = on.builds.run(buildOf(context), { ...quiet, signal: cancel.signal })
    const call = await caller.called(end)
    const hungUp = once(call, 'close')
    cancel.abort()
    assert.is(failureOf(await end).failure.cause, 'cancelled')
    await hungUp
    assert.is(await imageOf(on.builds, buildOf(context)), null)
  })

  test('cancelling one of two equal builds leaves the other', async ({ on, caller }) => {
    const build = buildOf(await on.context({ ...plainFiles(), ...caller.files }))
    const cancel = new AbortController()
    const cancelled = on.builds.run(build, { ...quiet, signal: cancel.signal })
    const call = await caller.called(cancelled)
    const joined = gate()
    const stays = on.builds.run(build, { ...quiet, line: joined.open })
    await joined.opened
    cancel.abort()
    assert.is(failureOf(await cancelled).failure.cause, 'cancelled')
    call.write('.')
    assert.ok((await stays).built)
    assert.is(caller.calls(), 1)
  })

  test('after a cancelled build the same can be built', async ({ on }) => {
    const build = buildOf(await on.context(plainFiles()))
    failureOf(await on.builds.run(build, { ...quiet, signal: AbortSignal.abort() }))
    assert.ok((await on.builds.run(build, quiet)).built)
  })

  test('a context that has vanished is a failure', async ({ on }) => {
    const { context, foundation } = await on.context(plainFiles())
    const gone = unpacked(createHash('sha256').update(randomUUID()).digest('hex')).context
    const { failure } = failureOf(await on.builds.run(buildOf({ context: { ...context, ...gone }, foundation }), quiet))
    assert.match(failure.message, /PUT/)
  })

  test('removing images removes those that are named, and no others', async ({ on }) => {
    const [stays, removed] = [buildOf(await on.context(plainFiles())), buildOf(await on.context(plainFiles()))]
    for (const build of [stays, removed]) assert.ok((await on.builds.run(build, quiet)).built)
    assert.equal(await removing(on.builds, removed), [])
    assert.equal(await removing(on.builds, removed), [])
    assert.ok(await imageOf(on.builds, stays))
    assert.is(await imageOf(on.builds, removed), null)
    assert.ok((await on.builds.run(removed, quiet)).built)
  })

  test('an image that is being built is not removed', async ({ on, caller }) => {
    const build = buildOf(await on.context({ ...plainFiles(), ...caller.files }))
    const end = on.builds.run(build, quiet)
    const call = await caller.called(end)
    await removing(on.builds, build)
    call.write('.')
    assert.ok((await end).built)
    assert.ok(await imageOf(on.builds, build))
  })

  test('removing a lambda\'s images while one more is built removes the others', async ({ on, caller }) => {
    const old = buildOf(await on.context(plainFiles()))
    assert.ok((await on.builds.run(old, quiet)).built)
    const build = { ...old, version: 2, ...await on.context({ ...plainFiles(), ...caller.files }) }
    const end = on.builds.run(build, quiet)
    const call = await caller.called(end)
    await on.builds.remove({ id: old.id, namespaces: [old.namespace] }, new Set([old.context.digest, build.context.digest]), new Set())
    assert.is(await imageOf(on.builds, old), null)
    call.write('.')
    assert.ok((await end).built)
  })

  test('closing lets go of what runs, and it is worth another try', async ({ on, caller }) => {
    const end = on.builds.run(buildOf(await on.context({ ...plainFiles(), ...caller.files })), quiet)
    await caller.called(end)
    await on.builds.close()
    assert.is(failureOf(await end).again, true)
  })

  test.run()
}
