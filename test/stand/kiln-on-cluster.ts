// kiln on a cluster as it is installed there: each service a process of its own, over one NATS. The cluster is the one that tests run on.
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { KubernetesConfig } from '../../shared/config.ts'
import { clusterUnderTest, type ClusterUnderTest } from './cluster.ts'
import { testNats, type TestNats } from './nats.ts'
import { serviceProcess, type ServiceProcess } from './service.ts'

export type ServiceName = 'ingest' | 'packager' | 'builder-watcher' | 'deployer' | 'status-api' | 'gateway'

export interface KilnOnCluster {
  address: string
  statusAddress: string
  under: ClusterUnderTest
  config: KubernetesConfig
  nats: TestNats
  services: Record<ServiceName, ServiceProcess>
  close(): Promise<void>
}

/** `without`: services that are not started. */
export async function kilnOnCluster(more: Record<string, string> = {}, without: ServiceName[] = []): Promise<KilnOnCluster> {
  const [under, nats, folder] = await Promise.all([clusterUnderTest(), testNats(), mkdtemp(join(tmpdir(), 'kiln-test-services-'))])
  const config = under.config()
  const env: Record<string, string> = {
    NATS_URL: nats.url, PORT: '0', DATA_DIR: folder, PLATFORM: 'kubernetes', OBJECTS: `s3://${under.bucket}`, S3_ENDPOINT: under.s3.endpoint!, AWS_REGION: under.s3.region,
    AWS_ACCESS_KEY_ID: under.s3.credentials!.accessKeyId, AWS_SECRET_ACCESS_KEY: under.s3.credentials!.secretAccessKey, KUBECONFIG: config.kubeconfig!,
    LAMBDA_REGISTRY: config.registry, LAMBDA_INSECURE_REGISTRIES: config.insecureRegistries.join(','), LAMBDA_BASE_IMAGE: under.lambdaBaseImage, KANIKO_IMAGE: config.kanikoImage,
    S3_SECRET: config.s3Secret!, INSTALLATION: config.installation, RUNTIME_PYTHON: process.env['KILN_TEST_PYTHON'] ?? 'python3', ...more,
  }
  const made = (what: ServiceName, extra: Record<string, string> = {}): ServiceProcess => serviceProcess(what, { ...env, ...extra })
  const services: Record<ServiceName, ServiceProcess> = {
    ingest: made('ingest'), packager: made('packager'), 'builder-watcher': made('builder-watcher'), deployer: made('deployer'), 'status-api': made('status-api'), gateway: made('gateway'),
  }
  const started = async (name: ServiceName): Promise<string> => {
    const port = await services[name].start()
    if (port === null) throw new Error(`${name} did not start:\n${services[name].output()}`)
    return `http://127.0.0.1:${port}`
  }
  const close = async (): Promise<void> => {
    await Promise.all(Object.values(services).map((one) => one.end('SIGTERM')))
    await Promise.all([under.close(), nats.close()])
    await rm(folder, { recursive: true, force: true })
  }
  try {
    const [ingest, status] = [await started('ingest'), await started('status-api')]
    await Promise.all((['packager', 'builder-watcher', 'deployer'] as const).filter((name) => !without.includes(name)).map(started))
    services.gateway = made('gateway', { INGEST_URL: ingest, STATUS_API_URL: status })
    return { address: await started('gateway'), statusAddress: status, under, config, nats, services, close }
  } catch (error) {
    await close()
    throw error
  }
}
