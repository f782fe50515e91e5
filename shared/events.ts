// Facts: everything that can happen to a lambda, or to a build of somebody's own, with its payload, its subject and its CloudEvents headers.
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
  'image.queued': (Packaged | OwnImage) & { priority: Priority }
  'image.started': { context: string; attempt: number }
  /** It waits for what it needs, such as a node, or to be tried again; the platform's own words. */
  'image.pending': { context: string; attempt: number; reason: string; message: string }
  'image.built': { image: Image; context: string; reused: boolean; seconds: number }
  'image.failed': Failure
  /** Of a build: it was not taken; it came as a command, which was refused. */
  'image.rejected': { error_code: number | null; detail: string; errors: Finding[] }
  /** Of a build: nobody wants it any more. */
  'image.cancelled': { reason: string; message: string }
  /** Of a build: it was deleted, and its logs with it. */
  'image.forgotten': Record<string, never>
  /** The base image that it is made on has moved: its name stands for another digest now. */
  'image.outdated': { base: string; reference: string; newer: string }
  'workload.applied': { image: Image; pod_count: number }
  'workload.failed': Failure
  'workload.running': Observed
  'workload.pending': Observed
  'workload.waiting': Observed
  'workload.terminated': Observed
}

/** Of a build: the archive, as kaniko takes it, and the image that it becomes. */
export interface OwnImage {
  context: { name: string; digest: string; bytes: number }
  image: { name: string; tag: string }
}

export type FactName = keyof Facts

export interface Fact<N extends FactName = FactName> {
  fact: N
  /** Whose life it is of. Absent: a lambda's. */
  kind?: 'build'
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

/** `lambda.events.<account>.<id>.<noun>.<participle>`, or `build.events.…` */
export const subjectOf = (f: Pick<Fact, 'kind' | 'account' | 'id' | 'fact'>): string => `${f.kind ?? 'lambda'}.events.${f.account}.${f.id}.${f.fact}`
/** All facts of one life: `*.events.*.<id>.>` */
export const lifeOf = (id: string): string => `*.events.*.${id}.>`
/** One kind of fact of all lives: `*.events.*.*.image.built` */
export const everyFact = (fact: FactName): string => `*.events.*.*.${fact}`
/** `<id>:<version>:<fact>[:<nth>]`: stated twice, it is one fact. */
export const messageId = (f: Fact): string => [f.id, f.version, f.fact, ...(f.nth ? [f.nth] : [])].join(':')

export function headersOf(f: Fact): Record<string, string> {
  return {
    'ce-specversion': '1.0', 'ce-id': messageId(f), 'ce-type': f.fact, 'ce-source': f.source, 'ce-subject': f.id, 'ce-time': f.time,
    'ce-cause': f.cause, 'content-type': 'application/json', ...(f.traceparent && { traceparent: f.traceparent }),
  }
}

export const bodyOf = (f: Fact): string => JSON.stringify({ [`${f.kind ?? 'lambda'}_id`]: f.id, account: f.account, version: f.version, epoch: f.epoch, ...f.data })

/** A fact from a message of stream EVENTS. Throws when it is none: only kiln writes there. */
export function factOf(message: { subject: string; seq: number; body: string; header(name: string): string }): Heard {
  const [kind, , account, id, ...fact] = message.subject.split('.')
  const { lambda_id: _, build_id: __, account: ___, version, epoch, ...data } = JSON.parse(message.body)
  if (!account || !id || fact.length !== 2 || !Number.isInteger(version)) throw new Error(`no fact of a lambda or a build: ${message.subject}`)
  return {
    fact: fact.join('.') as FactName, ...(kind === 'build' && { kind }), account, id, version, epoch: epoch ?? 0, data, seq: message.seq, time: message.header('ce-time'),
    source: message.header('ce-source'), cause: message.header('ce-cause'), traceparent: message.header('traceparent') || null,
  }
}

/** The next fact of the same life: it carries account, version, epoch, cause and trace on. */
export function nextFact<N extends FactName>(from: Fact, fact: N, data: Facts[N], more: Partial<Fact> = {}): Omit<Fact<N>, 'time' | 'source'> {
  const { kind, id, account, version, epoch, cause, traceparent } = from
  return { fact, ...(kind && { kind }), id, account, version, epoch, cause, traceparent, data, ...more } as Omit<Fact<N>, 'time' | 'source'>
}

/** What other systems may command of lambdas, and of builds. */
export const verbs = {
  lambda: ['create', 'update', 'delete', 'enable', 'disable', 'cancel', 'rollback'],
  build: ['create', 'cancel', 'delete'],
} as const
export type Kind = keyof typeof verbs
export type Verb<K extends Kind = Kind> = (typeof verbs)[K][number]

/** A uuid that is always the same for the same words: a command that is delivered twice makes one lambda. */
export function uuidFrom(...words: string[]): string {
  const hex = createHash('sha256').update(JSON.stringify(words)).digest('hex')
  const variant = ((parseInt(hex[16]!, 16) & 0x3) | 0x8).toString(16)
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-5${hex.slice(13, 16)}-${variant}${hex.slice(17, 20)}-${hex.slice(20, 32)}`
}
