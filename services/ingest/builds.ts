// ingest of builds: an archive with a Dockerfile, and what its image is to be called -> image.queued | image.cancelled | image.forgotten
// The only writer of build records. The image is made in its turn by builder-watcher, as those of lambdas are.
import { randomUUID } from 'node:crypto'
import type { Asker } from '../../shared/asker.ts'
import { parseBuildParameters, type BuildEngine, type BuildParameters } from '../../shared/build-parameters.ts'
import type { BuildRecord } from '../../shared/build-records.ts'
import type { Fact, Facts } from '../../shared/events.ts'
import type { Finding } from '../../shared/finding.ts'
import { buildState, isBuildInFlight, type State } from '../../shared/lifecycle.ts'
import { contextName } from '../../shared/objects.ts'
import type { Ports } from '../../shared/ports.ts'
import type { Held } from '../../shared/records.ts'
import { Refusal, invalid, unknownBuild } from '../../shared/trouble.ts'
import type { ZipLimits } from '../../shared/zip.ts'
import { readArchive } from './build-archive.ts'
import { refuseBeyond } from './room.ts'
import { archiveOf, equal, refuseDeep } from './wish.ts'

type OwnBuildPorts = Pick<Ports, 'buildRecords' | 'bus' | 'imageBuilds' | 'log' | 'objects' | 'queue' | 'statuses'>

export interface OwnBuildRules {
  maxArchiveBytes: number
  limits: ZipLimits
  /** Where build pods may run; null: there are none. */
  namespaces: string[] | null
  /** Of one account. */
  mostWaiting: number
}

export interface OwnBuilds {
  /** `id`: one that the same request always gives. The same again is answered with what there is, another under this id is refused. */
  create(asker: Asker, wish: { archive: Buffer; parameters: unknown; id?: string }): Promise<string>
  /** Refused when nothing of it is in flight. */
  cancel(asker: Asker, id: string): Promise<string>
  /** Ends it, and forgets it and its logs. The image stays in the registry: it is the user's. */
  remove(asker: Asker, id: string): Promise<string>
  /** States again what a crash kept from being stated. */
  makeGood(): Promise<void>
  close(): void
}

