// Observers: who is told what the cluster shows of lambdas. Each is told first what there is, then each change, in order for each lambda.
import type { Log } from '../log.ts'
import { observed } from '../together.ts'
import type { Observation } from '../workloads.ts'
import { keyOf, type Sight } from './sight.ts'

export interface Observers {
  /** Something of this lambda has changed: whatever is new is told. Answers what was seen. */
  look(id: string): Sight
  /** kiln itself has removed it, and nothing of it is left. */
  removed(id: string): void
  observe(tell: (observation: Observation) => void, ids: string[]): { close(): void }
  close(): void
}

type Tell = (observation: Observation) => void

/** So long a crash may wait for its last words. */
const lastWordsMs = 800

export function observers({ see, linesAreHere, removing, log }: { see(id: string): Sight; linesAreHere(id: string): boolean; removing: ReadonlySet<string>; log: Log }): Observers {
  const everyone = new Set<Tell>()
  /** What was told last, by lambda and version. */
  const told = new Map<string, Map<string, Observation>>()
  /** Lambdas that wait for the last words of a crash. */
  const late = new Map<string, NodeJS.Timeout>()
  const patient = new Set<string>()

  function tellTo(observer: Tell, observation: Observation): void {
    try {
      observer(observation)
    } catch (error) {
      log.error('an observer of workloads broke', { id: observation.id, version: observation.version, error })
    }
  }
  const tell = (observation: Observation): void => everyone.forEach((observer) => tellTo(observer, observation))

  function say(id: string, observation: Observation): void {
    const known = told.get(id) ?? new Map<string, Observation>()
    told.set(id, known)
    if (JSON.stringify(known.get(keyOf(observation))) === JSON.stringify(observation)) return
    known.set(keyOf(observation), observation)
    tell(observation)
  }

  /** A version of which nothing is left. */
  function end(id: string, last: Observation, reason: 'Replaced' | 'Removed' | 'Deleted', message: string): void {
    const known = told.get(id)
    known?.delete(keyOf(last))
    if (known?.size === 0) told.delete(id)
    if (last.shows !== 'failed') tell(observed({ of: last, pods: [], log: last.log }, 'terminated', reason, message))
  }

  /** Whoever is sent to a place that has gone must hear of it at once; anything else may wait for the words that explain it. */
  function mayWait(id: string, { observations }: Sight): boolean {
    return observations.every((one) => (told.get(id)?.get(keyOf(one))?.endpoints ?? []).every((origin) => one.endpoints.includes(origin)))
  }

  function wait(id: string): void {
    if (late.has(id)) return
    late.set(id, setTimeout(() => {
      late.delete(id)
      patient.add(id)
      look(id)
    }, lastWordsMs))
  }

  function look(id: string): Sight {
    const sight = see(id)
    if (linesAreHere(id)) {
      clearTimeout(late.get(id))
      late.delete(id)
      patient.delete(id)
    } else if (!patient.has(id) && mayWait(id, sight)) {
      wait(id)
      return sight
    }
    for (const observation of sight.observations) say(id, observation)
    const there = new Set([...sight.observations.map(keyOf), sight.leaving])
    for (const last of [...(told.get(id)?.values() ?? [])].filter((one) => !there.has(keyOf(one)))) gone(id, last, sight)
    return sight
  }

  function gone(id: string, last: Observation, { wanted }: Sight): void {
    if (wanted) return end(id, last, 'Replaced', `Version ${wanted.version} has replaced it.`)
    // While kiln removes it, the end is told when all of it has gone.
    if (!removing.has(id)) end(id, last, 'Deleted', 'Somebody deleted its Deployment.')
  }

  return {
    look,
    removed(id) {
      clearTimeout(late.get(id))
      late.delete(id)
      patient.delete(id)
      for (const last of [...(told.get(id)?.values() ?? [])]) end(id, last, 'Removed', 'It was stopped and removed.')
    },
    observe(tell, ids) {
      // Its own function, so that observing twice with the same one is observing twice.
      const own: Tell = (observation) => tell(observation)
      for (const id of ids) for (const observation of see(id).observations.toSorted((a, b) => a.version - b.version || a.epoch - b.epoch)) {
        const known = told.get(id) ?? new Map<string, Observation>()
        told.set(id, known.set(keyOf(observation), observation))
        tellTo(own, observation)
      }
      everyone.add(own)
      return { close: () => void everyone.delete(own) }
    },
    close() {
      everyone.clear()
      for (const timer of late.values()) clearTimeout(timer)
    },
  }
}
