// The life of a lambda: THE table, the clock that orders observations, and what users read of both. Pure: no port, no time, no randomness.
// Longer than 250 lines: the table, the clock and what users read are one thought, and are to be found in one place.
import type { BuildRecord } from './build-records.ts'
import type { Image, Packaged } from './builds.ts'
import type { FactName, Heard } from './events.ts'
import { versionOf, type LambdaRecord } from './records.ts'
import type { Failure } from './trouble.ts'
import type { Observation } from './workloads.ts'

// ---
// The table: in which state a version is, which fact can come, which state follows. The order of the rows is the order of a life.

const observed = {
  'workload.running': 'running', 'workload.pending': 'pending', 'workload.waiting': 'waiting', 'workload.terminated': 'terminated',
} as const
const switched = { 'lambda.disabled': 'disabled', 'lambda.deleted': 'deleted' } as const
const inFlight = { ...switched, 'lambda.cancelled': 'cancelled' } as const
/** Of builds of their own, which begin in the queue and end when they are built. */
const ofBuild = { 'image.cancelled': 'cancelled', 'image.forgotten': 'deleted' } as const
const forgotten = { 'image.forgotten': 'deleted' } as const

export const lifecycle = {
  accepted: { 'context.packaged': 'packaged', 'context.refused': 'failed', 'workload.applied': 'deploying', ...inFlight },
  packaged: { 'image.queued': 'queued', 'image.started': 'building', 'image.pending': 'unscheduled', 'image.built': 'built', 'image.failed': 'failed', ...inFlight },
  queued: { 'image.started': 'building', 'image.pending': 'unscheduled', 'image.built': 'built', 'image.failed': 'failed', ...inFlight, ...ofBuild },
  building: { 'image.pending': 'unscheduled', 'image.built': 'built', 'image.failed': 'failed', ...inFlight, ...ofBuild },
  unscheduled: { 'image.started': 'building', 'image.pending': 'unscheduled', 'image.built': 'built', 'image.failed': 'failed', ...inFlight, ...ofBuild },
  built: { 'workload.applied': 'deploying', 'workload.failed': 'failed', ...inFlight, ...forgotten },
  disabled: { 'lambda.enabled': 'enabled', 'lambda.deleted': 'deleted' },
  enabled: { 'workload.applied': 'deploying', 'workload.failed': 'failed', ...switched },
  deploying: { ...observed, 'workload.failed': 'failed', ...inFlight },
  pending: { ...observed, 'workload.failed': 'failed', ...inFlight },
  waiting: { ...observed, 'workload.failed': 'failed', ...inFlight },
  running: { ...observed, ...switched },
  terminated: { ...observed, ...switched },
  failed: { ...switched, ...forgotten },
  cancelled: { ...switched, ...forgotten },
  deleted: {},
} as const satisfies Record<string, Partial<Record<FactName, string>>>

export type State = keyof typeof lifecycle
export const states = Object.keys(lifecycle) as State[]

/** Follow each other freely: of two, the later observation is right. */
const isObserved = (state: State): boolean => (Object.values(observed) as State[]).includes(state)
/** Within one turn of the switch nothing follows but a deletion. Of two ends the first is right. */
export const isEnd = (state: State): boolean => state === 'failed' || state === 'cancelled' || state === 'deleted'
/** Something is on its way that `cancel` can stop. */
export const isBuildInFlight = (state: State): boolean => 'image.cancelled' in lifecycle[state]
export const isInFlight = (state: State): boolean => 'lambda.cancelled' in lifecycle[state]

/** States that may follow each other freely, and the two ends, share a rank. */
const rank = (state: State): number =>
  states.indexOf(isObserved(state) ? 'pending' : state === 'cancelled' ? 'failed' : state === 'unscheduled' ? 'building' : state)

/** Where a fact leads, the same from every state; null: it does not move a version (`lambda.rejected`). */
export const leadsTo: Readonly<Partial<Record<FactName, State>>> = Object.freeze({
  'lambda.accepted': 'accepted' as State,
  ...Object.assign({}, ...Object.values(lifecycle)),
})

/** Folded into a life. `image.outdated` teaches something, though it moves no version: the image runs as well as before. */
export const isOfALife = (fact: FactName): boolean => leadsTo[fact] !== undefined || fact === 'image.outdated'

