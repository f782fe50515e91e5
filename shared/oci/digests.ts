// Digests: the name of bytes, made from themselves.
import { createHash, type Hash } from 'node:crypto'

/** In the algorithm of `like`, another digest; sha256 when there is none. */
export function digestOf(bytes: Buffer, like: string | null = null): string {
  const making = digesting(like)
  making.update(bytes)
  return making.digest()
}

/** The same for bytes that come one after the other. */
export function digesting(like: string | null = null): { update(bytes: Buffer): void; digest(): string } {
  const algorithm = like?.slice(0, like.indexOf(':')) ?? 'sha256'
  const hash: Hash = createHash(algorithm)
  return { update: (bytes) => void hash.update(bytes), digest: () => `${algorithm}:${hash.digest('hex')}` }
}
