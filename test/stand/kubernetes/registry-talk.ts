// Talk with a container registry over plain HTTP, for the stand-ins that pull from one and push to one.
import { request, STATUS_CODES } from 'node:http'

export interface Answer {
  status: number
  headers: Record<string, string | string[] | undefined>
  body: Buffer
}

/** No answer came. In the words of the programs that the stand-ins stand for: `dial tcp 127.0.0.1:5999: connect: connection refused`. */
export class NoAnswer extends Error {}

export interface Reference {
  /** host:port */
  host: string
  /** What follows it in a path. */
  name: string
  /** A tag, or `sha256:…`. */
  version: string
  /** As written, without tag and digest. */
  repository: string
}

const form = /^(?:([\w.-]+(?::\d+)?)\/)?([a-z0-9]+(?:[._/-]+[a-z0-9]+)*)(?::([\w][\w.-]{0,127}))?(?:@(sha256:[0-9a-f]{64}))?$/

/** null: it is none. `host` is meant where none is named. */
export function referenceOf(image: string, host: string): Reference | null {
  const found = form.exec(image)
  if (!found) return null
  const named = found[1] !== undefined && /[.:]|^localhost$/.test(found[1])
  const name = named || found[1] === undefined ? found[2]! : `${found[1]}/${found[2]}`
  return { host: named ? found[1]! : host, name, version: found[4] ?? found[3] ?? 'latest', repository: named ? `${found[1]}/${name}` : name }
}

/** One request on a connection of its own: nothing is left open. */
export function ask(method: string, url: string, { headers = {}, body }: { headers?: Record<string, string>; body?: Buffer } = {}): Promise<Answer> {
  const { hostname, port } = new URL(url)
  return new Promise((resolve, reject) => {
    const failed = (error: NodeJS.ErrnoException): void => reject(new NoAnswer(wordsOf(error, hostname, port || '80'), { cause: error }))
    const length = body ? { 'content-length': String(body.length) } : method === 'POST' || method === 'PUT' ? { 'content-length': '0' } : {}
    const sent = request(url, { method, agent: false, headers: { ...length, ...headers } }, (response) => {
      const chunks: Buffer[] = []
      response.on('data', (chunk: Buffer) => chunks.push(chunk))
      response.on('error', failed)
      response.on('end', () => resolve({ status: response.statusCode!, headers: response.headers, body: Buffer.concat(chunks) }))
    })
    sent.on('error', failed)
    sent.end(body)
  })
}

function wordsOf(error: NodeJS.ErrnoException, hostname: string, port: string): string {
  if (error.code === 'ECONNREFUSED') return `dial tcp ${hostname}:${port}: connect: connection refused`
  if (error.code === 'ENOTFOUND' || error.code === 'EAI_AGAIN') return `dial tcp: lookup ${hostname}: no such host`
  if (error.code === 'ECONNRESET') return `read tcp ${hostname}:${port}: connection reset by peer`
  return `dial tcp ${hostname}:${port}: ${error.message}`
}

/** `UNAUTHORIZED: authentication required`: what a refusal says, in the words of the client of registries that the builder has. */
export function refusalOf({ status, body }: Answer): string {
  const text = body.toString()
  const errors = errorsIn(text).map(({ code, message = '', detail }) => `${code}: ${message}${detail === undefined || detail === null ? '' : `; ${asGo(detail)}`}`)
  if (errors.length > 1) return `multiple errors returned: ${errors.join('; ')}`
  return errors[0] ?? `unexpected status code ${status} ${STATUS_CODES[status] ?? ''}${text === '' ? '' : `: ${text}`}`
}

interface Refused { code: string; message?: string; detail?: unknown }

function errorsIn(text: string): Refused[] {
  try {
    return (JSON.parse(text) as { errors?: Refused[] } | null)?.errors ?? []
  } catch {
    return []
  }
}

/** As Go prints what JSON held: `map[Tag:latest]`. */
function asGo(value: unknown): string {
  if (value === null) return '<nil>'
  if (Array.isArray(value)) return `[${value.map(asGo).join(' ')}]`
  if (typeof value !== 'object') return String(value)
  return `map[${Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1)).map(([name, one]) => `${name}:${asGo(one)}`).join(' ')}]`
}

/** Those that may be spoken to without TLS, beside those of this machine and of a private network. */
export interface Plain {
  insecure: boolean
  insecureRegistries: string[]
}

export function isPlain(host: string, { insecure, insecureRegistries }: Plain): boolean {
  const isNear = /^(localhost|127\.|10\.|192\.168\.|172\.(1[6-9]|2\d|3[01])\.)|\.local(:|$)/.test(host)
  return insecure || isNear || insecureRegistries.includes(host)
}

/** No registry here has TLS. */
export const noTls = (host: string): string => `Get "https://${host}/v2/": http: server gave HTTP response to HTTPS client`
/** Both ways were tried. */
export const away = (host: string, { message }: NoAnswer): string => `Get "https://${host}/v2/": ${message}; Get "http://${host}/v2/": ${message}`
