// packager: lambda.accepted -> context.packaged | context.refused
// Unzips what the user sent, supplements it with the runtime and a Dockerfile, and stores the contexts that an image and its environment are made from.
import { createHash } from 'node:crypto'
import type { Packaged } from '../../shared/builds.ts'
import type { Hearing } from '../../shared/bus.ts'
import { nextFact, type Facts, type Heard } from '../../shared/events.ts'
import { archiveName, contextName } from '../../shared/objects.ts'
import type { Parameters } from '../../shared/parameters.ts'
import type { Ports } from '../../shared/ports.ts'
import { versionOf } from '../../shared/records.ts'
import { done, later, refuse, type Verdict } from '../../shared/verdict.ts'
import { work } from '../../shared/worker.ts'
import { DamagedFile, openZip, type ZipLimits } from '../../shared/zip.ts'
import { contextsOf, type Contexts, type Runtime } from './context.ts'
import type { Packed } from './pack.ts'

type PackagerPorts = Pick<Ports, 'bases' | 'bus' | 'log' | 'metrics' | 'objects' | 'records'>

export interface PackagerSettings {
  runtime: Runtime
  baseImage: string
  limits: ZipLimits
}

/** Packed contexts remembered by what they were made from: the same zip again is not packed again. */
export type Remembered = Map<string, Facts['context.packaged']>
const remembered = 1_000
/** Over all replicas. Each has an archive in memory. */
const mostAtOnce = 16

export function startPackager(ports: PackagerPorts, settings: PackagerSettings): Promise<Hearing> {
  const packed: Remembered = new Map()
  return work(ports, {
    service: 'packager', name: 'packager', fact: 'lambda.accepted', limit: mostAtOnce, failure: 'context.refused',
    handle: (heard) => packageContext(ports, settings, packed, heard),
  })
}

export async function packageContext(ports: PackagerPorts, settings: PackagerSettings, packed: Remembered, heard: Heard<'lambda.accepted'>): Promise<Verdict> {
  if (heard.data.image) return done()
  const record = await ports.records.asOf(heard)
  if (!record || record.deleted || record.version !== heard.version || record.cancelled.includes(heard.version)) return done()
  const { parameters } = versionOf(record, heard.version)!

  const baseName = parameters.base_image ?? settings.baseImage
  const inputs = inputsOf(heard.data.archive.digest, settings, baseName, parameters)
  const known = packed.get(inputs)
  const read = (): Promise<Buffer | null> => ports.objects.get(archiveName(heard.data.archive.digest))
  const [resolved, early] = await Promise.all([ports.bases.resolve(baseName), known ? null : read()])
  if ('refused' in resolved) return refuse({ cause: 'user', ...resolved.refused })
  const { base } = resolved
  if (known?.foundation.base?.reference === base?.reference && known && namesIn(known).every((name) => ports.objects.knows(name))) return done(nextFact(heard, 'context.packaged', known))

  const archive = early ?? (await read())
  if (!archive) return later(2_000, { cause: 'infrastructure', reason: 'ArchiveMissing', message: 'The archive is not in storage; send it again with PUT.' })
  const zip = openZip(archive, settings.limits)
  if (!zip.ok) return badArchive(zip.findings.map((f) => f.message).join(' '))

  try {
    const contexts = await contextsOf(zip.files, { runtime: settings.runtime, base, baseName, commands: parameters.user_docker_commands })
    const data = await kept(ports, contexts, base && { name: baseName, reference: base.reference })
    remember(packed, inputs, data)
    return done(nextFact(heard, 'context.packaged', data))
  } catch (error) {
    if (error instanceof DamagedFile) return badArchive(error.message)
    throw error
  }
}

const badArchive = (message: string): Verdict => refuse({ cause: 'user', reason: 'BadArchive', message })

/** Stores what is not there yet, under the digest of its bytes. */
async function kept(ports: PackagerPorts, { whole, environment, files }: Contexts, base: Packaged['foundation']['base']): Promise<Facts['context.packaged']> {
  const packed = [whole, ...(environment ? [environment.packed] : [])]
  try {
    // Put again it is the same: that costs less than asking.
    for (const { digest, content } of packed) if (!ports.objects.knows(contextName(digest))) await ports.objects.put(contextName(digest), content)
  } finally {
    await Promise.all(packed.map((one) => one.drop()))
  }
  return {
    context: { ...named(whole), bytes: whole.content.bytes, code: whole.code },
    foundation: { base, environment: environment && { key: environment.key, context: named(environment.packed) } }, files,
  }
}

const named = ({ digest }: Packed): { name: string; digest: string } => ({ name: contextName(digest), digest })
const namesIn = ({ context, foundation: { environment } }: Packaged): string[] => [context.name, ...(environment ? [environment.context.name] : [])]

/** What was packed of them holds for as long as the base image's name stands for the same. */
const inputsOf = (archive: string, { runtime }: PackagerSettings, baseName: string, { user_docker_commands: commands }: Parameters): string =>
  createHash('sha256').update(JSON.stringify([archive, runtime.digest, baseName, commands])).digest('hex')

function remember(packed: Remembered, inputs: string, data: Facts['context.packaged']): void {
  if (packed.size >= remembered) packed.delete(packed.keys().next().value!)
  packed.set(inputs, data)
}
