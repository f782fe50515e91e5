// nats-server is killed and started again in the middle of fifty lambdas; nothing is lost, nothing is said twice.
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { fact } from './stand/await.ts'
import { helloZip, site } from './stand/site.ts'

const lambdas = 50
const idOf = (n: number): string => `00000000-0000-4000-8000-${String(n).padStart(12, '0')}`

const restart = suite('nats-server restarts')

restart('fifty lambdas on their way: all run, each built once, each fact once', async () => {
  const one = await site({ buildConcurrency: 4 })
  const send = async (n: number): Promise<boolean> => {
    const form = new FormData()
    form.set('archive', new Blob([new Uint8Array(helloZip(`async def main(request):\n    return {"n": ${n}}\n`))]))
    form.set('parameters', JSON.stringify({ lambda_id: idOf(n) }))
    const response = await fetch(`${one.address}/lambdas`, { method: 'POST', body: form })
    assert.ok(response.ok || response.status === 503, `${response.status} ${await response.text()}`)
    return response.ok
  }
  const sent = Promise.all(Array.from({ length: lambdas }, async (_, n) => { while (!(await send(n))); }))
  await fact(one.ports, idOf(lambdas / 5), 'lambda.accepted')
  await one.nats.restart()
  await sent
  for (let n = 0; n < lambdas; n++) {
    await fact(one.ports, idOf(n), 'workload.running', 1, 60_000)
    const facts = await one.ports.bus.history(idOf(n), 0, 1_000)
    for (const once of ['lambda.accepted', 'context.packaged', 'image.built']) assert.is(facts.filter((f) => f.fact === once).length, 1, `${once} of ${n}`)
  }
  const counts = new Map<string, number>()
  for (const { id } of one.ports.builds.ran) counts.set(id, (counts.get(id) ?? 0) + 1)
  assert.is(counts.size, lambdas)
  await one.close()
})
restart.run()
