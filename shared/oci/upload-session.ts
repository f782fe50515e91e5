// One upload to a registry, from the opening of its session to its end: a request each, and what its answer means.
import { Unavailable } from '../trouble.ts'
import { refusedIn, unavailable, type Host, type Refused } from './answers.ts'
import { NoToken, type Right } from './authorization.ts'
import { repositoryPath } from './manifests.ts'
import type { Answer, Request, Stream } from './requests.ts'

export interface Session {
  /** What a chunk has at least, but for the last. */
  minimum: number
  /** Sends what comes at `from`. */
  send(from: number, chunk: Stream): Promise<void>
  /** Ends it: with all of the blob, or with nothing more when all is there. */
  finish(whole: Stream | null): Promise<void>
  /** How many bytes the registry has; null: it knows nothing of the session any more, or does not say. */
  held(): Promise<number | null>
  /** Away with it, as far as that can be had. */
  cancel(): Promise<void>
}

/** Something came between, and there may be a way on. */
export class Setback extends Error {
  constructor(
    /**
     * `broken`: no answer, or one of a registry that is not well. `gone`: no such session. `elsewhere`: it is not the registry's turn for these bytes.
     * `refused`: not in this manner. `wrong`: all came, and has another digest.
     */
    readonly how: 'broken' | 'gone' | 'elsewhere' | 'refused' | 'wrong',
    readonly trouble: Unavailable,
  ) {
    super(trouble.message)
  }
}

export interface Wish {
  repository: string
  digest: string
  signal?: AbortSignal | undefined
}

/** Up to here a session, and one request for all of it. */
export const inOneGoBytes = 4 << 20
/** The registry reads all of a large blob again before it says yes. */
const finishMs = 300_000
/** Nobody waits long for what is not wanted any more. */
const cancelMs = 3_000

/** A session for a blob. Throws a Setback, or Unavailable when there is no way on. */
export async function openSession(host: Host, wish: Wish): Promise<Session> {
  const right: Right = { repository: wish.repository, actions: 'pull,push' }
  const answer = await asked(host, uploadsOf(wish.repository), right, { method: 'POST', headers: {}, signal: wish.signal })
  if (answer.status !== 202) throw await setback(host, wish, answer)
  return sessionIn(host, wish, answer)
}

/** The blob may lie in another repository of the same registry: 'mounted' from there; a session to upload it, where the registry offers that instead; null: it refuses. */
export async function mountOrSession(host: Host, wish: Wish, from: string): Promise<Session | 'mounted' | null> {
  const path = `${uploadsOf(wish.repository)}?mount=${encodeURIComponent(wish.digest)}&from=${encodeURIComponent(from)}`
  const answer = await host.send(path, { repository: wish.repository, actions: 'pull,push', from }, { method: 'POST', headers: {}, signal: wish.signal }).catch((error: unknown) => {
    // There may well be one for the one repository without the other.
    if (error instanceof NoToken) return null
    throw error
  })
  if (answer === null) return null
  if (answer.status === 202) return sessionIn(host, wish, answer)
  if (answer.status === 201) return answer.drop().then(() => 'mounted')
  const refused = await refusedIn(answer)
  if (refused.status >= 500 || refused.status === 429) throw unavailable(host, answer, refused, wish.repository, `mount the blob ${wish.digest}`)
  return null
}

const uploadsOf = (repository: string): string => `${repositoryPath(repository)}/blobs/uploads/`

