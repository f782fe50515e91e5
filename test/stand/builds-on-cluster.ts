// Builds on a cluster: their adapter with all that it asks of others, for tests of it. The cluster is the one that tests run on.
import type { Builds } from '../../shared/builds.ts'
import type { KubernetesConfig } from '../../shared/config.ts'
import { kubernetesBuilds, type ImageRegistry } from '../../shared/kubernetes/builds.ts'
import type { Cluster } from '../../shared/kubernetes/client.ts'
import { buildName, ownLabels, path, selectorOf } from '../../shared/kubernetes/names.ts'
import type { PodResource } from '../../shared/kubernetes/resources.ts'
import { silentLog } from '../../shared/log.ts'
import { natsClaims } from '../../shared/nats/claims.ts'
import { connectNats } from '../../shared/nats/connect.ts'
import type { BuildsUnderTest } from '../contract/builds.ts'
import { clusterUnderTest, type ClusterUnderTest } from './cluster.ts'
import { baseWith, contextMade } from './contexts.ts'
import { testNats } from './nats.ts'

export interface OnCluster extends BuildsUnderTest {
  /** A kiln that is started after, or beside, the first. */
  again(more?: Partial<KubernetesConfig>, registry?: ImageRegistry): Builds
  pod(id: string): Promise<PodResource | null>
  client: Cluster
}

export interface BuildsStand {
  under: ClusterUnderTest
  make(): Promise<OnCluster>
  close(): Promise<void>
}

export async function buildsStand(): Promise<BuildsStand> {
  const under = await clusterUnderTest()
  const nats = await testNats()
  const connection = await connectNats(nats.url, { name: 'test' })
  const claims = await natsClaims(connection, { replicas: 1 })
  const resolved = await under.bases.resolve(under.baseImage)
  if (!('base' in resolved) || !resolved.base) throw new Error(`the base image of these tests cannot be used: ${JSON.stringify(resolved)}`)
  // It holds all that a bare runtime needs.
  const base = baseWith(resolved.base.reference)

  async function make(): Promise<OnCluster> {
    const config = under.config()
    const opened: Builds[] = []
    const again: OnCluster['again'] = (more = {}, registry = under.registry) => {
      const builds = kubernetesBuilds({ cluster: under.client(), config: { ...config, ...more }, s3: under.s3, bucket: under.bucket, objects: under.objects, registry, claims, log: silentLog })
      opened.push(builds)
      return builds
    }
    const client = under.client()
    return {
      builds: again(), again, host: under.host, client,
      pod: (id) => client.get<PodResource>(path.pods('default', buildName(id))),
      async context(files, commands = 'requirements.txt' in files ? ['ENV PIP_BREAK_SYSTEM_PACKAGES=1'] : []) {
        const { archives, packaged } = await contextMade(files, { base, commands })
        for (const [name, archive] of archives) await under.objects.put(name, archive)
        return packaged
      },
      async close() {
        await Promise.all(opened.map((one) => one.close()))
        // Builds that were let go of live on.
        const { items } = await client.list<PodResource>(path.pods('default'), { labelSelector: selectorOf(ownLabels(config.installation, 'build')) })
        await Promise.all(items.map(({ metadata }) => client.remove(path.pods('default', metadata.name), { graceSeconds: 0 })))
        await client.close()
      },
    }
  }

  return {
    under, make,
    async close() {
      await connection.nc.close()
      await Promise.all([under.close(), nats.close()])
    },
  }
}
