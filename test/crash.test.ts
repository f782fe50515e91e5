// Twenty times SIGKILL at random moments while fifty lambdas are created; in the end all run, each built once.
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { fact, gate } from './stand/await.ts'
import { testKiln, type TestKiln } from './stand/kiln.ts'
import { standPorts, type StandPorts } from './stand/ports.ts'
import { servingVersion } from '../shared/lifecycle.ts'
import { writeZip } from '../shared/zip.ts'

const lambdas = 50
const kills = 20

/** Seeded, so that a failure can be looked at again: KILN_TEST_SEED. */
const seed = Number(process.env['KILN_TEST_SEED'] ?? Date.now() % 100_000)
let state = seed
const random = (): number => {
  state = (state * 1_103_515_245 + 12_345) % 2_147_483_648
  return state / 2_147_483_648
}

const idOf = (n: number): string => `00000000-0000-4000-8000-${String(n).padStart(12, '0')}`
const zipOf = (n: number): Buffer => writeZip(new Map([['lambda_main.py', `async def main(request):\n    return {"number": ${n}}\n`]]))

/** Sends it as any client would: again, under the same id, until it is answered. */
async function send(kiln: TestKiln, n: number): Promise<boolean> {
  const form = new FormData()
  form.set('archive', new Blob([new Uint8Array(zipOf(n))]), 'lambda.zip')
  form.set('parameters', JSON.stringify({ lambda_id: idOf(n), name: `crash-${n}` }))
  const response = await fetch(`${kiln.address}/lambdas`, { method: 'POST', body: form }).catch(() => null)
  if (response && response.status >= 400 && response.status < 500) throw new Error(`lambda ${n}: ${response.status} ${await response.text()}`)
  return response?.ok ?? false
}

const crash = suite(`SIGKILL, seed ${seed}`)

crash('fifty lambdas, twenty kills: all run, each built once, each fact once', async () => {
  const kiln = await testKiln({ BUILD_CONCURRENCY: '4' })
  const waiting = new Set(Array.from({ length: lambdas }, (_, n) => n))
  try {
    for (let life = 1; life <= kills; life++) {
      const ready = kiln.start()
      // Some die while they start, most while lambdas are on their way.
      const moment = new Promise((resolve) => setTimeout(resolve, 300 + random() * 2_700))
      const sending = ready.then(async () => {
        for (const n of [...waiting].slice(0, Math.ceil(waiting.size / (kills - life + 1)))) if (await send(kiln, n)) waiting.delete(n)
      })
      await moment
      await kiln.kill()
      await sending
    }
    assert.ok(await kiln.start(), kiln.output())
    while (waiting.size > 0) for (const n of waiting) if (await send(kiln, n)) waiting.delete(n)
    await check(kiln)
    assert.is(await kiln.stop(), 0)
    assert.equal(await kiln.leftovers(), [])
  } finally {
    await kiln.remove()
  }
})

async function check(kiln: TestKiln): Promise<void> {
  const ports = await standPorts(kiln.natsUrl)
  try {
    await checkEach(kiln, ports)
  } finally {
    await ports.close()
  }
}

async function checkEach(kiln: TestKiln, ports: StandPorts): Promise<void> {
  for (let n = 0; n < lambdas; n++) {
    await fact(ports, idOf(n), 'image.built', 1, 120_000)
    await running(ports, idOf(n))
    const answer = await fetch(`${kiln.address}/lambdas/${idOf(n)}/proxy/main`, { method: 'POST', body: '{}' })
    assert.equal([answer.status, await answer.json()], [200, { number: n }])
    const facts = await ports.bus.history(idOf(n), 0, 10_000)
    for (const once of ['lambda.accepted', 'context.packaged', 'image.started', 'image.built', 'workload.applied']) {
      assert.is(facts.filter((one) => one.fact === once).length, 1, `${once} of lambda ${n}`)
    }
    // Those that were quick never waited.
    assert.ok(facts.filter((one) => one.fact === 'image.queued').length <= 1, `image.queued of lambda ${n}`)
    const { timeline } = (await (await fetch(`${kiln.address}/lambdas/${idOf(n)}`)).json()) as { timeline: Array<{ fact: string }> }
    assert.is(new Set(timeline.map((one) => one.fact)).size, timeline.length)
  }
}

/** Until the status says that it serves. */
async function running(ports: StandPorts, id: string): Promise<void> {
  const serves = gate()
  const following = await ports.statuses.follow((life) => { if (life.id === id && servingVersion(life) !== null) serves.open() })
  await serves.promise
  following.close()
}
crash.run()
