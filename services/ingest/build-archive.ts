// What a good archive of a build is: zip, tar or tar.gz with a Dockerfile at its top, and nothing in it that could lead out of a folder.
import { createHash } from 'node:crypto'
import { pipeline as piped, Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { createGunzip, createGzip } from 'node:zlib'
import { pack, type Pack } from 'tar-stream'
import { visible } from '../../shared/file-names.ts'
import type { Finding } from '../../shared/finding.ts'
import type { Content } from '../../shared/objects.ts'
import { brokenArchive, looksLikeTar, notAnArchive, readTar } from '../../shared/tar.ts'
import { DamagedFile, openZip, type ZipFile, type ZipLimits } from '../../shared/zip.ts'

export type BuildArchive =
  /** `content`: a gzipped tar. `digest`: SHA-256 (hex) of its bytes. `drop` frees what holds it. */
  | { ok: true; context: { digest: string }; content: Content; drop(): Promise<void> }
  | { ok: false; findings: Finding[] }

const pieceBytes = 256 << 10
const mostFindings = 100

/** Never throws for what is in the archive. It is known by its bytes. A tar may begin with the name of a file, and so with `PK`. */
export async function readArchive(bytes: Buffer, limits: ZipLimits): Promise<BuildArchive> {
  if (bytes[0] === 0x1f && bytes[1] === 0x8b) return fromGzip(bytes, limits)
  if (looksLikeTar(bytes)) return fromTar(bytes, limits)
  if (bytes.subarray(0, 2).toString('latin1') === 'PK') return fromZip(bytes, limits)
  return refused([notAnArchive])
}

async function fromGzip(bytes: Buffer, limits: ZipLimits): Promise<BuildArchive> {
  const hash = createHash('sha256')
  const gunzip = createGunzip({ chunkSize: pieceBytes })
  // Whoever reads it is told of an error. Each piece is hashed on its way, so that a large archive holds up nobody.
  piped(Readable.from(piecesOf(bytes, (piece) => hash.update(piece))), gunzip, () => undefined)
  const findings = await tarFaults(gunzip, limits)
  if (findings.length > 0) return refused(findings)
  // zlib ends at zeros that follow a gzip, whatever follows them.
  if (gunzip.bytesWritten !== bytes.length) return refused([brokenArchive])
  return good([...piecesOf(bytes)], hash.digest('hex'))
}

async function fromTar(bytes: Buffer, limits: ZipLimits): Promise<BuildArchive> {
  const findings = await tarFaults(Readable.from(piecesOf(bytes)), limits)
  return findings.length > 0 ? refused(findings) : gzipped(piecesOf(bytes))
}

async function tarFaults(source: Readable, limits: ZipLimits): Promise<Finding[]> {
  const tar = await readTar(source, limits)
  return tar.ok ? dockerfileFaults(tar.files) : tar.findings
}

async function fromZip(bytes: Buffer, limits: ZipLimits): Promise<BuildArchive> {
  const zip = openZip(bytes, limits)
  if (!zip.ok) return zip
  const findings = dockerfileFaults(zip.files)
  if (findings.length > 0) return refused(findings)
  try {
    return await gzipped(tarOf(zip.files))
  } catch (error) {
    if (error instanceof DamagedFile) return refused([error.finding])
    throw error
  }
}

// ---- the answer

async function gzipped(source: Iterable<Buffer> | AsyncIterable<Buffer>): Promise<BuildArchive> {
  const chunks: Buffer[] = []
  const hash = createHash('sha256')
  await pipeline(Readable.from(source), createGzip({ level: 3, chunkSize: pieceBytes }), async (packed: AsyncIterable<Buffer>) => {
    for await (const chunk of packed) {
      // The tenth byte of a gzip names the operating system.
      if (chunks.length === 0) chunk[9] = 255
      hash.update(chunk)
      chunks.push(chunk)
    }
  })
  return good(chunks, hash.digest('hex'))
}

function good(chunks: Buffer[], digest: string): BuildArchive {
  let held = chunks
  const bytes = chunks.reduce((sum, chunk) => sum + chunk.length, 0)
  return { ok: true, context: { digest }, content: { bytes, async *open() { yield* held } }, async drop() { held = [] } }
}

function refused(findings: Finding[]): BuildArchive {
  const rest = findings.length - mostFindings
  const more: Finding = { code: 'MoreFindings', message: `There are ${rest} more faults of these kinds.`, fix: 'Mend these first.' }
  return { ok: false, findings: rest > 0 ? [...findings.slice(0, mostFindings), more] : findings }
}

function* piecesOf(bytes: Buffer, passing: (piece: Buffer) => void = () => undefined): Iterable<Buffer> {
  for (let at = 0; at < bytes.length; at += pieceBytes) {
    const piece = bytes.subarray(at, at + pieceBytes)
    passing(piece)
    yield piece
  }
}

// ---- a zip becomes a tar

/** In the order of the files, and in pieces worth a turn of the compressor's. */
async function* tarOf(files: readonly ZipFile[]): AsyncIterable<Buffer> {
  const archive = pack()
  const fed = feed(archive, files)
  // It is told by the reading, which it ends.
  fed.catch((error: Error) => archive.destroy(error))
  let [chunks, bytes]: [Buffer[], number] = [[], 0]
  for await (const chunk of archive as AsyncIterable<Buffer>) {
    chunks.push(chunk)
    bytes += chunk.length
    if (bytes < pieceBytes) continue
    yield Buffer.concat(chunks)
    chunks = []
    bytes = 0
  }
  await fed
  yield Buffer.concat(chunks)
}

async function feed(archive: Pack, files: readonly ZipFile[]): Promise<void> {
  for (const file of files) await feedOne(archive, file)
  archive.finalize()
}

/** Modes are not known from a zip, and scripts must run: every file may be executed. */
async function feedOne(archive: Pack, { path, bytes, open }: ZipFile): Promise<void> {
  const header = { name: path, size: bytes, type: 'file' as const, mode: 0o755, uid: 0, gid: 0, mtime: new Date(0) }
  if (bytes > pieceBytes) return pipeline(open(), archive.entry(header))
  // Most files are small, and a pipeline for each would take longer than they do.
  const pieces: Buffer[] = []
  for await (const piece of open()) pieces.push(piece)
  await new Promise<void>((resolve, reject) => archive.entry(header, Buffer.concat(pieces), (error) => (error ? reject(error) : resolve())))
}

// ---- the Dockerfile

const dockerfile = 'Dockerfile'

function dockerfileFaults(files: readonly { path: string; bytes: number }[]): Finding[] {
  const atTop = files.find(({ path }) => path === dockerfile)
  if (!atTop) return [noDockerfile(files.map(({ path }) => path))]
  return atTop.bytes > 0 ? [] : [{ code: 'EmptyDockerfile', file: dockerfile, message: 'The `Dockerfile` is empty.', fix: 'Begin it with `FROM` and the image that it builds on.' }]
}

function noDockerfile(paths: string[]): Finding {
  const depth = (path: string): number => path.split('/').length
  const [nearest] = paths.filter((path) => path.endsWith(`/${dockerfile}`)).sort((a, b) => depth(a) - depth(b))
  const where = nearest === undefined ? '' : ` There is one at ${visible(nearest)}: pack from inside that folder.`
  return { code: 'NoDockerfile', file: dockerfile, message: `There is no \`${dockerfile}\` at the top of the archive.${where}`, fix: `Put a \`${dockerfile}\` beside the files that it takes, not in a folder.` }
}
