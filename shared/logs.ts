// Logs: what builds and lambdas print, kept and followed. The port; `nats/logs.ts` keeps them in stream LOGS.

export interface LogOf {
  account: string
  id: string
  version: number
  kind: 'build' | 'run'
}

export interface LogEntry {
  /** Where reading can resume: greater for later entries. */
  seq: number
  /** ISO 8601 */
  time: string
  /** Which pod wrote it, and in which of its runs (0, 1, … a restart begins a new one). */
  pod: string
  run: number
  lines: string[]
}

export interface LogWriter {
  /** One line without its newline. Returns at once; lines are sent in small batches, in order. */
  line(text: string): void
  /** Resolves when every line so far is stored, or was given up and counted in the log itself. */
  flush(): Promise<void>
}

export interface Logs {
  writer(of: LogOf, pod: string, run?: number): LogWriter
  /** The entries that are kept, oldest first; with `tail` only enough of the newest to hold that many lines. */
  read(of: LogOf, tail?: number): Promise<LogEntry[]>
  /** Entries after `after` (0: all that are kept), then each new one until the signal aborts. */
  follow(of: LogOf, after: number, signal: AbortSignal): AsyncIterable<LogEntry>
  /** Forgets all of a lambda's logs. */
  remove(account: string, id: string): Promise<void>
}
