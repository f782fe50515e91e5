// Facts and logs: as one answer, or as Server-Sent Events that resume after `Last-Event-ID`.
import type { Context } from 'hono'
import { streamSSE } from 'hono/streaming'
import type { Heard } from '../../shared/events.ts'
import type { HttpEnv } from '../../shared/http.ts'
import type { LogEntry, LogOf } from '../../shared/logs.ts'
import type { Ports } from '../../shared/ports.ts'
import type { LambdaRecord } from '../../shared/records.ts'
import { Refusal } from '../../shared/trouble.ts'
import { placeIn } from './answers.ts'
import type { View } from './view.ts'

/** Comments that keep proxies from closing a silent stream. */
const beatMs = 15_000
/** How often somebody who waits is looked for in the line. */
const placeMs = 1_000
const eventsPage = 1_000

export const wantsStream = (c: Context<HttpEnv>): boolean => (c.req.header('accept') ?? '').includes('text/event-stream')

/** `Last-Event-ID`, or the query's `cursor`; 0: from the beginning. */
export function resumeAt(c: Context<HttpEnv>): number {
  const given = c.req.header('last-event-id') ?? c.req.query('cursor') ?? '0'
  if (!/^\d{1,15}$/.test(given)) throw new Refusal(400, null, `Last-Event-ID and cursor must be sequence numbers, not "${given.slice(0, 40)}".`)
  return Number(given)
}

const eventOf = ({ seq, fact, version, time, data }: Heard) => ({ seq, fact, version, time, data })

/** As a stream it also tells, while it waits for a builder, where it stands: event `queue`, which no id resumes after. */
export async function eventsAnswer(c: Context<HttpEnv>, { bus }: Pick<Ports, 'bus'>, { id, account }: Pick<LambdaRecord, 'id' | 'account'>, view: Pick<View, 'inLine'>): Promise<Response> {
  const after = resumeAt(c)
  // A life holds what another account was refused about it, or had under this id before: neither is this caller's.
  const isTheirs = (heard: Heard): boolean => heard.account === account
  if (wantsStream(c)) return sse(c, (signal) => only(bus.follow(id, after, signal), isTheirs), (heard: Heard) => ({ id: heard.seq, event: heard.fact, data: eventOf(heard) }), () => placeIn(view.inLine(id)))
  const page = await bus.history(id, after, eventsPage)
  return c.json({ events: page.filter(isTheirs).map(eventOf), cursor: String(page.at(-1)?.seq ?? after) })
}

async function* only<T>(all: AsyncIterable<T>, is: (one: T) => boolean): AsyncIterable<T> {
  for await (const one of all) if (is(one)) yield one
}

export async function logsAnswer(c: Context<HttpEnv>, { logs }: Pick<Ports, 'logs'>, of: LogOf, whose: 'lambda_id' | 'build_id' = 'lambda_id'): Promise<Response> {
  const follow = c.req.query('follow')
  if (wantsStream(c) || (follow !== undefined && follow !== '0' && follow !== 'false')) {
    return sse(c, logs.follow.bind(logs, of, resumeAt(c)), (entry: LogEntry) => ({ id: entry.seq, event: 'log', data: entry }))
  }
  const entries = onlyRun(await logs.read(of), isYes(c.req.query('previous')))
  const shown = tailed(entries, tailIn(c))
  if ((c.req.header('accept') ?? '').includes('text/plain')) return c.text(shown.flatMap((entry) => entry.lines).map((line) => `${line}\n`).join(''))
  return c.json({ [whose]: of.id, ...(whose === 'lambda_id' && { version: of.version }), pods: byPod(shown), cursor: String(entries.at(-1)?.seq ?? 0) })
}

const isYes = (value: string | undefined): boolean => value !== undefined && value !== '0' && value !== 'false'

function tailIn(c: Context<HttpEnv>): number | null {
  const given = c.req.query('tail')
  if (given === undefined) return null
  if (!/^\d{1,6}$/.test(given)) throw new Refusal(400, null, `tail must be a number of lines, not "${given.slice(0, 40)}".`)
  return Number(given)
}

/** All runs that are kept, or with `previous` only the one before each pod's newest. */
function onlyRun(entries: LogEntry[], previous: boolean): LogEntry[] {
  if (!previous) return entries
  const newest = new Map<string, number>()
  for (const { pod, run } of entries) newest.set(pod, Math.max(run, newest.get(pod) ?? 0))
  return entries.filter(({ pod, run }) => run === newest.get(pod)! - 1)
}

/** The last `tail` lines of each pod. */
function tailed(entries: LogEntry[], tail: number | null): LogEntry[] {
  if (tail === null) return entries
  const left = new Map<string, number>()
  return entries.toReversed().flatMap((entry) => {
    const room = left.get(entry.pod) ?? tail
    left.set(entry.pod, Math.max(0, room - entry.lines.length))
    return room > 0 ? [{ ...entry, lines: entry.lines.slice(-room) }] : []
  }).reverse()
}

function byPod(entries: LogEntry[]): Record<string, string[]> {
  const pods: Record<string, string[]> = {}
  for (const { pod, lines } of entries) (pods[pod] ??= []).push(...lines)
  return pods
}

function sse<T>(c: Context<HttpEnv>, follow: (signal: AbortSignal) => AsyncIterable<T>, shape: (one: T) => { id: number; event: string; data: unknown }, place: () => { queue_position: number } | null = () => null): Response {
  const over = new AbortController()
  const response = streamSSE(c, async (stream) => {
    stream.onAbort(() => over.abort())
    const beat = setInterval(() => { void stream.write(': still here\n\n').catch(() => over.abort()) }, beatMs)
    let told = 0
    const tellPlace = async (): Promise<void> => {
      const now = place()
      if (now && now.queue_position !== told) await stream.writeSSE({ event: 'queue', data: JSON.stringify(now) })
      told = now?.queue_position ?? 0
    }
    const places = setInterval(() => { void tellPlace().catch(() => over.abort()) }, placeMs)
    try {
      await stream.write(': following\n\n')
      await tellPlace()
      for await (const one of follow(over.signal)) {
        const { id, event, data } = shape(one)
        await stream.writeSSE({ id: String(id), event, data: JSON.stringify(data) })
      }
    } finally {
      clearInterval(beat)
      clearInterval(places)
      over.abort()
    }
  })
  response.headers.set('x-accel-buffering', 'no')
  return response
}
