// Verdicts: the only ways out of a handler. The worker acts on them; handlers never touch a message.
import type { Fact } from './events.ts'
import type { Failure } from './trouble.ts'

export type Statement = Omit<Fact, 'time' | 'source'>

export type Verdict =
  | { verdict: 'done'; facts: Statement[] }
  /** The world's trouble: again in `ms`. When the budget is spent it becomes the service's failure, with this cause. */
  | { verdict: 'later'; ms: number; failure: Omit<Failure, 'stage'> }
  /** The user's trouble, never retried: becomes the service's failure. */
  | { verdict: 'refuse'; failure: Omit<Failure, 'stage'> }

/** It is done, and these facts are to be stated, in this order. None: there was nothing to do. */
export const done = (...facts: Statement[]): Verdict => ({ verdict: 'done', facts })

export const later = (ms: number, failure: Omit<Failure, 'stage'>): Verdict => ({ verdict: 'later', ms, failure })

export const refuse = (failure: Omit<Failure, 'stage'>): Verdict => ({ verdict: 'refuse', failure })
