// What a stream of changes tells, change by change, in short lines that leave out what is different each time: names, addresses, times.
import type { Change, Kind, Thing } from './store.ts'

/** Kinds whose changes are told. */
export const toldKinds = ['pods', 'deployments', 'replicasets', 'horizontalpodautoscalers', 'events'] as const
export type ToldKind = (typeof toldKinds)[number]

export const isTold = (kind: Kind): kind is ToldKind => (toldKinds as readonly string[]).includes(kind)

/** `object`: which one the line is about. */
export interface Told {
  kind: ToldKind
  object: string
  line: string
}

interface EventFields { reason: string; message: string; involvedObject: { kind: string; name: string }; count?: number }
interface Condition { type: string; status: string; reason?: string; message?: string }

export function told(kind: ToldKind, { type, object }: Pick<Change, 'type' | 'object'>): Told {
  const { metadata, status = {} } = object
  if (kind === 'events') {
    const { reason, message, involvedObject: about, count } = object as unknown as EventFields
    const words = [type, object['type'], reason, count === undefined ? '' : `x${count}`, plain(message)]
    return { kind, object: `${about.kind} ${about.name}`, line: words.filter(Boolean).join(' ') }
  }
  const words = [
    type, metadata.deletionTimestamp ? `deleting(${metadata.deletionGracePeriodSeconds})` : '',
    metadata.generation === undefined ? '' : `${metadata.generation}/${status.observedGeneration ?? '-'}`,
    ...(kind === 'pods' ? podWords(object) : countWords(object)), ...conditionWords(status), ...(kind === 'pods' ? containerWords(status) : []),
  ]
  return { kind, object: metadata.name, line: words.filter(Boolean).join(' ') }
}

const podWords = ({ spec, status }: Thing): string[] => [status.phase, status.reason ?? '', spec.nodeName ?? '', status.startTime ? 'startTime' : '', status.podIP ? 'ip' : '']

function countWords({ spec, status = {}, metadata }: Thing): string[] {
  const counts = Object.entries(status as Record<string, unknown>).filter(([name, value]) => typeof value === 'number' && name !== 'observedGeneration')
  const revision = metadata.annotations?.['deployment.kubernetes.io/revision']
  return [
    spec.replicas === undefined ? '' : `wants=${spec.replicas}`, revision ? `revision=${revision}` : '', ...counts.map(([name, value]) => `${name}=${value}`).sort(),
    'currentMetrics' in status ? `metrics=${JSON.stringify(status.currentMetrics)}` : '',
  ]
}

/** `+Ready`, `-Ready(ContainersNotReady)`. Of pods the message says nothing more than the reason, but when it cannot be scheduled. */
const conditionWords = (status: Thing['status']): string[] => ((status.conditions ?? []) as Condition[]).map(({ type, status: is, reason, message }) => {
  const why = [reason, reason === 'ContainersNotReady' ? '' : plain(message ?? '')].filter(Boolean).join(': ')
  return `${is === 'True' ? '+' : '-'}${type}${why ? `(${why})` : ''}`
})

type State = Record<string, { reason?: string; message?: string; exitCode?: number }>
interface Container { state: State; lastState: State; ready: boolean; started: boolean; restartCount: number; imageID: string; containerID?: string }

const containerWords = (status: Thing['status']): string[] => ((status.containerStatuses ?? []) as Container[]).map((one) => [
  `| ${stateWords(one.state)}`, one.ready ? 'ready' : '', one.started ? 'started' : '', `restarts:${one.restartCount}`,
  Object.keys(one.lastState).length > 0 ? `last: ${stateWords(one.lastState)}` : '', one.imageID ? 'imageID' : '', one.containerID ? 'containerID' : '',
].filter(Boolean).join(' '))

const stateWords = (state: State): string => Object.entries(state).map(([name, { reason, message, exitCode }]) =>
  [name, reason, exitCode === undefined ? '' : `exit ${exitCode}`, message ? `"${plain(message)}"` : ''].filter(Boolean).join(' ')).join()

/** Generated names, addresses, digests and durations: of these only the form is told. */
export const plain = (text: string): string => text
  .replace(/sha256:[0-9a-f]{64}/g, 'sha256:<digest>')
  .replace(/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}/g, '<uid>')
  .replace(/\b(lambda-[a-z0-9]+)-[a-z0-9]{8,10}(-[a-z0-9]{5})?(?![a-z0-9-])/g, (_, lambda: string, pod?: string) => `${lambda}-<hash>${pod ? '-<pod>' : ''}`)
  .replace(/registry\.example:5000|\d+\.\d+\.\d+\.\d+(:\d+)?/g, '<address>')
  .replace(/in \d+ms \(\d+ms including waiting\)\. Image size: \d+ bytes/g, 'in <time>. Image size: <size> bytes')
