// Leftovers: what lies in the stores and no version refers to.
import { fewAtOnce } from '../../shared/few-at-once.ts'
import type { Ports } from '../../shared/ports.ts'
import type { StoredImage, StoredPart } from '../../shared/stored.ts'
import { needed, type References } from './needed.ts'

export type LeftoverPorts = Pick<Ports, 'buildRecords' | 'log' | 'objects' | 'records' | 'statuses' | 'stored'>

export interface Leftover {
  kind: 'archive' | 'context' | StoredImage['kind']
  name: string
  /** 0: nobody can tell. */
  modifiedMs: number
  parts: StoredPart[]
  /** null: it is an object. */
  image: StoredImage | null
}

export interface Leftovers {
  things: Leftover[]
  /** The images that are needed. */
  staying: StoredImage[]
}

/** Whatever cannot be read throws. */
export async function leftovers(ports: LeftoverPorts): Promise<Leftovers> {
  // First what is there: what comes after that is not looked at.
  const objects = await objectsThere(ports)
  const need = await needed(ports)
  if (!need.knowsAny) {
    if (objects.length > 0) ports.log.error('kiln keeps archives and knows of no lambda: none is garbage. Is this the right NATS, and has it kept its data?', { objects: objects.length })
    return { things: [], staying: [] }
  }
  const images = await ports.stored.list([...need.living.keys(), ...need.deleted])
  const isStaying = await fewAtOnce(images, (image) => isNeeded(ports, image, image.lambda === null ? need : (need.living.get(image.lambda) ?? null)))
  const lainOn = new Set(images.filter((_, i) => isStaying[i]).map(({ uses }) => uses))
  const stays = (image: StoredImage, i: number): boolean => isStaying[i]! || (image.kind === 'environment' && lainOn.has(image.key))
  const unneeded = await fewAtOnce(images.filter((image, i) => !stays(image, i)), (image) => asLeftover(ports, image))
  return { things: [...objects.filter(({ name }) => !need.objects.has(name)), ...unneeded.filter((one) => one !== null)], staying: images.filter(stays) }
}

/** `by`: whoever it can belong to; null: a lambda that is gone. */
export async function isNeeded({ stored }: Pick<Ports, 'stored'>, image: StoredImage, by: References | null): Promise<boolean> {
  if (by === null) return false
  if (image.kind === 'environment') return by.environments.has(image.key)
  if (by.contexts.has(image.key)) return true
  return by.digests.size > 0 && by.digests.has((await stored.digest(image)) ?? '')
}

async function objectsThere({ objects }: LeftoverPorts): Promise<Leftover[]> {
  const of = async (kind: 'archive' | 'context', prefix: string): Promise<Leftover[]> =>
    (await objects.list(prefix)).map(({ name, bytes, modifiedMs }) => ({ kind, name, modifiedMs, parts: [{ name, bytes }], image: null }))
  return [...(await of('archive', 'archives/')), ...(await of('context', 'contexts/'))]
}

/** null: it has gone meanwhile. */
async function asLeftover({ stored }: LeftoverPorts, image: StoredImage): Promise<Leftover | null> {
  const parts = await stored.parts(image)
  return parts && { kind: image.kind, name: image.name, modifiedMs: 0, parts, image }
}
