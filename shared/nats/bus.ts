// The bus, on JetStream.
import { AckPolicy, DeliverPolicy, ReplayPolicy, nanos, type ConsumerMessages, type JsMsg } from 'nats'
import { bodyOf, factOf, headersOf, messageId, everyFact, lifeOf, subjectOf, verbs, type Kind, type Verb } from '../events.ts'
import type { Bus, Command, Hearing, Settlement, Unreadable } from '../bus.ts'
import type { Log } from '../log.ts'
import { apiErrorCode, type Nats } from './connect.ts'
import { ackWaitMs, headersFrom, hold, keepRefused } from './hold.ts'
import { range, readAll } from './read.ts'
import { withTrouble } from './unavailable.ts'

/** How long an unanswered pull lives: short, so that a reader finds its way back soon after a restart of the server. */
const pullMs = 3_000

export function natsBus(nats: Nats, log: Log): Bus {
  return withTrouble<Bus>({
    async state(fact) {
      await nats.js.publish(subjectOf(fact), bodyOf(fact), { msgID: messageId(fact), headers: headersFrom(headersOf(fact)) })
    },
    async hear(wish, handle) {
      const subject = wish.fact ? everyFact(wish.fact) : '*.events.>'
      await ensureConsumer(nats, 'EVENTS', wish.name, subject, wish.limit)
      return pull(nats, 'EVENTS', wish.name, wish.limit, log, async (message) => {
        const heard = readable(message)
        if (heard instanceof Error) {
          wish.refused()
          return keepRefused(nats, log, message, heard.message)
        }
        return handle(heard, { attempt: message.info.redeliveryCount })
      })
    },
    async obey(handle, unreadable) {
      await ensureConsumer(nats, 'COMMANDS', 'ingest', '*.commands.>', 64)
      return pull(nats, 'COMMANDS', 'ingest', 64, log, async (message) => {
        const command = commandOf(message)
        if ('verb' in command) return handle(command)
        await unreadable(command)
        return keepRefused(nats, log, message, command.reason)
      })
    },
    history: async (id, after, limit) => (await readAll(nats, 'EVENTS', lifeOf(id), after + 1, limit)).map(heardOf),
    async *follow(id, after, signal) {
      for await (const message of range(nats, { stream: 'EVENTS', subject: lifeOf(id), from: after + 1 }, signal)) yield heardOf(message)
    },
    async depth(name) {
      const info = await nats.jsm.consumers.info('EVENTS', name)
      return { waiting: info.num_pending, inFlight: info.num_ack_pending }
    },
    address: () => nats.address,
    isConnected: () => !nats.nc.isClosed() && connected(nats),
  })
}

function connected({ nc }: Nats): boolean {
  // The client has no question for this; its server is gone from the pool's view while it reconnects.
  return (nc as unknown as { protocol: { connected: boolean } }).protocol.connected
}

async function ensureConsumer({ jsm }: Nats, stream: string, name: string, subject: string, limit: number): Promise<void> {
  const wanted = { ack_wait: nanos(ackWaitMs), max_ack_pending: limit, filter_subject: subject }
  const known = await jsm.consumers.info(stream, name).catch(() => null)
  if (known) {
    await jsm.consumers.update(stream, name, wanted)
    return
  }
  await jsm.consumers.add(stream, {
    ...wanted, durable_name: name, ack_policy: AckPolicy.Explicit, deliver_policy: DeliverPolicy.All,
    replay_policy: ReplayPolicy.Instant, max_deliver: -1,
  }).catch((error: unknown) => {
    // Two replicas that start at once both want to make it.
    if (apiErrorCode(error) !== 10148 && apiErrorCode(error) !== 10013) throw error
  })
}

/** Every message that is pulled is worked on at once: nothing waits in a process. `limit` bounds what is pulled, over all replicas. */
async function pull(nats: Nats, stream: string, name: string, limit: number, log: Log, handle: (message: JsMsg) => Promise<Settlement>): Promise<Hearing> {
  const consumer = await nats.js.consumers.get(stream, name)
  const inHand = new Set<Promise<void>>()
  const messages: ConsumerMessages = await consumer.consume({
    max_messages: Math.min(limit, 256), expires: pullMs, idle_heartbeat: pullMs / 3,
    callback: (message) => {
      const work: Promise<void> = hold(message, log, handle).finally(() => inHand.delete(work))
      inHand.add(work)
    },
  })
  return {
    async stop() {
      await messages.close()
      await Promise.all(inHand)
    },
  }
}

const heardOf = (message: JsMsg) => factOf({ subject: message.subject, seq: message.seq, body: message.string(), header: (name) => message.headers?.get(name) ?? '' })

function readable(message: JsMsg): ReturnType<typeof heardOf> | Error {
  try {
    return heardOf(message)
  } catch (error) {
    return error as Error
  }
}

function commandOf(message: JsMsg): Command | Unreadable {
  const [first, , account = 'unknown', ...rest] = message.subject.split('.')
  const kind: Kind = first === 'build' ? first : 'lambda'
  const verb = rest.join('.')
  const cause = message.headers?.get('ce-id') || `COMMANDS:${message.info.streamSequence}:${message.info.timestampNanos}`
  const id = message.headers?.get('ce-subject') || 'unknown'
  const of = { kind, account, cause, id: /^[0-9a-fA-F-]{36}$/.test(id) ? id.toLowerCase() : 'unknown' }
  if (!(verbs[kind] as readonly string[]).includes(verb)) return { ...of, reason: `There is no command ${verb}; there are ${verbs[kind].join(', ')}.` }
  const body = objectIn(message.string())
  if (!body) return { ...of, reason: 'The command is not a JSON object.' }
  return { kind, account, verb: verb as Verb, body, cause, traceparent: message.headers?.get('traceparent') || null }
}

function objectIn(text: string): Record<string, unknown> | null {
  try {
    const value: unknown = JSON.parse(text)
    return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Record<string, unknown>) : null
  } catch {
    return null
  }
}