async function sessionIn(host: Host, wish: Wish, opening: Answer): Promise<Session> {
  await opening.drop()
  const first = placeIn(opening)
  if (first === null) throw new Unavailable(`The registry ${host.name} opens no upload for ${wish.digest} of ${wish.repository}: it does not say where.`)
  const right: Right = { repository: wish.repository, actions: 'pull,push' }
  const { signal } = wish
  let place = first
  /** Each answer may name another place to go on. */
  const ask = async (to: string | URL, request: Request, good: number[]): Promise<Answer> => {
    const answer = await asked(host, to, right, request)
    if (!good.includes(answer.status)) throw await setback(host, wish, answer)
    await answer.drop()
    return answer
  }
  const held = async (until: AbortSignal | undefined): Promise<number | null> => {
    const answer = await ask(place, { method: 'GET', headers: {}, signal: until }, [204, 200, 202]).catch((error: unknown) => {
      if (error instanceof Setback && error.how !== 'broken') return null
      throw error
    })
    if (answer === null) return null
    place = placeIn(answer) ?? place
    const [, last] = /^(?:bytes[= ])?0-(\d+)$/.exec(answer.header('range') ?? '') ?? []
    if (last === undefined) return null
    // An empty one cannot be told from one of a single byte, and is far more likely.
    return last === '0' ? 0 : Number(last) + 1
  }
  /** It is gone, or nobody can be asked. */
  const isCancelled = async (until: AbortSignal): Promise<boolean> => {
    const answer = await host.send(place, { repository: wish.repository, actions: 'delete' }, { method: 'DELETE', headers: {}, signal: until }).catch(() => null)
    await answer?.drop()
    return answer === null || answer.status < 400 || answer.status === 404
  }
  return {
    minimum: Number(opening.header('oci-chunk-min-length') ?? 0) || 0,
    async send(from, chunk) {
      const headers = { 'content-type': 'application/octet-stream', 'content-range': `${from}-${from + chunk.bytes - 1}` }
      const answer = await ask(place, { method: 'PATCH', headers, body: chunk, isLong: true, signal }, [202, 204, 200, 201])
      // Its Range is not believed: the registry has taken all, or would not say yes; some repeat an older one.
      place = placeIn(answer) ?? place
    },
    async finish(whole) {
      const request: Request = { method: 'PUT', headers: { 'content-type': 'application/octet-stream' }, ...(whole && { body: whole }), isLong: true, signal }
      const isLarge = whole === null || whole.bytes > inOneGoBytes
      await ask(withDigest(place, wish.digest), { ...request, ...(isLarge && { answerMs: finishMs }) }, [201, 204, 200])
    },
    held: () => held(signal),
    async cancel() {
      const soon = AbortSignal.timeout(cancelMs)
      if (await isCancelled(soon)) return
      // It may only let go of what one knows all about.
      await held(soon).then(() => isCancelled(soon), () => undefined)
    },
  }
}

async function asked(host: Host, to: string | URL, right: Right, request: Request): Promise<Answer> {
  try {
    return await host.send(to, right, request)
  } catch (error) {
    throw error instanceof Unavailable && !(error instanceof NoToken) ? new Setback('broken', error) : error
  }
}

async function setback(host: Host, { repository, digest }: Wish, answer: Answer): Promise<Setback | Unavailable> {
  const refused = await refusedIn(answer)
  const trouble = unavailable(host, answer, refused, repository, `store the blob ${digest}`)
  return [401, 403, 429].includes(refused.status) ? trouble : new Setback(meaningOf(refused), trouble)
}

function meaningOf({ status, codes }: Refused): Setback['how'] {
  if (status >= 500 || status === 408) return 'broken'
  if (codes.includes('DIGEST_INVALID')) return 'wrong'
  if (status === 416) return 'elsewhere'
  return status === 404 || codes.includes('BLOB_UPLOAD_UNKNOWN') || codes.includes('BLOB_UPLOAD_INVALID') ? 'gone' : 'refused'
}

/** Where it goes on, with all that the registry wrote into the address: a path of the registry itself, or an address elsewhere. */
function placeIn(answer: Answer): string | URL | null {
  const location = answer.header('location')
  if (location === null || !URL.canParse(location, answer.url.href)) return null
  const url = new URL(location, answer.url)
  // A registry behind a proxy may name itself with the wrong scheme.
  return answer.isOfHost && url.host === answer.url.host ? `${url.pathname}${url.search}` : url
}

/** What stands in the address already stays as it is written. */
function withDigest(place: string | URL, digest: string): string | URL {
  const text = String(place)
  const whole = `${text}${text.includes('?') ? '&' : '?'}digest=${encodeURIComponent(digest)}`
  return typeof place === 'string' ? whole : new URL(whole)
}
