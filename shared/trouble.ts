// Three kinds of trouble: the user's (refused, never retried), the world's (tried again, within a budget), ours (a bug: thrown).
import type { Finding } from './finding.ts'

/** Who or what broke it: what a program decides on. */
export type Cause = 'user' | 'dependency' | 'registry' | 'quota' | 'infrastructure' | 'timeout' | 'cancelled'

/** Why a step of a lambda's life ended badly, in the words that every fact and status carries. */
export interface Failure {
  /** The stage that gave up: `packager`, `builder-watcher`, `deployer`. */
  stage: string
  cause: Cause
  /** A fixed CamelCase word. */
  reason: string
  /** A sentence with the remedy. */
  message: string
  /** The last lines of what the step printed, oldest first. */
  log?: string[]
}

/** The user's trouble on its way to an answer: HTTP turns it into problem+json, NATS into `lambda.rejected`. */
export class Refusal extends Error {
  constructor(
    readonly status: 400 | 401 | 403 | 404 | 409 | 410 | 413 | 415 | 422 | 429 | 503,
    /** The platform's own number, where it has one. */
    readonly errorCode: number | null,
    message: string,
    readonly findings: Finding[] = [],
    /** Seconds after which it may be tried again. */
    readonly retryAfterS: number | null = null,
  ) {
    super(message)
    this.name = 'Refusal'
  }
}

/** The world's trouble: something outside kiln did not answer or said no for now. */
export class Unavailable extends Error {
  constructor(message: string, options?: { cause?: unknown }) {
    super(message, options)
    this.name = 'Unavailable'
  }
}

export const unknownBuild = (id: string): Refusal => new Refusal(404, null, `There is no build with id ${id}.`)

export const unknownLambda = (id: string): Refusal => new Refusal(404, 42001, `There is no lambda with id ${id}.`)

export const invalid = (findings: Finding[], what: 'lambda' | 'build' = 'lambda'): Refusal =>
  new Refusal(400, 42005, findings.length === 1 ? findings[0]!.message : `${findings.length} things are wrong with this ${what}.`, findings)
