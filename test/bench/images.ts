// From a zip that is accepted to its image: code alone on a base image of 270 MB, as it is in a cluster (a process for each service, a real registry, a real S3).
// On a real cluster, when KUBECONFIG names one, with kaniko beside it and to the first answer of the new version; else the cluster is the stand-in.
import { randomBytes } from 'node:crypto'
import { readFile, writeFile } from 'node:fs/promises'
import type { FactName } from '../../shared/events.ts'
import { writeZip } from '../../shared/zip.ts'
import { fact } from '../stand/await.ts'
import { pushBase } from '../stand/base-image.ts'
import { kilnOnCluster, type KilnOnCluster, type ServiceName } from '../stand/kiln-on-cluster.ts'
import { standPorts, type StandPorts } from '../stand/ports.ts'
import { each, median, quantile, type Line } from './line.ts'

const samples = 40
const kanikoSamples = 3
const atOnce = 200
const patienceMs = 180_000
const mega = 2 ** 20
const isReal = process.env['KUBECONFIG'] !== undefined

interface Bench { kiln: KilnOnCluster; ports: StandPorts }

const main = (word: string | number): string => `async def main(request):\n    return {"word": "${word}"}\n`
const zipOf = (files: Record<string, string | Buffer>): Buffer => writeZip(new Map(Object.entries(files)))
/** Code is text; this is as compressible as that. */
const text = (bytes: number): Buffer => Buffer.from(Array.from({ length: Math.ceil(bytes / 64) }, () => `${randomBytes(12).toString('hex')} = the_same_old_names_again(1)\n`).join('').slice(0, bytes))
const small = (word: string | number): Buffer => zipOf({ 'lambda_main.py': main(word), 'more.py': text(10_240) })

async function send({ kiln }: Bench, method: 'POST' | 'PUT', to: string, archive: Buffer | null, parameters: object = {}): Promise<{ id: string; version: number; status: number }> {
  const form = new FormData()
  if (archive) form.set('archive', new Blob([new Uint8Array(archive)]), 'lambda.zip')
  if (method === 'POST' || !archive) form.set('parameters', JSON.stringify(parameters))
  const answer = await fetch(`${kiln.address}${to}`, { method, body: form })
  if (!answer.ok) throw new Error(await answer.text())
  const { lambda_id: id, version } = (await answer.json()) as { lambda_id: string; version: number }
  return { id, version, status: answer.status }
}

/** ms between two facts of a version, as they were stated. */
async function between({ ports }: Bench, id: string, from: FactName, to: FactName, version: number): Promise<number> {
  await fact(ports, id, to, version, patienceMs)
  const facts = (await ports.bus.history(id, 0, 1_000)).filter((one) => one.version === version)
  const time = (name: FactName): number => Date.parse(facts.find((one) => one.fact === name)!.time)
  return time(to) - time(from)
}

const p = (times: number[]): string => `p50 ${median(times).toFixed(0)} ms, p99 ${quantile(times, 0.99).toFixed(0)} ms`

async function codeOnly(bench: Bench): Promise<Line[]> {
  const { id } = await send(bench, 'POST', '/lambdas', small('first'))
  await fact(bench.ports, id, 'image.built', 1, patienceMs)
  const times: number[] = []
  for (let i = 0; i < samples; i++) {
    const { version } = await send(bench, 'PUT', `/lambdas/${id}`, small(i))
    times.push(await between(bench, id, 'lambda.accepted', 'image.built', version))
  }
  const lines: Line[] = [{ what: 'code-only build, 10 KB of code on a 270 MB base, accepted to image.built', value: p(times), reach: 'p50 <= 150 ms', met: median(times) <= 150 }]
  if (!isReal) return lines
  const kanikoTimes: number[] = []
  for (let i = 0; i < kanikoSamples; i++) {
    const made = await send(bench, 'POST', '/lambdas', small(`kaniko ${i}`), { image_builder: 'kaniko' })
    kanikoTimes.push(await between(bench, made.id, 'lambda.accepted', 'image.built', 1))
  }
  const ratio = median(kanikoTimes) / median(times)
  return [...lines, { what: 'the same by the kaniko pod', value: `${p(kanikoTimes)}: ${ratio.toFixed(0)} times as long`, reach: '>= 30 times', met: ratio >= 30 }]
}

const builders: ServiceName[] = ['packager', 'builder-watcher']

/** Bytes that the processes had in memory at most since `forget`. Linux tells. */
const peaks = async ({ kiln }: Bench): Promise<number[]> => Promise.all(builders.map(async (name) => {
  const status = await readFile(`/proc/${kiln.services[name].pid()}/status`, 'utf8')
  return Number(/^VmHWM:\s+(\d+) kB/m.exec(status)![1]) * 1_024
}))
const forget = async ({ kiln }: Bench): Promise<void> => { for (const name of builders) await writeFile(`/proc/${kiln.services[name].pid()}/clear_refs`, '5') }

