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
  /** Where it may be built; the local platform has one place only. */
  namespace: string
  selector: Record<string, string>
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

/** The reason that a build's signal carries when kiln stops: what can go on without it may, and is adopted later. */
export const kilnStops = Symbol('kiln stops')

export interface BuildWatch {
  /** The output as it is written, without newlines. */
  line(text: string): void
  /** It cannot begin yet, and why; null: it goes on. */
  waits(why: { reason: string; message: string } | null): void
  /** Resolves when every line so far is kept: only then the platform may forget them. */
  kept(): Promise<void>
  signal: AbortSignal
}

/** What is left of an image that was to be removed: a sentence for the operator. */
export interface Kept {
  image: string
  why: string
}

export interface Builds {
  /** The image of this context when it exists already, else null. A platform that cannot be asked throws Unavailable. */
  find(build: Build): Promise<Image | null>
  /**
   * Makes the image, or adopts the build of it that runs already; a build of another version of the lambda is ended first.
   * Resolves when all processes of the build have ended. After an abort the failure's cause is `cancelled`; beyond `timeoutMs` it is `timeout`.
   */
  run(build: Build, watch: BuildWatch): Promise<BuildEnd>
  /** Ends what an earlier kiln may have left running for this version: nobody wants it any more. */
  abandon(build: Build): Promise<void>
  /**
   * Removes the lambda's images of these contexts (digests), and what only they needed, and any build of it. `elsewhere` are those that other
   * lambdas are made of too. Removing what is not there is fine; answers what the platform would not remove.
   */
  remove(lambda: { id: string; namespaces: readonly string[] }, contexts: ReadonlySet<string>, elsewhere: ReadonlySet<string>): Promise<Kept[]>
  /** Ends whatever cannot live without kiln; a build that can goes on and is adopted. `run` resolves with `again`. */
  close(): Promise<void>
}
