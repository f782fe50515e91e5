// The folder that stands for the root of the image: what the base left in it, and what has changed since.
import { lstat, readdir } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import type { Stats } from 'node:fs'
import { unpackLayer } from '../unpack-layer.ts'
import type { Base } from './base.ts'

/** Who owns something in the image, and what they may do with it: this machine's files cannot always say. */
export interface Owned {
  uid: number
  gid: number
  mode: number
}

interface Left extends Owned {
  is: Stats
}

/** By path from the root. */
export type Before = ReadonlyMap<string, Left>

/** The base's layers, one over the other. Resolves with what they left. */
export async function unpackBase({ manifest, layer }: Base, root: string): Promise<Before> {
  const owned = new Map<string, Owned>()
  for (const { digest } of manifest.layers) {
    await unpackLayer(await layer(digest), root, (path, { uid, gid, mode }) => void owned.set(path.slice(root.length + 1), { uid, gid, mode }))
  }
  return new Map((await everything(root)).map(({ name, is }) => [name, { ...(owned.get(name) ?? { uid: 0, gid: 0, mode: is.mode & 0o7777 }), is }]))
}

export interface Changed extends Owned {
  /** From the root. */
  name: string
  is: Stats
}

export interface Changes {
  /** Sorted, with the folders that they are in. */
  files: Changed[]
  /** Sorted; what was in a folder that is gone is not named. */
  removed: string[]
}

/** `touched`: full paths of what was copied in, which counts as changed even where it is what was there; it is root's. */
export async function changesIn(root: string, before: Before, touched: ReadonlySet<string>): Promise<Changes> {
  const now = await everything(root)
  const there = new Map(now.map(({ name, is }) => [name, is]))
  const isCopied = (name: string): boolean => touched.has(join(root, name))
  const counts = (name: string, is: Stats): boolean => isCopied(name) || (differs(is, before.get(name)?.is) && !/(^|\/)__pycache__(\/|$)/.test(name))
  const removed = [...before.keys()].filter((name) => !there.has(name) && (parentOf(name) === '' || there.get(parentOf(name))?.isDirectory())).sort()
  const names = new Set<string>()
  for (const name of [...now.filter(({ name, is }) => counts(name, is)).map(({ name }) => name), ...removed]) for (const one of withParents(name)) names.add(one)
  for (const name of removed) names.delete(name)
  const owned = (name: string, is: Stats): Owned => {
    const left = before.get(name)
    if (!left || left.is.ino !== is.ino || isCopied(name)) return { uid: 0, gid: 0, mode: is.mode & 0o7777 }
    return { ...left, mode: left.is.mode === is.mode ? left.mode : is.mode & 0o7777 }
  }
  const files = [...names].sort().map((name): Changed => ({ name, ...owned(name, there.get(name)!), is: there.get(name)! }))
  return { files, removed }
}

/** What was unpacked has the time that its layer says. A folder has no content of its own. */
function differs(is: Stats, left: Stats | undefined): boolean {
  if (!left || is.mode !== left.mode || is.ino !== left.ino) return true
  return !is.isDirectory() && (is.size !== left.size || is.mtimeMs !== left.mtimeMs)
}

const parentOf = (name: string): string => (name.includes('/') ? dirname(name) : '')
const withParents = (name: string): string[] => (name === '' ? [] : [...withParents(parentOf(name)), name])

/** Links are not followed. */
async function everything(root: string, folder = ''): Promise<Array<{ name: string; is: Stats }>> {
  const found: Array<{ name: string; is: Stats }> = []
  for (const entry of await readdir(join(root, folder), { withFileTypes: true })) {
    const name = join(folder, entry.name)
    found.push({ name, is: await lstat(join(root, name)) })
    if (entry.isDirectory()) found.push(...(await everything(root, name)))
  }
  return found
}
