// Since when things have been unneeded: one object in kiln's own store, `{name: time}`. When it is lost or damaged, everything counts from now on anew.
import type { Objects } from '../../shared/objects.ts'

export const unneededName = 'garbage/unneeded.json'

/** As far as it is written down; null: it is not, or in no way that can be believed. */
export async function sinceWhen(objects: Pick<Objects, 'get'>, now: number): Promise<(name: string) => number | null> {
  const written = writtenIn(await objects.get(unneededName))
  return (name) => {
    const at = Date.parse(String(written[name]))
    return at <= now ? at : null
  }
}

/** Writes down what is unneeded, new ones as of now, and drops whatever else was written. Reads it first, as late as possible: another kiln may have written. */
export async function writeDown(objects: Pick<Objects, 'get' | 'put'>, names: readonly string[], now: number): Promise<(name: string) => number> {
  const before = await objects.get(unneededName)
  const known = await sinceWhen({ get: async () => before }, now)
  const since = new Map([...names].sort().map((name) => [name, known(name) ?? now]))
  const text = JSON.stringify(Object.fromEntries([...since].map(([name, at]) => [name, new Date(at).toISOString()])))
  if (text !== (before?.toString() ?? '{}')) await objects.put(unneededName, Buffer.from(text))
  return (name) => since.get(name) ?? now
}

function writtenIn(bytes: Buffer | null): Record<string, unknown> {
  try {
    const value: unknown = bytes === null ? {} : JSON.parse(bytes.toString())
    return typeof value === 'object' && value !== null && !Array.isArray(value) ? Object.fromEntries(Object.entries(value)) : {}
  } catch {
    return {}
  }
}
