// Answers: what an Idempotency-Key was answered with. The port; `nats/answers.ts` keeps them for 24 hours in KV `answers`.

export interface Answer {
  lambda_id: string
  /** Digest of what was asked: another question under the same key is an error. */
  question: string
}

export interface Answers {
  /** The answer of this key; the first to ask sets it. */
  claim(account: string, key: string, answer: Answer): Promise<Answer>
}
