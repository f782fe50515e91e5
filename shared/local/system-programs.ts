// The system's own programs, which kiln uses wherever its PATH leads.
import { constants } from 'node:fs'
import { access } from 'node:fs/promises'
import { join } from 'node:path'

export const systemPath = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/run/current-system/sw/bin'

/** Those of the names that lie nowhere on this path. */
export async function missingOn(path: string, names: readonly string[]): Promise<string[]> {
  const isThere = (name: string): Promise<boolean> => Promise.any(path.split(':').map((folder) => access(join(folder, name), constants.X_OK))).then(() => true, () => false)
  const there = await Promise.all(names.map(isThere))
  return names.filter((_, index) => !there[index])
}
