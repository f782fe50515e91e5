// Images of builds of their own, made on this machine.
import { createHash } from 'node:crypto'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { gzipSync } from 'node:zlib'
import { localImageBuilds } from '../shared/local/image-builds.ts'
import { contextName } from '../shared/objects.ts'
import { begin, buildOf, imageBuildsContract, type ImageBuildsUnderTest } from './contract/image-builds.ts'
import { executor, executorInWords, kanikoWorld, refusedByTheSystem as refused } from './stand/local-kaniko.ts'

const where = `images on this machine, with ${executorInWords}`

async function here(ignoredLimits: string | null = null): Promise<ImageBuildsUnderTest> {
  const world = await kanikoWorld()
  const stored = new Map<string, Buffer>()
  async function* piecesOf(bytes: Buffer): AsyncGenerator<Buffer> { yield bytes }
  const images = localImageBuilds({
    kaniko: world.kaniko, executor: await executor(), registry: world.registry.address, ignoredLimits,
    objects: { part: async (name) => { const bytes = stored.get(name); return bytes ? piecesOf(bytes) : null } },
  })
  return {
    images, registry: world.registry.address, run: { says: (text) => `RUN probe say ${text}`, fails: 'RUN probe fail', stays: 'RUN probe stay' },
    async context(lines) {
      const bytes = gzipSync((await world.wish(lines)).context as Buffer)
      const digest = createHash('sha256').update(bytes).digest('hex')
      stored.set(contextName(digest), bytes)
      return { name: contextName(digest), digest }
    },
    async close() {
      await images.close()
      await world.close()
    },
  }
}

const only = suite(`${where}, and nowhere else`)
if (refused) {
  only(`cannot be made here: ${refused}`, async () => {
    const on = await here()
    assert.match((await on.images.lack())!, /./)
    await on.close()
  })
} else {
  imageBuildsContract(where, here)

  only('limits have no effect, and the log says so', async () => {
    const on = await here('cpu=2,memory=4Gi')
    const running = begin(on.images, await buildOf(on, ['COPY hello.txt /hello.txt'], { limits: { memory: '1Gi' } }))
    assert.ok((await running.end).built)
    assert.match(running.said[0]!, 'Ignored: BUILD_LIMITS (cpu=2,memory=4Gi) and resources.')
    await on.close()
  })
}
if (!refused) only('one is made at a time, and whoever waits says so until its turn has come', async () => {
  const on = await here()
  const first = begin(on.images, await buildOf(on, [on.run.stays]))
  await first.says('stays')
  const told: Array<string | null> = []
  const second = begin(on.images, await buildOf(on, ['COPY hello.txt /hello.txt']), { waits: (why) => told.push(why && why.reason) })
  first.stop()
  assert.ok((await second.end).built)
  assert.equal(told, ['OneAtATime', null])
  await on.close()
})
only('without a registry, or an executor, it is said what is missing and how to get it', async () => {
  const lackOf = (options: { executor: string | null; registry: string | null }): Promise<string> =>
    localImageBuilds({ ...options, kaniko: null as never, objects: null as never, ignoredLimits: null }).lack() as Promise<string>
  assert.match(await lackOf({ executor: null, registry: null }), /LAMBDA_REGISTRY/)
  assert.match(await lackOf({ executor: null, registry: 'here' }), /KANIKO_EXECUTOR/)
  assert.match(await lackOf({ executor: '/nowhere/executor', registry: 'here' }), /\/nowhere\/executor/)
})
only.run()
