// A container registry, over the HTTP API of the OCI distribution specification.
import type { Host } from './answers.ts'
import { authorization } from './authorization.ts'
import { blobs, type Blobs } from './blobs.ts'
import type { Credentials } from './credentials.ts'
import { registryOf } from './image-name.ts'
import { manifests, type Manifests } from './manifests.ts'
import { requests, type Limits } from './requests.ts'

export { credentialsFrom, type Credentials } from './credentials.ts'
export { imageName, type ImageName } from './image-name.ts'
export { BlobsMissing, type Manifest } from './manifests.ts'
export type { Blob } from './reading.ts'
export { WrongDigest } from './uploads.ts'

export interface Registry extends Manifests, Blobs {}

export interface RegistriesOptions {
  /** Hosts that may speak plain http, or https with a certificate of their own. */
  insecure: ReadonlySet<string>
  credentials: Credentials
  /** As usual when nothing is said. */
  limits?: Limits
}

/** A client for each host: those of one host share its tokens. */
export function registries({ insecure, credentials, limits }: RegistriesOptions): (host: string) => Registry {
  const made = new Map<string, Registry>()
  const shared = requests(new Set([...insecure].map(registryOf)), limits)
  return (given) => {
    const name = registryOf(given)
    const host: Host = { name, credentials, send: authorization(name, shared, credentials).send }
    const known = made.get(name) ?? { ...manifests(host), ...blobs(host) }
    made.set(name, known)
    return known
  }
}
