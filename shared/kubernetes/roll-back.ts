// Rolling back: a version that did not get ready in time beside one that serves is given up, and the Deployment is made to want the older one again.
import type { Log } from '../log.ts'
import { givenUp } from '../together.ts'
import { isOlder } from '../workloads.ts'
import { applyAll } from './applying.ts'
import { Rejected, type Cluster } from './client.ts'
import type { Placement } from './lambda-manifests.ts'
import type { LambdaObjects } from './mirror.ts'
import { label, lambdaName, path } from './names.ts'
import { keyOf, workloadIn, type AroundPod, type GivenUp, type Sight } from './sight.ts'

/** Kubernetes only reports that a rollout is late. The older version's ReplicaSet still has, as an annotation, all that it was made from. */
export async function rollBack({ cluster, placement, log, underWay }: { cluster: Cluster; placement: Placement; log: Log; underWay: Set<string> }, objects: LambdaObjects, { deployment: present, wanted, current, late }: Sight, around: AroundPod): Promise<void> {
  const { uid, namespace } = present!.metadata
  if (underWay.has(uid)) return
  const old = [...objects.replicaSets.values()].map(workloadIn).find((one) => one !== null && keyOf(one) === keyOf(late!) && isOlder(one, wanted!))
  if (!old) return log.error('a version is late, and the one before it has left no trace to go back to', { lambda_id: wanted!.id, version: wanted!.version })

  const said = lastLines(objects, keyOf(wanted!), (pod) => { const { lastLines, printed } = around(pod, wanted); return lastLines.length > 0 ? lastLines : printed })
  const { reason, message, cause } = givenUp(current!, placement.readyTimeoutMs / 1_000)
  const note: GivenUp = { version: wanted!.version, epoch: wanted!.epoch, reason, message, cause, ...(said.length > 0 && { log: said }) }
  underWay.add(uid)
  try {
    if (old.deploy.namespace !== namespace) return await cluster.remove(path.deployments(namespace, lambdaName(wanted!.id)))
    await applyAll(cluster, placement, old, present, JSON.stringify(note))
  } catch (error) {
    // Whoever changed it meanwhile brings another look.
    if (!(error instanceof Rejected && error.status === 409)) log.warn('a version that is late could not be given up', { lambda_id: wanted!.id, version: wanted!.version, error })
  } finally {
    underWay.delete(uid)
  }
}

function lastLines(objects: LambdaObjects, key: string, of: (pod: Parameters<AroundPod>[0]) => string[]): string[] {
  const pods = [...objects.pods.values()].filter(({ metadata: { labels } }) => keyOf({ version: Number(labels?.[label.version]), epoch: Number(labels?.[label.epoch]) }) === key)
  return pods.map(of).find((lines) => lines.length > 0) ?? []
}
