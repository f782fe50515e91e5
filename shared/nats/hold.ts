// Holds a message while it is worked on, and settles it; keeps what nobody can read. The rest of the house knows only what a `Settlement` is.
import { headers, type JsMsg, type MsgHdrs } from 'nats'
import type { Settlement } from '../bus.ts'
import type { Log } from '../log.ts'
import type { Nats } from './connect.ts'

/** A message whose holder died is heard by somebody else after so long; a living holder says so thrice in that time. */
export const ackWaitMs = 6_000
export const heartbeatMs = 2_000
/** An answer that takes longer is not waited for, and asked for again: a server that goes away in a cluster leaves questions without one. */
export const promptMs = 3_000

/** Resolves when it is settled, whatever `handle` does. */
export async function hold(message: JsMsg, log: Log, handle: (message: JsMsg) => Promise<Settlement>): Promise<void> {
  const heartbeat = setInterval(() => message.working(), heartbeatMs)
  // A connection that is closed keeps no process alive for a handler that will never be heard.
  heartbeat.unref()
  try {
    const settlement = await handle(message)
    if (settlement === 'settled') message.ack()
    else message.nak(settlement.againInMs)
  } catch (error) {
    // A bug, or NATS went away in the middle: the message is heard again.
    log.error('a message could not be handled', { subject: message.subject, seq: message.seq, error })
    message.nak(1_000)
  } finally {
    clearInterval(heartbeat)
  }
}

/** What nobody can read leaves its queue and is kept in REFUSED for looking at. */
export async function keepRefused({ js }: Nats, log: Log, message: JsMsg, reason: string): Promise<Settlement> {
  const h = headersFrom({ 'kiln-subject': message.subject, 'kiln-reason': reason.replace(/[\r\n]+/g, ' ') })
  await js.publish(`lambda.refused.${message.info.stream}`, message.data, { headers: h, msgID: `${message.info.stream}:${message.seq}:${message.info.timestampNanos}` })
  log.warn('a message was refused', { subject: message.subject, seq: message.seq, reason })
  return 'settled'
}

export function headersFrom(values: Record<string, string>): MsgHdrs {
  const h = headers()
  for (const [name, value] of Object.entries(values)) h.set(name, value)
  return h
}
