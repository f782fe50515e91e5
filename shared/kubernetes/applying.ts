// Applying: the objects of a lambda are written so that nothing is without what it needs, and nobody's number of pods is fought over.
import type { Workload } from '../workloads.ts'
import type { Cluster } from './client.ts'
import { autoscaler, configMap, deployment, service, type Placement } from './lambda-manifests.ts'
import { configName, lambdaName, path } from './names.ts'
import type { DeploymentResource } from './resources.ts'
import { workloadIn } from './sight.ts'

/**
 * `spec.replicas` is given away to an autoscaler. Left out of what `kiln` applies, nobody would own it any more and it would fall back to 1:
 * so a manager of its own names it once.
 */
const scaleManager = 'kiln-scale'

/** `there`: the Deployment that this follows on, or null. Somebody who changed it meanwhile makes it a conflict (409). `givenUp`: the note to leave on it. */
export async function applyAll(cluster: Cluster, placement: Placement, workload: Workload, there: DeploymentResource | null, givenUp?: string): Promise<void> {
  const { id, version, deploy: { namespace } } = workload
  const name = lambdaName(id)
  const at = path.deployments(namespace, name)
  const scaler = autoscaler(workload, placement)
  await Promise.all([
    cluster.apply(path.configMaps(namespace, configName(id, version)), configMap(workload, placement)),
    cluster.apply(path.services(namespace, name), service(workload, placement)),
  ])
  // An autoscaler that is let go of must not see the number that it is let go for.
  if (!scaler && there && workloadIn(there)?.deploy.autoscaling) await cluster.remove(path.autoscalers(namespace, name))
  const scale = (): Promise<DeploymentResource> => cluster.apply(at, scaled(workload, there), scaleManager)
  const present = scaler && there ? await scale() : there
  await cluster.apply(at, deployment(workload, placement, { ...(present && { resourceVersion: present.metadata.resourceVersion }), ...(givenUp && { givenUp }) }))
  if (scaler && !there) await scale()
  if (scaler) await cluster.apply(path.autoscalers(namespace, name), scaler)
}

/** As many pods as there are, within the autoscaler's bounds: it would bring them there itself, but only at its next look. */
function scaled({ id, deploy: { namespace, autoscaling } }: Workload, there: DeploymentResource | null): object {
  const replicas = Math.min(autoscaling!.max, Math.max(autoscaling!.min, there?.spec.replicas ?? 1))
  return { apiVersion: 'apps/v1', kind: 'Deployment', metadata: { name: lambdaName(id), namespace }, spec: { replicas } }
}
