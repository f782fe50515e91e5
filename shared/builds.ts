// Builds: from a context archive to an image. The port; `local/builds.ts` makes virtual environments, `kubernetes/builds.ts` pods.
import type { Failure } from './trouble.ts'

/** One image to make. Equal contexts give equal images. */
export interface Build {
  id: string
  account: string
  version: number
  /** `name` is where Objects holds it, `digest` the SHA-256 (hex) of its uncompressed tar. */
  context: { name: string; digest: string }
  timeoutMs: number
}

export interface Image {
  /** What the platform runs, e.g. `registry/lambda-<id>@sha256:…`; on the local platform `local/<environment>/<context digest>`. */
  reference: string
  /** `sha256:<hex>` */
  digest: string
}

export type BuildEnd =
  | { built: true; image: Image }
  /** `again`: the world's trouble, worth another try. The failure names cause, reason and the last log lines. */
  | { built: false; again: boolean; failure: Omit<Failure, 'stage'> }

export interface Builds {
  /** The image of this context when it exists already, else null. A platform that cannot be asked throws Unavailable. */
  find(build: Build): Promise<Image | null>
  /**
   * Makes the image, or adopts the build of it that runs already. `line` gets the output as it is written, without newlines.
   * Resolves when all processes of the build have ended. After an abort the failure's cause is `cancelled`; beyond `timeoutMs` it is `timeout`.
   */
  run(build: Build, watch: { line(text: string): void; signal: AbortSignal }): Promise<BuildEnd>
  /** Removes the images of these contexts (digests), and what only they needed. Removing what is not there is fine. */
  remove(contextDigests: ReadonlySet<string>): Promise<void>
  /** Ends whatever still runs. */
  close(): Promise<void>
}
