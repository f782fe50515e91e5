// Workloads, on Kubernetes: a Deployment a lambda, with its Service, its configuration and, where it is wished for, its autoscaler.
import type { KubernetesConfig } from '../config.ts'
import type { Log } from '../log.ts'
import type { Logs } from '../logs.ts'
import { Refusal, Unavailable } from '../trouble.ts'
import { isOlder, type Observation, type Workload, type Workloads } from '../workloads.ts'
import { applyAll } from './applying.ts'
import { Rejected, type Cluster } from './client.ts'
import { selectorLabels, type Placement } from './lambda-manifests.ts'
import { mirror, type Mirror } from './mirror.ts'
import { annotation, label, lambdaName, path, selectorOf } from './names.ts'
import { endedRun, printed, type Kept, type Printed } from './printed.ts'
import { observers } from './observers.ts'
import type { DeploymentResource, PodResource } from './resources.ts'
import { rollBack } from './roll-back.ts'
import { keyOf, sightOf, workloadIn, type AroundPod, type GivenUp, type Sight } from './sight.ts'

export interface KubernetesWorkloadsOptions {
  cluster: Cluster
  config: KubernetesConfig
  logs: Pick<Logs, 'writer' | 'read'>
  log: Log
  readyTimeoutMs: number
}

/** Longer than a pod may take to stop. */
const goneMs = 90_000
const attempts = 5

/** What watches keep: begun by the first who needs it, since most services need none of it. */
interface Watching {
  mirror: Mirror
  printed: Printed
}

