// Bases: the images that lambdas' images are made on. The port; `oci/bases.ts` asks their registries, `local/bases.ts` has none.

/** A base image as it is at this moment. */
export interface Base {
  /** With its digest: `registry/name@sha256:…`. It names the same bytes for ever. */
  reference: string
  /** `linux/amd64` */
  platform: string
  /** SHA-256 (hex) of the runtime's requirements that it says it holds (label `kiln.runtime`); null: it does not say. */
  runtime: string | null
  /** It has ONBUILD triggers: only a builder that runs commands can build on it. */
  triggers: boolean
}

export type Resolved =
  /** null: this platform makes images without one. */
  | { base: Base | null }
  /** It cannot be built on, whoever tries; in words for its user. */
  | { refused: { reason: 'BaseImageMissing' | 'BaseImageForAnotherPlatform' | 'BaseImageNotUsable'; message: string } }

export interface Bases {
  /** What a name such as `registry/name:tag` stands for now. Throws Unavailable when the registry cannot be asked. */
  resolve(name: string): Promise<Resolved>
}

/** The label by which a base image says that it holds what lambdas are served with. */
export const runtimeLabel = 'kiln.runtime'
