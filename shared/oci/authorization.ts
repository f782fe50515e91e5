// Authorization at a registry: what its challenge asks for, passwords as they are or tokens in exchange, kept as long as they hold.
import { Unavailable } from '../trouble.ts'
import type { Credentials, Login } from './credentials.ts'
import { recent } from './recent.ts'
import type { Answer, Request, Requests } from './requests.ts'

/** What a request is to be allowed. */
export interface Right {
  repository: string
  actions: 'pull' | 'pull,push' | 'delete'
  /** Another repository, which is read for it. */
  from?: string
}

/** Sends with what the registry wants, getting it first when it must; once more when that has run out. 401 is answered only to what is wrong. */
export type Send = (to: string | URL, right: Right, request: Request) => Promise<Answer>

export interface Authorization {
  /** `to`: a path of the registry, or an address elsewhere that it has named, to which no credentials go. */
  send: Send
}

/** The token server understood what was wished for, and gives no token for it. */
export class NoToken extends Unavailable {}

interface Token { header: string; until: number }

/** Since tokens travel: a little less than they say. */
const marginMs = 5_000
/** What the protocol says when a token does not. */
const usualSeconds = 60
const tokenBytes = 1_000_000
const mostKept = 1_000

export function authorization(host: string, requests: Requests, credentials: Credentials): Authorization {
  const kept = recent<Token>(mostKept)
  /** Asked for at the moment: many requests at once want one token. */
  const asked = new Map<string, Promise<string | null>>()
  /** What the registry wanted last, but for its scope: it will want the same for another right. */
  let wanted: Challenge[] = []

  const valid = (key: string): string | null => {
    const token = kept.get(key)
    return token && token.until > performance.now() ? token.header : null
  }
  const ask = async (key: string, challenges: Challenge[], right: Right): Promise<string | null> => {
    const token = await answerTo(challenges, { host, right, requests, login: credentials.of(host, right.repository) })
    kept.delete(key)
    if (token === null) return null
    kept.set(key, token)
    return token.header
  }
  const tokenOf = (key: string, challenges: Challenge[], right: Right): Promise<string | null> => {
    const asking = asked.get(key) ?? ask(key, challenges, right).finally(() => asked.delete(key))
    asked.set(key, asking)
    return asking
  }
  return {
    async send(to, right, request) {
      if (typeof to !== 'string') {
        const answer = await requests.toUrl(to, { by: host, for: 'with an upload', who: `The registry ${host}, at ${to.host},` }, request)
        return { ...answer, isOfHost: false }
      }
      const key = [right.repository, right.actions, right.from ?? ''].join(':')
      // What fails ahead of the question is told when the registry does ask.
      const known = valid(key) ?? (wanted.length > 0 ? await tokenOf(key, wanted, right).catch(() => null) : null)
      const first = await requests.toHost(host, to, { ...request, authorization: known })
      // Another host has nothing to ask for.
      if (first.status !== 401 || !first.isOfHost) return first
      const challenges = challengesIn(first.header('www-authenticate') ?? '')
      wanted = challenges.map(({ scheme, parameters: { scope: _, error: __, ...parameters } }) => ({ scheme, parameters }))
      // Another request may have got a token in the meantime.
      const current = valid(key)
      const isNews = current !== null && current !== known
      const newer = isNews ? current : await tokenOf(key, challenges, right).catch(async (error: unknown) => { await first.drop(); throw error })
      if (newer === null) return first
      await first.drop()
      return requests.toHost(host, to, { ...request, authorization: newer })
    },
  }
}

interface Means { host: string; right: Right; requests: Requests; login: Login | null }

/** null: there is nothing to answer with. */
async function answerTo(challenges: Challenge[], means: Means): Promise<Token | null> {
  const { login } = means
  if (login?.kind === 'registry') return { header: `Bearer ${login.token}`, until: Infinity }
  const bearer = challenges.find(({ scheme }) => scheme === 'bearer')
  if (bearer) return tokenFor(bearer.parameters, means)
  if (login?.kind !== 'password' || !challenges.some(({ scheme }) => scheme === 'basic')) return null
  return { header: basic(login), until: Infinity }
}

