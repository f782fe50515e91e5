// Facts: everything that can happen to a lambda, with its payload, its subject and its CloudEvents headers.
import { createHash } from 'node:crypto'
import type { Finding } from './finding.ts'
import type { Priority } from './queue.ts'
import type { Failure } from './trouble.ts'
import type { Image, Kept, Packaged } from './builds.ts'
import type { Observation } from './workloads.ts'

type Observed = Pick<Observation, 'reason' | 'message' | 'pods' | 'endpoints' | 'log'>

/** Each fact and what it says. */
export interface Facts {
  /** `image` is there when nothing has to be built. */
  'lambda.accepted': { archive: { digest: string; bytes: number }; name: string; image: Image | null; rollback_of?: number }
  'lambda.rejected': { error_code: number | null; detail: string; errors: Finding[] }
  'lambda.disabled': Record<string, never>
  /** `image` is there when the version has been built before. */
  'lambda.enabled': { image: Image | null }
  'lambda.cancelled': Record<string, never>
  'lambda.deleted': Record<string, never>
  /** What a deletion removed, and what the platform would not remove. */
  'lambda.cleaned': { archives: number; contexts: number; images: number; kept: Kept[] }
  'context.packaged': Packaged & { files: number }
  'context.refused': Failure
  /** Something has to be built, which takes its time: it waits for its turn. */
  'image.queued': Packaged & { priority: Priority }
  'image.started': { context: string; attempt: number }
  /** It waits for what it needs, such as a node; the platform's own words. */
  'image.pending': { context: string; attempt: number; reason: string; message: string }
  'image.built': { image: Image; context: string; reused: boolean; seconds: number }
  'image.failed': Failure
  /** The base image that it is made on has moved: its name stands for another digest now. */
  'image.outdated': { base: string; reference: string; newer: string }
  'workload.applied': { image: Image; pod_count: number }
  'workload.failed': Failure
  'workload.running': Observed
  'workload.pending': Observed
  'workload.waiting': Observed
  'workload.terminated': Observed
}

export type FactName = keyof Facts

export interface Fact<N extends FactName = FactName> {
  fact: N
  id: string
  account: string
  version: number
  epoch: number
  data: Facts[N]
  /** ISO 8601 */
  time: string
  /** `kiln/<service>` */
  source: string
  /** What brought it about: a request id or a command's `ce-id`. Every fact of one life carries it on. */
  cause: string
  /** W3C trace context, carried on from the request. */
  traceparent: string | null
  /** Tells apart facts that may be stated more than once in a version. */
  nth?: string
}

/** As it was heard: with its place in the stream. */
export type Heard<N extends FactName = FactName> = Fact<N> & { seq: number }

/** `lambda.events.<account>.<id>.<noun>.<participle>` */
export const subjectOf = (f: Pick<Fact, 'account' | 'id' | 'fact'>): string => `lambda.events.${f.account}.${f.id}.${f.fact}`
/** All facts of one life: `lambda.events.*.<id>.>` */
export const lifeOf = (id: string): string => `lambda.events.*.${id}.>`
/** One kind of fact of all lambdas: `lambda.events.*.*.image.built` */
export const everyFact = (fact: FactName): string => `lambda.events.*.*.${fact}`
/** `<id>:<version>:<fact>[:<nth>]`: stated twice, it is one fact. */
export const messageId = (f: Fact): string => [f.id, f.version, f.fact, ...(f.nth ? [f.nth] : [])].join(':')

export function headersOf(f: Fact): Record<string, string> {
  return {
    'ce-specversion': '1.0', 'ce-id': messageId(f), 'ce-type': f.fact, 'ce-source': f.source, 'ce-subject': f.id, 'ce-time': f.time,
    'ce-cause': f.cause, 'content-type': 'application/json', ...(f.traceparent && { traceparent: f.traceparent }),
  }
}

export const bodyOf = (f: Fact): string => JSON.stringify({ lambda_id: f.id, account: f.account, version: f.version, epoch: f.epoch, ...f.data })

/** A fact from a message of stream EVENTS. Throws when it is none: only kiln writes there. */
export function factOf(message: { subject: string; seq: number; body: string; header(name: string): string }): Heard {
  const [, , account, id, ...fact] = message.subject.split('.')
  const { lambda_id: _, account: __, version, epoch, ...data } = JSON.parse(message.body)
  if (!account || !id || fact.length !== 2 || !Number.isInteger(version)) throw new Error(`no fact of a lambda: ${message.subject}`)
  return {
    fact: fact.join('.') as FactName, account, id, version, epoch: epoch ?? 0, data, seq: message.seq, time: message.header('ce-time'),
    source: message.header('ce-source'), cause: message.header('ce-cause'), traceparent: message.header('traceparent') || null,
  }
}

/** The next fact of the same life: it carries account, version, epoch, cause and trace on. */
export function nextFact<N extends FactName>(from: Fact, fact: N, data: Facts[N], more: Partial<Fact> = {}): Omit<Fact<N>, 'time' | 'source'> {
  const { id, account, version, epoch, cause, traceparent } = from
  return { fact, id, account, version, epoch, cause, traceparent, data, ...more } as Omit<Fact<N>, 'time' | 'source'>
}

export const verbs = ['create', 'update', 'delete', 'enable', 'disable', 'cancel', 'rollback'] as const
export type Verb = (typeof verbs)[number]

/** A uuid that is always the same for the same words: a command that is delivered twice makes one lambda. */
export function uuidFrom(...words: string[]): string {
  const hex = createHash('sha256').update(JSON.stringify(words)).digest('hex')
  const variant = ((parseInt(hex[16]!, 16) & 0x3) | 0x8).toString(16)
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-5${hex.slice(13, 16)}-${variant}${hex.slice(17, 20)}-${hex.slice(20, 32)}`
}
