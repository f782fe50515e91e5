// Logs, in stream LOGS: a message is a small batch of lines of one pod.
import { headers, type JsMsg } from 'nats'
import type { LogEntry, LogOf, Logs, LogWriter } from '../logs.ts'
import type { Log } from '../log.ts'
import type { Nats } from './connect.ts'
import { range, readAll } from './read.ts'
import { withTrouble } from './unavailable.ts'

const subjectOf = (of: LogOf): string => `lambda.logs.${of.account}.${of.id}.${of.version}.${of.kind}`

const maxBatchLines = 200
const maxBatchBytes = 64 * 1024
/** Lines wait this long for company: soon enough to watch, rare enough to be cheap. */
const batchMs = 25
/** While NATS is away, so many lines are held; then the oldest are given up and counted. */
const maxHeldLines = 10_000

export function natsLogs(nats: Nats, log: Log): Logs {
  return withTrouble<Logs>({
    writer: (of, pod, run = 0) => writer(nats, log, subjectOf(of), pod, run),
    async read(of, tail) {
      const entries = (await readAll(nats, 'LOGS', subjectOf(of))).map(entryOf)
      return tail === undefined ? entries : lastLines(entries, tail)
    },
    async *follow(of, after, signal) {
      for await (const message of range(nats, { stream: 'LOGS', subject: subjectOf(of), from: after + 1 }, signal)) yield entryOf(message)
    },
    async remove(account, id) {
      await nats.jsm.streams.purge('LOGS', { filter: `lambda.logs.${account}.${id}.>` })
    },
  })
}

function entryOf(message: JsMsg): LogEntry {
  const { pod, run, time, lines } = message.json<Omit<LogEntry, 'seq'>>()
  return { seq: message.seq, time, pod, run, lines }
}

function lastLines(entries: LogEntry[], tail: number): LogEntry[] {
  const wanted: LogEntry[] = []
  let left = tail
  for (const entry of entries.toReversed()) {
    if (left <= 0) break
    wanted.unshift({ ...entry, lines: entry.lines.slice(-left) })
    left -= entry.lines.length
  }
  return wanted
}

function writer({ js }: Nats, log: Log, subject: string, pod: string, run: number): LogWriter {
  let held: string[] = []
  let dropped = 0
  let timer: NodeJS.Timeout | null = null
  let sending: Promise<void> = Promise.resolve()

  const batch = (): string[] => {
    let bytes = 0
    const size = held.findIndex((line, i) => i >= maxBatchLines || (bytes += Buffer.byteLength(line)) > maxBatchBytes)
    return held.splice(0, size === -1 ? held.length : Math.max(size, 1))
  }

  async function send(): Promise<void> {
    while (held.length > 0) {
      const lines = [...(dropped > 0 ? [`kiln: ${dropped} lines were lost here`] : []), ...batch()]
      dropped = 0
      const h = headers()
      h.set('ce-specversion', '1.0')
      h.set('ce-type', 'lambda.log')
      await js.publish(subject, JSON.stringify({ pod, run, time: new Date().toISOString(), lines }), { headers: h })
        .catch((error: unknown) => { dropped += lines.length; log.warn('log lines could not be stored', { subject, lines: lines.length, error }) })
    }
  }

  const flush = (): Promise<void> => {
    if (timer) clearTimeout(timer)
    timer = null
    return (sending = sending.then(send))
  }

  return {
    line(text) {
      held.push(text)
      if (held.length > maxHeldLines) { held.shift(); dropped += 1 }
      timer ??= setTimeout(flush, batchMs)
    },
    flush,
  }
}
