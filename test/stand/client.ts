// A client as any other: HTTP only.
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { writeZip } from '../../shared/zip.ts'

export interface Answer {
  status: number
  headers: Headers
  body: any
}

export interface Client {
  post(archive: Buffer | null, parameters?: unknown): Promise<Answer>
  put(id: string, archive: Buffer | null, parameters?: unknown): Promise<Answer>
  get(path: string, headers?: Record<string, string>): Promise<Answer>
  send(method: string, path: string, body?: string, headers?: Record<string, string>): Promise<Answer>
  /** The first fact of this kind (of `version`), over Server-Sent Events. Throws when another end comes first. */
  fact(id: string, fact: string, version?: number): Promise<any>
}

const ends = ['context.refused', 'image.failed', 'workload.failed', 'lambda.deleted', 'lambda.cancelled']

export function client(address: string): Client {
  const answerOf = async (response: Response): Promise<Answer> => {
    const text = await response.text()
    let body: unknown = text
    try { body = JSON.parse(text) } catch { /* it is no JSON: the text it is */ }
    return { status: response.status, headers: response.headers, body }
  }
  const multipart = (method: string, path: string, archive: Buffer | null, parameters: unknown): Promise<Answer> => {
    const form = new FormData()
    if (archive) form.set('archive', new Blob([new Uint8Array(archive)]), 'lambda.zip')
    if (parameters !== undefined) form.set('parameters', JSON.stringify(parameters))
    return fetch(`${address}${path}`, { method, body: form }).then(answerOf)
  }
  return {
    post: (archive, parameters) => multipart('POST', '/lambdas', archive, parameters),
    put: (id, archive, parameters) => multipart('PUT', `/lambdas/${id}`, archive, parameters),
    get: (path, headers = {}) => fetch(`${address}${path}`, { headers }).then(answerOf),
    send: (method, path, body, headers = {}) => fetch(`${address}${path}`, { method, headers, ...(body !== undefined && { body }) }).then(answerOf),
    async fact(id, fact, version) {
      const response = await fetch(`${address}/lambdas/${id}/events`, { headers: { accept: 'text/event-stream' } })
      let text = ''
      const seen: string[] = []
      for await (const chunk of response.body! as unknown as AsyncIterable<Uint8Array>) {
        text += Buffer.from(chunk).toString()
        const events = text.split('\n\n')
        text = events.pop()!
        for (const event of events.flatMap((e) => /^data: (.*)$/m.exec(e)?.[1] ?? []).map((data) => JSON.parse(data))) {
          seen.push(`${event.fact} v${event.version}`)
          if (event.fact === fact && (version === undefined || event.version === version)) return event
          if (ends.includes(event.fact) && (version === undefined || event.version === version)) throw new Error(`${event.fact} instead of ${fact}: ${JSON.stringify(event.data)}`)
        }
      }
      throw new Error(`the stream of facts ended before ${fact}: ${seen.join(', ')}`)
    },
  }
}

const examples = fileURLToPath(new URL('../../examples/', import.meta.url))

export async function exampleZip(name: string): Promise<Buffer> {
  const files = new Map<string, Buffer>()
  for (const entry of await readdir(join(examples, name), { recursive: true, withFileTypes: true })) {
    if (!entry.isFile()) continue
    const path = join(entry.parentPath, entry.name)
    files.set(path.slice(join(examples, name).length + 1), await readFile(path))
  }
  return writeZip(files)
}
