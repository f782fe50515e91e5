// Images in registries, by their whole names: what builds ask and remove, whichever registry a name leads to.
import type { Registry } from './registry.ts'
import { imageName } from './registry.ts'

export interface Images {
  /** The digest under a reference such as `registry/name:tag`; null: there is none. A registry that cannot be asked is Unavailable. */
  digest(reference: string): Promise<string | null>
  /** Removes the manifest that a reference names. null: it is gone, or was not there. Otherwise why it stays: a sentence for the operator. */
  remove(reference: string): Promise<string | null>
}

export function images(registryOf: (host: string) => Registry): Images {
  const digest = (reference: string): Promise<string | null> => {
    const { registry, repository, tag, digest } = imageName(reference)
    return registryOf(registry).digest(repository, digest ?? tag ?? 'latest')
  }
  return {
    digest,
    async remove(reference) {
      const found = await digest(reference)
      if (!found) return null
      const { registry, repository } = imageName(reference)
      const answer = await registryOf(registry).remove(repository, found)
      return typeof answer === 'string' ? null : answer.refused
    },
  }
}
