// ingest: commands -> lambda.accepted | rejected | enabled | disabled | cancelled | deleted
// Decides what users may have, writes it into the record, and states it. The only writer of records.
import { randomUUID } from 'node:crypto'
import type { Asker } from '../../shared/asker.ts'
import { archiveName } from '../../shared/objects.ts'
import type { Fact, FactName, Facts, Kind } from '../../shared/events.ts'
import { isEnd, isInFlight, servingVersion, stateOf, type Life } from '../../shared/lifecycle.ts'
import { mergePatch, type Parameters } from '../../shared/parameters.ts'
import type { Ports } from '../../shared/ports.ts'
import { keptVersions, versionOf, type Change, type Held, type LambdaRecord, type Version } from '../../shared/records.ts'
import { Refusal, invalid, unknownLambda } from '../../shared/trouble.ts'
import { stateAll } from '../../shared/worker.ts'
import { builtBefore } from './built-before.ts'
import { refuseBeyond } from './room.ts'
import { archiveOf, digestOf, examineAll, isSame, parsed, refuseDeep, type WishRules } from './wish.ts'

export type IngestPorts = Pick<Ports, 'answers' | 'bus' | 'log' | 'objects' | 'queue' | 'records' | 'statuses'>

export interface Accepted {
  id: string
  version: number
  /** false: it was there already, and nothing was done. */
  isNew: boolean
}

export interface Ingest {
  create(asker: Asker, wish: { archive: Buffer; parameters: unknown; id?: string; idempotencyKey?: string }): Promise<Accepted>
  /** `archive` null: as it is. `parameters` are merged (RFC 7396). `rebase`: on the base image as it is now, whatever else stays. */
  update(asker: Asker, id: string, wish: { archive: Buffer | null; parameters: unknown; rebase: boolean }): Promise<Accepted>
  rollback(asker: Asker, id: string, version: number): Promise<Accepted>
  turn(asker: Asker, id: string, on: boolean): Promise<Accepted>
  cancel(asker: Asker, id: string): Promise<Accepted>
  remove(asker: Asker, id: string): Promise<Accepted>
  /** Another system's archive, by its address: `nats://…`, or `sha256:…` of one that is stored. */
  fetchArchive(address: unknown): Promise<Buffer>
  /** States again what a crash kept from being stated. */
  makeGood(): Promise<void>
}

export function ingest(ports: IngestPorts, rules: WishRules): Ingest {
  const own = async (asker: Asker, id: string): Promise<Held<LambdaRecord>> => {
    const held = await ports.records.get(id)
    if (!held || held.value.deleted || held.value.account !== asker.account) throw unknownLambda(id)
    return held
  }

  return {
    async create(asker, wish) {
      refuseDeep(wish.parameters)
      const wanted = await examineAll(rules, wish.archive, wish.parameters)
      const { id, wasNew } = await idFor(ports, asker, wanted.id ?? wish.id ?? null, wish.idempotencyKey, digestOf(wish.archive, wish.parameters))
      // An id that was made just now is nobody's.
      const isFresh = wanted.id === null && wish.id === undefined && wish.idempotencyKey === undefined
      const held = isFresh ? null : await ports.records.get(id)
      // The first answer, whatever happened since: the id was new then.
      if (held && wasNew) return { ...(await repeat(ports, held.value)), version: 1 }
      if (held && !held.value.deleted) return repeated(ports, asker, held.value, wish.archive, wanted.parameters)
      await refuseBeyond(rules.mostWaiting, ports.queue, asker.account)
      await keep(ports, wish.archive)
      const accepted = await write(ports, asker, held, fresh(id, asker, held?.value ?? null, wish.archive, wanted.parameters))
      await keepStill(ports, wish.archive)
      // Somebody else made it at the same moment: the same wish gets the same answer.
      return accepted ?? repeated(ports, asker, (await ports.records.get(id))!.value, wish.archive, wanted.parameters)
    },

    async update(asker, id, wish) {
      refuseDeep(wish.parameters)
      const held = await own(asker, id)
      const present = latest(held.value)
      const merged = mergePatch(present.parameters, wish.parameters ?? {})
      const archive = wish.archive
      const wanted = archive ? await examineAll(rules, archive, merged) : parsed(rules, merged)
      if (wanted.id !== null && wanted.id !== id) throw invalid([{ code: 'BadParameter', field: 'lambda_id', message: 'lambda_id cannot be changed.', fix: 'Leave it out.' }])
      const source = archive ? archiveOf(archive) : present.archive
      if (!archive && !(await ports.objects.has(archiveName(source.digest)))) throw new Refusal(410, 42012, 'The archive of this lambda is gone; send it again.')
      if (!wish.rebase && isSame(present, source.digest, wanted.parameters) && !(await hasEnded(ports, held.value))) return repeat(ports, held.value)
      await refuseBeyond(rules.mostWaiting, ports.queue, asker.account)
      if (archive) await keep(ports, archive)
      const accepted = await decide(ports, asker, held, await withVersion(ports, asker, held.value, { archive: source, parameters: wanted.parameters }, wish.rebase))
      if (archive) await keepStill(ports, archive)
      return accepted
    },

    async rollback(asker, id, version) {
      const held = await own(asker, id)
      const old = versionOf(held.value, version)
      if (!old) throw new Refusal(404, 42001, `Lambda ${id} has no version ${version}; it has ${held.value.versions.map((v) => v.version).join(', ')}.`)
      if (!(await ports.objects.has(archiveName(old.archive.digest)))) throw new Refusal(410, 42012, `The archive of version ${version} is gone.`)
      return decide(ports, asker, held, await withVersion(ports, asker, held.value, { archive: old.archive, parameters: old.parameters, rollbackOf: version }))
    },

    async turn(asker, id, on) {
      const held = await own(asker, id)
      if (held.value.alive === on) return repeat(ports, held.value)
      return decide(ports, asker, held, { ...held.value, alive: on, epoch: held.value.epoch + 1, change: changed(on ? 'lambda.enabled' : 'lambda.disabled', asker) })
    },

    async cancel(asker, id) {
      const held = await own(asker, id)
      const { version, cancelled } = held.value
      const life = (await ports.statuses.get(id))?.value ?? null
      const state = stateOf(held.value, life)
      if (!isInFlight(state) || servingVersion(life) === version) {
        throw new Refusal(409, 42006, `Nothing of lambda ${id} is in flight: version ${version} is ${state}.`)
      }
      return decide(ports, asker, held, { ...held.value, cancelled: [...cancelled, version].slice(-keptVersions), change: changed('lambda.cancelled', asker) })
    },

    async remove(asker, id) {
      const held = await own(asker, id)
      // Version and epoch stay: a lambda made again under this id goes on counting.
      return decide(ports, asker, held, { ...held.value, deleted: true, alive: false, change: changed('lambda.deleted', asker) })
    },

    async fetchArchive(address) {
      if (typeof address !== 'string') throw badArchive('`archive` must be an address: nats://<bucket>/<name>, or sha256:<hex> of an archive that is stored.')
      const digest = /^sha256:([0-9a-f]{64})$/.exec(address)?.[1]
      const bytes = digest ? await ports.objects.get(archiveName(digest)) : await ports.objects.read(address, rules.maxArchiveBytes)
      if (!bytes) throw badArchive(`There is no archive at ${address}.`)
      return bytes
    },

    makeGood: () => makeGood(ports),
  }
}

