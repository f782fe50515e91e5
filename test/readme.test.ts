// What README and the examples' READMEs tell a newcomer to type is typed here, against a running kiln.
import { execFile } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { client } from './stand/client.ts'
import { testKiln, type TestKiln } from './stand/kiln.ts'

const root = fileURLToPath(new URL('..', import.meta.url))
const id = '0c0ffee0-0000-4000-8000-000000000001'
let kiln: TestKiln
let folder: string

/** In a shell that stops at the first error; the address and the temporary folder are this test's own. */
function typed(script: string): Promise<{ code: number; output: string }> {
  const own = script.replaceAll('localhost:8080', kiln.address).replaceAll('/tmp/', `${folder}/`).replaceAll('curl ', 'curl -sS ')
  return new Promise((resolve) => execFile('bash', ['-ec', own], { cwd: root }, (error, stdout, stderr) => resolve({ code: error ? Number(error.code) : 0, output: stdout + stderr })))
}
const problems = (output: string): string[] => output.match(/"status":[45]\d\d[^}]*/g) ?? []

const readme = suite('README')
readme.before(async () => {
  kiln = await testKiln()
  folder = await mkdtemp(join(tmpdir(), 'kiln-readme-'))
  assert.ok(await kiln.start(), kiln.output())
})
readme.after(async () => {
  await kiln.remove()
  await rm(folder, { recursive: true })
})

readme('the walk with curl goes to its end', async () => {
  const text = readFileSync(join(root, 'README.md'), 'utf8')
  const walk = text.slice(text.indexOf('## A walk with curl'), text.indexOf('## What a lambda looks like'))
  const blocks = [...walk.matchAll(/```sh\n([\s\S]*?)```/g)].map((match) => match[1]!)
  assert.ok(blocks.length >= 7)
  const http = client(kiln.address)
  const variable = `L=${kiln.address}/lambdas/${id}\n`
  for (const [i, block] of blocks.entries()) {
    // The next thing a person types comes when the last has happened.
    if (i >= 3) await http.fact(id, 'workload.running')
    const { code, output } = await typed(variable + block)
    // Following facts ends by curl's own time limit.
    assert.ok(code === 0 || code === 28, `${block}\n${output}`)
    assert.equal(problems(output), [], block)
    if (block.includes('proxy/main')) assert.match(output, '{"hello":"Ada"}')
  }
  assert.is((await http.get(`/lambdas/${id}`)).status, 404)
})
for (const name of readdirSync(join(root, 'examples'))) {
  readme(`examples/${name}: sent and called as its three lines say`, async () => {
    const text = readFileSync(join(root, 'examples', name, 'README.md'), 'utf8')
    assert.is(text.trim().split('\n').length, 3)
    const [send, call] = [/Send it: `(.*)`$/m, /Call it: `([^`]*)`/m].map((line) => line.exec(text)![1]!)
    const sent = await typed(send!)
    assert.equal([sent.code, problems(sent.output)], [0, []], sent.output)
    await client(kiln.address).fact(/"lambda_id":"([^"]+)"/.exec(sent.output)![1]!, 'workload.running')
    const { output } = await typed(call!)
    const expected = /answers `([^`]*)`/.exec(text)?.[1]
    assert.ok(expected && output.includes(expected), `${output} instead of ${expected}`)
  })
}
readme.run()
