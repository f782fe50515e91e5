// The context archive: everything an image is made from, as a reproducible gzipped tar. Same input, same bytes, same digest.
import { createHash } from 'node:crypto'
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import { pack } from 'tar-stream'
import { dockerfile, type Recipe } from './dockerfile.ts'

export interface Runtime {
  /** What goes beside the user's code: run.py, luna_lambda_tools/… */
  files: Map<string, Buffer>
  requirements: Buffer
  /** SHA-256 (hex) of all of it. */
  digest: string
}

export interface Context {
  /** gzipped tar */
  bytes: Buffer
  /** SHA-256 (hex) of the tar itself: it does not depend on how gzip packs. */
  digest: string
  files: number
}

/** The files in `folder` that go into every lambda. */
export async function readRuntime(folder: string): Promise<Runtime> {
  const names = (await readdir(folder, { recursive: true, withFileTypes: true }))
    .filter((entry) => entry.isFile() && /\.(py|txt)$/.test(entry.name))
    .map((entry) => join(entry.parentPath, entry.name).slice(folder.length + 1).replaceAll('\\', '/')).sort()
  const files = new Map<string, Buffer>()
  for (const name of names) files.set(name, await readFile(join(folder, name)))
  const requirements = files.get('requirements.txt')
  if (!requirements) throw new Error(`${folder} has no requirements.txt`)
  files.delete('requirements.txt')
  const hash = createHash('sha256')
  for (const [name, content] of [['requirements.txt', requirements] as const, ...files]) hash.update(`${name}\0${content.length}\0`).update(content)
  return { files, requirements, digest: hash.digest('hex') }
}

/** Replaced by kiln's own: what a user sends under these names has no effect. */
const isReplaced = (name: string): boolean => name === 'run.py' || name.startsWith('luna_lambda_tools/')

export async function contextOf(userFiles: Map<string, Buffer>, runtime: Runtime, recipe: Omit<Recipe, 'hasRequirements'>): Promise<Context> {
  const code = new Map([...userFiles].filter(([name]) => !isReplaced(name)))
  for (const [name, content] of runtime.files) code.set(name, content)
  const files = new Map<string, Buffer>([
    ['Dockerfile', Buffer.from(dockerfile({ ...recipe, hasRequirements: userFiles.has('requirements.txt') }))],
    ['runtime-requirements.txt', runtime.requirements],
    ...[...code].map(([name, content]) => [`code/${name}`, content] as const),
  ])
  const tar = await tarOf(files)
  return { bytes: gzip(tar), digest: createHash('sha256').update(tar).digest('hex'), files: code.size }
}

const epoch = new Date(0)

async function tarOf(files: Map<string, Buffer>): Promise<Buffer> {
  const archive = pack()
  for (const name of [...files.keys()].sort()) archive.entry({ name, mtime: epoch, mode: 0o644, uid: 0, gid: 0 }, files.get(name)!)
  archive.finalize()
  const chunks: Buffer[] = []
  for await (const chunk of archive) chunks.push(chunk as Buffer)
  return Buffer.concat(chunks)
}

function gzip(bytes: Buffer): Buffer {
  const packed = gzipSync(bytes, { level: 6 })
  // The tenth byte names the operating system.
  packed[9] = 255
  return packed
}
