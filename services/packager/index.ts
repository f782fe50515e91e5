// packager: lambda.accepted -> context.packaged | context.refused
// Unzips what the user sent, supplements it with the runtime and a Dockerfile, and stores the context that an image is made from.
import { createHash } from 'node:crypto'
import type { Hearing } from '../../shared/bus.ts'
import { nextFact, type Heard } from '../../shared/events.ts'
import { archiveName, contextName } from '../../shared/objects.ts'
import type { Parameters } from '../../shared/parameters.ts'
import type { Ports } from '../../shared/ports.ts'
import { versionOf } from '../../shared/records.ts'
import { done, later, refuse, type Verdict } from '../../shared/verdict.ts'
import { work } from '../../shared/worker.ts'
import { readZip, type ZipLimits } from '../../shared/zip.ts'
import { contextOf, type Context, type Runtime } from './context.ts'

type PackagerPorts = Pick<Ports, 'bus' | 'log' | 'metrics' | 'objects' | 'records'>

export interface PackagerSettings {
  runtime: Runtime
  baseImage: string
  limits: ZipLimits
}

/** Packed contexts remembered by what they were made from: the same zip again is not packed again. */
type Packed = Map<string, { digest: string; bytes: number; files: number }>
const remembered = 1_000

export function startPackager(ports: PackagerPorts, settings: PackagerSettings): Promise<Hearing> {
  const packed: Packed = new Map()
  return work(ports, {
    service: 'packager', name: 'packager', fact: 'lambda.accepted', limit: 64, failure: 'context.refused',
    handle: (heard) => packageContext(ports, settings, packed, heard),
  })
}

export async function packageContext(ports: PackagerPorts, settings: PackagerSettings, packed: Packed, heard: Heard<'lambda.accepted'>): Promise<Verdict> {
  if (heard.data.image) return done()
  const record = await ports.records.asOf(heard)
  if (!record || record.deleted || record.version !== heard.version || record.cancelled.includes(heard.version)) return done()
  const { parameters } = versionOf(record, heard.version)!

  const inputs = inputsOf(heard.data.archive.digest, settings, parameters)
  const known = packed.get(inputs)
  if (known && ports.objects.knows(contextName(known.digest))) return done(packagedFact(heard, known))

  const archive = await ports.objects.get(archiveName(heard.data.archive.digest))
  if (!archive) return later(2_000, { cause: 'infrastructure', reason: 'ArchiveMissing', message: 'The archive is not in storage; send it again with PUT.' })
  const zip = await readZip(archive, settings.limits)
  if (!zip.ok) return refuse({ cause: 'user', reason: 'BadArchive', message: zip.findings.map((f) => f.message).join(' ') })

  const context = await contextOf(zip.files, settings.runtime, { baseImage: parameters.base_image ?? settings.baseImage, userDockerCommands: parameters.user_docker_commands })
  const name = contextName(context.digest)
  if (!(await ports.objects.has(name))) await ports.objects.put(name, context.bytes)
  return done(packagedFact(heard, remember(packed, inputs, context)))
}

const packagedFact = (heard: Heard, { digest, bytes, files }: { digest: string; bytes: number; files: number }) =>
  nextFact(heard, 'context.packaged', { context: { name: contextName(digest), digest, bytes }, files })

const inputsOf = (archive: string, { runtime, baseImage }: PackagerSettings, p: Parameters): string =>
  createHash('sha256').update(JSON.stringify([archive, runtime.digest, p.base_image ?? baseImage, p.user_docker_commands])).digest('hex')

function remember(packed: Packed, inputs: string, { digest, bytes, files }: Context) {
  if (packed.size >= remembered) packed.delete(packed.keys().next().value!)
  const known = { digest, bytes: bytes.length, files }
  packed.set(inputs, known)
  return known
}
