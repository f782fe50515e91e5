// The queue: whether a small account waits behind a large one, what the queue itself adds to a build, and what ten thousand that wait cost.
import { priorities } from '../../shared/queue.ts'
import { placeOf, type Waiting } from '../../shared/turns.ts'
import { testNats } from '../stand/nats.ts'
import { standPorts, type StandPorts } from '../stand/ports.ts'
import { queued } from '../stand/queue.ts'
import { each, median, quantile, type Line } from './line.ts'

const limit = 8
const buildMs = 50
const accounts = { large: 450, small: 50 }
const builds = accounts.large + accounts.small

export async function benchQueue(): Promise<Line[]> {
  return [...(await benchTurns()), ...(await benchManyWaiting())]
}

interface Seen {
  /** Milliseconds from put to begun, by account. */
  waits: Record<string, number[]>
  begun: number
  succeeded: number
  /** From the end of one build to the begin of the one that takes its place, while there are some that wait. */
  gaps: number[]
}

async function benchTurns(): Promise<Line[]> {
  const nats = await testNats()
  const [putting, ...processes] = await Promise.all([1, 2, 3].map(() => standPorts(nats.url)))
  // The first round is for warmth.
  await served(putting!, processes, { large: 40, small: 40 }, 1)
  const rounds: Seen[] = []
  for (let round = 0; round < 3; round++) rounds.push(await served(putting!, processes, accounts, buildMs))
  const complaints = processes.flatMap((one) => one.complaints)
  await Promise.all([putting!, ...processes].map((one) => one.close()))
  await nats.close()
  if (complaints.length > 0) throw new Error(complaints.join('\n'))
  const wait = (account: string): number => median(rounds.map((seen) => median(seen.waits[account]!)))
  const [large, small, gaps] = [wait('large'), wait('small'), rounds.flatMap((seen) => seen.gaps)]
  const once = rounds.every((seen) => seen.succeeded === builds && seen.begun === builds)
  return [
    { what: '450 builds of one account, then 50 of another, 50 ms each, 8 at once in two processes: succeeded', value: `${Math.min(...rounds.map((seen) => seen.succeeded))}, each once: ${once ? 'yes' : 'no'}`, reach: '500, each once', met: once },
    { what: 'the small account\'s median wait, of the large one\'s', value: `${small.toFixed(0)} ms of ${large.toFixed(0)} ms, ${(small / large).toFixed(3)}`, reach: '<= 0.2', met: small / large <= 0.2 },
    { what: 'from the end of a build to the begin of the next in its place', value: `p50 ${median(gaps).toFixed(1)} ms, p99 ${quantile(gaps, 0.99).toFixed(1)} ms`, reach: 'p50 <= 5 ms', met: median(gaps) <= 5 },
  ]
}

/** Puts all, then has them served. */
async function served(putting: StandPorts, processes: StandPorts[], counts: typeof accounts, eachMs: number): Promise<Seen> {
  const seen: Seen = { waits: { large: [], small: [] }, begun: 0, succeeded: 0, gaps: [] }
  const [put, ended] = [new Map<string, number>(), [] as number[]]
  let over = (): void => undefined
  const isOver = new Promise<void>((resolve) => { over = resolve })
  for (const [account, count] of Object.entries(counts)) {
    for (let n = 0; n < count; n++) {
      const fact = queued(account)
      await putting.queue.put(fact)
      put.set(fact.id, performance.now())
    }
  }
  const hearings = await Promise.all(processes.map(({ queue }) => queue.serve({ limit, here: limit, perAccount: limit, refused: () => undefined }, async ({ id, account }) => {
    const began = performance.now()
    const freed = ended.shift()
    if (freed !== undefined) seen.gaps.push(began - freed)
    seen.begun += 1
    seen.waits[account]!.push(began - put.get(id)!)
    await new Promise((resolve) => setTimeout(resolve, eachMs))
    ended.push(performance.now())
    if (++seen.succeeded === counts.large + counts.small) over()
    return 'settled'
  })))
  await isOver
  await Promise.all(hearings.map((one) => one.stop()))
  return seen
}

const many = 10_000

/** A process that has all it may have in the works while ten thousand wait, and looks for a while. */
async function benchManyWaiting(): Promise<Line[]> {
  const nats = await testNats()
  const [putting, serving] = [await standPorts(nats.url), await standPorts(nats.url)]
  await each(Array(many).keys(), 64, (n) => putting.queue.put(queued(`account-${n % 20}`)))
  await putting.close()
  const before = memory()
  const ends: Array<() => void> = []
  const hearing = await serving.queue.serve({ limit, here: limit, perAccount: limit, refused: () => undefined }, () => new Promise((resolve) => { ends.push(() => resolve({ againInMs: 60_000 })) }))
  await new Promise((resolve) => setTimeout(resolve, 5_000))
  const { waiting } = await serving.queue.depth(null)
  const grown = memory() - before
  const stopped = hearing.stop()
  for (const end of ends) end()
  await stopped
  await serving.close()
  await nats.close()
  const places = placeTimes()
  return [
    { what: `10,000 wait (${waiting} beside those in the works): memory of a process that serves them, after five looks`, value: `RSS ${(grown / 2 ** 20).toFixed(1)} MB more`, reach: '<= 16 MB', met: grown <= 16 * 2 ** 20 && waiting >= many - limit },
    { what: 'the place of one among 10,000 that wait', value: `p50 ${median(places).toFixed(2)} ms, p99 ${quantile(places, 0.99).toFixed(1)} ms`, reach: 'p99 <= 20 ms', met: quantile(places, 0.99) <= 20 },
  ]
}

function memory(): number {
  for (let i = 0; i < 3; i++) (globalThis as { gc?: () => void }).gc?.()
  return process.memoryUsage().rss
}

function placeTimes(): number[] {
  const waiting: Waiting[] = Array.from({ length: many }, (_, n) => ({ id: `build-${n}`, account: `account-${(n * n) % 97}`, priority: priorities[n % 2]!, seq: n }))
  const times = Array.from({ length: 220 }, (_, n) => {
    const from = performance.now()
    placeOf(`build-${n * 45}`, waiting, new Map([['account-1', 1]]))
    return performance.now() - from
  })
  return times.slice(20)
}
