// Pushes an image to a registry over plain HTTP, and asks before the build whether that is allowed.
import { ask, NoAnswer, referenceOf, refusalOf, type Answer, type Reference } from '../registry-talk.ts'
import { manifestType, type Blob, type BuiltImage } from './image.ts'

export class PushTrouble extends Error {}

export interface Plain {
  insecure: boolean
  insecureRegistries: string[]
}

const advice = 'make sure you entered the correct tag name, and that you are authenticated correctly, and try again'

/** Throws PushTrouble when the registry does not answer or says no. */
export async function checkPush(destination: string, plain: Plain): Promise<void> {
  const refused = (why: string, cause?: unknown): PushTrouble =>
    new PushTrouble(`error checking push permissions -- ${advice}: checking push permission for "${destination}": ${why}`, { cause })
  const { host, name } = referred(destination, plain)
  const url = `http://${host}/v2/${name}/blobs/uploads/`
  try {
    const answer = await ask('POST', url)
    if (answer.status !== 202) throw refused(`POST ${url}: ${refusalOf(answer)}`)
    await ask('DELETE', new URL(String(answer.headers['location']), url).href)
  } catch (error) {
    if (!(error instanceof NoAnswer)) throw error
    throw refused(`creating push check transport for ${host} failed: Get "https://${host}/v2/": ${error.message}; Get "http://${host}/v2/": ${error.message}`, error)
  }
}

/** Throws PushTrouble. */
export async function push(image: BuiltImage, destination: string, plain: Plain): Promise<void> {
  const reference = referred(destination, plain)
  try {
    for (const blob of image.blobs) await pushBlob(reference, blob)
    const url = `http://${reference.host}/v2/${reference.name}/manifests/${reference.version}`
    fine(await ask('PUT', url, { headers: { 'content-type': manifestType }, body: image.manifest.bytes }), 'PUT', url)
  } catch (error) {
    if (!(error instanceof NoAnswer) && !(error instanceof PushTrouble)) throw error
    throw new PushTrouble(`error pushing image: failed to push to destination ${destination}: ${error.message}`, { cause: error })
  }
}

async function pushBlob({ host, name }: Reference, { digest, bytes }: Blob): Promise<void> {
  const base = `http://${host}/v2/${name}/blobs`
  if ((await ask('HEAD', `${base}/${digest}`)).status === 200) return
  const begun = fine(await ask('POST', `${base}/uploads/`), 'POST', `${base}/uploads/`)
  const to = new URL(String(begun.headers['location']), `${base}/uploads/`)
  to.searchParams.set('digest', digest)
  fine(await ask('PUT', to.href, { headers: { 'content-type': 'application/octet-stream' }, body: bytes }), 'PUT', to.href)
}

function fine(answer: Answer, method: string, url: string): Answer {
  if (answer.status >= 200 && answer.status < 300) return answer
  throw new PushTrouble(`${method} ${url}: ${refusalOf(answer)}`)
}

/** A registry is spoken to without TLS when that was said, and when its address is of this machine or of a private network. */
function referred(destination: string, { insecure, insecureRegistries }: Plain): Reference {
  const reference = referenceOf(destination, 'index.docker.io')
  if (reference === null) throw new PushTrouble(`error checking push permissions -- ${advice}: getting tag for destination: could not parse reference: ${destination}`)
  const { host } = reference
  const near = /^(localhost|127\.|10\.|192\.168\.|172\.(1[6-9]|2\d|3[01])\.)|\.local(:|$)/.test(host)
  if (insecure || near || insecureRegistries.includes(host)) return reference
  throw new PushTrouble(`error checking push permissions -- ${advice}: checking push permission for "${destination}": `
    + `creating push check transport for ${host} failed: Get "https://${host}/v2/": http: server gave HTTP response to HTTPS client`)
}