async function large(bench: Bench, what: string, content: Buffer): Promise<Line[]> {
  await forget(bench)
  const idle = await peaks(bench)
  const { id } = await send(bench, 'POST', '/lambdas', zipOf({ 'lambda_main.py': main('large'), 'large.bin': content }))
  const time = await between(bench, id, 'lambda.accepted', 'image.built', 1)
  const grown = (await peaks(bench)).map((bytes, i) => (bytes - idle[i]!) / mega)
  return [
    { what: `the same with ${what}`, value: `${time} ms`, reach: '<= 2 s', met: time <= 2_000 },
    { what: `the same, peak memory above idle: ${builders.join(', ')}`, value: `${grown.map((one) => `${one.toFixed(0)} MB`).join(', ')}`, reach: '<= 120 MB', met: grown.every((one) => one <= 120) },
  ]
}

async function many(bench: Bench): Promise<Line> {
  const zips = Array.from({ length: atOnce }, (_, i) => small(`many ${i}`))
  const ids: string[] = []
  await each(zips, 16, async (zip) => { ids.push((await send(bench, 'POST', '/lambdas', zip)).id) })
  const ends = await Promise.all(ids.map(async (id) => {
    await fact(bench.ports, id, 'image.built', 1, patienceMs)
    const facts = await bench.ports.bus.history(id, 0, 100)
    return { from: Date.parse(facts.find((one) => one.fact === 'lambda.accepted')!.time), to: Date.parse(facts.find((one) => one.fact === 'image.built')!.time) }
  }))
  const seconds = (Math.max(...ends.map((one) => one.to)) - Math.min(...ends.map((one) => one.from))) / 1_000
  const rate = atOnce / seconds
  return { what: `${atOnce} code-only builds at once, first accepted to last image.built`, value: `${rate.toFixed(0)} a second, ${ends.length} succeeded`, reach: '>= 20 a second', met: rate >= 20 }
}

async function sameAgain(bench: Bench): Promise<Line> {
  const [one, other] = [small('one'), small('other')]
  const { id } = await send(bench, 'POST', '/lambdas', one)
  await fact(bench.ports, id, 'image.built', 1, patienceMs)
  await send(bench, 'PUT', `/lambdas/${id}`, other)
  await fact(bench.ports, id, 'image.built', 2, patienceMs)
  const times: number[] = []
  for (let i = 0; i < samples; i++) {
    const from = performance.now()
    const { version } = await send(bench, 'PUT', `/lambdas/${id}`, i % 2 ? other : one)
    const { data } = await fact(bench.ports, id, 'lambda.accepted', version)
    times.push(performance.now() - from)
    if (!data.image) throw new Error('it is built again')
  }
  return { what: 'the same content again: PUT sent to the version accepted with its image', value: p(times), reach: '<= 30 ms, no build', met: median(times) <= 30 }
}

async function firstAnswer(bench: Bench): Promise<Line> {
  const { id } = await send(bench, 'POST', '/lambdas', small('begin'))
  await fact(bench.ports, id, 'workload.running', 1, patienceMs)
  const times: number[] = []
  for (let i = 0; i < 10; i++) {
    const from = performance.now()
    const { version } = await send(bench, 'PUT', `/lambdas/${id}`, small(`answer ${i}`))
    for (let answered = ''; answered !== String(version);) {
      const answer = await fetch(`${bench.kiln.address}/lambdas/${id}/proxy/main`, { method: 'POST', body: '{}' })
      answered = answer.headers.get('lambda-version') ?? ''
      await answer.text()
    }
    times.push(performance.now() - from)
  }
  await fetch(`${bench.kiln.address}/lambdas/${id}`, { method: 'DELETE' })
  await fact(bench.ports, id, 'lambda.cleaned', undefined, patienceMs)
  return { what: 'PUT sent to the first answer of the new version on a real cluster, code only', value: p(times), reach: '<= 2.5 s', met: median(times) <= 2_500 }
}

async function on(without: ServiceName[], act: (bench: Bench) => Promise<Line[]>): Promise<Line[]> {
  const kiln = await kilnOnCluster({ IMAGE_BUILDERS: 'kaniko', MAX_ARCHIVE_BYTES: '128Mi' }, without)
  const ports = await standPorts(kiln.nats.url)
  try {
    if (!isReal) await pushBase(kiln.config.registry, await largeBase())
    return await act({ kiln, ports })
  } finally {
    await ports.close()
    await kiln.close()
  }
}

/** As the stand's own base image, and as large as Debian with Python. */
async function largeBase(): Promise<Parameters<typeof pushBase>[1]> {
  const { createHash } = await import('node:crypto')
  const requirements = await readFile(new URL('../../services/packager/runtime/requirements.txt', import.meta.url))
  return { labels: { 'kiln.runtime': createHash('sha256').update(requirements).digest('hex') }, bytes: 270 * mega }
}

export async function benchImages(): Promise<Line[]> {
  // Nothing is deployed: what runs would take the time of what is measured.
  const built = await on(['deployer'], async (bench) => [
    ...(await codeOnly(bench)), ...(await large(bench, '50 MB of code (text)', text(50 * mega))), ...(await large(bench, '50 MB that cannot be compressed', randomBytes(50 * mega))),
    await many(bench), await sameAgain(bench),
  ])
  return isReal ? [...built, ...(await on([], async (bench) => [await firstAnswer(bench)]))] : built
}
