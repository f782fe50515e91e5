// Absolute paths of a container as paths of this machine. A container has a mount namespace, in which its image is the root and its volumes
// lie where they are mounted; a process of this machine has not, so the paths in its environment and its arguments are rewritten instead.
import { existsSync } from 'node:fs'
import { join } from 'node:path'

export interface ContainerPaths {
  /** The same text, with each path of the container that is known as the path of the real file or folder. */
  real(text: string): string
}

/** A path begins a text, or follows what cannot be in the middle of one; `dir:///a/b` has one, too. */
const path = /(^|:\/\/|[=:,;\s'"([{])(\/[\w.@+~-]+(?:\/[\w.@+~-]+)*\/?)/g

/**
 * `mounts`: where each volume is mounted -> where it really is. `image`: where the image's files are; null: it has none.
 * `made`: whether what is in no place yet is the image's where the image has the first folder of it: whoever makes it makes it there.
 */
export function containerPaths(mounts: Map<string, string>, mountRoot: string, image: string | null, made = false): ContainerPaths {
  const at = [...mounts.keys()].sort((a, b) => b.length - a.length)

  function realOf(wanted: string): string {
    const mount = at.find((mount) => isWithin(wanted, mount))
    if (mount !== undefined) return mounts.get(mount)! + wanted.slice(mount.length)
    if (image !== null && wanted !== '/' && (existsSync(join(image, wanted)) || (made && isMadeIn(image, wanted)))) return join(image, wanted)
    // The parent of mounts: a folder of its own, in which they are.
    return at.some((mount) => isWithin(mount, wanted)) ? join(mountRoot, wanted) : wanted
  }

  return { real: (text) => text.replace(path, (_, before: string, found: string) => before + realOf(found)) }
}

const isMadeIn = (image: string, wanted: string): boolean => {
  const [, first, ...rest] = wanted.split('/')
  return rest.length > 0 && !existsSync(wanted) && existsSync(join(image, first!))
}
const isWithin = (path: string, folder: string): boolean => path === folder || path.startsWith(folder.endsWith('/') ? folder : `${folder}/`)
