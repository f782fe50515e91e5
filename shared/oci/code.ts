// Code: the end of a context, as it is, becomes the last layer of a new image.
import type { Context } from '../builds.ts'
import type { Objects } from '../objects.ts'
import type { appending } from './append.ts'
import { imageName } from './image-name.ts'
import type { pulling } from './pull.ts'

export interface CodeWish {
  /** A reference with a digest. */
  parent: string
  context: Context
  runs: { workingDir: string; env: Record<string, string>; ports: readonly string[]; entrypoint: readonly string[] }
  /** `registry/repository:tag` */
  to: string
  signal: AbortSignal
}

export type CodePut = { digest: string } | { refused: { reason: string; message: string } } | null

/** Answers the image's digest, or why its parent cannot be used; null: the context is not there. Throws Unavailable, or the signal's reason. */
export function puttingCode(pull: ReturnType<typeof pulling>, append: ReturnType<typeof appending>, objects: Pick<Objects, 'part'>): (wish: CodeWish) => Promise<CodePut> {
  return async ({ parent, context: { name, code }, runs, to, signal }) => {
    const pulled = await pull(parent)
    if ('refused' in pulled) return pulled
    const { registry, repository, tag } = imageName(to)
    const layer = { digest: code.digest, diffId: code.unpacked, bytes: code.bytes, open: (from: number) => partOf(objects, name, code.offset + from) }
    const changes = { ...runs, ports: [...runs.ports], entrypoint: [...runs.entrypoint], labels: {}, createdBy: `kiln: COPY lambda/ ${runs.workingDir}/` }
    try {
      return { digest: await append({ parent: pulled.image, layer, changes, to: { registry, repository, tag: tag! }, signal }) }
    } catch (error) {
      signal.throwIfAborted()
      if (causedBy(error, NoContext)) return null
      throw error
    }
  }
}

class NoContext extends Error {}

async function* partOf(objects: Pick<Objects, 'part'>, name: string, from: number): AsyncIterable<Buffer> {
  const part = await objects.part(name, from)
  if (part === null) throw new NoContext(name)
  yield* part
}

function causedBy(error: unknown, kind: typeof NoContext): boolean {
  if (error instanceof kind) return true
  return error instanceof Error && error.cause !== undefined && causedBy(error.cause, kind)
}
