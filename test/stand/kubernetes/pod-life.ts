// The life of a pod on the node: volumes, sandbox, containers, its deadline, and its end, each shown in the order in which a real kubelet shows it.
import { join } from 'node:path'
import { mkdir, rm } from 'node:fs/promises'
import type { Clock } from './clock.ts'
import { container, creating, type Container } from './container.ts'
import type { Keeper } from './keeper.ts'
import { now } from './memory.ts'
import { phaseOf, podStatus, type ShownContainer, type ShownPod } from './pod-status.ts'
import type { Images } from './pull.ts'
import type { Store, Thing } from './store.ts'
import type { Voice } from './voices.ts'
import { checkVolumes, makeVolumes, MountTrouble } from './volumes.ts'

export interface PodLifeParts {
  store: Store
  clock: Clock
  voice: Voice
  images: Images
  keeper: Keeper
  /** A folder of the pod's own; it is made, and removed in the end. */
  folder: string
  newIp(): string
  woken(): Promise<void>
}

export interface PodLife {
  /** Resolves when it is over: ended and shown so, or gone. */
  live(): Promise<void>
  /** It is being deleted, and has this long. Asked again, it may have less. */
  end(graceSeconds: number): void
  /** The object is gone: its processes end now. Resolves when they have. */
  kill(): Promise<void>
  container(name: string): Container | null
}

/** In seconds of the cluster: when volumes that cannot be made are tried again, doubled each time. */
const mountRetries = { first: 0.5, most: 122 }
const late = 'Pod was active on the node longer than the specified deadline'
const unlocated = { exitCode: 137, reason: 'ContainerStatusUnknown', message: 'The container could not be located when the pod was terminated', startedAt: null, finishedAt: null }

export function podLife(parts: PodLifeParts, pod: Thing): PodLife {
  const { store, clock, voice } = parts
  const { namespace, name, uid } = pod.metadata
  const { containers: specs, restartPolicy = 'Always', activeDeadlineSeconds, terminationGracePeriodSeconds } = pod.spec
  const ending = new AbortController()
  let graceSeconds: number = terminationGracePeriodSeconds ?? 30
  let isLate = false
  let isGone = false
  /** What never ran is looked for in vain. */
  let isLost = false
  let containers = new Map<string, Container>()
  const shown: Omit<ShownPod, 'containers'> = { phase: 'Pending', reason: null, message: null, sandbox: false, ip: null, startTime: now(), meant: 'Pending' }

  const states = (): ShownContainer[] => specs.map((spec: { name: string }) => containers.get(spec.name)?.shown() ?? creating())
    .map((one: ShownContainer) => (isLost && 'waiting' in one.state ? { ...one, state: { terminated: unlocated } } : one))
  const stored = (): Thing | null => {
    const found = isGone ? null : store.get('pods', namespace, name)
    return found?.metadata.uid === uid ? found : null
  }
  const isRunning = (): boolean => states().some(({ state }) => 'running' in state)

  function publish(change: Partial<typeof shown> = {}): void {
    Object.assign(shown, change)
    const current = stored()
    if (current) store.put('pods', { ...current, status: podStatus(current, { ...shown, containers: states() }) })
  }

  /** The phase that its containers mean is shown at once as long as they live; that it is over is shown only when nothing of it is left. */
  function changed(): void {
    const meant = phaseOf(states(), restartPolicy, false)
    const isOver = meant === 'Succeeded' || meant === 'Failed'
    publish({ meant: isLate ? 'Failed' : meant, ...(!isOver && !isLate && { phase: meant }) })
  }

  /** false: the pod ends before its volumes are there. */
  async function mounted(): Promise<boolean> {
    for (let seconds = mountRetries.first; !ending.signal.aborted; seconds = Math.min(seconds * 2, mountRetries.most)) {
      const early = new AbortController()
      void parts.woken().then(() => early.abort())
      try {
        checkVolumes(store, pod)
        return true
      } catch (error) {
        if (!(error instanceof MountTrouble)) throw error
        voice.say(pod, 'Warning', 'FailedMount', error.message)
      }
      await clock.pause(seconds, AbortSignal.any([ending.signal, early.signal]))
    }
    return false
  }

  /** What a volume is made from may vanish just then, and is waited for again. null: the pod ended before. */
  async function volumesMade(): Promise<Map<string, string> | null> {
    while (await mounted()) {
      await mkdir(parts.folder, { recursive: true })
      const made = await makeVolumes(store, pod, join(parts.folder, 'volumes')).catch((error: unknown) => {
        if (!(error instanceof MountTrouble)) throw error
      })
      if (made) return made
    }
    return null
  }

  async function runAll(): Promise<void> {
    const volumes = await volumesMade()
    if (!volumes) return
    const ip = parts.newIp()
    Object.assign(shown, { sandbox: true, ip })
    containers = new Map(specs.map((spec: any) => [spec.name, container({
      ...parts, pod, ip, volumes, changed, ending: ending.signal, folder: join(parts.folder, spec.name),
      graceMs: () => Math.max(clock.ms(graceSeconds), Math.min(graceSeconds, 1) * 1_000),
      say: (type, reason, message) => voice.say(pod, type, reason, message, spec.name),
    }, spec)]))
    await Promise.all([...containers.values()].map((one) => one.live()))
  }

  /** All containers have ended for good: a moment later the pod has. */
  async function over(): Promise<void> {
    await clock.lag()
    publish({ sandbox: false, phase: shown.meant! })
  }

  /** Deleted, or late. What never ran cannot be found any more, and the conditions stay as they were. */
  function overByForce(): void {
    const waiting = states().some(({ state }) => 'waiting' in state)
    const phase = isLate || waiting ? 'Failed' : phaseOf(states(), restartPolicy, true)
    if (waiting) {
      publish()
      publish({ sandbox: false, meant: null })
      isLost = true
    }
    publish({ sandbox: false, phase, meant: waiting ? null : phase, ...deadline() })
  }
  const deadline = (): Partial<typeof shown> => (isLate ? { reason: 'DeadlineExceeded', message: late } : {})
  const sayLate = (): void => { if (isLate) voice.say(pod, 'Normal', 'DeadlineExceeded', late) }

  function exceed(): void {
    if (ending.signal.aborted || shown.meant === 'Succeeded' || shown.meant === 'Failed') return
    isLate = true
    sayLate()
    changed()
    sayLate()
    ending.abort()
  }

  /** The last word of the kubelet: the object may go. */
  function forget(): void {
    const current = stored()
    if (!current) return
    store.put('pods', { ...current, metadata: { ...current.metadata, deletionGracePeriodSeconds: 0, deletionTimestamp: now() } })
    store.drop('pods', namespace, name)
  }

  return {
    container: (wanted) => containers.get(wanted) ?? null,
    async live() {
      publish()
      const cancel = activeDeadlineSeconds === undefined ? () => undefined : clock.after(activeDeadlineSeconds, exceed)
      await runAll()
      cancel()
      if (ending.signal.aborted) {
        sayLate()
        overByForce()
        sayLate()
      } else await over()
      await rm(parts.folder, { recursive: true, force: true })
      if (!stored()?.metadata.deletionTimestamp) return
      await clock.lag()
      forget()
    },
    end(seconds) {
      graceSeconds = seconds
      for (const one of containers.values()) one.hurry()
      if (ending.signal.aborted) return publish()
      ending.abort()
      if (isRunning()) changed()
    },
    async kill() {
      isGone = true
      graceSeconds = 0
      ending.abort()
      await Promise.all([...containers.values()].map((one) => one.kill()))
    },
  }
}
