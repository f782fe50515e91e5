// The queue, on JetStream: entries are messages of work-queue stream QUEUE, `queue.<account>.<priority>.<id>.<version>`, each a fact as other systems can read it.
// What waits is in `lanes.ts`, how many may be in the works in `slots.ts`, whose turn it is in `serving.ts`.
import type { JsMsg } from 'nats'
import { bodyOf, factOf, headersOf, messageId, subjectOf, type Heard } from '../events.ts'
import type { Log } from '../log.ts'
import type { Queue } from '../queue.ts'
import { unlessMissing, type Nats } from './connect.ts'
import { headersFrom, keepRefused } from './hold.ts'
import { countEntries } from './lanes.ts'
import { serveQueue } from './serving.ts'
import { countInTheWorks, entriesInTheWorks } from './slots.ts'
import { withTrouble } from './unavailable.ts'

export function natsQueue(nats: Nats, log: Log): Queue {
  return withTrouble<Queue>({
    async put(fact) {
      await nats.js.publish(`queue.${fact.account}.${fact.data.priority}.${fact.id}.${fact.version}`, bodyOf(fact), { msgID: messageId(fact), headers: headersFrom(headersOf(fact)) })
    },
    serve: (wish, handle) => serveQueue(nats, log, wish, async (message) => {
      const heard = readable(message)
      if (heard instanceof Error) {
        wish.refused()
        return keepRefused(nats, log, message, heard.message)
      }
      return handle(heard, { attempt: message.info.redeliveryCount })
    }),
    async withdraw({ account, id, version }) {
      const subject = `queue.${account}.*.${id}.${version}`
      const inTheWorks = await entriesInTheWorks(nats, account)
      for (let next = await firstFrom(nats, 1, subject); next !== null; next = await firstFrom(nats, next + 1, subject)) {
        // Removed while somebody takes it, it is acked in vain, which is harmless.
        if (!inTheWorks.has(next)) await nats.jsm.streams.deleteMessage('QUEUE', next, false).catch(unlessMissing)
      }
    },
    async depth(account) {
      const [entries, inFlight] = await Promise.all([countEntries(nats, account), countInTheWorks(nats, account)])
      return { waiting: Math.max(0, entries - inFlight), inFlight }
    },
  })
}

/** The sequence of the first message from one on; null: there is none. */
async function firstFrom({ jsm }: Nats, seq: number, subject: string): Promise<number | null> {
  // The client's types know this question only for streams that answer it directly, which may be a moment behind.
  const message = await jsm.streams.getMessage('QUEUE', { seq, next_by_subj: subject } as { seq: number }).catch(unlessMissing)
  return message && message.seq
}

function readable(message: JsMsg): Heard<'image.queued'> | Error {
  const [, account = '', , id = ''] = message.subject.split('.')
  try {
    const isBuild = 'build_id' in JSON.parse(message.string())
    const subject = subjectOf({ ...(isBuild && { kind: 'build' }), account, id, fact: 'image.queued' })
    return factOf({ subject, seq: message.seq, body: message.string(), header: (name) => message.headers?.get(name) ?? '' }) as Heard<'image.queued'>
  } catch (error) {
    return error as Error
  }
}
