// Needed: what records and lives refer to. Found by looking at all of them each time, never by a counter that could drift.
import type { BuildRecord } from '../../shared/build-records.ts'
import { desiredVersion, servingVersion, type Life, type VersionLife } from '../../shared/lifecycle.ts'
import { archiveName, contextName } from '../../shared/objects.ts'
import type { Ports } from '../../shared/ports.ts'
import { versionOf, type LambdaRecord } from '../../shared/records.ts'

type NeedPorts = Pick<Ports, 'buildRecords' | 'records' | 'statuses'>

/** What the versions of one lambda refer to: those that its record keeps, and what serves or should. */
export interface References {
  /** Names of archives, and of contexts of images and environments. */
  objects: ReadonlySet<string>
  /** Digests of the contexts that its images are made from. */
  contexts: ReadonlySet<string>
  /** Keys. */
  environments: ReadonlySet<string>
  /** Of images whose context nobody knows any more: the version that it was made for is older than those that are kept. */
  digests: ReadonlySet<string>
  /** Its newest version has not said yet what it is made of. */
  isSilent: boolean
}

/** `record` null: kiln does not know it. */
export function referencesOf(record: LambdaRecord | null, life: Life | null): References {
  if (record === null || record.deleted) return joined([])
  const kept = keptLives(record, life)
  const images = new Set(kept.flatMap(({ image }) => image?.digest ?? []))
  // A version that runs the image of another has no context of its own.
  const all = [...kept, ...Object.values(life?.versions ?? {}).filter(({ image }) => image && images.has(image.digest))]
  const contexts = all.flatMap(({ context }) => context ?? [])
  const explained = new Set(all.flatMap(({ context, image }) => (context && image ? image.digest : [])))
  const archives = record.versions.map(({ archive }) => archiveName(archive.digest))
  const ofEnvironments = all.flatMap(({ environmentContext }) => environmentContext ?? [])
  return {
    objects: new Set([...archives, ...[...contexts, ...ofEnvironments].map(contextName)]), contexts: new Set(contexts),
    environments: new Set(all.flatMap(({ environment }) => environment ?? [])), digests: new Set([...images].filter((digest) => !explained.has(digest))), isSilent: isSilent(record, life),
  }
}

/** What they are built from stays until they are deleted; the images are their users' own. */
function ofBuilds(builds: readonly BuildRecord[]): References {
  return { ...joined([]), objects: new Set(builds.filter(({ deleted }) => !deleted).map(({ context }) => context.name)) }
}

function joined(all: readonly References[]): References {
  const every = (of: (one: References) => ReadonlySet<string>): ReadonlySet<string> => new Set(all.flatMap((one) => [...of(one)]))
  return {
    objects: every(({ objects }) => objects), contexts: every(({ contexts }) => contexts), environments: every(({ environments }) => environments),
    digests: every(({ digests }) => digests), isSilent: all.some(({ isSilent }) => isSilent),
  }
}

function keptLives(record: LambdaRecord, life: Life | null): VersionLife[] {
  const numbers = new Set([...record.versions.flatMap(({ version, imageOf }) => [version, imageOf]), servingVersion(life), desiredVersion(record, life)])
  return [...numbers].flatMap((number) => (number === null ? [] : (life?.versions[number] ?? [])))
}

function isSilent(record: LambdaRecord, life: Life | null): boolean {
  if (record.cancelled.includes(record.version)) return false
  const said = [record.version, versionOf(record, record.version)?.imageOf].flatMap((number) => (number ? (life?.versions[number] ?? []) : []))
  return !said.some(({ context, image, failure }) => context ?? image ?? failure)
}

/** Since a version is packed within seconds once that has begun, one that has been silent for so long is not being packed now. */
const longMs = 3_600_000

const isOnItsWay = (record: LambdaRecord, life: Life | null): boolean =>
  !record.deleted && isSilent(record, life) && Date.now() - Date.parse(versionOf(record, record.version)?.created ?? '') < longMs

/** What all lambdas together refer to. */
export interface Needed extends References {
  /** False: kiln knows of no lambda and no build at all, not even of one that was deleted. A store that was lost looks just so. */
  knowsAny: boolean
  /** By id. */
  living: ReadonlyMap<string, References>
  /** Deleted of late: something of theirs may be left. */
  deleted: readonly string[]
  /** Lambdas whose newest version, the number, will say soon what it is made of. */
  onTheWay: ReadonlyMap<string, number>
}

const lateMs = 7 * 24 * 3_600_000

export async function needed({ buildRecords, records, statuses }: NeedPorts): Promise<Needed> {
  const all = new Map<string, LambdaRecord>()
  const lives = new Map<string, Life>()
  const builds = new Map<string, BuildRecord>()
  const following = await Promise.all([
    records.follow((record) => all.set(record.id, record)), buildRecords.follow((record) => builds.set(record.id, record)), statuses.follow((life) => lives.set(life.id, life)),
  ])
  for (const one of following) one.close()
  const lifeOf = (id: string): Life | null => lives.get(id) ?? null
  const [deleted, living] = [true, false].map((is) => [...all.values()].filter((record) => record.deleted === is)) as [LambdaRecord[], LambdaRecord[]]
  const references = new Map(living.map((record) => [record.id, referencesOf(record, lifeOf(record.id))]))
  return {
    ...joined([...references.values(), ofBuilds([...builds.values()])]), knowsAny: all.size + builds.size > 0, living: references,
    deleted: deleted.filter(({ updated }) => Date.now() - Date.parse(updated) < lateMs).map(({ id }) => id),
    onTheWay: new Map(living.filter((record) => isOnItsWay(record, lifeOf(record.id))).map(({ id, version }) => [id, version])),
  }
}

/** Of one lambda, as the stores have it now. */
export async function neededBy({ records, statuses }: Pick<NeedPorts, 'records' | 'statuses'>, id: string): Promise<References> {
  const [record, life] = await Promise.all([records.get(id), statuses.get(id)])
  return referencesOf(record?.value ?? null, life?.value ?? null)
}

/** The same once those on their way have said what they are made of: they may have been told of something just before it went. `onTheWay` are those that have not in time. */
export async function neededOnceSaid(ports: NeedPorts, inTime: AbortSignal): Promise<Needed> {
  const before = await needed(ports)
  if (before.onTheWay.size === 0) return before
  const waiting = new Map(before.onTheWay)
  await new Promise<void>((resolve, reject) => {
    const look = (id: string): void => {
      if (!waiting.has(id)) return
      const record = ports.records.known(id)
      if (record?.version === waiting.get(id) && isOnItsWay(record!, ports.statuses.known(id))) return
      waiting.delete(id)
      if (waiting.size === 0) end()
    }
    const following = Promise.all([ports.records.follow(({ id }) => look(id)), ports.statuses.follow(({ id }) => look(id))])
    const end = (): void => {
      inTime.removeEventListener('abort', end)
      following.then((both) => both.forEach((one) => one.close())).then(resolve, reject)
    }
    inTime.addEventListener('abort', end)
    following.catch(reject)
    if (inTime.aborted) end()
  })
  return { ...(await needed(ports)), onTheWay: waiting }
}
