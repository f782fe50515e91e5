// Contexts: everything an image is made from, and everything its environment is made from. Same input, same bytes, same digest.
import { createHash } from 'node:crypto'
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Base } from '../../shared/bases.ts'
import { environmentKey, needsNothing, takesFiles } from '../../shared/environment.ts'
import { requirementLines } from '../../shared/requirements.ts'
import type { ZipFile } from '../../shared/zip.ts'
import { codeFolder, dockerfile, environmentDockerfile, runtimeRequirements } from './dockerfile.ts'
import { contentOf, inMemory, levels, pack, type Packed, type PackedFile } from './pack.ts'

export interface Runtime {
  /** What goes beside the user's code: run.py, luna_lambda_tools/… */
  files: Map<string, Buffer>
  requirements: Buffer
  /** SHA-256 (hex) of all of it. */
  digest: string
}

/** What an image is made from besides the user's files. */
export interface Given {
  runtime: Runtime
  /** null: the platform makes images without one. */
  base: Base | null
  /** The base image's name. */
  baseName: string
  commands: string[]
}

export interface Contexts {
  whole: Packed
  /** Files in it. */
  files: number
  environment: { key: string; packed: Packed } | null
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

/** A zip of more than so much of what is in it was not worth packing. Small ones never are, and cost nothing. */
const hardlySmaller = 0.9

/** Replaced by kiln's own: what a user sends under these names has no effect. */
const isReplaced = (name: string): boolean => name === 'run.py' || name.startsWith('luna_lambda_tools/')

/** Throws DamagedFile, which is the user's to send again. Whoever calls drops what is packed. */
export async function contextsOf(userFiles: readonly ZipFile[], given: Given): Promise<Contexts> {
  const code = codeOf(userFiles, given.runtime)
  const requirements = code.find(({ path }) => path === `${codeFolder}/requirements.txt`) ?? null
  const recipe = { ...recipeOf(given), hasRequirements: requirements !== null }
  const whole = await pack(new Map([['Dockerfile', Buffer.from(dockerfile(recipe))]]), code, levelFor(userFiles))
  try {
    const environment = given.base === null ? null : await environmentOf(given, given.base, recipe, { all: code, requirements, digest: whole.code.unpacked, level: levelFor(userFiles) })
    return { whole, files: code.length, environment }
  } catch (error) {
    await whole.drop()
    throw error
  }
}

const recipeOf = ({ base, baseName, commands, runtime }: Given) =>
  ({ baseImage: base?.reference ?? baseName, userDockerCommands: commands, installsRuntime: base?.runtime !== sha256(runtime.requirements) })

const sha256 = (bytes: Buffer): string => createHash('sha256').update(bytes).digest('hex')

function codeOf(userFiles: readonly ZipFile[], runtime: Runtime): PackedFile[] {
  const kilns = new Map([...runtime.files, [runtimeRequirements, runtime.requirements] as const])
  return [
    ...userFiles.filter(({ path }) => !isReplaced(path)).map(({ path, bytes, open }) => ({ path: `${codeFolder}/${path}`, bytes, open })),
    ...[...kilns].map(([path, content]) => inMemory(`${codeFolder}/${path}`, content)),
  ]
}

/** The user's zip has tried already. */
function levelFor(files: readonly ZipFile[]): number {
  const sum = (of: (file: ZipFile) => number): number => files.reduce((all, file) => all + of(file), 0)
  return sum((file) => file.packedBytes) > hardlySmaller * sum((file) => file.bytes) ? levels.none : levels.usual
}

interface Code { all: PackedFile[]; requirements: PackedFile | null; digest: string; level: number }

/** null: there is nothing to install; a file of comments must not lie in the image of somebody who has none. */
async function requirementsIn(file: PackedFile | null): Promise<string | null> {
  const text = file === null ? '' : (await contentOf(file.open())).toString()
  return requirementLines(text).length > 0 ? text : null
}

/** null: the base image holds all that the code needs. */
async function environmentOf({ commands, runtime }: Given, base: Base, recipe: ReturnType<typeof recipeOf>, code: Code): Promise<Contexts['environment']> {
  const requirements = await requirementsIn(code.requirements)
  const inputs = {
    // Nobody knows which files a trigger takes.
    on: [base.reference.replace(/^.*@/, ''), base.platform, ...(base.triggers ? [code.digest] : [])], commands,
    runtimeRequirements: recipe.installsRuntime ? runtime.requirements.toString() : '', requirements, code: code.digest,
  }
  if (needsNothing(inputs) && !base.triggers) return null
  const takes = takesFiles(inputs) || base.triggers
  const head = new Map<string, Buffer>([['Dockerfile', Buffer.from(environmentDockerfile({ ...recipe, hasRequirements: requirements !== null, takesFiles: takes }))]])
  if (!takes) {
    if (recipe.installsRuntime) head.set(`${codeFolder}/${runtimeRequirements}`, runtime.requirements)
    if (requirements !== null) head.set(`${codeFolder}/requirements.txt`, Buffer.from(requirements))
  }
  return { key: environmentKey(inputs), packed: await pack(head, takes ? code.all : [], code.level) }
}