export type Move = 'moved' | 'early' | 'stale'

/** `early`: it overtook another step, and is taken all the same. `stale`: lived through already; redelivery is normal. */
export function next(state: State, fact: FactName): { move: Move; state: State } {
  const to = (lifecycle[state] as Partial<Record<FactName, State>>)[fact]
  if (to) return { move: 'moved', state: to }
  const target = leadsTo[fact]
  if (target && !isEnd(state) && rank(target) > rank(state)) return { move: 'early', state: target }
  return { move: 'stale', state }
}

// ---
// The clock. A version's state is the farthest observation, whatever order they came in.

interface Reading {
  state: State
  epoch: number
  seq: number
}

/** Is `b` farther in the life than `a`? A later turn of the switch wins, then the farther state, then the later sight, and of ends the earlier. */
function isFarther(a: Reading, b: Reading): boolean {
  if (a.state === 'deleted' || b.state === 'deleted') return a.state !== 'deleted'
  if (a.epoch !== b.epoch) return b.epoch > a.epoch
  if (rank(a.state) !== rank(b.state)) return rank(b.state) > rank(a.state)
  return isEnd(a.state) ? b.seq < a.seq : b.seq > a.seq
}

// ---
// A life: all that was heard of one lambda. Folding is order-free and idempotent.

export type Sight = Pick<Observation, 'reason' | 'message' | 'pods' | 'endpoints' | 'log'> & { epoch: number; seq: number; time: string }

export interface VersionLife extends Reading {
  /** Since when it is in this state; ISO 8601. */
  since: string
  failure: (Failure & { seq: number }) | null
  image: Image | null
  /** The context's digest. */
  context: string | null
  /** The key of the environment that its code lies on; null: the base image itself, or a platform whose builds keep that. */
  environment: string | null
  /** Digest of the context that this environment is made from. */
  environmentContext: string | null
  /** The base image by name, and with the digest that this version is made on. */
  base: Packaged['foundation']['base']
  /** The same base image as it was seen later. */
  newerBase: { reference: string; seq: number } | null
  /** Sequence of `image.queued`: builds wait in this order. 0: not queued. */
  queued: number
  /** Why its build cannot begin yet, in the platform's words. */
  held: { reason: string; message: string; seq: number } | null
  sight: Sight | null
  /** It has been seen running. */
  ran: boolean
}

export interface Moment {
  version: number
  fact: FactName
  /** First and last time that it was stated; sequences order them. */
  time: string
  seq: number
  last: string
  lastSeq: number
}

export interface Life {
  id: string
  account: string
  version: number
  epoch: number
  /** Of the last fact folded. */
  seq: number
  versions: Record<string, VersionLife>
  timeline: Moment[]
}

/** How many versions a life remembers in full. */
const keptVersions = 20

const unlived: VersionLife = { state: 'accepted', epoch: -1, seq: 0, since: '', failure: null, image: null, context: null, environment: null, environmentContext: null, base: null, newerBase: null, queued: 0, held: null, sight: null, ran: false }

export function fold(life: Life | null, heard: Heard): Life {
  const before = life ?? { id: heard.id, account: heard.account, version: 0, epoch: 0, seq: 0, versions: {}, timeline: [] }
  const to = leadsTo[heard.fact]
  if (!to) return isFact(heard, 'image.outdated') ? foldNewerBase(before, heard) : before
  const version = foldVersion(before.versions[heard.version] ?? unlived, heard, to)
  return {
    ...before,
    version: Math.max(before.version, heard.version),
    epoch: Math.max(before.epoch, heard.epoch),
    seq: Math.max(before.seq, heard.seq),
    versions: newest({ ...before.versions, [heard.version]: version }),
    timeline: foldTimeline(before.timeline, heard),
  }
}

function foldNewerBase(life: Life, heard: Heard<'image.outdated'>): Life {
  const v = life.versions[heard.version] ?? unlived
  const newerBase = v.newerBase && v.newerBase.seq > heard.seq ? v.newerBase : { reference: heard.data.newer, seq: heard.seq }
  return { ...life, version: Math.max(life.version, heard.version), seq: Math.max(life.seq, heard.seq), versions: newest({ ...life.versions, [heard.version]: { ...v, newerBase } }) }
}

