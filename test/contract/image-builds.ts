// What every maker of images from archives with a Dockerfile promises, whatever makes them.
import { randomUUID } from 'node:crypto'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import type { BuildEnd, BuildWatch } from '../../shared/builds.ts'
import type { ImageBuild, ImageBuilds } from '../../shared/image-builds.ts'
import { gate } from '../stand/await.ts'
import { readImage } from '../stand/read-image.ts'

export interface ImageBuildsUnderTest {
  images: ImageBuilds
  registry: string
  /** Stores a context of `hello.txt` and a Dockerfile of these lines after its FROM. */
  context(lines: string[]): Promise<ImageBuild['context']>
  /** A RUN line that says so, one that ends with exit code 3, and one that says `stays` and does not end. */
  run: { says(text: string): string; fails: string; stays: string }
  close(): Promise<void>
}

export async function buildOf(on: Pick<ImageBuildsUnderTest, 'context'>, lines: string[], more: Partial<ImageBuild> = {}): Promise<ImageBuild> {
  const id = randomUUID()
  return { id, account: 'default', context: await on.context(lines), image: { name: `made/${id}`, tag: '1' }, args: {}, limits: {}, namespace: 'default', selector: {}, timeoutMs: 120_000, ...more }
}

export interface Running {
  said: string[]
  end: Promise<BuildEnd>
  /** Resolves when a line holds this. Rejects when the build ends without. */
  says(text: string): Promise<void>
  stop(reason?: unknown): void
}

export function begin(images: ImageBuilds, build: ImageBuild, more: Partial<BuildWatch> = {}): Running {
  const said: string[] = []
  const seekers: Array<{ text: string; found(): void }> = []
  const over = new AbortController()
  const line = (text: string): void => {
    said.push(text)
    for (const { text: sought, found } of seekers) if (text.includes(sought)) found()
  }
  const end = images.run(build, { line, waits: () => undefined, kept: async () => undefined, signal: over.signal, ...more })
  return {
    said, end, stop: (reason) => over.abort(reason),
    async says(text) {
      const { promise, open } = gate()
      seekers.push({ text, found: open })
      if (said.some((one) => one.includes(text))) open()
      await Promise.race([promise, end.then((how) => { throw new Error(`it ended without saying ${text}: ${JSON.stringify(how)}\n${said.join('\n')}`) })])
    },
  }
}

export function failureOf(end: BuildEnd): [string, string, boolean] | BuildEnd {
  return end.built ? end : [end.failure.cause, end.failure.reason, end.again]
}

export function imageBuildsContract(name: string, make: () => Promise<ImageBuildsUnderTest>): void {
  const test = suite<{ on: ImageBuildsUnderTest }>(name)
  test.before(async (context) => { context.on = await make() })
  test.after(({ on }) => on.close())

  test('the image is in the registry under its name and tag, is told by its digest, and the log says how it came to be', async ({ on }) => {
    assert.is(await on.images.lack(), null)
    const build = await buildOf(on, ['ARG WHO', 'COPY hello.txt /hello.txt', on.run.says('I am $WHO')], { args: { WHO: 'me, you=all' } })
    const { end, said } = begin(on.images, build)
    const made = await end
    assert.ok(made.built, JSON.stringify(made))
    const image = await readImage(`${on.registry}/${build.image.name}:1`)
    assert.equal(made.image, { reference: `${on.registry}/${build.image.name}@${image.digest}`, digest: image.digest })
    assert.ok(image.files.has('hello.txt'))
    assert.ok(said.some((line) => line.endsWith('I am me, you=all')), said.join('\n'))
  })

  test('a command that fails is the user\'s, told with its exit code, and not tried again', async ({ on }) => {
    const end = await begin(on.images, await buildOf(on, [on.run.says('before'), on.run.fails])).end
    assert.equal(failureOf(end), ['user', 'CommandFailed', false])
    assert.match(end.built ? '' : end.failure.message, /ended with exit code 3/)
  })

  test('an archive that is gone is said to be', async ({ on }) => {
    const build = await buildOf(on, [])
    const end = await begin(on.images, { ...build, context: { ...build.context, name: `contexts/${'0'.repeat(64)}.tar.gz` } }).end
    assert.is((failureOf(end) as string[])[0], 'infrastructure')
  })

  test('one that is cancelled has ended when it resolves, and the same can be built', async ({ on }) => {
    const build = await buildOf(on, [on.run.stays])
    const running = begin(on.images, build)
    await running.says('stays')
    running.stop()
    assert.is((failureOf(await running.end) as string[])[0], 'cancelled')
    const again = await begin(on.images, { ...build, context: await on.context(['COPY hello.txt /hello.txt']) }).end
    assert.ok(again.built, JSON.stringify(again))
  })

  test('one beyond its time is ended, and says what its limit was', async ({ on }) => {
    const end = await begin(on.images, await buildOf(on, [on.run.stays], { timeoutMs: 8_000 })).end
    assert.is((failureOf(end) as string[])[0], 'timeout')
    assert.match(end.built ? '' : end.failure.message, /8 s/)
  })
  test.run()
}
