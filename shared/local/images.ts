// Images: on the local platform an image is a note that says which code runs in which environment.
import { readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import type { Image } from '../builds.ts'
import { codeFolder } from './code.ts'
import { namesIn, vanish, writeWhole } from './folders.ts'

/** Where everything lies below the builds' folder. */
export const codesIn = (folder: string): string => join(folder, 'code')
export const environmentsIn = (folder: string): string => join(folder, 'environments')
export const imagesIn = (folder: string): string => join(folder, 'images')

export interface LocalImage {
  image: Image
  /** The environment's key and its folder. */
  key: string
  environment: string
  code: string
}

interface Note {
  environment: string
  context: string
}

/** The image of this digest (`sha256:<hex>` or `<hex>`), when its note, its code and its environment are all there. */
export async function localImage(folder: string, digest: string): Promise<LocalImage | null> {
  const context = digest.replace(/^sha256:/, '')
  const note = await noteOf(folder, context)
  if (!note) return null
  const found = { image: imageOf(note), key: note.environment, environment: join(environmentsIn(folder), note.environment), code: codeFolder(codesIn(folder), context) }
  const there = await Promise.all([stat(found.environment), stat(found.code)]).then(() => true, () => false)
  return there ? found : null
}

export async function writeImage(folder: string, note: Note): Promise<Image> {
  await writeWhole(noteIn(folder, note.context), JSON.stringify(note))
  return imageOf(note)
}

/** The note goes last: whatever interrupts this, doing it again finishes it. What is not there is fine. A build that begins meanwhile makes `isInUse` true, and keeps what it makes. */
export async function removeImage(folder: string, context: string, isInUse: () => boolean): Promise<void> {
  if (!isInUse()) await vanish(join(codesIn(folder), context))
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
    return note !== null && isDigest(note.environment) ? note : null
  } catch {
    return null
  }
}

const imageOf = ({ environment, context }: Note): Image => ({ reference: `local/${environment.slice(0, 12)}/${context}`, digest: `sha256:${context}` })
