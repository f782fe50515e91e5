// Stored: images and environments that builds have left behind, and how they go. The port; `oci/stored.ts` in a registry, `local/stored.ts` in folders.

export interface StoredImage {
  kind: 'image' | 'environment'
  /** Unique, and for the operator: `registry/lambda-environment:<key>`. */
  name: string
  /** Of an image the digest of its context, of an environment its key. */
  key: string
  /** Whose it is; null: everyone's who has the same context, or needs the same environment. */
  lambda: string | null
  /** The environment that it lies on and does not run without; null: none, or what it needs of one is its own. */
  uses: string | null
}

/** Parts of the same name are one, whoever is made of them. */
export interface StoredPart {
  name: string
  bytes: number
}

/** One that was to go. */
export interface Staying {
  name: string
  /** A sentence for the operator. */
  why: string
  /** What the operator can do about it; null: nothing is wrong. */
  remedy: string | null
}

export interface StoredImages {
  /** The images of these lambdas, and all environments. What cannot be listed is left out; when nothing can, Unavailable is thrown. */
  list(lambdas: readonly string[]): Promise<StoredImage[]>
  /** As `Image.digest` tells it; null: it is not there, or has none. */
  digest(image: StoredImage): Promise<string | null>
  /** What it is made of; null: it is not there. */
  parts(image: StoredImage): Promise<StoredPart[] | null>
  /** Removes them, and answers which of them stay. Those that are one thing under several names go together or not at all, and only if all its names are given. */
  remove(images: readonly StoredImage[]): Promise<Staying[]>
}
