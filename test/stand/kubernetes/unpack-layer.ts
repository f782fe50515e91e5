// Unpacks the layers of an image, one over the other, into a folder that stands for its root. No name and no link of a layer leads out of that folder.
import { createHash } from 'node:crypto'
import { chmod, link, lstat, mkdir, readdir, readlink, rm, symlink, utimes, writeFile } from 'node:fs/promises'
import { basename, dirname, join, relative } from 'node:path'
import type { Header } from 'tar-stream'
import { entriesOf, plainTar, type TarEntry } from './tar-entries.ts'

/** Resolves with the digest of the tar itself. `placed` is told where each entry is now. */
export async function unpackLayer(layer: Buffer, folder: string, placed: (path: string, header: Header) => void = () => undefined): Promise<string> {
  const tar = plainTar(layer)
  // A whiteout hides what earlier layers left, and nothing of its own layer: wherever in the layer it stands.
  for await (const { header } of entriesOf(tar)) await hide(folder, header.name)
  for await (const entry of entriesOf(tar)) {
    const path = await place(folder, entry)
    if (path !== null) placed(path, entry.header)
  }
  return `sha256:${createHash('sha256').update(tar).digest('hex')}`
}

const whiteout = '.wh.'
const opaque = `${whiteout}${whiteout}.opq`

async function hide(folder: string, name: string): Promise<void> {
  const last = basename(name)
  if (!last.startsWith(whiteout)) return
  const parent = await pathIn(folder, dirname(name), 'followed')
  if (last === opaque) for (const child of await readdir(parent).catch(nothing)) await rm(join(parent, child), { recursive: true, force: true })
  const hidden = last.slice(whiteout.length)
  if (['', '.', '..'].includes(hidden)) throw new Error(`invalid whiteout name: ${name}`)
  // The others are of the layer's maker, and mean nothing.
  if (!hidden.startsWith(whiteout)) await rm(join(parent, hidden), { recursive: true, force: true })
}

const nothing = (): string[] => []

/** null: nothing of it is in the folder. */
async function place(folder: string, { header, content }: TarEntry): Promise<string | null> {
  const { name, type, mode, mtime, linkname } = header
  const path = await pathIn(folder, name)
  if (path === folder || basename(name).startsWith(whiteout)) return null
  await mkdir(dirname(path), { recursive: true })
  if (type === 'directory') {
    if (!(await lstat(path).then((is) => is.isDirectory(), () => false))) await rm(path, { force: true })
    await mkdir(path, { recursive: true })
    // Whoever unpacks it can remove it.
    await chmod(path, mode | 0o700)
    return path
  }
  await rm(path, { recursive: true, force: true })
  if (type === 'symlink') await symlink(inside(folder, path, linkname), path)
  else if (type === 'link') await link(await pathIn(folder, linkname), path)
  else if (type === 'file' || type === 'contiguous-file') {
    await writeFile(path, content)
    await chmod(path, mode)
    await utimes(path, mtime, mtime)
  } else return null
  return path
}

/** The folder is no root: what would lead beyond it, or begins at the root, leads to the same path in it. */
function inside(folder: string, path: string, to: string): string {
  const wanted = join(to.startsWith('/') ? '/' : join('/', relative(folder, dirname(path))), to)
  return relative(dirname(path), join(folder, wanted)) || '.'
}

const mostLinks = 40

/** Where a path of the image is; links on its way are followed as a process in the image would follow them. Its last part is when that is said. */
export async function pathIn(root: string, path: string, last: 'followed' | 'itself' = 'itself'): Promise<string> {
  const names = (text: string): string[] => text.split('/').filter((part) => part !== '' && part !== '.')
  let [at, rest, links] = [root, names(path), 0]
  for (let name = rest.shift(); name !== undefined; name = rest.shift()) {
    const next = name === '..' ? (at === root ? root : dirname(at)) : join(at, name)
    const to = name !== '..' && (rest.length > 0 || last === 'followed') ? await readlink(next).catch(() => null) : null
    if (to !== null && ++links > mostLinks) throw new Error(`${path}: too many levels of symbolic links`)
    if (to === null) at = next
    // A process of this machine has made it say where the root really is.
    else if (to.startsWith(`${root}/`)) [at, rest] = [root, [...names(to.slice(root.length)), ...rest]]
    else [at, rest] = [to.startsWith('/') ? root : at, [...names(to), ...rest]]
  }
  return at
}
