// A program with a stand-in cluster and one pod in it, for the test that nothing of them outlives it: `left-behind.ts <image>`.
// Prints the pod's address when it serves, and closes the cluster when its standard input ends.
import { standCluster } from './cluster.ts'
import { isReady, pods } from './observed.ts'

const cluster = await standCluster({ timeScale: 0.1 })
cluster.store.hear((kind, { object }) => {
  if (kind === 'pods' && isReady(object) && !object.metadata.deletionTimestamp) console.log(object.status.podIP)
})
await fetch(cluster.api.address + pods, {
  method: 'POST', headers: { 'authorization': 'Bearer any', 'content-type': 'application/json' },
  body: JSON.stringify({
    apiVersion: 'v1', kind: 'Pod', metadata: { name: 'left' },
    spec: { containers: [{ name: 'main', image: process.argv[2], readinessProbe: { httpGet: { port: 8000 } } }] },
  }),
})
process.stdin.resume().once('end', async () => {
  await cluster.close()
  process.exit(0)
})
