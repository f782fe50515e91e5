// lambda.deleted -> what only that lambda needed is gone: archives, contexts, images, logs; and lambda.cleaned says what stayed.
// image.forgotten -> a build's logs are gone.
// Environments, and what they are made from, may serve the next lambda: they are left to the collection of garbage.
import type { Hearing } from '../../shared/bus.ts'
import { nextFact, type Heard } from '../../shared/events.ts'
import type { Life } from '../../shared/lifecycle.ts'
import { archiveName, contextName } from '../../shared/objects.ts'
import type { Ports } from '../../shared/ports.ts'
import type { LambdaRecord } from '../../shared/records.ts'
import { done, type Verdict } from '../../shared/verdict.ts'
import { work } from '../../shared/worker.ts'
import { needed } from './needed.ts'
import { removeObjects } from './remove-objects.ts'

type CleanerPorts = Pick<Ports, 'buildRecords' | 'builds' | 'bus' | 'log' | 'logs' | 'metrics' | 'objects' | 'records' | 'statuses'>

/** One at a time: what is still needed is found by looking at all records, never by a counter that could drift. */
export async function startCleaner(ports: CleanerPorts): Promise<Hearing> {
  const one = { service: 'builder-watcher', limit: 1, failure: null }
  const hearings = await Promise.all([
    work(ports, { ...one, name: 'builder-watcher-lambda-deleted', fact: 'lambda.deleted', handle: (heard) => clean(ports, heard) }),
    work(ports, { ...one, name: 'builder-watcher-image-forgotten', fact: 'image.forgotten', handle: (heard) => forget(ports, heard) }),
  ])
  return { stop: async () => { await Promise.all(hearings.map((hearing) => hearing.stop())) } }
}

/** Its archive is garbage from now on, and its image the user's own. */
async function forget({ logs }: CleanerPorts, { account, id }: Heard<'image.forgotten'>): Promise<Verdict> {
  await logs.remove(account, id)
  return done()
}

export async function clean(ports: CleanerPorts, heard: Heard<'lambda.deleted'>): Promise<Verdict> {
  const own = await deletedRecord(ports, heard.id)
  if (!own) return done()
  const life = (await ports.statuses.get(heard.id))?.value ?? null
  const { objects } = await needed(ports)
  const names = await removeObjects(ports, namesOf(own, life).filter((name) => !objects.has(name)))
  const elsewhere = (await needed(ports)).contexts
  if (!(await deletedRecord(ports, heard.id))) return done()
  const contexts = new Set(contextsOf(life))
  const kept = await ports.builds.remove({ id: own.id, namespaces: namespacesOf(own) }, contexts, new Set([...contexts].filter((context) => elsewhere.has(context))))
  for (const one of kept) ports.log.warn('an image stays in the registry', { lambda_id: own.id, ...one })
  await ports.logs.remove(heard.account, heard.id)
  const archives = names.filter((name) => name.startsWith('archives/')).length
  return done(nextFact(heard, 'lambda.cleaned', { archives, contexts: names.length - archives, images: contexts.size - kept.length, kept }))
}

/** null: it was made again meanwhile, and nothing of it may go. */
async function deletedRecord({ records }: CleanerPorts, id: string): Promise<LambdaRecord | null> {
  const record = (await records.get(id))?.value
  return record?.deleted ? record : null
}

const namespacesOf = (record: LambdaRecord): string[] => [...new Set(record.versions.map((v) => v.parameters.deploy_parameters.namespace))]
const contextsOf = (life: Life | null): string[] => Object.values(life?.versions ?? {}).flatMap((v) => (v.context ? [v.context] : []))
const namesOf = (record: LambdaRecord, life: Life | null): string[] =>
  [...record.versions.map((v) => archiveName(v.archive.digest)), ...contextsOf(life).map(contextName)]