const basic = ({ username, password }: { username: string; password: string }): string => `Basic ${Buffer.from(`${username}:${password}`).toString('base64')}`

interface Challenge { scheme: string; parameters: Record<string, string> }

const schemeOrParameter = /([A-Za-z]+)(?=\s+[A-Za-z_]+\s*=|\s*$|\s*,)|([A-Za-z_]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,]+))/g

/** `Bearer realm="…",service="…", Basic realm="…"`: several may stand in one header. */
export function challengesIn(header: string): Challenge[] {
  const challenges: Challenge[] = []
  for (const [, scheme, name, quoted, plain] of header.matchAll(schemeOrParameter)) {
    if (scheme) challenges.push({ scheme: scheme.toLowerCase(), parameters: {} })
    const parameters = challenges.at(-1)?.parameters
    if (name && parameters) parameters[name.toLowerCase()] = quoted?.replace(/\\(.)/g, '$1') ?? plain!
  }
  return challenges
}

/** What the challenge says, and what else is wished for: some registries name only what the one request needs, and leave out the second repository. */
function scopesOf(scope: string | undefined, { repository, actions, from }: Right): string[] {
  const wished = [{ name: repository, actions: actions.split(',') }, ...(from === undefined ? [] : [{ name: from, actions: ['pull'] }])]
  return wished.reduce((scopes, { name, actions }) => {
    const isOfIt = (one: string): boolean => one.startsWith(`repository:${name}:`)
    const given = scopes.filter(isOfIt).flatMap((one) => one.split(':').at(-1)!.split(','))
    const isEnough = given.includes('*') || actions.every((action) => given.includes(action))
    return isEnough ? scopes : [...scopes.filter((one) => !isOfIt(one)), `repository:${name}:${actions.join(',')}`]
  }, scope?.split(' ').filter(Boolean) ?? [])
}

async function tokenFor({ realm = '', service, scope }: Record<string, string>, { host, right, requests, login }: Means): Promise<Token> {
  const url = URL.canParse(realm) ? new URL(realm) : null
  if (url === null) throw new Unavailable(`The registry ${host} wants a token and does not say from where.`)
  const scopes = scopesOf(scope, right)
  if (login?.kind !== 'identity') {
    if (service) url.searchParams.set('service', service)
    url.searchParams.delete('scope')
    for (const one of scopes) url.searchParams.append('scope', one)
  }
  const request = login?.kind === 'identity' ? exchange(login.token, { ...(service && { service }), scope: scopes.join(' ') }) : question(login)
  const answer = await requests.toUrl(url, { by: host, for: 'for a token', who: `The token server ${url.host}` }, request)
  if (answer.status !== 200) {
    await answer.drop()
    const words = `The registry ${host} wants a token for ${right.repository}, and ${url.host} ${login ? 'gave none for kiln\'s credentials' : 'gave none without credentials'}: ${answer.status}.`
    throw answer.status < 500 && answer.status !== 429 ? new NoToken(words) : new Unavailable(words)
  }
  return tokenIn(await answer.bytes(tokenBytes), url.host)
}

const question = (login: Login | null): Request => ({ method: 'GET', headers: {}, authorization: login?.kind === 'password' ? basic(login) : null })

function exchange(token: string, wish: Record<string, string>): Request {
  const body = new URLSearchParams({ grant_type: 'refresh_token', client_id: 'kiln', refresh_token: token, ...wish }).toString()
  return { method: 'POST', headers: { 'content-type': 'application/x-www-form-urlencoded' }, body }
}

function tokenIn(bytes: Buffer, from: string): Token {
  let given: { token?: unknown; access_token?: unknown; expires_in?: unknown } | null = null
  try { given = JSON.parse(bytes.toString()) } catch { /* told below */ }
  const token = given?.token ?? given?.access_token
  if (typeof token !== 'string' || !/^[\x21-\x7e]+$/.test(token)) throw new Unavailable(`${from} answered with something that holds no token.`)
  const seconds = typeof given?.expires_in === 'number' ? given.expires_in : usualSeconds
  return { header: `Bearer ${token}`, until: performance.now() + seconds * 1_000 - marginMs }
}
