// The life of one container: it gets what it needs, runs, and is started again with growing pauses where its pod says so.
import { backOff as backOffOf, durationText } from './back-off.ts'
import type { Clock } from './clock.ts'
import type { RunLog } from './container-log.ts'
import { needs, type Ready, type Trouble } from './container-needs.ts'
import { StartTrouble, type ContainerProcess } from './container-process.ts'
import { newId, startRun, type ContainerSpec, type Run } from './container-run.ts'
import type { Keeper } from './keeper.ts'
import { now } from './memory.ts'
import type { ShownContainer, Terminated } from './pod-status.ts'
import { probe } from './probes.ts'
import type { Images } from './pull.ts'
import type { Store, Thing } from './store.ts'

export interface ContainerParts {
  store: Store
  clock: Clock
  images: Images
  keeper: Keeper
  say(type: 'Normal' | 'Warning', reason: string, message: string): void
  /** The pod as it is stored. */
  pod: Thing
  ip: string
  volumes: Map<string, string>
  folder: string
  /** Shows it: something has changed. */
  changed(): void
  /** Aborts when the pod ends: deleted, or beyond its deadline. */
  ending: AbortSignal
  /** Milliseconds that its process has after SIGTERM, from now on. */
  graceMs(): number
  /** Resolves, again and again, when something that it may lack has changed. */
  woken(): Promise<void>
}

export interface Container {
  shown(): ShownContainer
  /** Resolves when it has ended and is not started again. */
  live(): Promise<void>
  /** Its process, if any, ends now. Resolves when it has. */
  kill(): Promise<void>
  /** The process has less time left than it was told. */
  hurry(): void
  /** By containerID: only of the run that goes on and the last one that ended. */
  logs: Map<string, RunLog>
}

/** In seconds of the cluster: the kubelet's second look, and all after it; how soon it looks at what ended. */
const secondLook = 0.5
const laterLooks = 12
const lookAtEnds = 1

export const creating = (): ShownContainer =>
  ({ state: { waiting: { reason: 'ContainerCreating' } }, lastState: {}, ready: false, started: false, restartCount: 0, imageID: '', containerID: null })

interface Ended {
  terminated: Terminated
  at: number
  /** Its probes ended it. */
  probed: boolean
  startError: boolean
}

