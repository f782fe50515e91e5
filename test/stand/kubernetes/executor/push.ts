// Pushes an image to a registry over plain HTTP, and asks before the build whether that is allowed.
import { ask, away, isPlain, NoAnswer, noTls, referenceOf, refusalOf, type Answer, type Plain, type Reference } from '../registry-talk.ts'
import type { Authorization } from './credentials.ts'
import type { Blob, BuiltImage, InheritedLayer } from './image.ts'

export class PushTrouble extends Error {}

export interface PushParts extends Plain {
  /** Nobody's when it is absent. */
  authorization?: Authorization
}

const advice = 'make sure you entered the correct tag name, and that you are authenticated correctly, and try again'

/** Throws PushTrouble when the registry does not answer or says no. */
export async function checkPush(destination: string, parts: PushParts): Promise<void> {
  const refused = (why: string, cause?: unknown): PushTrouble =>
    new PushTrouble(`error checking push permissions -- ${advice}: checking push permission for "${destination}": ${why}`, { cause })
  const { host, name } = referred(destination, parts)
  const headers = parts.authorization?.(host) ?? {}
  const url = `http://${host}/v2/${name}/blobs/uploads/`
  try {
    const answer = await ask('POST', url, { headers })
    if (answer.status !== 202) throw refused(`POST ${url}: ${refusalOf(answer)}`)
    await ask('DELETE', new URL(String(answer.headers['location']), url).href, { headers })
  } catch (error) {
    if (!(error instanceof NoAnswer)) throw error
    throw refused(`creating push check transport for ${host} failed: ${away(host, error)}`, error)
  }
}

/** The manifest goes last. Throws PushTrouble, or what reading a layer of the base throws. */
export async function push(image: BuiltImage, destination: string, parts: PushParts): Promise<void> {
  const reference = referred(destination, parts)
  const registry = writing(reference, parts.authorization?.(reference.host) ?? {})
  try {
    for (const layer of image.inherited) await registry.inherit(layer)
    for (const blob of image.blobs) await registry.blob(blob)
    await registry.manifest(image.manifest.bytes, image.mediaType)
  } catch (error) {
    if (!(error instanceof NoAnswer) && !(error instanceof PushTrouble)) throw error
    throw new PushTrouble(`error pushing image: failed to push to destination ${destination}: ${error.message}`, { cause: error })
  }
}

interface Writing {
  blob(blob: Blob): Promise<void>
  /** Mounted from where it is, or else copied. */
  inherit(layer: InheritedLayer): Promise<void>
  manifest(bytes: Buffer, mediaType: string): Promise<void>
}

function writing({ host, name, version }: Reference, authorization: Record<string, string>): Writing {
  const base = `http://${host}/v2/${name}`
  const uploads = `${base}/blobs/uploads/`

  async function told(method: string, url: string, more: { headers?: Record<string, string>; body?: Buffer } = {}): Promise<Answer> {
    const answer = await ask(method, url, { ...more, headers: { ...more.headers, ...authorization } })
    if (answer.status >= 200 && answer.status < 300) return answer
    throw new PushTrouble(`${method} ${url}: ${refusalOf(answer)}`)
  }
  const has = async (digest: string): Promise<boolean> => (await ask('HEAD', `${base}/blobs/${digest}`, { headers: authorization })).status === 200

  async function upload(begun: Answer, digest: string, bytes: Buffer): Promise<void> {
    const to = new URL(String(begun.headers['location']), uploads)
    to.searchParams.set('digest', digest)
    await told('PUT', to.href, { headers: { 'content-type': 'application/octet-stream' }, body: bytes })
  }

  return {
    async blob({ digest, bytes }) {
      if (!(await has(digest))) await upload(await told('POST', uploads), digest, bytes)
    },
    async inherit({ digest, from, bytes }) {
      if (await has(digest)) return
      const mount = from.host === host ? `?${new URLSearchParams({ mount: digest, from: from.name }).toString()}` : ''
      const answer = await told('POST', uploads + mount)
      if (answer.status !== 201) await upload(answer, digest, await bytes())
    },
    async manifest(bytes, mediaType) {
      await told('PUT', `${base}/manifests/${version}`, { headers: { 'content-type': mediaType }, body: bytes })
    },
  }
}

function referred(destination: string, parts: PushParts): Reference {
  const reference = referenceOf(destination, 'index.docker.io')
  if (reference === null) throw new PushTrouble(`error checking push permissions -- ${advice}: getting tag for destination: could not parse reference: ${destination}`)
  const { host } = reference
  if (isPlain(host, parts)) return reference
  throw new PushTrouble(`error checking push permissions -- ${advice}: checking push permission for "${destination}": creating push check transport for ${host} failed: ${noTls(host)}`)
}
