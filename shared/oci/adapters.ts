// What kiln asks of registries, put together: base images, and images of lambdas.
import type { Bases } from '../bases.ts'
import type { Log } from '../log.ts'
import type { Objects } from '../objects.ts'
import type { StoredImages } from '../stored.ts'
import { appending } from './append.ts'
import { ociBases } from './bases.ts'
import { puttingCode, type CodePut, type CodeWish } from './code.ts'
import { images, type Images } from './images.ts'
import { platformOf, pulling } from './pull.ts'
import { credentialsFrom, registries } from './registry.ts'
import { ociStored } from './stored.ts'

export interface OciOptions {
  insecureRegistries: readonly string[]
  /** A docker config.json; null: no credentials. */
  auth: string | null
  /** `linux/amd64` */
  platform: string
  objects: Pick<Objects, 'part'>
}

export interface Oci {
  bases: Bases
  images: Images & { putCode(wish: CodeWish): Promise<CodePut> }
  /** `at`: registry, and path in it. */
  stored(at: string, log: Log): StoredImages
}

export function oci({ insecureRegistries, auth, platform, objects }: OciOptions): Oci {
  const registryOf = registries({ insecure: new Set(insecureRegistries), credentials: credentialsFrom(auth) })
  const pull = pulling(registryOf, platformOf(platform))
  return {
    bases: ociBases(pull, platform),
    images: { ...images(registryOf), putCode: puttingCode(pull, appending(registryOf), objects) },
    stored: (at, log) => ociStored(registryOf, at, log),
  }
}