function newest(versions: Record<string, VersionLife>): Record<string, VersionLife> {
  const numbers = Object.keys(versions).map(Number).sort((a, b) => b - a)
  if (numbers.length <= keptVersions) return versions
  // What serves is never forgotten, however many failed after it.
  return Object.fromEntries(numbers.filter((n, i) => i < keptVersions || (versions[n]?.sight?.endpoints.length ?? 0) > 0).map((n) => [n, versions[n]!]))
}

function foldVersion(v: VersionLife, heard: Heard, to: State): VersionLife {
  const moved = isFarther(v, { state: to, epoch: heard.epoch, seq: heard.seq })
    ? { ...v, state: to, epoch: heard.epoch, seq: heard.seq, since: heard.time } : v
  return { ...moved, ...learned(v, heard) }
}

/** What a fact teaches besides the state; each part only if it is later than what is known of that part. */
function learned(v: VersionLife, heard: Heard): Partial<VersionLife> {
  if (isFact(heard, 'context.packaged')) {
    const { context, foundation: { base, environment } } = heard.data
    return { context: context.digest, environment: environment?.key ?? null, environmentContext: environment?.context.digest ?? null, base }
  }
  if (isFact(heard, 'image.queued')) return { queued: heard.seq }
  if (isFact(heard, 'image.pending')) return v.held && v.held.seq > heard.seq ? {} : { held: { reason: heard.data.reason, message: heard.data.message, seq: heard.seq } }
  if (isFact(heard, 'image.built')) return { image: heard.data.image, context: heard.data.context }
  if (isFact(heard, 'lambda.accepted') || isFact(heard, 'lambda.enabled')) return heard.data.image ? { image: v.image ?? heard.data.image } : {}
  if (isFact(heard, 'workload.applied')) return { image: v.image ?? heard.data.image }
  if (isFact(heard, 'context.refused') || isFact(heard, 'image.failed') || isFact(heard, 'workload.failed')) return learnedFailure(v, heard)
  return heard.fact in observed ? learnedSight(v, heard as Heard<keyof typeof observed>) : {}
}

/** A failed rollout also shows nothing any more. */
function learnedFailure(v: VersionLife, heard: Heard<'context.refused' | 'image.failed' | 'workload.failed'>): Partial<VersionLife> {
  const failure = v.failure && v.failure.seq > heard.seq ? v.failure : { ...heard.data, seq: heard.seq }
  if (heard.fact !== 'workload.failed' || !v.sight || v.sight.seq > heard.seq) return { failure }
  return { failure, sight: { ...v.sight, seq: heard.seq, pods: [], endpoints: [] } }
}

function learnedSight(v: VersionLife, heard: Heard<keyof typeof observed>): Partial<VersionLife> {
  const ran = v.ran || heard.fact === 'workload.running'
  if (v.sight && v.sight.seq >= heard.seq) return { ran }
  const { reason, message, pods, endpoints, log } = heard.data
  return { ran, sight: { reason, message, pods, endpoints, ...(log && { log }), epoch: heard.epoch, seq: heard.seq, time: heard.time } }
}

const isFact = <N extends FactName>(heard: Heard, name: N): heard is Heard<N> => heard.fact === name

function foldTimeline(timeline: Moment[], heard: Heard): Moment[] {
  const { version, fact, time, seq } = heard
  const at = timeline.findIndex((m) => m.version === version && m.fact === fact)
  const known = timeline[at]
  const moment: Moment = !known ? { version, fact, time, seq, last: time, lastSeq: seq } : {
    version, fact,
    ...(seq < known.seq ? { time, seq } : { time: known.time, seq: known.seq }),
    ...(seq > known.lastSeq ? { last: time, lastSeq: seq } : { last: known.last, lastSeq: known.lastSeq }),
  }
  const others = known ? timeline.toSpliced(at, 1) : timeline
  return [...others, moment].sort((a, b) => a.seq - b.seq).slice(-keptMoments)
}

/** About five versions in full detail; GET /events has the rest. */
const keptMoments = 60

// ---
// What users read. Derived here and nowhere else.

export type ImageStatus = 'in_progress' | 'pending' | 'error' | 'completed' | 'not_found'
export type LambdaStatus = 'running' | 'waiting' | 'terminated' | 'not_found' | 'pending'

