// Which blobs are known to lie in which repositories, as long as nobody says otherwise.
import { recent } from './recent.ts'

export interface Repository {
  registry: string
  repository: string
}

export interface KnownBlobs {
  has(at: Repository, digest: string): boolean
  add(at: Repository, digest: string): void
  /** A repository of this registry that has it; null: none is known. */
  somewhere(registry: string, digest: string): string | null
  /** Nothing that was believed of this repository is believed any more. */
  forget(at: Repository): void
}

export function knownBlobs(most: number): KnownBlobs {
  /** By repository and digest. */
  const there = recent<true>(most)
  /** By registry and digest: the repository that got it last. */
  const last = recent<string>(most)
  return {
    has: ({ registry, repository }, digest) => there.get(`${registry}/${repository}@${digest}`) ?? false,
    add({ registry, repository }, digest) {
      there.set(`${registry}/${repository}@${digest}`, true)
      last.set(`${registry}@${digest}`, repository)
    },
    somewhere: (registry, digest) => last.get(`${registry}@${digest}`) ?? null,
    forget({ registry, repository }) {
      for (const [key] of [...there.entries()]) if (key.startsWith(`${registry}/${repository}@`)) there.delete(key)
      for (const [key, at] of [...last.entries()]) if (at === repository && key.startsWith(`${registry}@`)) last.delete(key)
    },
  }
}
