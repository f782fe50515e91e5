// Real Python lambdas on the local platform: how soon changed code answers, and what the gateway costs.
import { connect } from 'nats'
import type { Life } from '../../shared/lifecycle.ts'
import { writeZip } from '../../shared/zip.ts'
import { testKiln, type TestKiln } from '../stand/kiln.ts'
import { load } from './load.ts'
import { median, type Line } from './line.ts'

const zip = (n: number): Buffer => writeZip(new Map([['lambda_main.py', `async def main(request):\n    return {"n": ${n}}\n`]]))

async function send(kiln: TestKiln, method: 'POST' | 'PUT', path: string, n: number): Promise<{ lambda_id: string; version: number }> {
  const form = new FormData()
  form.set('archive', new Blob([new Uint8Array(zip(n))]), 'lambda.zip')
  const response = await fetch(`${kiln.address}${path}`, { method, body: form })
  if (!response.ok) throw new Error(await response.text())
  return (await response.json()) as { lambda_id: string; version: number }
}

/** Asks until this version answers, as a client would that wants to see its change. */
async function answers(kiln: TestKiln, id: string, version: number): Promise<void> {
  for (;;) {
    const response = await fetch(`${kiln.address}/lambdas/${id}/proxy/main`)
    await response.text()
    if (response.ok && response.headers.get('lambda-version') === String(version)) return
    await new Promise((resolve) => setTimeout(resolve, 5))
  }
}

export async function benchUpdate(): Promise<Line[]> {
  const kiln = await testKiln()
  await kiln.start()
  const { lambda_id } = await send(kiln, 'POST', '/lambdas', 0)
  await answers(kiln, lambda_id, 1)
  const times: number[] = []
  for (let n = 1; n <= 10; n++) {
    const from = performance.now()
    const { version } = await send(kiln, 'PUT', `/lambdas/${lambda_id}`, n)
    await answers(kiln, lambda_id, version)
    times.push(performance.now() - from)
  }
  await kiln.remove()
  const seen = median(times)
  return [{ what: 'code-only update of a running hello, PUT sent to first answer of the new version', value: `p50 ${seen.toFixed(0)} ms`, reach: '<= 1 s', met: seen <= 1_000 }]
}

export async function benchPython(): Promise<Line[]> {
  const kiln = await testKiln()
  await kiln.start()
  const { lambda_id } = await send(kiln, 'POST', '/lambdas', 0)
  await answers(kiln, lambda_id, 1)
  const direct = `${await endpointOf(kiln, lambda_id)}/main`
  const through = `${kiln.address}/lambdas/${lambda_id}/proxy/main`
  const rounds = { direct: [] as Awaited<ReturnType<typeof load>>[], through: [] as Awaited<ReturnType<typeof load>>[] }
  for (let round = 0; round < 3; round++) {
    rounds.direct.push(await load(direct))
    rounds.through.push(await load(through))
  }
  await kiln.remove()
  const rps = (one: typeof rounds.direct): number => median(one.map((r) => r.perSecond))
  const p50 = (one: typeof rounds.direct): number => median(one.map((r) => r.p50Ms))
  const errors = [...rounds.direct, ...rounds.through].reduce((sum, r) => sum + r.errors, 0)
  const [ratio, added] = [rps(rounds.through) / rps(rounds.direct), p50(rounds.through) - p50(rounds.direct)]
  return [{
    what: 'Python hello through the gateway against directly, 32 connections', reach: '>= 0.8 of the requests/s, added p50 <= 1 ms', met: ratio >= 0.8 && added <= 1 && errors === 0,
    value: `${rps(rounds.through).toFixed(0)} of ${rps(rounds.direct).toFixed(0)} requests/s: ${ratio.toFixed(2)}; added p50 ${added.toFixed(2)} ms; ${errors} errors`,
  }]
}

async function endpointOf(kiln: TestKiln, id: string): Promise<string> {
  const nc = await connect({ servers: kiln.natsUrl })
  const life = (await (await nc.jetstream().views.kv('statuses')).get(id))!.json<Life>()
  await nc.close()
  return life.versions['1']!.sight!.endpoints[0]!
}
