// Records and lives that a test writes itself, around a collector of garbage with a clock of its own.
import type { FactName, Facts, Heard } from '../../shared/events.ts'
import { fold } from '../../shared/lifecycle.ts'
import { jsonLog } from '../../shared/log.ts'
import { archiveName, contextName } from '../../shared/objects.ts'
import type { LambdaRecord } from '../../shared/records.ts'
import { garbage, type Garbage } from '../../services/builder-watcher/garbage.ts'
import { gate } from './await.ts'
import { digestFor, recordFor, write } from './lives.ts'
import { testNats } from './nats.ts'
import { standPorts, type StandPorts } from './ports.ts'

export const hourMs = 3_600_000
export const graceMs = 24 * hourMs

export interface GarbageStand {
  ports: StandPorts
  /** Everything that was logged. */
  lines: string[]
  collector: Garbage
  /** Another one, as after a restart. */
  again(): Garbage
  clock: { now: number }
  /** An hour and more has passed for everything that was put so far; or as much as is said. */
  pass(ms?: number): void
  /** A fact about this version, folded into the lambda's life. */
  tell<N extends FactName>(record: LambdaRecord, fact: N, data: Facts[N], version?: number): Promise<void>
  /** A lambda with one version whose archive, context and environment are named by these words, and whose image is built. Its objects are put. */
  built(words: { archive: string; context: string; environment?: string }, more?: Partial<LambdaRecord>): Promise<LambdaRecord>
  put(...names: string[]): Promise<void>
  /** Of kiln's archives and contexts. */
  objects(): Promise<string[]>
  unneeded(): Promise<string[]>
  close(): Promise<void>
}

export const archive = (word: string): string => archiveName(digestFor(word))
export const context = (word: string): string => contextName(digestFor(word))
export const imageFor = (word: string) => ({ reference: `stand/x@sha256:${digestFor(`image ${word}`)}`, digest: `sha256:${digestFor(`image ${word}`)}` })

export const packagedOn = (word: string, environment?: string): Facts['context.packaged'] => {
  const digest = digestFor(word)
  const wish = environment ? { key: digestFor(environment), context: { name: context(`context of ${environment}`), digest: digestFor(`context of ${environment}`) } } : null
  return { context: { name: contextName(digest), digest, bytes: 1, code: { offset: 0, bytes: 1, digest: `sha256:${digest}`, unpacked: `sha256:${digest}` } }, foundation: { base: null, environment: wish }, files: 1 }
}

export async function garbageStand(): Promise<GarbageStand> {
  const nats = await testNats()
  const stand = await standPorts(nats.url)
  const lines: string[] = []
  const ports: StandPorts = { ...stand, log: jsonLog('info', (line) => lines.push(line)) }
  const clock = { now: Date.now() }
  const again = (): Garbage => garbage(ports, { graceMs, now: () => clock.now })
  let seq = 0
  const tell: GarbageStand['tell'] = async ({ id, account, version: newest, epoch }, fact, data, version = newest) => {
    const held = await ports.statuses.get(id)
    const heard = { fact, id, account, version, epoch, data, seq: ++seq, time: new Date().toISOString(), source: 'kiln/test', cause: 'test', traceparent: null } as Heard
    if ((await ports.statuses.put(fold(held?.value ?? null, heard), held?.revision ?? 0)) === null) throw new Error('somebody else writes statuses here')
  }
  const put = async (...names: string[]): Promise<void> => { for (const name of names) await ports.objects.put(name, Buffer.from(name)) }
  return {
    ports, lines, clock, tell, put, again, collector: again(),
    pass(ms = hourMs + 1) { clock.now += ms },
    async built(words, more = {}) {
      const plain = recordFor()
      const record = await write(ports, { ...plain, versions: plain.versions.map((version) => ({ ...version, archive: { digest: digestFor(words.archive), bytes: 1 } })), ...more })
      await tell(record, 'context.packaged', packagedOn(words.context, words.environment))
      await tell(record, 'image.built', { image: imageFor(words.context), context: digestFor(words.context), reused: false, seconds: 1 })
      await put(archive(words.archive), context(words.context), ...(words.environment ? [context(`context of ${words.environment}`)] : []))
      return record
    },
    objects: async () => [...(await ports.objects.list('archives/')), ...(await ports.objects.list('contexts/'))].map(({ name }) => name).sort(),
    unneeded: async () => Object.keys(JSON.parse(String(await ports.objects.get('garbage/unneeded.json')) || '{}')).sort(),
    async close() {
      await stand.close()
      await nats.close()
    },
  }
}

export const names = (things: ReadonlyArray<{ name: string }>): string[] => things.map(({ name }) => name).sort()

/** Looks at everything, so that all that is unneeded now is due. */
export async function due(on: GarbageStand): Promise<void> {
  await on.collector.collect()
  on.pass(graceMs + hourMs)
}

/** Calls `act` once: before the work of this method begins, or after it is done. */
export function once<P, K extends keyof P>(port: P, method: K, when: 'before' | 'after', act: () => Promise<unknown>): void {
  const real = port[method]
  const work = real as (...args: unknown[]) => Promise<unknown>
  port[method] = (async (...args: unknown[]) => {
    port[method] = real
    if (when === 'before') await act()
    const result = await work(...args)
    if (when === 'after') await act()
    return result
  }) as P[K]
}

/** Resolves when an object was removed and it is waited for whoever is on the way: after a look at all comes the watch. */
export function watching({ objects, records }: Pick<StandPorts, 'objects' | 'records'>): Promise<void> {
  const begun = gate()
  once(objects, 'remove', 'after', async () => once(records, 'follow', 'after', async () => once(records, 'follow', 'after', async () => begun.open())))
  return begun.promise
}
