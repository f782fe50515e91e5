// Output: what a child process prints, as lines, whatever it prints and however much.
import type { Readable } from 'node:stream'

/** A line has at most this; the rest of it is dropped, and a mark says so. */
export const maxLineBytes = 16 * 1024

/**
 * More than this is read more slowly, so that a child which prints without end waits for its pipe and not kiln for it.
 * A line costs more than its bytes.
 */
const bytesPerMs = 10 * 1024
const bytesALineCosts = 128
const debtMs = 100

const newline = 0x0a
const carriageReturn = 0x0d

export interface Lines {
  push(chunk: Buffer): void
  /** Tells the last line when it had no newline. */
  end(): void
}

/** Splits at \n, \r\n and lone \r (progress bars). Bytes that are no UTF-8 become U+FFFD. */
export function lines(tell: (line: string) => void, limit = maxLineBytes): Lines {
  let parts: Buffer[] = []
  let kept = 0
  let dropped = 0
  let afterReturn = false

  const add = (bytes: Buffer): void => {
    const taken = bytes.subarray(0, limit - kept)
    if (taken.length > 0) parts.push(Buffer.from(taken))
    kept += taken.length
    dropped += bytes.length - taken.length
    afterReturn = false
  }
  const tellLine = (): void => {
    const bytes = Buffer.concat(parts)
    const text = dropped === 0 ? bytes.toString('utf8') : `${wholeCharacters(bytes)} … [cut: ${dropped} bytes more]`
    parts = []
    kept = dropped = 0
    tell(text)
  }
  const split = (byte: number): void => {
    const secondHalf = byte === newline && afterReturn
    afterReturn = byte === carriageReturn && kept > 0
    if (!secondHalf && (byte === newline || kept > 0)) tellLine()
  }
  return {
    push(chunk) {
      let from = 0
      for (let at = 0; at < chunk.length; at++) {
        const byte = chunk[at]!
        if (byte !== newline && byte !== carriageReturn) continue
        if (at > from) add(chunk.subarray(from, at))
        split(byte)
        from = at + 1
      }
      if (from < chunk.length) add(chunk.subarray(from))
    },
    end: () => { if (kept > 0) tellLine() },
  }
}

/** A cut may fall into the middle of a character: it goes back to its beginning. */
function wholeCharacters(bytes: Buffer): string {
  let end = bytes.length
  while (end > bytes.length - 4 && end > 0 && (bytes[end - 1]! & 0xc0) === 0x80) end--
  const lead = bytes[end - 1] ?? 0
  const needed = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : lead >= 0xc0 ? 2 : 1
  return bytes.subarray(0, bytes.length - end + 1 >= needed ? bytes.length : end - 1).toString('utf8')
}

/** Tells a stream's lines at a bearable pace. `hurry` takes what is left at once: its writer has ended. */
export function readLines(stream: Readable, tell: (line: string) => void): { hurry(): void; end(): void } {
  let debt = 0
  let since = performance.now()
  let hurrying = false
  const split = lines((line) => {
    debt += bytesALineCosts
    tell(line)
  })
  stream.on('error', () => undefined)
  stream.on('data', (chunk: Buffer) => {
    split.push(chunk)
    const now = performance.now()
    debt = Math.max(0, debt + chunk.length - (now - since) * bytesPerMs)
    since = now
    if (hurrying || debt < debtMs * bytesPerMs) return
    stream.pause()
    setTimeout(() => stream.resume(), debt / bytesPerMs).unref()
  })
  return {
    hurry() {
      hurrying = true
      stream.resume()
    },
    end: () => split.end(),
  }
}