export function container(parts: ContainerParts, spec: ContainerSpec): Container {
  const { clock, ending, say } = parts
  const look = needs(parts, spec)
  const backOff = backOffOf(clock.ms(1))
  const logs = new Map<string, RunLog>()
  let shown = creating()
  let running: ContainerProcess | null = null
  let armKill = (): void => undefined

  function show(change: Partial<ShownContainer>): void {
    shown = { ...shown, ...change }
    parts.changed()
  }

  /** null: the pod ends before it is there. */
  async function prepared(): Promise<Ready | null> {
    for (let turn = 0; !ending.aborted; turn++) {
      const early = new AbortController()
      void parts.woken().then(() => early.abort())
      const found: Ready | Trouble = await look(parts.pod, parts.ip)
      if (!('reason' in found)) return found
      await clock.pause(turn === 0 ? secondLook : laterLooks, AbortSignal.any([ending, early.signal]))
      if (!ending.aborted) show({ state: { waiting: found } })
    }
    return null
  }

  async function run(ready: Ready, number: number, last: Ended | null): Promise<Ended> {
    say('Normal', 'Created', `Created container: ${spec.name}`)
    const kept = { lastState: last ? { terminated: last.terminated } : {}, restartCount: number, imageID: ready.image.id }
    try {
      const run = await startRun({ ...parts, spec, ready })
      say('Normal', 'Started', `Started container ${spec.name}`)
      return await follow(run, kept)
    } catch (error) {
      if (!(error instanceof StartTrouble)) throw error
      say('Warning', 'Failed', `Error: ${error.message}`)
      const terminated = { exitCode: 128, reason: 'StartError', message: error.message, startedAt: '1970-01-01T00:00:00Z', finishedAt: now(), containerID: newId() }
      shown = { ...shown, ...kept, ready: false, started: false, containerID: terminated.containerID }
      return { terminated, at: Date.now(), probed: false, startError: true }
    }
  }

  async function follow(run: Run, kept: Partial<ShownContainer>): Promise<Ended> {
    const over = new AbortController()
    logs.set(run.id, run.log)
    running = run.process
    let probed = false
    const stop = (reason: string): void => {
      say('Normal', 'Killing', reason)
      void stopProcess(run.process)
    }
    const stopWithPod = (): void => stop(`Stopping container ${spec.name}`)
    ending.addEventListener('abort', stopWithPod, { once: true })
    if (ending.aborted) stopWithPod()
    const exited = run.process.ended.then((code) => { over.abort(); return code })
    // Whoever ends at once is never seen running, as on a real cluster, where the kubelet looks once a second.
    await clock.lag(over.signal)
    if (!over.signal.aborted) {
      const started = !spec.startupProbe
      show({ ...kept, state: { running: { startedAt: run.startedAt } }, containerID: run.id, started, ready: started && !spec.readinessProbe })
      void probe(spec, parts.ip, clock, {
        started: () => { if (!shown.started) show({ started: true, ready: !spec.readinessProbe }) },
        ready: (ready) => { if (shown.ready !== ready) show({ ready }) },
        unhealthy: (message) => say('Warning', 'Unhealthy', message),
        failed(which) {
          if (ending.aborted) return
          probed = true
          stop(`Container ${spec.name} failed ${which} probe, will be restarted`)
        },
      }, over.signal)
    }
    const terminated = await run.terminated(await exited)
    ending.removeEventListener('abort', stopWithPod)
    running = null
    for (const id of [...logs.keys()]) if (id !== run.id) logs.delete(id)
    shown = { ...shown, ...kept, containerID: run.id, ready: false, started: false }
    return { terminated, at: Date.now(), probed, startError: false }
  }

  /** preStop, SIGTERM, and SIGKILL when the grace is over, whatever it is at by then. */
  async function stopProcess(process: ContainerProcess): Promise<void> {
    const ended = new AbortController()
    void process.ended.then(() => ended.abort())
    let kill: NodeJS.Timeout | undefined
    armKill = () => {
      clearTimeout(kill)
      kill = setTimeout(() => process.signal('SIGKILL'), parts.graceMs())
    }
    armKill()
    await clock.pause(preStopSeconds(spec), ended.signal)
    process.signal('SIGTERM')
    await process.ended
    clearTimeout(kill)
    armKill = () => undefined
  }

  /** Resolves when it may be started again, or the pod ends. `previous`: the run before the one that ended. */
  async function rest(ended: Ended, previous: Ended | null): Promise<void> {
    // Who was ended by its probes is started again in the same look, which knows of the run before only.
    const { wait, told } = backOff.next(ended.probed ? previous?.at ?? null : ended.at)
    if (wait > 0) sayBackOff()
    const { terminated } = ended
    if (ended.startError) show({ state: { waiting: { reason: 'RunContainerError', message: terminated.message! } }, lastState: { terminated } })
    else if (!ended.probed) show({ state: { terminated } })
    if (wait === 0) return
    const until = Date.now() + wait * clock.ms(1)
    if (!ended.probed) await clock.pause(Math.min(lookAtEnds, wait / 2), ending)
    if (ending.aborted) return
    sayBackOff()
    const { name, namespace, uid } = parts.pod.metadata
    const message = `back-off ${durationText(told)} restarting failed container=${spec.name} pod=${name}_${namespace}(${uid})`
    show({ state: { waiting: { reason: 'CrashLoopBackOff', message } }, lastState: { terminated } })
    await clock.pause(Math.max(0, until - Date.now()) / clock.ms(1), ending)
  }
  const sayBackOff = (): void => {
    const { name, namespace, uid } = parts.pod.metadata
    say('Warning', 'BackOff', `Back-off restarting failed container ${spec.name} in pod ${name}_${namespace}(${uid})`)
  }

  const isRestarted = ({ terminated }: Ended): boolean => {
    const policy = parts.pod.spec.restartPolicy ?? 'Always'
    return policy === 'Always' || (policy === 'OnFailure' && terminated.exitCode !== 0)
  }

  return {
    logs,
    shown: () => shown,
    async live() {
      let last: Ended | null = null
      for (let number = 0; !ending.aborted; number++) {
        const ready = await prepared()
        if (ready === null) break
        const previous: Ended | null = last
        last = await run(ready, number, previous)
        // The end of a pod that is ended is shown by the pod, all at once.
        if (ending.aborted) return void (shown = { ...shown, state: { terminated: last.terminated } })
        if (!isRestarted(last)) return show({ state: { terminated: last.terminated } })
        await rest(last, previous)
      }
      // What waits to be started again shows its last end; what was never started is given up.
      show(last ? { state: { terminated: last.terminated }, lastState: {} } : { state: { waiting: { reason: 'ContainerCreating' } } })
    },
    async kill() {
      running?.signal('SIGKILL')
      await running?.ended
    },
    hurry: () => armKill(),
  }
}

/** A hook that waits, in either of the forms that do it. */
function preStopSeconds({ lifecycle }: ContainerSpec): number {
  const { sleep, exec } = lifecycle?.preStop ?? {}
  if (sleep) return sleep.seconds
  if (!exec) return 0
  const seconds = /^\S*sleep (\d+(\.\d+)?)$/.exec(exec.command.slice(exec.command[0] === 'sh' ? 2 : 0).join(' '))?.[1]
  if (seconds === undefined) throw new Error(`The stand-in knows no hook but one that sleeps: ${exec.command.join(' ')}`)
  return Number(seconds)
}
