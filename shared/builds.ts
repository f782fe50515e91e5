// Builds: from a context archive to an image. The port; `local/builds.ts` makes virtual environments, `kubernetes/builds.ts` pods.
import type { Failure } from './trouble.ts'

/** How an image is made: `auto`, the environment by kaniko where it is missing and the code as one layer; `kaniko`, all of it by one kaniko. */
export const imageBuilders = ['auto', 'kaniko'] as const
export type ImageBuilder = (typeof imageBuilders)[number]

/** What an image is made from, as the packager states it. */
export interface Packaged {
  context: Context
  foundation: Foundation
}

/** An archive (gzipped tar) with a Dockerfile and everything that it takes. */
export interface Context {
  /** Where Objects holds it. */
  name: string
  /** SHA-256 (hex) of the archive. */
  digest: string
  bytes: number
  /** The end of the archive is a gzipped tar of its own: the image's last layer, as it is. */
  code: CodePart
}

export interface CodePart {
  /** Where it begins in the archive, and how long it is. */
  offset: number
  bytes: number
  /** `sha256:<hex>` of these bytes. */
  digest: string
  /** `sha256:<hex>` of the tar that they unpack to. */
  unpacked: string
}

/** What the code is put on. */
export interface Foundation {
  /** The base image's name as it was asked for, and with the digest that it had; null where the platform has no such images. */
  base: { name: string; reference: string } | null
  /** What must be made on the base image first; null: nothing, or nothing that this platform makes of images. */
  environment: EnvironmentWish | null
}

export interface EnvironmentWish {
  /** SHA-256 (hex) of everything that determines it. */
  key: string
  context: { name: string; digest: string }
}

/** One image to make. Equal contexts give equal images. */
export interface Build extends Packaged {
  id: string
  account: string
  version: number
  builder: ImageBuilder
  /** The user's lines of the Dockerfile. */
  commands: string[]
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

export type Found =
  | { image: Image }
  /** `quick`: all but the code is there; nothing has to be waited for. */
  | { image: null; quick: boolean }

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
  /** The image of this context when it exists already; else whether it is made in a moment. A platform that cannot be asked throws Unavailable. */
  find(build: Build): Promise<Found>
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
