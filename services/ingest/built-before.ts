// Built before: the version whose image a new one can run, because nothing that it is made of has changed.
import type { Life } from '../../shared/lifecycle.ts'
import { imageParameters } from '../../shared/parameters.ts'
import type { LambdaRecord, Version } from '../../shared/records.ts'
import { equal } from './wish.ts'

/** What follows goes straight to deployment; null: an image has to be made. Who goes back gets the very image, and not one of the same on a newer base. */
export function builtBefore(record: LambdaRecord, life: Life | null, wish: Pick<Version, 'archive' | 'parameters' | 'rollbackOf'>): number | null {
  const isBuilt = (version: number): boolean => life?.versions[version]?.image != null
  if (wish.rollbackOf && isBuilt(wish.rollbackOf)) return wish.rollbackOf
  const isAlike = (v: Version): boolean => v.archive.digest === wish.archive.digest && equal(imageParameters(v.parameters), imageParameters(wish.parameters))
  return record.versions.findLast((v) => isAlike(v) && isBuilt(v.version))?.version ?? null
}