export async function ownBuilds(ports: OwnBuildPorts, rules: OwnBuildRules): Promise<OwnBuilds> {
  const { buildRecords, statuses } = ports
  /** Builds by the name of their image, as long as they are not known to have begun. */
  const waiting = new Map<string, Set<string>>()
  const following = await buildRecords.follow((record) => {
    const ids = waiting.get(nameOf(record)) ?? new Set()
    if (isWanted(record)) waiting.set(nameOf(record), ids.add(record.id))
    else if (ids.delete(record.id) && ids.size === 0) waiting.delete(nameOf(record))
  })
  const stateOf = async (record: BuildRecord): Promise<State> => buildState(record, (await statuses.get(record.id))?.value ?? null)

  async function own({ account }: Asker, id: string): Promise<Held<BuildRecord>> {
    const held = await buildRecords.get(id)
    if (!held || held.value.deleted || held.value.account !== account) throw unknownBuild(id)
    return held
  }

  /** Whatever waits to become the same image would only be replaced by it. */
  async function supersede(newer: BuildRecord): Promise<void> {
    for (const id of waiting.get(nameOf(newer)) ?? []) {
      const held = id === newer.id ? null : await buildRecords.get(id)
      if (!held || !isWanted(held.value) || held.value.created > newer.created) continue
      if ((await stateOf(held.value)) !== 'queued') {
        waiting.get(nameOf(newer))?.delete(id)
        continue
      }
      const { image_name: name, tag } = newer.parameters
      await change(ports, held, { cancelled: { reason: 'Superseded', message: `Build ${newer.id} of ${name}:${tag} came after it and takes its place.` }, change: changed('image.cancelled', newer.change.cause) })
    }
  }

  return {
    async create(asker, { archive, parameters: given, id = randomUUID() }) {
      refuseDeep(given)
      if (archive.length > rules.maxArchiveBytes) throw new Refusal(413, 42005, `The archive has ${archive.length} bytes; at most ${rules.maxArchiveBytes} are taken.`)
      const parsed = parseBuildParameters(given ?? {})
      if (parsed.ok) await refuseImpossible(ports, rules, parsed.parameters)
      const read = await readArchive(archive, rules.limits)
      const findings = [...(parsed.ok ? [] : parsed.findings), ...(read.ok ? [] : read.findings)]
      if (!parsed.ok || !read.ok) throw invalid(findings, 'build')
      try {
        const known = await buildRecords.get(id)
        if (known) return await repeated(ports, asker, known.value, archive, parsed.parameters)
        await refuseBeyond(rules.mostWaiting, ports.queue, asker.account)
        const context = { name: contextName(read.context.digest), digest: read.context.digest, bytes: read.content.bytes }
        if (!ports.objects.knows(context.name)) await ports.objects.put(context.name, read.content)
        const record = recordOf(id, asker, { context, archive: archiveOf(archive), parameters: parsed.parameters })
        if (!(await buildRecords.put(record, 0))) return await repeated(ports, asker, (await buildRecords.get(id))!.value, archive, parsed.parameters)
        // Once the record refers to it: garbage may have been collected at that very moment.
        if (!(await ports.objects.has(context.name))) await ports.objects.put(context.name, read.content)
        await stateChange(ports, record, asker.traceparent)
        await supersede(record)
        return id
      } finally {
        await read.drop()
      }
    },

    async cancel(asker, id) {
      const held = await own(asker, id)
      const state = await stateOf(held.value)
      if (!isBuildInFlight(state)) throw new Refusal(409, null, `Nothing of build ${id} is in flight: it is ${state}.`)
      const cancelled = { reason: 'Cancelled', message: 'It was cancelled; send the archive again to build it after all.' }
      return changedOrRefused(await change(ports, held, { cancelled, change: changed('image.cancelled', asker.cause) }), id)
    },

    async remove(asker, id) {
      const held = await own(asker, id)
      return changedOrRefused(await change(ports, held, { deleted: true, change: changed('image.forgotten', asker.cause) }), id)
    },

    makeGood: () => makeGood(ports),
    close: () => following.close(),
  }
}

const isWanted = ({ deleted, cancelled }: BuildRecord): boolean => !deleted && cancelled === null
const nameOf = ({ account, parameters: { image_name: name, tag } }: BuildRecord): string => `${account} ${name}:${tag}`
const changed = (fact: BuildRecord['change']['fact'], cause: string): BuildRecord['change'] => ({ fact, cause, time: new Date().toISOString() })

function recordOf(id: string, { account, cause, priority }: Asker, of: Pick<BuildRecord, 'context' | 'archive' | 'parameters'>): BuildRecord {
  const time = new Date().toISOString()
  return { id, account, ...of, priority: of.parameters.priority ?? priority, cancelled: null, deleted: false, created: time, updated: time, change: changed('image.queued', cause) }
}

/** What this kiln cannot do, or must not. */
async function refuseImpossible({ imageBuilds }: OwnBuildPorts, { namespaces }: OwnBuildRules, p: BuildParameters): Promise<void> {
  const findings: Finding[] = [...builderFindings(imageBuilds.engine, p), ...(namespaces ? namespaceFindings(namespaces, p) : [])]
  if (findings.length > 0) throw invalid(findings, 'build')
  const forbidden = namespaces ? [] : placeFindings(p)
  if (forbidden.length > 0) throw new Refusal(403, null, forbidden[0]!.message, forbidden)
  const lack = await imageBuilds.lack()
  if (lack !== null) throw invalid([{ code: 'NoImageBuilder', field: 'image_builder', message: lack, fix: 'Send it again when that is done, or to a kiln with PLATFORM=kubernetes.' }], 'build')
}

