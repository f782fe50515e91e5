// What one run of a container prints, line by line with the time of each, and how it is read: all, the end of it, or as it comes.
import { gate } from '../await.ts'

export interface LogQuery {
  follow: boolean
  tailLines: number | null
  sinceTime: string | null
  timestamps: boolean
  limitBytes: number | null
}

export interface RunLog {
  write(chunk: Buffer): void
  /** Nothing more comes. */
  end(): void
  read(query: LogQuery, signal: AbortSignal): AsyncIterable<Buffer>
  /** The last lines, and of them the last bytes. */
  tail(lines: number, bytes: number): string
}

interface Line {
  /** Nanoseconds since 1970. */
  at: bigint
  /** With its newline; the last line of a run may have none. */
  bytes: Buffer
}

const newline = 0x0a

export function runLog(): RunLog {
  const lines: Line[] = []
  let rest = Buffer.alloc(0)
  let ended = false
  let more = gate()

  function add(bytes: Buffer): void {
    const last = lines.at(-1)?.at ?? 0n
    const at = nanoseconds()
    lines.push({ at: at > last ? at : last + 1n, bytes })
  }
  function wake(): void {
    more.open()
    more = gate()
  }

  return {
    write(chunk) {
      rest = Buffer.concat([rest, chunk])
      for (let at = rest.indexOf(newline); at !== -1; at = rest.indexOf(newline)) {
        add(Buffer.from(rest.subarray(0, at + 1)))
        rest = rest.subarray(at + 1)
      }
      wake()
    },
    end() {
      if (rest.length > 0) add(rest)
      rest = Buffer.alloc(0)
      ended = true
      wake()
    },
    async *read({ follow, tailLines, sinceTime, timestamps, limitBytes }, signal) {
      const since = sinceTime === null ? 0n : nanosecondsOf(sinceTime)
      let left = limitBytes ?? Infinity
      let next = tailLines === null ? 0 : Math.max(0, lines.length - tailLines)
      while (!signal.aborted && left > 0) {
        for (; next < lines.length && left > 0; next++) {
          const line = lines[next]!
          if (line.at < since) continue
          const bytes = timestamps ? Buffer.concat([Buffer.from(`${timeOf(line.at)} `), line.bytes]) : line.bytes
          yield bytes.subarray(0, left)
          left -= bytes.length
        }
        if (!follow || ended) return
        const heard = more.promise
        if (next >= lines.length) await untilAborted(heard, signal)
      }
    },
    tail: (count, bytes) => Buffer.concat(lines.slice(-count).map((line) => line.bytes)).subarray(-bytes).toString(),
  }
}

function untilAborted(promise: Promise<void>, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const stop = (): void => { signal.removeEventListener('abort', stop); resolve() }
    signal.addEventListener('abort', stop, { once: true })
    void promise.then(stop)
  })
}

const origin = BigInt(Date.now()) * 1_000_000n - process.hrtime.bigint()
const nanoseconds = (): bigint => origin + process.hrtime.bigint()

/** RFC 3339 with nine digits, as the API writes the times of log lines. */
function timeOf(at: bigint): string {
  const seconds = new Date(Number(at / 1_000_000_000n) * 1_000).toISOString().slice(0, 19)
  return `${seconds}.${String(at % 1_000_000_000n).padStart(9, '0')}Z`
}

function nanosecondsOf(time: string): bigint {
  const fraction = /\.(\d+)/.exec(time)?.[1] ?? ''
  return BigInt(Date.parse(time.replace(/\.\d+/, ''))) * 1_000_000n + BigInt(fraction.padEnd(9, '0').slice(0, 9))
}
