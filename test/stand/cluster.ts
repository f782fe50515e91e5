// The cluster that tests of Kubernetes run on: a real one when KUBECONFIG names it, with LAMBDA_REGISTRY and S3_ENDPOINT; otherwise the stand-in, with a real
// registry and a real S3. This is the only place that knows which: whoever uses it sees a cluster.
import { createHash, randomUUID } from 'node:crypto'
import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Bases } from '../../shared/bases.ts'
import type { KubernetesConfig, S3Config } from '../../shared/config.ts'
import { cluster as clusterOf, type Cluster } from '../../shared/kubernetes/client.ts'
import type { Objects } from '../../shared/objects.ts'
import { oci, type Oci } from '../../shared/oci/adapters.ts'
import { s3Objects } from '../../shared/s3/objects.ts'
import { pushBase, type PushedImage } from './base-image.ts'
import { standCluster } from './kubernetes/cluster.ts'
import { registryServer } from './registry.ts'
import { s3Server } from './s3.ts'

export interface ClusterUnderTest {
  /** As a kiln of its own would have it: nothing of another test has its label. */
  config(): KubernetesConfig
  s3: S3Config
  bucket: string
  objects: Objects
  registry: Oci['images']
  bases: Bases
  client(): Cluster
  /** Where a pod reaches this process. */
  host: string
  /** What images are made from: it has Python and pip. */
  baseImage: string
  /** What lambdas are made from that name none: it has the runtime's packages, too, and says so. */
  lambdaBaseImage: string
  close(): Promise<void>
}

/** Where everything is, and how it ends. */
interface Place {
  kubeconfig: string
  registry: string
  host: string
  baseImage: string
  lambdaBaseImage: string
  close(): Promise<void>
}

async function realOne(kubeconfig: string): Promise<Place> {
  const registry = process.env['LAMBDA_REGISTRY']
  if (!registry || !process.env['S3_ENDPOINT']) throw new Error('KUBECONFIG is set: LAMBDA_REGISTRY and S3_ENDPOINT must be, too')
  return { kubeconfig, registry, host: await addressTowards(registry), baseImage: `${registry}/debian-python:latest`, lambdaBaseImage: process.env['LAMBDA_BASE_IMAGE'] ?? `${registry}/lpa-lambda-base:latest`, close: async () => undefined }
}

async function standIn(): Promise<Place> {
  const folder = await mkdtemp(join(tmpdir(), 'kiln-test-cluster-'))
  const [registry, stand] = await Promise.all([registryServer(), standCluster({ timeScale: 0.2 })])
  const kubeconfig = join(folder, 'kubeconfig')
  await writeFile(kubeconfig, stand.kubeconfig)
  const close = async (): Promise<void> => {
    await stand.close()
    await registry.close()
    await rm(folder, { recursive: true, force: true })
  }
  try {
    const [base, lambdaBase] = await Promise.all([pushBase(registry.address, { repository: 'base' }), pushLambdaBase(registry.address)])
    return { kubeconfig, registry: registry.address, host: '127.0.0.1', baseImage: base.reference, lambdaBaseImage: lambdaBase.reference, close }
  } catch (error) {
    await close()
    throw error
  }
}

const runtimeRequirements = new URL('../../services/packager/runtime/requirements.txt', import.meta.url)

/** kiln's own base image, under the name that kiln looks for it: programs and packages are those of this machine. */
export async function pushLambdaBase(registry: string): Promise<PushedImage> {
  return pushBase(registry, { labels: { 'kiln.runtime': createHash('sha256').update(await readFile(runtimeRequirements)).digest('hex') } })
}

/** The address of this machine that another one, which it can reach, would answer to. */
async function addressTowards(registry: string): Promise<string> {
  const [host = '', port = '80'] = registry.split('/')[0]!.split(':')
  const socket = createSocket('udp4')
  socket.connect(Number(port), host)
  await once(socket, 'connect')
  const { address } = socket.address()
  socket.close()
  return address
}

const secretName = 'kiln-test-s3'

export async function clusterUnderTest(): Promise<ClusterUnderTest> {
  const kubeconfig = process.env['KUBECONFIG']
  const [place, store] = await Promise.all([kubeconfig ? realOne(kubeconfig) : standIn(), s3Server()])
  const { accessKeyId, secretAccessKey, endpoint, region } = store
  const s3: S3Config = { endpoint, region, credentials: { accessKeyId, secretAccessKey } }
  const bucket = `kiln-test-${randomUUID().slice(0, 8)}`
  const admin = clusterOf({ kubeconfig: place.kubeconfig })
  await admin.apply(`/api/v1/namespaces/default/secrets/${secretName}`, {
    apiVersion: 'v1', kind: 'Secret', metadata: { name: secretName, namespace: 'default' }, stringData: { AWS_ACCESS_KEY_ID: accessKeyId, AWS_SECRET_ACCESS_KEY: secretAccessKey },
  })
  const config = (): KubernetesConfig => ({
    kubeconfig: place.kubeconfig, namespaces: ['default'], installation: `test-${randomUUID().slice(0, 8)}`, registry: place.registry, imagePlatform: 'linux/amd64',
    insecureRegistries: [place.registry.split('/')[0]!], registryAuthFile: null, registrySecret: null, s3Secret: secretName, kanikoImage: process.env['KANIKO_IMAGE'] ?? `${place.registry}/kaniko-executor:latest`, cacheRepository: null,
    buildLimits: {}, scheduleTimeoutMs: 60_000,
  })
  const objects = await s3Objects({ bucket, ...s3 })
  const { images: registry, bases } = oci({ insecureRegistries: config().insecureRegistries, auth: null, platform: 'linux/amd64', objects })
  return {
    config, s3, bucket, registry, bases, objects, host: place.host, baseImage: place.baseImage, lambdaBaseImage: place.lambdaBaseImage,
    client: () => clusterOf({ kubeconfig: place.kubeconfig }),
    async close() {
      await admin.close()
      await Promise.all([place.close(), store.close()])
    },
  }
}
