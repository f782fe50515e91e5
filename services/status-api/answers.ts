// What a record and a life look like to a user: the shapes of GET /lambdas and GET /lambdas/{id}.
import { baseOf, imageStatus, lambdaStatus, servingVersion, stateOf, type Life, type State, type VersionLife } from '../../shared/lifecycle.ts'
import { versionOf, type LambdaRecord } from '../../shared/records.ts'
import type { InLine } from './line.ts'

export function summary(record: LambdaRecord, life: Life | null) {
  const state = stateOf(record, life)
  const v = life?.versions[record.version]
  return {
    lambda_id: record.id, account: record.account, name: versionOf(record, record.version)!.parameters.name, version: record.version,
    serving_version: servingVersion(life), alive: record.alive, status: lambdaStatus(record, life), state, ...why(state, v),
    created: record.created, updated: record.updated,
  }
}

export function details(record: LambdaRecord, life: Life | null, inLine: InLine | null) {
  const v = life?.versions[record.version]
  return {
    ...summary(record, life),
    image: { status: imageStatus(record, life), reference: v?.image?.reference ?? null, digest: v?.image?.digest ?? null, base: baseOf(record, life, record.version) },
    ...placeIn(inLine),
    failure: v?.failure ? withoutSeq(v.failure) : null,
    parameters: versionOf(record, record.version)!.parameters,
    versions: record.versions.map((one) => versionDetails(record, life, one.version)),
    timeline: momentsOf(life),
  }
}

export const momentsOf = (life: Life | null) => (life?.timeline ?? []).map(({ version, fact, time, last, seq }) => ({ version, fact, time, ...(last !== time && { last }), seq }))

function versionDetails(record: LambdaRecord, life: Life | null, n: number) {
  const kept = versionOf(record, n)!
  const v = life?.versions[n]
  const state = n === record.version ? stateOf(record, life) : (v?.state ?? 'accepted')
  return {
    version: n, state, ...why(state, v), created: kept.created, archive: kept.archive, image: v?.image ?? null, base: baseOf(record, life, n),
    ...(kept.rollbackOf && { rollback_of: kept.rollbackOf }), ...(v?.failure && { failure: withoutSeq(v.failure) }),
  }
}

/** What is said of whatever waits. */
export const placeIn = (inLine: InLine | null) => inLine && { queue_position: inLine.place, expected_start: inLine.expectedStart }

export const withoutSeq = ({ seq: _, ...failure }: NonNullable<VersionLife['failure']>) => failure

/** A reason and a sentence for each state; what the platform or a failure said goes first. */
export function why(state: State, v: VersionLife | undefined): { reason: string | null; message: string | null } {
  if (state === 'failed' && v?.failure) return { reason: v.failure.reason, message: v.failure.message }
  if (state === 'unscheduled' && v?.held) return { reason: v.held.reason, message: v.held.message }
  if (['running', 'pending', 'waiting', 'terminated'].includes(state) && v?.sight) return { reason: v.sight.reason, message: v.sight.message }
  const words: Partial<Record<State, string>> = {
    accepted: 'The archive is good and stored; it is packed next.', packaged: 'The context is packed; its image comes next.', queued: 'It waits for a builder.', building: 'The image is being made.',
    built: 'The image is made; it is deployed next.', deploying: 'The platform was asked to run it.', disabled: 'It was switched off; POST …/enable switches it on.',
    enabled: 'It was switched on; it is deployed next.', cancelled: 'It was cancelled; send it again with PUT.',
  }
  return { reason: null, message: words[state] ?? null }
}

/** GET /lambdas/{id}/status: per pod. */
export function podsStatus(record: LambdaRecord, life: Life | null) {
  const { lambda_id, version, serving_version, alive, status, state, reason, message } = summary(record, life)
  const current = Object.entries(life?.versions ?? {}).filter(([n, v]) => v.sight?.epoch === life!.epoch && (Number(n) === version || v.state !== 'terminated'))
  return {
    lambda_id, version, serving_version, alive, status, state, reason, message,
    pods: current.flatMap(([n, v]) => v.sight!.pods.map((pod) => ({ ...pod, version: Number(n) }))),
    ...(life?.versions[record.version]?.sight?.log && { log: life.versions[record.version]!.sight!.log }),
  }
}

/** GET /lambdas/{id}/image/status */
export function imageDetails(record: LambdaRecord, life: Life | null, inLine: InLine | null) {
  const v = life?.versions[record.version]
  const state = stateOf(record, life)
  const failure = v?.failure && v.failure.stage !== 'deployer' ? withoutSeq(v.failure) : null
  const said = why(state, state === 'unscheduled' ? v : undefined)
  return {
    lambda_id: record.id, version: record.version, status: imageStatus(record, life), state,
    reason: failure?.reason ?? said.reason, message: failure?.message ?? (inLine ? `It waits for a builder at place ${inLine.place}.` : said.message),
    ...placeIn(inLine), reference: v?.image?.reference ?? null, digest: v?.image?.digest ?? null, base: baseOf(record, life, record.version), failure,
  }
}
