// Objects: archives and contexts by name. The port; `nats/objects.ts` on JetStream Object Store, `s3/objects.ts` on S3.

export interface Objects {
  /** Stores under this name, replacing what was there. Complete or not at all. */
  put(name: string, bytes: Uint8Array): Promise<void>
  /** null: there is no such object. */
  get(name: string): Promise<Buffer | null>
  has(name: string): Promise<boolean>
  /** Without asking the store: true may be a moment old, false may be for want of knowing. */
  knows(name: string): boolean
  /** Removing what is not there is fine. */
  remove(name: string): Promise<void>
  /** Every object whose name begins with `prefix`, in no order. */
  list(prefix: string): Promise<Array<{ name: string; bytes: number }>>
  /** What an address such as `nats://bucket/name` or `s3://bucket/key` names, outside kiln's own store; null: nothing there. At most `limit` bytes, else Refusal 413. */
  read(address: string, limit: number): Promise<Buffer | null>
}

export const archiveName = (sha256: string): string => `archives/${sha256}.zip`
export const contextName = (digest: string): string => `contexts/${digest}.tar.gz`
