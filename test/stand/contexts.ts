// Contexts as the packager makes them, of a test's own files.
import { createHash } from 'node:crypto'
import type { Base } from '../../shared/bases.ts'
import type { Packaged } from '../../shared/builds.ts'
import { contextName, type Content } from '../../shared/objects.ts'
import { contextsOf, type Runtime } from '../../services/packager/context.ts'
import { inMemory, type Packed } from '../../services/packager/pack.ts'

/** A runtime without anything. */
export const bareRuntime: Runtime = { files: new Map(), requirements: Buffer.alloc(0), digest: 'bare' }

/** A base image that holds it. */
export const baseWith = (reference: string, runtime = bareRuntime): Base =>
  ({ reference, platform: 'linux/amd64', runtime: createHash('sha256').update(runtime.requirements).digest('hex'), triggers: false })

export interface Made {
  packaged: Packaged
  /** By the name that Objects has it under. */
  archives: Map<string, Buffer>
}

/** `files`: as in the user's zip. `base` null: a platform without base images. */
export async function contextMade(files: Record<string, string>, { base = null as Base | null, commands = [] as string[], runtime = bareRuntime } = {}): Promise<Made> {
  const zipped = Object.entries(files).map(([path, text]) => ({ ...inMemory(path, Buffer.from(text)), packedBytes: 0, content: async () => Buffer.from(text) }))
  const { whole, environment } = await contextsOf(zipped, { runtime, base, baseName: base?.reference ?? 'base', commands })
  const archives = new Map<string, Buffer>()
  const named = async ({ digest, content, drop }: Packed): Promise<{ name: string; digest: string }> => {
    archives.set(contextName(digest), await bytesOf(content))
    await drop()
    return { name: contextName(digest), digest }
  }
  return {
    archives,
    packaged: {
      context: { bytes: whole.content.bytes, code: whole.code, ...(await named(whole)) },
      foundation: { base: base && { name: base.reference, reference: base.reference }, environment: environment && { key: environment.key, context: await named(environment.packed) } },
    },
  }
}

export async function bytesOf(content: Content): Promise<Buffer> {
  const chunks: Uint8Array[] = []
  for await (const chunk of content.open()) chunks.push(chunk)
  return Buffer.concat(chunks)
}
