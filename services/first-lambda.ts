// A newcomer's first lambda: examples/hello, sent through kiln's own HTTP interface like anybody's, each step shown as it happens.
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { writeZip } from '../shared/zip.ts'

export interface FirstLambda {
  address: string
  folder: string
  say(line: string): void
}

const sentences: Record<string, string> = {
  'lambda.accepted': 'the zip is good, and stored',
  'context.packaged': 'supplemented with the runtime and a Dockerfile',
  'image.started': 'the image is being made',
  'image.pending': 'the build waits for a place to run',
  'image.built': 'the image is made',
  'workload.applied': 'the platform was asked to run it',
  'workload.waiting': 'its process starts',
  'workload.running': 'it runs',
}
const ends = new Set(['workload.running', 'workload.failed', 'image.failed', 'context.refused'])

/** Does nothing when there are lambdas already, but to say how many. */
export async function firstLambda({ address, folder, say }: FirstLambda): Promise<void> {
  const { lambdas, cursor } = (await answerOf(await fetch(`${address}/lambdas?limit=100`))) as { lambdas: unknown[]; cursor: string | null }
  if (lambdas.length > 0) return say(`${lambdas.length}${cursor ? ' or more' : ''} ${lambdas.length === 1 ? 'lambda is' : 'lambdas are'} known: curl ${address}/lambdas`)

  const form = new FormData()
  form.set('archive', new Blob([new Uint8Array(await zipOf(folder))]), 'hello.zip')
  form.set('parameters', JSON.stringify({ name: 'hello', description: 'your first lambda' }))
  say('No lambda yet: examples/hello is sent.')
  const { lambda_id } = (await answerOf(await fetch(`${address}/lambdas`, { method: 'POST', body: form }))) as { lambda_id: string }
  const end = await show(`${address}/lambdas/${lambda_id}`, say)
  if (end !== 'workload.running') return say(`It did not come up; why: curl ${address}/lambdas/${lambda_id}`)

  const body = JSON.stringify({ name: 'you' })
  const answer = await fetch(`${address}/lambdas/${lambda_id}/proxy/main`, { method: 'POST', headers: { 'content-type': 'application/json' }, body })
  say('')
  say(`It answers: ${await answer.text()}`)
  say('Again, by hand:')
  say(`  curl -H 'content-type: application/json' -d '${body}' ${address}/lambdas/${lambda_id}/proxy/main`)
}

async function answerOf(response: Response): Promise<unknown> {
  if (!response.ok) throw new Error(`${response.status} ${await response.text()}`)
  return response.json()
}

async function zipOf(folder: string): Promise<Buffer> {
  const files = new Map<string, Buffer>()
  for (const entry of await readdir(folder, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile()) continue
    const path = join(entry.parentPath, entry.name)
    files.set(path.slice(folder.length + 1).replaceAll('\\', '/'), await readFile(path))
  }
  return writeZip(files)
}

/** A line for each fact, with the milliseconds since the first, until it runs or will not. */
async function show(lambda: string, say: FirstLambda['say']): Promise<string> {
  const response = await fetch(`${lambda}/events`, { headers: { accept: 'text/event-stream' } })
  let from: number | null = null
  for await (const { fact, time, data } of eventsIn(response.body!)) {
    from ??= Date.parse(time)
    const trouble = ends.has(fact) && fact !== 'workload.running' ? `: ${data.message}` : ''
    say(`  ${String(Date.parse(time) - from).padStart(6)} ms  ${fact.padEnd(18)} ${sentences[fact] ?? ''}${trouble}`)
    if (ends.has(fact)) return fact
  }
  throw new Error('kiln closed the stream of facts')
}

interface ShownFact {
  fact: string
  time: string
  data: { message?: string }
}

async function* eventsIn(body: ReadableStream<Uint8Array>): AsyncIterable<ShownFact> {
  let text = ''
  const decoder = new TextDecoder()
  for await (const chunk of body as unknown as AsyncIterable<Uint8Array>) {
    text += decoder.decode(chunk, { stream: true })
    const events = text.split('\n\n')
    text = events.pop()!
    for (const event of events) {
      const data = /^data: (.*)$/m.exec(event)?.[1]
      if (data) yield JSON.parse(data) as ShownFact
    }
  }
}