/** The version that serves requests now, or null. */
export function servingVersion(life: Life | null): number | null {
  if (!life) return null
  const serving = Object.entries(life.versions).filter(([, v]) => (v.sight?.endpoints.length ?? 0) > 0 && v.sight!.epoch === life.epoch && v.state !== 'deleted')
  return serving.length === 0 ? null : Math.max(...serving.map(([number]) => Number(number)))
}

/** The newest version's state: as recorded until the first fact of it is folded. */
export function stateOf(record: LambdaRecord, life: Life | null): State {
  if (record.deleted) return 'deleted'
  const v = life?.versions[record.version]
  // Switched, and the fact of it is still on its way.
  if (record.epoch > (life?.epoch ?? 0) && record.change.fact === 'lambda.enabled') return 'enabled'
  if (record.epoch > (life?.epoch ?? 0) && record.change.fact === 'lambda.disabled') return 'disabled'
  if (record.cancelled.includes(record.version)) return 'cancelled'
  if (!v) return 'accepted'
  const buildFailed = v.failure && v.failure.stage !== 'deployer'
  return v.state === 'enabled' && buildFailed ? 'failed' : v.state
}

export function lambdaStatus(record: LambdaRecord, life: Life | null): LambdaStatus {
  const state = stateOf(record, life)
  if (state === 'deleted' || !record.alive) return 'not_found'
  if (servingVersion(life) !== null) return 'running'
  if (state === 'pending') return 'pending'
  return state === 'terminated' || state === 'failed' || state === 'cancelled' ? 'terminated' : 'waiting'
}

export function imageStatus(record: LambdaRecord, life: Life | null): ImageStatus {
  const v = life?.versions[record.version]
  if (record.deleted) return 'not_found'
  if (v?.image) return 'completed'
  if (record.cancelled.includes(record.version) || v?.state === 'cancelled') return 'not_found'
  if (v?.failure) return 'error'
  return v?.state === 'queued' || v?.state === 'unscheduled' ? 'pending' : 'in_progress'
}

/** Of a build of its own: one version, and what its record says goes first. */
export function buildState({ deleted, cancelled }: BuildRecord, life: Life | null): State {
  if (deleted) return 'deleted'
  return cancelled ? 'cancelled' : (life?.versions[1]?.state ?? 'queued')
}

export function buildStatus(record: BuildRecord, life: Life | null): ImageStatus {
  const statusOf: Partial<Record<State, ImageStatus>> = { queued: 'pending', unscheduled: 'pending', built: 'completed', failed: 'error', cancelled: 'not_found', deleted: 'not_found' }
  return statusOf[buildState(record, life)] ?? 'in_progress'
}

/** The base image that a version runs on: that of the version whose image it is. `newer`: what its name stands for now, when that is another. */
export function baseOf(record: LambdaRecord, life: Life | null, version: number): { name: string; reference: string; newer: string | null } | null {
  let newerBase: VersionLife['newerBase'] = null
  for (let n: number | null = version; n !== null; n = versionOf(record, n)?.imageOf ?? null) {
    const v: VersionLife | undefined = life?.versions[n]
    newerBase ??= v?.newerBase ?? null
    if (v?.base) return { ...v.base, newer: newerBase && newerBase.reference !== v.base.reference ? newerBase.reference : null }
  }
  return null
}

/** Which version should run: the newest if it can, else the one that served last; null: none, or not yet. */
export function desiredVersion(record: LambdaRecord, life: Life | null): number | null {
  if (record.deleted || !record.alive || !life) return null
  const able = (n: number): boolean => {
    const v = life.versions[n]
    return v?.image != null && !record.cancelled.includes(n) && !(isEnd(v.state) && v.epoch === record.epoch)
  }
  if (able(record.version)) return record.version
  const before = Object.keys(life.versions).map(Number).filter((n) => n < record.version && able(n) && life.versions[n]!.ran)
  return before.length === 0 ? null : Math.max(...before)
}

/** The lifecycle as a Mermaid drawing; `shared/README.md` holds it and a test keeps it true. */
export function drawing(): string {
  const lines = ['stateDiagram-v2', '    [*] --> accepted: lambda.accepted']
  for (const state of states) {
    for (const [fact, to] of Object.entries(lifecycle[state])) lines.push(`    ${state} --> ${to}: ${fact}`)
  }
  return lines.join('\n')
}
