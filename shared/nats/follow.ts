// Follows a stream's subject from a sequence on, over reconnects and restarts of the server. What KV copies, live facts and live logs are read by.
import { consumerOpts, type JetStreamSubscription, type JsMsg } from 'nats'
import type { Nats } from './connect.ts'

export interface Follow {
  stream: string
  subject: string
  /** The first sequence wanted; `lastOfEach`: the last message of each subject, then all that come. */
  from: number | 'lastOfEach'
}

export interface Follower {
  /** The last sequence that was told. */
  position(): number
  /** Resolves when everything stored before this call has been told. */
  caughtUp(): Promise<void>
  close(): void
}

/** Calls `tell` in order, each message once. It never gives up: the server that went away comes back. */
export async function follow({ nc, js, jsm }: Nats, wish: Follow, tell: (message: JsMsg) => void): Promise<Follower> {
  let position = typeof wish.from === 'number' ? wish.from - 1 : 0
  let subscription: JetStreamSubscription | null = null
  let closed = false
  const waiting = new Set<{ until: number; resolve: () => void }>()

  const heard = (message: JsMsg): void => {
    if (message.seq <= position) return
    tell(message)
    position = message.seq
    for (const one of waiting) if (position >= one.until) { waiting.delete(one); one.resolve() }
  }

  async function subscribe(): Promise<void> {
    const options = consumerOpts().orderedConsumer().callback((error, message) => { if (!error && message) heard(message) })
    if (position > 0 || typeof wish.from === 'number') options.startSequence(position + 1)
    else options.deliverLastPerSubject()
    subscription = await js.subscribe(wish.subject, options.bindStream(wish.stream))
  }

  // The server forgets ephemeral consumers when it restarts; the client would notice only after missed heartbeats.
  async function resume(): Promise<void> {
    for await (const status of nc.status()) {
      if (closed) return
      if (status.type !== 'reconnect') continue
      subscription?.unsubscribe()
      await again(subscribe, () => closed || nc.isClosed())
    }
  }

  await subscribe()
  void resume()
  return {
    position: () => position,
    async caughtUp() {
      const { state } = await jsm.streams.info(wish.stream)
      if (state.last_seq <= position || state.messages === 0) return
      await new Promise<void>((resolve) => waiting.add({ until: state.last_seq, resolve }))
    },
    close() {
      closed = true
      subscription?.unsubscribe()
      for (const one of waiting) one.resolve()
    },
  }
}

/** JetStream may need a moment after the connection is back: again each 100 ms until it works or nobody wants it any more. */
async function again(attempt: () => Promise<void>, isOver: () => boolean): Promise<void> {
  while (!isOver()) {
    const worked = await attempt().then(() => true, () => false)
    if (worked) return
    await new Promise((resolve) => setTimeout(resolve, 100))
  }
}