// ---

const latest = (record: LambdaRecord): Version => record.versions.at(-1)!
const changed = (fact: Change['fact'], { cause }: Asker): Change => ({ fact, cause, time: new Date().toISOString() })
const badArchive = (message: string): Refusal => invalid([{ code: 'NoArchive', field: 'archive', message, fix: 'Send the zip itself as multipart, or correct the address.' }])

/** `wasNew`: the key was answered before, with an id that was made for that answer. */
async function idFor(ports: IngestPorts, { account }: Asker, given: string | null, key: string | undefined, question: string): Promise<{ id: string; wasNew: boolean }> {
  const wanted = given ?? randomUUID()
  if (key === undefined) return { id: wanted, wasNew: false }
  const answer = await ports.answers.claim(account, key, { lambda_id: wanted, question })
  if (answer.question !== question) throw new Refusal(422, null, 'This Idempotency-Key was used for another request.')
  return { id: answer.lambda_id, wasNew: answer.lambda_id !== wanted }
}

/** Cancelled or failed: sent once more, the same is another try. */
async function hasEnded(ports: IngestPorts, record: LambdaRecord): Promise<boolean> {
  return isEnd(stateOf(record, (await ports.statuses.get(record.id))?.value ?? null))
}

/** The lambda is known: the same wish is answered with what there is, another is a conflict. */
async function repeated(ports: IngestPorts, asker: Asker, record: LambdaRecord, archive: Buffer, parameters: Parameters): Promise<Accepted> {
  if (record.account === asker.account && isSame(latest(record), archiveOf(archive).digest, parameters)) return repeat(ports, record)
  throw new Refusal(409, 42006, `Lambda ${record.id} exists with another archive or other parameters; change it with PUT /lambdas/${record.id}.`)
}

/** Nothing new; but if a crash came between deciding and stating, the fact is still owed. */
async function repeat(ports: IngestPorts, record: LambdaRecord): Promise<Accepted> {
  await stateChange(ports, record)
  return { id: record.id, version: record.version, isNew: false }
}

async function keep({ objects }: IngestPorts, archive: Buffer): Promise<void> {
  const name = archiveName(archiveOf(archive).digest)
  if (!objects.knows(name)) await objects.put(name, archive)
}

