// What a registry's answer says, and the words in which kiln hands on what it refuses.
import { Unavailable } from '../trouble.ts'
import type { Send } from './authorization.ts'
import type { Credentials } from './credentials.ts'
import { isDigest } from './image-name.ts'
import type { Answer } from './requests.ts'

/** One registry, as the parts of its client know it. */
export interface Host {
  name: string
  credentials: Credentials
  send: Send
}

/** What an answer says that is not the one wished for. */
export interface Refused {
  status: number
  codes: string[]
  details: unknown[]
  /** The status and, where the registry says why, its first reason. */
  reason: string
}

const errorBytes = 64 << 10

/** Reads the answer to its end. */
export async function refusedIn(answer: Answer): Promise<Refused> {
  const { errors } = (await json(answer, errorBytes).catch(() => ({}))) as { errors?: Array<{ code?: unknown; message?: unknown; detail?: unknown } | null> }
  const all = Array.isArray(errors) ? errors : []
  const words = [all[0]?.code, all[0]?.message].filter((text) => typeof text === 'string' && text !== '')
  return {
    status: answer.status, codes: all.map((one) => String(one?.code ?? '')), details: all.map((one) => one?.detail),
    reason: [answer.status, ...words].join(' ').replace(/\.$/, ''),
  }
}

/** `what` completes "The registry does not … of this repository". */
export async function trouble(host: Host, answer: Answer, repository: string, what: string): Promise<Unavailable> {
  return unavailable(host, answer, await refusedIn(answer), repository, what)
}

/** The same for an answer that was read already. */
export function unavailable({ name, credentials }: Host, answer: Answer, { status, reason }: Refused, repository: string, what: string): Unavailable {
  const said = `The registry ${name}`
  if (!answer.isOfHost) return new Unavailable(`${said} refers to ${answer.url.host} to ${what} of ${repository}, which answered ${reason}.`)
  if (status === 401 && credentials.of(name, repository) === null) return new Unavailable([`${said} wants credentials to ${what} of ${repository}, and kiln has none: ${reason}.`, credentials.lack(name)].filter(Boolean).join(' '))
  if (status === 401) return new Unavailable(`${said} does not accept kiln's credentials to ${what} of ${repository}: ${reason}.`)
  if (status === 403) return new Unavailable(`${said} forbids kiln to ${what} of ${repository}: ${reason}.`)
  if (status === 429) return new Unavailable(`${said} is asked too often to ${what} of ${repository}: ${reason}.`)
  return new Unavailable(`${said} does not ${what} of ${repository}: ${reason}.`)
}

/** It was understood and is not allowed, now or later: 401 with `insufficient_scope` means that the token is good and gives no such right. */
export function isRefusal({ status, header }: Answer): boolean {
  if (status === 401) return /insufficient_scope/.test(header('www-authenticate') ?? '')
  return status >= 400 && status < 500 && ![408, 425, 429].includes(status)
}

export const nothing = (answer: Answer): Promise<null> => answer.drop().then(() => null)

export function digestIn(answer: Answer): string | null {
  const digest = answer.header('docker-content-digest')
  return digest !== null && isDigest(digest) ? digest : null
}

export async function json(answer: Answer, limit: number): Promise<object> {
  const bytes = await answer.bytes(limit)
  try {
    const value: unknown = JSON.parse(bytes.toString())
    if (typeof value === 'object' && value !== null) return value
  } catch { /* told below */ }
  throw new Unavailable(`${answer.url.host} answered with something that is no JSON.`)
}
