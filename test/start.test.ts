// `npm start` as a newcomer meets it: the first lambda, Ctrl-C, and the second start.
import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { createServer, type AddressInfo } from 'node:net'
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { client } from './stand/client.ts'

const root = fileURLToPath(new URL('..', import.meta.url))

interface Terminal {
  npm: ChildProcess
  printed: string[]
}

/** Runs `npm start` in a session of its own and resolves when it says that it stays up. */
async function npmStart(dataDir: string, natsPort: number): Promise<Terminal> {
  const npm = spawn('npm', ['start'], { cwd: root, detached: true, stdio: ['ignore', 'pipe', 'pipe'], env: { ...process.env, DATA_DIR: dataDir, PORT: '0', NATS_PORT: String(natsPort) } })
  const printed: string[] = []
  createInterface({ input: npm.stderr! }).on('line', (line) => printed.push(line))
  for await (const line of createInterface({ input: npm.stdout! })) {
    printed.push(line)
    if (line.includes('Ctrl-C stops everything.')) {
      npm.stdout!.resume()
      return { npm, printed }
    }
  }
  throw new Error(printed.join('\n'))
}

/** As a terminal does it: SIGINT to everybody in the foreground. */
async function ctrlC({ npm }: Terminal): Promise<void> {
  const exited = once(npm, 'exit')
  process.kill(-npm.pid!, 'SIGINT')
  await exited
}

const addressIn = ({ printed }: Terminal): string => /(http:\/\/\S+)/.exec(printed.find((line) => line.includes('kiln  '))!)![1]!
async function pidsIn(dataDir: string): Promise<number[]> {
  const names = await readdir(join(dataDir, 'processes'))
  return Promise.all(names.map(async (name) => (JSON.parse(await readFile(join(dataDir, 'processes', name), 'utf8')) as { process: { pid: number } }).process.pid))
}
const isAlive = (pid: number): boolean => { try { process.kill(pid, 0); return true } catch { return false } }

const start = suite('npm start')
start('fires a first lambda, shows each step, ends with Ctrl-C; a second start runs it again without a build', async () => {
  const dataDir = await mkdtemp(join(tmpdir(), 'kiln-start-'))
  const taken = createServer().listen(0, '127.0.0.1')
  await once(taken, 'listening')
  const { port } = taken.address() as AddressInfo
  const first = await npmStart(dataDir, port)
  const text = first.printed.join('\n')
  for (const step of ['lambda.accepted', 'context.packaged', 'image.built', 'workload.running', 'It answers: {"hello":"you"}', 'curl ']) assert.match(text, step)
  // The port that was wished for is somebody's: a free one was taken, and said.
  assert.match(text, /NATS +nats:\/\/127\.0\.0\.1:\d+/)
  assert.not.match(text, `127.0.0.1:${port}`)
  taken.close()
  const pids = await pidsIn(dataDir)
  assert.ok(pids.length >= 2 && pids.every(isAlive))
  await ctrlC(first)
  assert.equal(pids.filter(isAlive), [])

  const second = await npmStart(dataDir, port)
  assert.match(second.printed.join('\n'), '1 lambda is known')
  const http = client(addressIn(second))
  const { lambda_id } = (await http.get('/lambdas')).body.lambdas[0]
  const { events } = (await http.get(`/lambdas/${lambda_id}/events`)).body
  await http.fact(lambda_id, 'workload.running')
  assert.is(events.filter((e: any) => e.fact === 'image.built').length, 1)
  for (let answer = null; answer?.status !== 200;) answer = await http.send('POST', `/lambdas/${lambda_id}/proxy/main`)
  const again = await pidsIn(dataDir)
  await ctrlC(second)
  assert.equal(again.filter(isAlive), [])
  await rm(dataDir, { recursive: true })
})
start('settings that are wrong: one message with all of them, and nothing is started', async () => {
  const npm = spawn(process.execPath, ['deploy/start.mjs'], { cwd: root, stdio: ['ignore', 'ignore', 'pipe'], env: { ...process.env, PORT: 'x', LOG_LEVEL: 'loud' } })
  let text = ''
  npm.stderr!.on('data', (chunk) => { text += chunk })
  const [code] = await once(npm, 'close')
  assert.is(code, 1)
  assert.match(text, 'PORT')
  assert.match(text, 'LOG_LEVEL')
})
start.run()
