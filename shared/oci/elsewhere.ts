// A blob that lies in another place, to be uploaded from there: what breaks off while it is read goes on where it broke off.
import { setTimeout as pause } from 'node:timers/promises'
import { Unavailable } from '../trouble.ts'
import type { Blob } from './reading.ts'
import type { Registry } from './registry.ts'

export interface Lying {
  registry: string
  repository: string
  digest: string
  size: number
}

const triesAtMost = 5
const pauseMs = 100

export function blobElsewhere(from: Registry, { registry, repository, digest, size }: Lying): Blob {
  async function* open(first: number): AsyncGenerator<Buffer, void> {
    let at = first
    for (let tries = 0; at < size; ) {
      try {
        const chunks = await from.blob(repository, digest, at)
        if (chunks === null) throw new Gone(`The registry ${registry} has no blob ${digest} in ${repository} any more.`)
        for await (const chunk of chunks) {
          at += chunk.length
          tries = 0
          yield chunk
        }
        if (at < size) throw new Unavailable(`The registry ${registry} has ended the blob ${digest} of ${repository} after ${at} of ${size} bytes.`)
      } catch (error) {
        const isHopeless = !(error instanceof Unavailable) || error instanceof Gone
        if (isHopeless || ++tries >= triesAtMost) throw error
        await pause(pauseMs * 2 ** (tries - 1))
      }
    }
  }
  return { digest, bytes: size, open }
}

class Gone extends Unavailable {}
