// The horizontal autoscaler of a cluster without metrics: it keeps Deployments within their bounds, leaves 0 alone, and says that it has no metrics.
// A real one looks every 15 seconds; this one looks at once, whenever an autoscaler or its Deployment changes.
import { now } from './memory.ts'
import type { Change, Store, Thing } from './store.ts'
import { turns } from './turns.ts'
import { countingVoice } from './voices.ts'

interface Condition {
  type: string
  status: string
  lastTransitionTime: string
  reason: string
  message: string
}

const noMetrics = (name: string): string =>
  `failed to get ${name} utilization: unable to get metrics for resource ${name}: unable to fetch metrics from resource metrics API: `
  + 'the server could not find the requested resource (get pods.metrics.k8s.io)'

export function autoscaler(store: Store): { close(): void } {
  const voice = countingVoice(store, 'horizontal-pod-autoscaler')
  const queue = turns((key) => {
    const [namespace, name] = key.split('/') as [string, string]
    const scaler = store.get('horizontalpodautoscalers', namespace, name)
    if (scaler) look(scaler)
  })

  function look(scaler: Thing): void {
    const { kind, name } = scaler.spec.scaleTargetRef
    const target = kind === 'Deployment' ? store.get('deployments', scaler.metadata.namespace, name) : null
    if (target === null) return showLost(scaler, name)
    const replicas = target.spec.replicas ?? 1
    const { minReplicas = 1, maxReplicas } = scaler.spec
    if (replicas === 0) return showDisabled(scaler)
    if (replicas < minReplicas) return rescale(scaler, target, minReplicas, 'Current number of replicas below Spec.MinReplicas')
    if (replicas > maxReplicas) return rescale(scaler, target, maxReplicas, 'Current number of replicas above Spec.MaxReplicas')
    showBlind(scaler, target)
  }

  function showLost(scaler: Thing, name: string): void {
    const why = `deployments.apps "${name}" not found`
    if (reasonOf(scaler, 'AbleToScale') !== 'FailedGetScale') voice.say(scaler, 'Warning', 'FailedGetScale', why)
    const conditions = withCondition(scaler, 'AbleToScale', 'False', 'FailedGetScale', `the HPA controller was unable to get the target's current scale: ${why}`)
    show(scaler, { ...scaler.status, conditions })
  }

  function showDisabled(scaler: Thing): void {
    const able = withCondition(scaler, 'AbleToScale', 'True', 'SucceededGetScale', gotScale)
    const conditions = withCondition(able, 'ScalingActive', 'False', 'ScalingDisabled', 'scaling is disabled since the replica count of the target is zero')
    show(scaler, { ...scaled(scaler), desiredReplicas: 0, currentMetrics: null, conditions })
  }

  function rescale(scaler: Thing, target: Thing, size: number, why: string): void {
    store.put('deployments', { ...target, metadata: { ...target.metadata, generation: (target.metadata.generation ?? 1) + 1 }, spec: { ...target.spec, replicas: size } })
    voice.say(scaler, 'Normal', 'SuccessfulRescale', `New size: ${size}; reason: ${why}`)
    const conditions = withCondition(scaler, 'AbleToScale', 'True', 'SucceededRescale', `the HPA controller was able to update the target scale to ${size}`)
    show(scaler, { lastScaleTime: now(), ...counted(target), desiredReplicas: size, currentMetrics: null, conditions })
  }

  function showBlind(scaler: Thing, target: Thing): void {
    const metric = scaler.spec.metrics?.[0]?.resource?.name ?? 'cpu'
    if (reasonOf(scaler, 'ScalingActive') !== 'FailedGetResourceMetric') {
      voice.say(scaler, 'Warning', 'FailedGetResourceMetric', noMetrics(metric))
      voice.say(scaler, 'Warning', 'FailedComputeMetricsReplicas',
        `invalid metrics (1 invalid out of 1), first error is: failed to get ${metric} resource metric value: ${noMetrics(metric)}`)
    }
    const able = withCondition(scaler, 'AbleToScale', 'True', 'SucceededGetScale', gotScale)
    const conditions = withCondition(able, 'ScalingActive', 'False', 'FailedGetResourceMetric', `the HPA was unable to compute the replica count: ${noMetrics(metric)}`)
    show(scaler, { ...scaled(scaler), ...counted(target), desiredReplicas: scaler.status?.desiredReplicas ?? 0, currentMetrics: [{ type: '' }], conditions })
  }

  function show(scaler: Thing, status: object): void {
    const { namespace, name } = scaler.metadata
    const current = store.get('horizontalpodautoscalers', namespace, name)
    if (current?.metadata.uid === scaler.metadata.uid) store.put('horizontalpodautoscalers', { ...current, status })
  }

  /** By the Deployment that they scale: their names. */
  const scalers = new Map<string, Set<string>>()
  function heard({ type, object, previous }: Change): void {
    const { namespace, name } = object.metadata
    const of = ({ spec }: Thing): string => `${namespace}/${spec.scaleTargetRef.name}`
    if (previous) scalers.get(of(previous))?.delete(name)
    if (type === 'DELETED') return
    scalers.set(of(object), (scalers.get(of(object)) ?? new Set()).add(name))
    queue.add(`${namespace}/${name}`)
  }
  const stop = store.hear((kind, change) => {
    if (kind === 'horizontalpodautoscalers') return heard(change)
    if (kind !== 'deployments') return
    const { namespace, name } = change.object.metadata
    for (const scaler of scalers.get(`${namespace}/${name}`) ?? []) queue.add(`${namespace}/${scaler}`)
  })
  for (const object of store.list('horizontalpodautoscalers', null)) heard({ type: 'ADDED', object })
  return {
    close() {
      stop()
      queue.close()
    },
  }
}

const gotScale = "the HPA controller was able to get the target's current scale"
const scaled = (scaler: Thing): object => (scaler.status?.lastScaleTime ? { lastScaleTime: scaler.status.lastScaleTime } : {})
const counted = (target: Thing): object => (target.status?.replicas ? { currentReplicas: target.status.replicas } : {})
const reasonOf = (scaler: Thing, type: string): string | undefined => ((scaler.status?.conditions ?? []) as Condition[]).find((condition) => condition.type === type)?.reason

/** In its place; the time changes with the status only. */
function withCondition(of: Thing | Condition[], type: string, status: string, reason: string, message: string): Condition[] {
  const conditions = Array.isArray(of) ? of : ((of.status?.conditions ?? []) as Condition[])
  const before = conditions.find((condition) => condition.type === type)
  const next = { type, status, lastTransitionTime: before?.status === status ? before.lastTransitionTime : now(), reason, message }
  return before ? conditions.map((condition) => (condition === before ? next : condition)) : [...conditions, next]
}
