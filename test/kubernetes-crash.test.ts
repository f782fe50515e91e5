// SIGKILL to builder-watcher and deployer at random moments while lambdas are made on a cluster; in the end each has been built by one pod and has one Deployment.
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { follow } from '../shared/kubernetes/follow.ts'
import { label, ownLabels, path, selectorOf } from '../shared/kubernetes/names.ts'
import type { DeploymentResource, PodResource } from '../shared/kubernetes/resources.ts'
import { silentLog } from '../shared/log.ts'
import { writeZip } from '../shared/zip.ts'
import { fact } from './stand/await.ts'
import { kilnOnCluster, type KilnOnCluster } from './stand/kiln-on-cluster.ts'
import { standPorts, type StandPorts } from './stand/ports.ts'

const lambdas = 10
const kills = 12

/** Seeded, so that a failure can be looked at again: KILN_TEST_SEED. */
const seed = Number(process.env['KILN_TEST_SEED'] ?? Date.now() % 100_000)
let state = seed
const random = (): number => {
  state = (state * 1_103_515_245 + 12_345) % 2_147_483_648
  return state / 2_147_483_648
}

const zipOf = (n: number): Buffer => writeZip(new Map([['lambda_main.py', `async def main(request):\n    return {"number": ${n}, "seed": ${seed}}\n`]]))

async function send(kiln: KilnOnCluster, n: number, parameters: object): Promise<string> {
  const form = new FormData()
  form.set('archive', new Blob([new Uint8Array(zipOf(n))]), 'lambda.zip')
  form.set('parameters', JSON.stringify({ name: `crash-${n}`, ...parameters }))
  const response = await fetch(`${kiln.address}/lambdas`, { method: 'POST', body: form })
  assert.is(response.status, 202, `${await response.clone().text()}\n${Object.values(kiln.services).map((one) => one.output()).join('\n')}`)
  return ((await response.json()) as { lambda_id: string }).lambda_id
}

/** Each lambda's build pods, by their uids, as they come. */
function podsSeen(kiln: KilnOnCluster): { pods: Map<string, Set<string>>; close(): Promise<void> } {
  const pods = new Map<string, Set<string>>()
  const client = kiln.under.client()
  const see = ({ metadata: { labels, uid } }: PodResource): void => {
    const id = labels![label.id]!
    pods.set(id, (pods.get(id) ?? new Set()).add(uid))
  }
  const following = follow<PodResource>(client, path.pods('default'), { labelSelector: selectorOf(ownLabels(kiln.config.installation, 'build')) }, { all: (items) => items.forEach(see), changed: see, gone: () => undefined }, silentLog)
  return { pods, close: async () => { following.close(); await client.close() } }
}

const crash = suite(`SIGKILL on Kubernetes, seed ${seed}`)

/** How images are made, and by how many pods: each its own, or one for the environment that all of them need. */
const ways = [
  { builder: 'kaniko', parameters: {}, pods: (ids: string[], seen: Map<string, Set<string>>) => assert.equal(ids.map((id) => [id, seen.get(id)?.size]), ids.map((id) => [id, 1])) },
  { builder: 'auto', parameters: { user_docker_commands: [`ENV MADE_FOR=${seed}`] }, pods: (_ids: string[], seen: Map<string, Set<string>>) => assert.is([...seen.values()].reduce((sum, one) => sum + one.size, 0), 1) },
]
for (const { builder, parameters, pods } of ways) crash(`by ${builder}: each lambda is built once, has one Deployment, and runs`, async () => {
  const kiln = await kilnOnCluster({ BUILD_CONCURRENCY: '3', IMAGE_BUILDER: builder })
  const seen = podsSeen(kiln)
  const ports = await standPorts(kiln.nats.url)
  try {
    const ids = await Promise.all(Array.from({ length: lambdas }, (_, n) => send(kiln, n, parameters)))
    for (let n = 0; n < kills; n++) {
      const victim = kiln.services[n % 2 ? 'deployer' : 'builder-watcher']
      await new Promise((resolve) => setTimeout(resolve, random() * 2_500))
      await victim.end('SIGKILL')
      assert.ok(await victim.start(), victim.output())
    }
    for (const [n, id] of ids.entries()) await check(kiln, ports, id, n)
    pods(ids, seen.pods)
    await cleanUp(kiln, ports, ids)
  } finally {
    await Promise.all([seen.close(), ports.close()])
    await kiln.close()
  }
})

async function check(kiln: KilnOnCluster, ports: StandPorts, id: string, n: number): Promise<void> {
  await fact(ports, id, 'workload.running', 1, 240_000)
  const answer = await fetch(`${kiln.address}/lambdas/${id}/proxy/main`, { method: 'POST', body: '{}' })
  assert.equal([answer.status, await answer.json()], [200, { number: n, seed }])
  const facts = await ports.bus.history(id, 0, 10_000)
  for (const once of ['lambda.accepted', 'context.packaged', 'image.built', 'workload.applied']) assert.is(facts.filter((one) => one.fact === once).length, 1, `${once} of lambda ${n}`)
  const client = kiln.under.client()
  const deployments = await client.list<DeploymentResource>(path.deployments('default'), { labelSelector: `${label.id}=${id}` })
  assert.is(deployments.items.length, 1)
  await client.close()
}

/** Deleting leaves no object in the cluster, and no image in the registry. */
async function cleanUp(kiln: KilnOnCluster, ports: StandPorts, ids: string[]): Promise<void> {
  const client = kiln.under.client()
  await Promise.all(ids.map(async (id) => {
    const built = await fact(ports, id, 'image.built', 1)
    assert.is((await fetch(`${kiln.address}/lambdas/${id}`, { method: 'DELETE' })).status, 202)
    const cleaned = await fact(ports, id, 'lambda.cleaned', 1, 120_000)
    assert.equal(cleaned.data.kept, [])
    assert.is(await kiln.under.registry.digest(built.data.image.reference), null)
    await fact(ports, id, 'workload.terminated', 1, 120_000)
  }))
  for (const at of [path.deployments, path.services, path.configMaps, path.pods]) {
    assert.equal((await client.list(at('default'), { labelSelector: selectorOf(ownLabels(kiln.config.installation, 'lambda')) })).items, [], at('default'))
  }
  await client.close()
}
crash.run()
