// Images of builds of their own, made by pods. On a real cluster when KUBECONFIG names one.
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { createHash } from 'node:crypto'
import { gzipSync } from 'node:zlib'
import { kilnStops } from '../shared/builds.ts'
import type { ImageBuilds } from '../shared/image-builds.ts'
import type { Cluster } from '../shared/kubernetes/client.ts'
import { kubernetesImageBuilds } from '../shared/kubernetes/image-builds.ts'
import { imageBuildName, path } from '../shared/kubernetes/names.ts'
import type { PodResource } from '../shared/kubernetes/resources.ts'
import { silentLog } from '../shared/log.ts'
import { contextName } from '../shared/objects.ts'
import { begin, buildOf, failureOf, imageBuildsContract, type ImageBuildsUnderTest } from './contract/image-builds.ts'
import { tarOf } from './stand/base-image.ts'
import { clusterUnderTest } from './stand/cluster.ts'

const under = await clusterUnderTest()

interface OnCluster extends ImageBuildsUnderTest {
  client: Cluster
  /** A kiln that is started after, or beside, the first. */
  again(): ImageBuilds
}

async function onCluster(): Promise<OnCluster> {
  const config = { ...under.config(), buildLimits: { memory: '2Gi' } }
  const client = under.client()
  const opened: ImageBuilds[] = []
  const again = (): ImageBuilds => {
    opened.push(kubernetesImageBuilds({ cluster: client, config, s3: under.s3, bucket: under.bucket, registry: under.registry, log: silentLog }))
    return opened.at(-1)!
  }
  return {
    images: again(), again, client, registry: config.registry, run: { says: (text) => `RUN echo "${text}"`, fails: 'RUN exit 3', stays: 'RUN echo stays && sleep 600' },
    async context(lines) {
      const bytes = gzipSync(await tarOf([{ name: 'Dockerfile', content: [`FROM ${under.baseImage}`, ...lines, ''].join('\n') }, { name: 'hello.txt', content: 'hello\n' }]))
      const digest = createHash('sha256').update(bytes).digest('hex')
      await under.objects.put(contextName(digest), bytes)
      return { name: contextName(digest), digest }
    },
    async close() {
      await Promise.all(opened.map((one) => one.close()))
      await client.close()
    },
  }
}

imageBuildsContract('images by pods', onCluster)

const test = suite<{ on: OnCluster }>('images by pods, and nowhere else')
test.before(async (context) => { context.on = await onCluster() })
test.after(async ({ on }) => { await on.close(); await under.close() })

test('the pod says whose it is and may use what was asked for, besides what the operator allows', async ({ on }) => {
  const build = await buildOf(on, ['COPY hello.txt /hello.txt'], { limits: { cpu: '500m' } })
  let seen: PodResource | null = null
  const { end } = begin(on.images, build, { kept: async () => { seen = await on.client.get<PodResource>(path.pods('default', imageBuildName(build.id))) } })
  assert.ok((await end).built)
  const { metadata, spec } = seen! as PodResource & { spec: { containers: Array<{ resources: unknown }> } }
  assert.equal([metadata.name, metadata.labels!['kiln/lambda-id'], spec.containers[0]!.resources], [`kaniko-build-${build.id}`, build.id, { limits: { memory: '2Gi', cpu: '500m' }, requests: { memory: '2Gi', cpu: '500m' } }])
  assert.is(await on.client.get(path.pods('default', imageBuildName(build.id))), null)
})

test('a kiln that stops lets the build go on, and the next one takes it up', async ({ on }) => {
  const build = await buildOf(on, [on.run.says('begun'), on.run.stays])
  const first = on.again()
  const began = begin(first, build)
  await began.says('stays')
  began.stop(kilnStops)
  assert.equal(failureOf(await began.end), ['infrastructure', 'BuilderStopped', true])
  const second = begin(on.images, build)
  await second.says('begun')
  second.stop()
  assert.is((failureOf(await second.end) as string[])[0], 'cancelled')
  assert.is(await on.client.get(path.pods('default', imageBuildName(build.id))), null)
})

test('what nobody wants any more is ended', async ({ on }) => {
  const build = await buildOf(on, [on.run.stays])
  const first = on.again()
  const began = begin(first, build)
  await began.says('stays')
  began.stop(kilnStops)
  await began.end
  await on.images.abandon(build)
  assert.is(await on.client.get(path.pods('default', imageBuildName(build.id))), null)
})
test.run()
