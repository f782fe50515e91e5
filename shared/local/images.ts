// Images: on the local platform an image is a note that says which code runs in which environment; or, made by kaniko, a root of its own.
import { readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import type { Image } from '../builds.ts'
import { runs } from '../running.ts'
import { codeFolder } from './code.ts'
import { namesIn, vanish, writeWhole } from './folders.ts'

/** Where everything lies below the builds' folder. */
export const codesIn = (folder: string): string => join(folder, 'code')
export const environmentsIn = (folder: string): string => join(folder, 'environments')
/** Of images that are a root each: those of lambdas with Dockerfile commands. */
export const rootsIn = (folder: string): string => join(folder, 'roots')
export const imagesIn = (folder: string): string => join(folder, 'images')

export interface LocalImage {
  image: Image
  /** The environment's key and its folder. */
  key: string
  environment: string
  code: string
  /** It is a root of its own, the folder of its environment, in which code has these variables; null: it is a virtual environment and code. */
  variables: Record<string, string> | null
}

export interface Note {
  environment: string
  context: string
  variables: Record<string, string> | null
}

/** The image of this digest (`sha256:<hex>` or `<hex>`), when its note, its code and its environment are all there. */
export async function localImage(folder: string, digest: string): Promise<LocalImage | null> {
  const context = digest.replace(/^sha256:/, '')
  const note = await noteOf(folder, context)
  if (!note) return null
  const { environment: key, variables } = note
  const root = join(rootsIn(folder), context)
  const places = variables ? { environment: root, code: join(root, runs.workingDir) } : { environment: join(environmentsIn(folder), key), code: codeFolder(codesIn(folder), context) }
  const found = { image: imageOf(note), key, variables, ...places }
  const there = await Promise.all([stat(found.environment), stat(found.code)]).then(() => true, () => false)
  return there ? found : null
}

export async function writeImage(folder: string, note: Note): Promise<Image> {
  await writeWhole(noteIn(folder, note.context), JSON.stringify(note))
  return imageOf(note)
}

/** The note goes last: whatever interrupts this, doing it again finishes it. What is not there is fine. A build that begins meanwhile makes `isInUse` true, and keeps what it makes. */
export async function removeImage(folder: string, context: string, isInUse: () => boolean): Promise<void> {
  if (!isInUse()) await Promise.all([codesIn, rootsIn].map((where) => vanish(join(where(folder), context))))
  if (!isInUse()) await vanish(noteIn(folder, context))
}

/** Every image that is noted, whether or not its folders are there. */
export async function notesIn(folder: string): Promise<Note[]> {
  const names = (await namesIn(imagesIn(folder))).filter((name) => name.endsWith('.json'))
  const notes = await Promise.all(names.map((name) => noteOf(folder, name.replace(/\.json$/, ''))))
  return notes.filter((note) => note !== null)
}

export const isDigest = (text: string): boolean => /^[0-9a-f]{64}$/.test(text)

const noteIn = (folder: string, context: string): string => join(imagesIn(folder), `${context}.json`)

/** null: nothing, or nothing that can be read. */
async function noteOf(folder: string, context: string): Promise<Note | null> {
  if (!isDigest(context)) return null
  const text = await readFile(noteIn(folder, context), 'utf8').catch(() => null)
  try {
    const note = text === null ? null : (JSON.parse(text) as Note)
    return note !== null && isDigest(note.environment) ? { ...note, variables: note.variables ?? null } : null
  } catch {
    return null
  }
}

const imageOf = ({ environment, context }: Note): Image => ({ reference: `local/${environment.slice(0, 12)}/${context}`, digest: `sha256:${context}` })
