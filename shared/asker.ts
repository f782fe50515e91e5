// Who asks for something, and what ties the answer to the question.
import type { Priority } from './queue.ts'

export interface Asker {
  account: string
  /** The request id or the command's `ce-id`. */
  cause: string
  traceparent: string | null
  /** Whether a person waits for it, or another system. */
  priority: Priority
}
