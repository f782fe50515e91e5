// Reads what a stream holds: all of a subject at once, or as an iteration that goes on.
import type { JsMsg } from 'nats'
import type { Nats } from './connect.ts'
import { follow, type Follow } from './follow.ts'

/** Messages as they are followed, until the signal aborts. The reader sets the pace; what it has not read waits in memory. */
export async function* range(nats: Nats, wish: Follow, signal: AbortSignal): AsyncIterable<JsMsg> {
  const queue: JsMsg[] = []
  let wake = (): void => undefined
  const follower = await follow(nats, wish, (message) => { queue.push(message); wake() })
  const stop = (): void => wake()
  signal.addEventListener('abort', stop)
  try {
    while (!signal.aborted) {
      const message = queue.shift()
      if (message) yield message
      else await new Promise<void>((resolve) => { wake = resolve; if (signal.aborted || queue.length > 0) resolve() })
    }
  } finally {
    signal.removeEventListener('abort', stop)
    follower.close()
  }
}

/** All kept messages of a subject from a sequence on, oldest first, at most `limit`. */
export async function readAll(nats: Nats, stream: string, subject: string, from = 1, limit = Infinity): Promise<JsMsg[]> {
  const last = await nats.jsm.streams.getMessage(stream, { last_by_subj: subject }).catch(() => null)
  if (!last || last.seq < from) return []
  const messages: JsMsg[] = []
  const over = new AbortController()
  for await (const message of range(nats, { stream, subject, from }, over.signal)) {
    messages.push(message)
    if (message.seq >= last.seq || messages.length >= limit) over.abort()
  }
  return messages
}
