// Lives written by a test itself: a record and the facts that a service would have stated, for tests of the service that comes next.
import { createHash, randomUUID } from 'node:crypto'
import type { Fact, FactName, Facts } from '../../shared/events.ts'
import { contextName } from '../../shared/objects.ts'
import { parseParameters, type GivenParameters } from '../../shared/parameters.ts'
import type { Ports } from '../../shared/ports.ts'
import type { LambdaRecord, Version } from '../../shared/records.ts'

export const digestFor = (word: string): string => createHash('sha256').update(word).digest('hex')

export function versionFor(version: number, archive: string, given: GivenParameters = {}): Version {
  const parsed = parseParameters(given)
  if (!parsed.ok) throw new Error(JSON.stringify(parsed.findings))
  return { version, archive: { digest: archive, bytes: 1 }, parameters: parsed.parameters, imageOf: null, priority: 'person', created: new Date().toISOString() }
}

/** A record as ingest would write it. */
export function recordFor(more: Partial<LambdaRecord> = {}): LambdaRecord {
  const time = new Date().toISOString()
  const version = more.version ?? 1
  return {
    id: randomUUID(), account: 'default', version, epoch: 0, alive: true, deleted: false, cancelled: [], created: time, updated: time,
    versions: Array.from({ length: version }, (_, i) => versionFor(i + 1, digestFor(`archive ${i + 1}`))),
    change: { fact: 'lambda.accepted', time, cause: 'test' }, ...more,
  }
}

/** Writes the record over whatever is there. */
export async function write({ records }: Pick<Ports, 'records'>, record: LambdaRecord): Promise<LambdaRecord> {
  const held = await records.get(record.id)
  if (!(await records.put(record, held?.revision ?? 0))) throw new Error('somebody else writes records here')
  return record
}

export async function state<N extends FactName>({ bus }: Pick<Ports, 'bus'>, { id, account, version, epoch }: Pick<LambdaRecord, 'id' | 'account' | 'version' | 'epoch'>, fact: N, data: Facts[N], more: Partial<Fact> = {}): Promise<void> {
  await bus.state({ fact, id, account, version, epoch, data, time: new Date().toISOString(), source: 'kiln/test', cause: 'test', traceparent: null, ...more } as Fact)
}

/** What the packager would say of it; the same word is the same context. */
export function packaged(word: string): Facts['context.packaged'] {
  const digest = digestFor(word)
  const code = { offset: 0, bytes: 1, digest: `sha256:${digest}`, unpacked: `sha256:${digest}` }
  return { context: { name: contextName(digest), digest, bytes: 1, code }, foundation: { base: null, environment: null }, files: 1 }
}
