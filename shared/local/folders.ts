// Folders: made under a name nobody looks at, then renamed, so that each is there whole or not at all.
// Such a name ends in its owner's tag, so that what a killed kiln left half done is recognised and removed.
import { randomBytes } from 'node:crypto'
import { mkdir, readdir, rename, rm, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { identityOf, lives, self, tagOf } from './identity.ts'

/** A new path in this folder for something that is not ready to be seen: `.<what>-<tag>-<random>`. */
export async function unseen(folder: string, what: string): Promise<string> {
  return join(folder, `.${what}-${tagOf(await self())}-${randomBytes(4).toString('hex')}`)
}

/** Gives it its name. False: somebody else's is there already, and stays. */
export async function reveal(from: string, to: string): Promise<boolean> {
  try {
    await rename(from, to)
    return true
  } catch (error) {
    if (isTaken(error)) return false
    throw error
  }
}

const isTaken = (error: unknown): boolean => ['ENOTEMPTY', 'EEXIST', 'ENOTDIR'].includes((error as NodeJS.ErrnoException).code ?? '')

/** Gone at once for whoever looks, then removed from the disk. What is not there is fine. */
export async function vanish(path: string): Promise<void> {
  const trash = await unseen(dirname(path), 'trash')
  try {
    await rename(path, trash)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return
    throw error
  }
  await rm(trash, { recursive: true, force: true })
}

/** Complete or not at all, and only for its owner to read. */
export async function writeWhole(path: string, text: string): Promise<void> {
  await mkdir(dirname(path), { recursive: true })
  const draft = await unseen(dirname(path), 'draft')
  try {
    await writeFile(draft, text, { mode: 0o600 })
    await rename(draft, path)
  } finally {
    await rm(draft, { force: true })
  }
}

/** Removes what dead owners left half done. */
export async function sweep(folder: string): Promise<void> {
  for (const name of await namesIn(folder)) {
    const owner = identityOf(name.split('-').at(-2) ?? '')
    if (!name.startsWith('.') || owner === null || (await lives(owner))) continue
    await rm(join(folder, name), { recursive: true, force: true })
  }
}

/** Nothing when there is no such folder. */
export async function namesIn(folder: string): Promise<string[]> {
  return readdir(folder).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return []
    throw error
  })
}
