// Stored, on this machine: notes of images, unpacked code and virtual environments.
import { lstat, readdir } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { fewAtOnce } from '../few-at-once.ts'
import type { Staying, StoredImage, StoredImages, StoredPart } from '../stored.ts'
import type { Environments } from './environments.ts'
import { namesIn } from './folders.ts'
import { codesIn, environmentsIn, imagesIn, isDigest, notesIn, removeImage, rootsIn } from './images.ts'
import type { InUse } from './in-use.ts'

export interface LocalStoredOptions {
  /** The builds' folder. */
  folder: string
  environments: Pick<Environments, 'key' | 'has' | 'remove' | 'stands'>
  inUse: InUse
  /** What every lambda is served with: the environment with that alone is kiln's own. */
  runtimeRequirements(): Promise<string>
}

const isBuilt = 'A build needs it at this moment.'

export function localStored({ environments, inUse, runtimeRequirements, ...options }: LocalStoredOptions): StoredImages {
  const folder = resolve(options.folder)

  const imageOf = (context: string, uses: string | null): StoredImage => ({ kind: 'image', name: `local/images/${context}`, key: context, lambda: null, uses })
  const environmentOf = (key: string): StoredImage => ({ kind: 'environment', name: `local/environments/${key}`, key, lambda: null, uses: null })
  const contextsNoted = async (): Promise<string[]> => (await namesIn(imagesIn(folder))).map((name) => name.replace(/\.json$/, ''))

  /** Also code without a note, which a build that failed leaves behind, and a note without code. */
  async function images(): Promise<StoredImage[]> {
    const contexts = new Set([...(await namesIn(codesIn(folder))), ...(await namesIn(rootsIn(folder))), ...(await contextsNoted())].filter(isDigest))
    const uses = new Map((await notesIn(folder)).filter(({ variables }) => !variables).map(({ context, environment }) => [context, environment]))
    return [...contexts].map((context) => imageOf(context, uses.get(context) ?? null))
  }

  async function environmentsThere(): Promise<StoredImage[]> {
    const keys = (await namesIn(environmentsIn(folder))).filter(isDigest)
    if (keys.length === 0) return []
    const runtime = await environments.key({ codeFolder: folder, codeDigest: '', runtimeRequirements: await runtimeRequirements(), requirements: null })
    return keys.filter((key) => key !== runtime && !environments.stands(key)).map(environmentOf)
  }

  async function removeOne({ kind, name, key }: StoredImage): Promise<Staying[]> {
    if (kind === 'image') {
      await removeImage(folder, key, () => inUse.has(key))
      return inUse.has(key) ? [{ name, why: isBuilt, remedy: null }] : []
    }
    if ((await notesIn(folder)).some(({ environment }) => environment === key)) return [{ name, why: 'An image that stays lies on it.', remedy: null }]
    if (inUse.has(key)) return [{ name, why: isBuilt, remedy: null }]
    await environments.remove(key)
    return (await environments.has(key)) ? [{ name, why: 'It is the environment that every lambda is served with.', remedy: null }] : []
  }

  return {
    list: async () => [...(await images()), ...(await environmentsThere())],
    digest: async ({ kind, key }) => (kind === 'image' && (await notesIn(folder)).some(({ context }) => context === key) ? `sha256:${key}` : null),
    async parts({ kind, key, uses }) {
      const paths = kind === 'environment' ? [join('environments', key)] : [join('code', key), join('roots', key), join('images', `${key}.json`)]
      const own = await Promise.all(paths.map((path) => partAt(folder, path)))
      if (own.every((part) => part === null)) return null
      const environment = uses === null ? null : await partAt(folder, join('environments', uses))
      return [...own, environment].filter((part) => part !== null)
    },
    remove: (images) => inUse.removing(async () => {
      const staying: Staying[] = []
      // Images first: an environment goes only when none of them lies on it any more.
      for (const image of images.toSorted((a, b) => Number(a.kind === 'environment') - Number(b.kind === 'environment'))) staying.push(...(await removeOne(image)))
      return staying
    }),
  }
}

/** null: it is not there. */
async function partAt(folder: string, path: string): Promise<StoredPart | null> {
  const bytes = await bytesAt(join(folder, path))
  return bytes === null ? null : { name: path, bytes }
}

/** What its removal frees: a file that lies elsewhere under another name, too (uv links what it has in its cache), keeps its space. */
async function bytesAt(path: string): Promise<number | null> {
  const found = await lstat(path).catch(nullIfMissing)
  if (found === null) return null
  if (!found.isDirectory()) return found.nlink > 1 ? 0 : found.size
  const names = (await readdir(path).catch(nullIfMissing)) ?? []
  const sizes = await fewAtOnce(names, (name) => bytesAt(join(path, name)))
  return sizes.reduce<number>((sum, size) => sum + (size ?? 0), 0)
}

function nullIfMissing(error: NodeJS.ErrnoException): null {
  if (error.code === 'ENOENT') return null
  throw error
}
