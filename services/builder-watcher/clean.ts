// lambda.deleted -> what only that lambda needed is gone: archives, contexts, images, logs; and lambda.cleaned says what stayed.
import type { Hearing } from '../../shared/bus.ts'
import { nextFact, type Heard } from '../../shared/events.ts'
import type { Life } from '../../shared/lifecycle.ts'
import { archiveName, contextName } from '../../shared/objects.ts'
import type { Ports } from '../../shared/ports.ts'
import type { LambdaRecord } from '../../shared/records.ts'
import { done, type Verdict } from '../../shared/verdict.ts'
import { work } from '../../shared/worker.ts'

type CleanerPorts = Pick<Ports, 'builds' | 'bus' | 'log' | 'logs' | 'metrics' | 'objects' | 'records' | 'statuses'>

/** One at a time: what is still needed is found by looking at all records, never by a counter that could drift. */
export function startCleaner(ports: CleanerPorts): Promise<Hearing> {
  return work(ports, { service: 'builder-watcher', name: 'builder-watcher-lambda-deleted', fact: 'lambda.deleted', limit: 1, failure: null, handle: (heard) => clean(ports, heard) })
}

export async function clean(ports: CleanerPorts, heard: Heard<'lambda.deleted'>): Promise<Verdict> {
  const own = (await ports.records.get(heard.id))?.value
  // Made again meanwhile: nothing of it may go.
  if (!own?.deleted) return done()
  const life = (await ports.statuses.get(heard.id))?.value ?? null
  const needed = await stillNeeded(ports)
  const names = namesOf(own, life).filter((name) => !needed.objects.has(name))
  await removeObjects(ports, names)
  const contexts = new Set(contextsOf(life))
  const kept = await ports.builds.remove({ id: own.id, namespaces: namespacesOf(own) }, contexts, new Set([...contexts].filter((context) => needed.contexts.has(context))))
  for (const one of kept) ports.log.warn('an image stays in the registry', { lambda_id: own.id, ...one })
  await ports.logs.remove(heard.account, heard.id)
  const archives = names.filter((name) => name.startsWith('archives/')).length
  return done(nextFact(heard, 'lambda.cleaned', { archives, contexts: names.length - archives, images: contexts.size - kept.length, kept }))
}

/** Another lambda may come to need one just as it goes: then it is put back. Ingest, for its part, looks once more after it wrote a record. */
async function removeObjects(ports: CleanerPorts, names: string[]): Promise<void> {
  const removed = new Map<string, Buffer>()
  for (const name of names) {
    const bytes = await ports.objects.get(name)
    if (bytes) removed.set(name, bytes)
    await ports.objects.remove(name)
  }
  const needed = await stillNeeded(ports)
  for (const [name, bytes] of removed) if (needed.objects.has(name)) await ports.objects.put(name, bytes)
}

const namespacesOf = (record: LambdaRecord): string[] => [...new Set(record.versions.map((v) => v.parameters.deploy_parameters.namespace))]
const contextsOf = (life: Life | null): string[] => Object.values(life?.versions ?? {}).flatMap((v) => (v.context ? [v.context] : []))
const namesOf = (record: LambdaRecord, life: Life | null): string[] =>
  [...record.versions.map((v) => archiveName(v.archive.digest)), ...contextsOf(life).map(contextName)]

async function stillNeeded({ records, statuses }: CleanerPorts): Promise<{ objects: Set<string>; contexts: Set<string> }> {
  const living = new Map<string, LambdaRecord>()
  const lives = new Map<string, Life>()
  const following = await Promise.all([
    records.follow((record) => (record.deleted ? living.delete(record.id) : living.set(record.id, record))),
    statuses.follow((life) => lives.set(life.id, life)),
  ])
  for (const one of following) one.close()
  const kept = [...living.values()].map((record) => ({ record, life: lives.get(record.id) ?? null }))
  return {
    objects: new Set(kept.flatMap(({ record, life }) => namesOf(record, life))),
    contexts: new Set(kept.flatMap(({ life }) => contextsOf(life))),
  }
}