function builderFindings(engine: BuildEngine, { image_builder: wanted }: BuildParameters): Finding[] {
  if (wanted === null || wanted === engine) return []
  const where = wanted === 'kaniko' ? 'PLATFORM=kubernetes' : 'PLATFORM=local'
  return [{ code: 'ImageBuilderNotAllowed', field: 'image_builder', message: `This kiln makes images by ${engine}, not by ${wanted}, which is for ${where}.`, fix: 'Leave image_builder out.' }]
}

function namespaceFindings(namespaces: string[], { namespace }: BuildParameters): Finding[] {
  if (namespace === null || namespaces.includes(namespace)) return []
  return [{
    code: 'NamespaceNotServed', field: 'namespace', message: `This kiln builds nothing in namespace ${namespace}; it does in ${namespaces.join(', ')}.`,
    fix: 'Name one of those, or have the operator add the namespace to LAMBDA_NAMESPACES.',
  }]
}

function placeFindings({ namespace, selector }: BuildParameters): Finding[] {
  const given = [...(namespace === null ? [] : ['namespace']), ...(Object.keys(selector).length > 0 ? ['selector'] : [])]
  return given.map((field) => ({ code: 'Forbidden', field, message: `${field} is forbidden here: this kiln builds on its own machine (PLATFORM=local), and there is no other place.`, fix: 'Leave it out.' }))
}

async function repeated(ports: OwnBuildPorts, { account }: Asker, record: BuildRecord, archive: Buffer, parameters: BuildParameters): Promise<string> {
  const isSame = record.account === account && record.archive.digest === archiveOf(archive).digest && equal(record.parameters, parameters)
  if (!isSame) throw new Refusal(422, null, 'This Idempotency-Key was used for another request.')
  if (!record.deleted) await stateChange(ports, record)
  return record.id
}

function changedOrRefused(isChanged: boolean, id: string): string {
  if (!isChanged) throw new Refusal(409, null, `Build ${id} was changed by somebody else at the same moment; look at it and try again.`)
  return id
}

/** The record, then the fact. false: somebody else was first. */
async function change(ports: OwnBuildPorts, { value, revision }: Held<BuildRecord>, what: Partial<BuildRecord> & Pick<BuildRecord, 'change'>): Promise<boolean> {
  const record = { ...value, ...what, updated: what.change.time }
  if (!(await ports.buildRecords.put(record, revision))) return false
  await stateChange(ports, record)
  return true
}

/** The record's last change as a fact, and what waits in the queue as the record says. Twice it is once. */
async function stateChange(ports: OwnBuildPorts, record: BuildRecord, traceparent: string | null = null): Promise<void> {
  const { id, account, change: { fact, time, cause } } = record
  const stated = { fact, kind: 'build', id, account, version: 1, epoch: 0, data: dataOf(record), time, cause, traceparent, source: 'kiln/ingest' } as Fact
  if (fact === 'image.queued') await ports.queue.put(stated as Fact<'image.queued'>)
  else await ports.queue.withdraw(stated)
  await ports.bus.state(stated)
}

function dataOf({ change: { fact }, context, parameters: { image_name: name, tag }, priority, cancelled }: BuildRecord): Facts[BuildRecord['change']['fact']] {
  if (fact === 'image.queued') return { context, image: { name, tag }, priority }
  return fact === 'image.cancelled' ? cancelled! : {}
}

/** At start: every record whose last change no status knows of gets its fact stated again. */
async function makeGood(ports: OwnBuildPorts): Promise<void> {
  const all: BuildRecord[] = []
  const following = await ports.buildRecords.follow((record) => all.push(record))
  following.close()
  for (const record of all) {
    const moments = (await ports.statuses.get(record.id))?.value.timeline ?? []
    if (!moments.some(({ fact }) => fact === record.change.fact)) await stateChange(ports, record)
  }
}
