// Removing objects that nothing refers to: what somebody comes to need just as it goes is put back.
import type { Ports } from '../../shared/ports.ts'
import { needed, neededOnceSaid } from './needed.ts'

type RemovalPorts = Pick<Ports, 'buildRecords' | 'objects' | 'records' | 'statuses'>

/** What was removed is held until it is certain that nobody needs it; so much at a time. */
const mostHeldBytes = 64 * 2 ** 20
/** How long a version that is being packed has to say what of. */
const patienceMs = 5_000

/** Answers the names of those that are gone. Ingest, for its part, looks once more after it wrote a record; whatever the packager finds missing it makes. */
export async function removeObjects(ports: RemovalPorts, names: readonly string[], signal?: AbortSignal): Promise<string[]> {
  const gone: string[] = []
  const rest = new Set(names)
  while (rest.size > 0 && !signal?.aborted) gone.push(...(await removeSome(ports, rest, signal)))
  return gone
}

/** Takes them from `rest`, as many as may be held at a time. */
async function removeSome(ports: RemovalPorts, rest: Set<string>, signal: AbortSignal | undefined): Promise<string[]> {
  const removed = new Map<string, Buffer | null>()
  try {
    let bytes = 0
    for (const name of rest) {
      const content = await ports.objects.get(name)
      removed.set(name, content)
      rest.delete(name)
      await ports.objects.remove(name)
      bytes += content?.length ?? 0
      if (bytes >= mostHeldBytes) break
    }
    const isNeeded = await needOf(ports, [...removed.keys()], signal)
    await putBack(ports, [...removed].filter(([name]) => isNeeded(name)))
    return [...removed.keys()].filter((name) => !isNeeded(name))
  } catch (error) {
    await putBack(ports, removed)
    throw error
  }
}

/** When in doubt, it is needed. */
async function needOf(ports: RemovalPorts, names: string[], signal: AbortSignal | undefined): Promise<(name: string) => boolean> {
  const isContext = (name: string): boolean => name.startsWith('contexts/')
  const late = AbortSignal.any([AbortSignal.timeout(patienceMs), ...(signal ? [signal] : [])])
  const { objects, onTheWay } = names.some(isContext) ? await neededOnceSaid(ports, late) : await needed(ports)
  return (name) => objects.has(name) || (isContext(name) && onTheWay.size > 0)
}

async function putBack({ objects }: RemovalPorts, removed: Iterable<[string, Buffer | null]>): Promise<void> {
  for (const [name, content] of removed) if (content) await objects.put(name, content)
}
