// The recordings of a real API server, and how to hold an answer of the stand-in to one.
import { readFileSync } from 'node:fs'
import * as assert from 'uvu/assert'
import type { Request, Response, Stand } from './calls.ts'

export interface Recorded {
  name: string
  request: Request
  response: { status: number; headers?: Record<string, string>; body: any }
}

export const recordings = <Type>(name: string): Type => JSON.parse(readFileSync(new URL(`../../recordings/${name}.json`, import.meta.url), 'utf8')) as Type

export const recordedCases = new Map(recordings<Recorded[]>('errors').map((one) => [one.name, one]))

/** Without what is different each time: uids, versions, times, invented names and addresses. */
export function comparable(value: unknown, leftOut: string[] = ['managedFields']): unknown {
  const text = JSON.stringify(value ?? null, (key, field) => (leftOut.includes(key) ? undefined : key === 'continue' ? readToken(field) : field))
  return JSON.parse(text
    .replaceAll(/(?!0{8})[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}/g, 'UID')
    .replaceAll(/"resourceVersion":"\d+"/g, '"resourceVersion":"VERSION"')
    .replaceAll(/(\(|current: )\d+/g, '$1VERSION')
    .replaceAll(/\d{4}-\d\d-\d\dT[\d:.]+Z/g, 'TIME')
    .replaceAll(/kiln-rec-gen-[a-z0-9]{5}/g, 'kiln-rec-gen-')
    .replaceAll(/10\.96\.\d+\.\d+/g, 'ADDRESS'))
}
const readToken = (token: string): string => Buffer.from(token, 'base64url').toString().replace(/"rv":\d+/, '"rv":VERSION')

/** Uids and versions in recorded requests are those of recorded objects: in their place, those of the objects here. */
const translations = new WeakMap<Stand, Map<string, string>>()

export function translate(stand: Stand, recorded: string, here: string): void {
  const known = translations.get(stand) ?? new Map<string, string>()
  translations.set(stand, known.set(recorded, here))
}

/** Sends a recorded request, with another body if one is given, and holds the answer to the recorded one. */
export async function replay(stand: Stand, name: string, body?: unknown): Promise<Response> {
  const { request, response } = recordedCases.get(name)!
  const written = [...translations.get(stand) ?? []].reduce((text, [recorded, here]) => text.replaceAll(recorded, here), JSON.stringify(request))
  const asked = JSON.parse(written) as Request
  const found = await stand.send({ ...asked, body: body ?? asked.body })
  assert.equal(comparable(found.body), comparable(response.body), name)
  assert.is(found.status, response.status, name)
  for (const [header, value] of Object.entries(response.headers ?? {})) assert.is(found.headers.get(header), value, `${name}: ${header}`)
  if (response.body?.metadata?.uid) translate(stand, response.body.metadata.uid, found.body.metadata.uid)
  return found
}
