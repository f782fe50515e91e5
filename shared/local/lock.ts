// Lock: so that two kilns which share a folder do not make the same thing at once. It saves work only:
// what is made stays right without it, since the slower one's rename finds the faster one's result.
import { watch } from 'node:fs'
import { mkdir, readdir, rename, rm, stat, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { identityOf, lives, self, tagOf, type Identity } from './identity.ts'
import { reveal, unseen, vanish } from './folders.ts'

/** A file system tells of changes, but not that a process died: that is looked at this often. */
const lookMs = 500

/**
 * Takes the lock, waiting as long as a living process holds it. A dead owner's lock is taken over.
 * Resolves to what releases it. Throws the signal's reason.
 */
export async function lock(path: string, signal: AbortSignal, waiting: (owner: Identity) => void): Promise<() => Promise<void>> {
  for (let told = false; ; ) {
    signal.throwIfAborted()
    if (await take(path)) return () => vanish(path)
    const owner = await ownerOf(path)
    if (owner === null) continue
    if (owner === 'nobody' || !(await lives(owner))) {
      await discard(path, owner)
      continue
    }
    if (!told) waiting(owner)
    told = true
    await changeOf(path, signal)
  }
}

/** A folder that holds its owner's tag appears under the lock's name: the name never exists without an owner. */
async function take(path: string): Promise<boolean> {
  const mine = await unseen(dirname(path), 'taking')
  await mkdir(mine)
  await writeFile(join(mine, tagOf(await self())), '')
  const taken = await reveal(mine, path)
  if (!taken) await rm(mine, { recursive: true, force: true })
  return taken
}

async function ownerOf(path: string): Promise<Identity | 'nobody' | null> {
  const names = await readdir(path).catch(() => null)
  return names === null ? null : identityOf(names[0] ?? '') ?? 'nobody'
}

/** Another waiter may have been faster and hold a new lock by now: that one goes back. */
async function discard(path: string, dead: Identity | 'nobody'): Promise<void> {
  const away = await unseen(dirname(path), 'trash')
  if (!(await rename(path, away).then(() => true, () => false))) return
  const owner = await ownerOf(away)
  const same = owner === dead || (typeof owner === 'object' && typeof dead === 'object' && owner?.pid === dead.pid && owner.start === dead.start)
  if (!same && (await reveal(away, path))) return
  await rm(away, { recursive: true, force: true })
}

/** For locks that nobody waits for any more. */
export async function dropIfDead(path: string): Promise<void> {
  const owner = await ownerOf(path)
  if (owner !== null && (owner === 'nobody' || !(await lives(owner)))) await discard(path, owner)
}

function changeOf(path: string, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      clearTimeout(timer)
      watcher.close()
      signal.removeEventListener('abort', done)
      resolve()
    }
    const watcher = watch(dirname(path), (_event, name) => { if (name === null || path.endsWith(name)) done() })
    watcher.on('error', done)
    const timer = setTimeout(done, lookMs)
    signal.addEventListener('abort', done, { once: true })
    // It may have gone between the look at it and the watch.
    stat(path).catch(done)
  })
}