export function kubernetesWorkloads(options: KubernetesWorkloadsOptions): Workloads {
  const { cluster, config, logs, log, readyTimeoutMs } = options
  const placement: Placement = { config, readyTimeoutMs }
  let watching: Watching | null = null
  let isClosed = false
  const removing = new Set<string>()
  /** uids of Deployments that are being rolled back: one change of the cluster is seen several times. */
  const rollingBack = new Set<string>()

  function watch(): Watching {
    if (isClosed) throw new Unavailable('the platform was let go of')
    return watching ??= begin()
  }

  function begin(): Watching {
    const reader = printed({ cluster, logs, log, complete: ({ metadata }) => look(metadata.labels?.[label.id] ?? ''), kept: keptOf })
    const kept = mirror(cluster, config, { changed: look, podGone: reader.forget }, log)
    return { mirror: kept, printed: reader }
  }

  /** A kiln that was restarted goes on where the one before has stopped. */
  async function keptOf({ metadata: { name, labels } }: PodResource, run: number): Promise<Kept | null> {
    const of = { account: labels?.[label.account] ?? '', id: labels?.[label.id] ?? '', version: Number(labels?.[label.version]), kind: 'run' as const }
    const entries = (await logs.read(of, 500)).filter((entry) => entry.pod === name && entry.run === run)
    const last = entries.at(-1)
    return last ? { lines: entries.flatMap(({ lines }) => lines), time: last.time } : null
  }

  const around: AroundPod = (pod, wanted) => ({
    mount: watching!.mirror.mountTrouble(pod), memoryLimit: wanted?.deploy.resources.limits.memory ?? null,
    lastLines: watching!.printed.linesOfRun(pod, endedRun(pod)) ?? [], printed: watching!.printed.lines(pod),
  })

  const see = (id: string): Sight => sightOf(id, watching!.mirror.of(id), around)
  const told = observers({ see, linesAreHere, removing, log })

  /** The last words of a crash come a moment after the crash. */
  function linesAreHere(id: string): boolean {
    return [...watching!.mirror.of(id).pods.values()].every((pod) => pod.metadata.deletionTimestamp || endedRun(pod) < 0 || watching!.printed.linesOfRun(pod, endedRun(pod)) !== null)
  }

  function look(id: string): void {
    if (!watching || isClosed) return
    const { pods } = watching.mirror.of(id)
    for (const pod of pods.values()) watching.printed.follow(pod)
    const sight = told.look(id)
    if (sight.late) void rollBack({ cluster, placement, log, underWay: rollingBack }, watching.mirror.of(id), sight, around)
    if (sight.isComplete) void tidy(id, sight).catch((error: unknown) => log.warn('what a lambda has left behind could not be removed', { lambda_id: id, error }))
  }

  /** What older versions leave: a Deployment in another namespace. */
  async function tidy(id: string, { wanted }: Sight): Promise<void> {
    for (const { metadata } of watching!.mirror.of(id).deployments.values()) {
      if (metadata.namespace !== wanted!.deploy.namespace && !metadata.deletionTimestamp) await removeIn(metadata.namespace, id)
    }
  }

  /** Everything is asked of the API itself, not of the mirror: that may be a moment behind what this kiln did just now. */
  async function applyOnce(workload: Workload): Promise<void> {
    const { id, deploy: { namespace } } = workload
    const there = await cluster.get<DeploymentResource>(path.deployments(namespace, lambdaName(id)))
    if (there?.metadata.deletionTimestamp) return waitUntilGone(id).then(() => applyOnce(workload))
    const before = there && workloadIn(there)
    const givenUp = there && (JSON.parse(there.metadata.annotations?.[annotation.givenUp] ?? 'null') as GivenUp | null)
    if ((before && isOlder(workload, before)) || (givenUp && keyOf(givenUp) === keyOf(workload))) return

    await applyAll(cluster, placement, workload, there)
  }

  async function waitUntilGone(id: string): Promise<void> {
    const { mirror } = watch()
    await mirror.complete
    await mirror.until(id, ({ deployments, pods }) => deployments.size === 0 && pods.size === 0, goneMs).catch((error: unknown) => {
      throw new Unavailable(`lambda ${id} is still being stopped by the cluster`, { cause: error })
    })
  }

  async function removeIn(namespace: string, id: string): Promise<void> {
    const name = lambdaName(id)
    const configurations = await cluster.list<{ metadata: { name: string } }>(path.configMaps(namespace), { labelSelector: selectorOf(selectorLabels({ id }, placement)) })
    await Promise.all([
      cluster.remove(path.autoscalers(namespace, name)), cluster.remove(path.services(namespace, name)), cluster.remove(path.deployments(namespace, name), { foreground: true }),
      ...configurations.items.map(({ metadata }) => cluster.remove(path.configMaps(namespace, metadata.name))),
    ])
  }

  return {
    async apply(workload) {
      watch()
      for (let attempt = 1; ; attempt++) {
        const error = await applyOnce(workload).then(() => null, (e: unknown) => e)
        if (error === null) return
        // Somebody else was faster: their wish is looked at first.
        const isRace = error instanceof Rejected && error.status === 409 && attempt < attempts
        if (!isRace) throw troubleOf(error, workload)
      }
    },
    async remove(id) {
      watch()
      removing.add(id)
      try {
        await Promise.all(config.namespaces.map((namespace) => removeIn(namespace, id))).catch((error: unknown) => { throw troubleOf(error) })
        await waitUntilGone(id)
        told.removed(id)
      } finally {
        removing.delete(id)
      }
    },
    async list() {
      const { mirror } = watch()
      await mirror.complete
      return mirror.ids().flatMap((id) => {
        const { wanted } = see(id)
        return wanted ? [{ id, version: wanted.version, epoch: wanted.epoch }] : []
      })
    },
    async observe(tell: (observation: Observation) => void) {
      const { mirror } = watch()
      await mirror.complete
      return told.observe(tell, mirror.ids())
    },
    async close() {
      isClosed = true
      told.close()
      watching?.mirror.close()
      await watching?.printed.close()
    },
  }
}

/** What the API refuses is the user's to correct where it is about what they wrote, and the operator's where kiln lacks a right. */
function troubleOf(error: unknown, workload?: Workload): unknown {
  if (!(error instanceof Rejected)) return error
  if (error.status === 404 && workload) return new Refusal(422, null, `The cluster has no namespace ${workload.deploy.namespace}: have it made, or name another in deploy_parameters.namespace.`)
  if (error.status === 422 || error.status === 400) return new Refusal(422, null, `The cluster refuses this lambda: ${error.message}`)
  return new Unavailable(`the cluster does not let kiln do this: ${error.message}`, { cause: error })
}