/** Once the record refers to it: the deletion of another lambda may have taken the same archive away at that very moment. */
async function keepStill({ objects }: IngestPorts, archive: Buffer): Promise<void> {
  const name = archiveName(archiveOf(archive).digest)
  if (!(await objects.has(name))) await objects.put(name, archive)
}

function fresh(id: string, asker: Asker, tombstone: LambdaRecord | null, archive: Buffer, parameters: Parameters): LambdaRecord {
  const time = new Date().toISOString()
  const version = (tombstone?.version ?? 0) + 1
  return {
    id, account: asker.account, version, epoch: tombstone?.epoch ?? 0, alive: true, deleted: false, cancelled: [], created: time, updated: time,
    versions: [{ version, archive: archiveOf(archive), parameters, imageOf: null, priority: asker.priority, created: time }], change: changed('lambda.accepted', asker),
  }
}

/** `anew`: through every stage, though an image of the same may be there. */
async function withVersion(ports: IngestPorts, { priority }: Asker, record: LambdaRecord, wish: Pick<Version, 'archive' | 'parameters' | 'rollbackOf'>, anew = false): Promise<LambdaRecord> {
  const life = (await ports.statuses.get(record.id))?.value ?? null
  const version: Version = { ...wish, version: record.version + 1, imageOf: anew ? null : builtBefore(record, life, wish), priority, created: new Date().toISOString() }
  return { ...record, version: version.version, versions: [...record.versions, version].slice(-keptVersions) }
}

async function decide(ports: IngestPorts, asker: Asker, held: Held<LambdaRecord>, wanted: LambdaRecord): Promise<Accepted> {
  const accepted = await write(ports, asker, held, wanted)
  if (!accepted) throw new Refusal(409, 42006, `Lambda ${wanted.id} was changed by somebody else at the same moment; look at it and try again.`)
  return accepted
}

/** Write the record, then state the fact: what was answered is never lost, and `makeGood` finds what was not stated. null: somebody else was first. */
async function write(ports: IngestPorts, asker: Asker, held: Held<LambdaRecord> | null, wanted: LambdaRecord): Promise<Accepted | null> {
  const isVersion = wanted.version !== held?.value.version
  const record = { ...wanted, updated: new Date().toISOString(), ...(isVersion && { change: changed('lambda.accepted', asker) }) }
  if (!(await ports.records.put(record, held?.revision ?? 0))) return null
  await stateChange(ports, record, asker.traceparent)
  return { id: record.id, version: record.version, isNew: true }
}

/** The record's last change as a fact. Stated twice it is one. */
async function stateChange(ports: IngestPorts, record: LambdaRecord, traceparent: string | null = null): Promise<void> {
  const { fact, time, cause } = record.change
  const isSwitch = fact === 'lambda.enabled' || fact === 'lambda.disabled'
  const data = await dataOf(ports, record)
  const { id, account, version, epoch } = record
  await ports.bus.state({ fact, id, account, version, epoch, data, time, cause, traceparent, source: 'kiln/ingest', ...(isSwitch && { nth: String(epoch) }) } as Fact)
}

async function dataOf(ports: IngestPorts, record: LambdaRecord): Promise<Facts[FactName]> {
  const { fact } = record.change
  const version = latest(record)
  if (fact !== 'lambda.accepted' && fact !== 'lambda.enabled') return {}
  const of = fact === 'lambda.enabled' ? record.version : version.imageOf
  const image = of === null ? null : ((await ports.statuses.get(record.id))?.value.versions[of]?.image ?? null)
  if (fact === 'lambda.enabled') return { image }
  return { archive: version.archive, name: version.parameters.name, image, ...(version.rollbackOf && { rollback_of: version.rollbackOf }) }
}

/** At start: every record whose last change no status knows of gets its fact stated again. */
async function makeGood(ports: IngestPorts): Promise<void> {
  const owed: LambdaRecord[] = []
  const lives = new Map<string, Life>()
  const statuses = await ports.statuses.follow((life) => lives.set(life.id, life))
  const records = await ports.records.follow((record) => owed.push(record))
  records.close()
  statuses.close()
  for (const record of owed) {
    if (!isKnown(record, lives.get(record.id) ?? null)) await stateChange(ports, record)
  }
}

const isKnown = (record: LambdaRecord, life: Life | null): boolean =>
  life?.timeline.some((m) => m.fact === record.change.fact && m.version === record.version && m.last >= record.change.time) ?? false

export async function stateRejection(ports: Pick<Ports, 'bus'>, { kind, ...of }: { kind: Kind; account: string; id: string; cause: string; traceparent?: string | null }, refusal: Refusal): Promise<void> {
  await stateAll(ports, { service: 'ingest' }, [{
    fact: kind === 'build' ? 'image.rejected' : 'lambda.rejected', ...(kind === 'build' && { kind }), ...of, version: 0, epoch: 0, traceparent: of.traceparent ?? null, nth: of.cause,
    data: { error_code: refusal.errorCode, detail: refusal.message, errors: refusal.findings },
  }])
}
