// Longer than 250 lines: what only this platform promises of its lambdas is read as one list.
import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { mkdir, mkdtemp, readdir, readFile, rm, stat, symlink, writeFile } from 'node:fs/promises'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { writeImage } from '../shared/local/images.ts'
import { findPrlimit } from '../shared/local/limits.ts'
import { identify } from '../shared/local/identity.ts'
import { processes } from '../shared/local/processes.ts'
import { localWorkloads, type LocalWorkloadsOptions } from '../shared/local/workloads.ts'
import { silentLog } from '../shared/log.ts'
import type { LogOf, Logs } from '../shared/logs.ts'
import type { Workload } from '../shared/workloads.ts'
import { contextArchive } from './contract/builds.ts'
import { ask, crash, runs, server, silent, watched, workload, workloadsContract, type Watched, type WorkloadsUnderTest } from './contract/workloads.ts'

const python = process.env['KILN_TEST_PYTHON'] || 'python3'
const environmentKey = 'e'.repeat(64)

interface Local extends WorkloadsUnderTest {
  /** Ends a pod's processes from outside. */
  kill(pod: string): Promise<void>
  folder: string
  logs: Pick<Logs, 'writer'>
  written: Array<{ of: LogOf; pod: string; run: number; line: string }>
}

let made: Promise<string> | undefined

/** One for all tests. */
function bareEnvironment(): Promise<string> {
  made ??= mkdtemp(join(tmpdir(), 'kiln-python-')).then(async (folder) => {
    await promisify(execFile)(python, ['-m', 'venv', '--without-pip', folder])
    return folder
  })
  return made
}

/** Images here are code beside a bare environment: what builds make of contexts is theirs to test. */
async function local(options: Partial<LocalWorkloadsOptions> = {}): Promise<Local> {
  const folder = await mkdtemp(join(tmpdir(), 'kiln-workloads-'))
  await mkdir(join(folder, 'environments'))
  await symlink(await bareEnvironment(), join(folder, 'environments', environmentKey))
  const written: Local['written'] = []
  const logs = { writer: (of: LogOf, pod: string, run = 0) => ({ line: (line: string) => void written.push({ of, pod, run, line }), flush: async () => undefined }) }
  const children = processes(join(folder, 'processes'))
  const workloads = localWorkloads({
    folder, processes: children, logs, log: silentLog, inherited: { ...process.env, KILN_SECRET: 'x' }, drainMs: 100, restart: { firstMs: 20, mostMs: 60_000 }, ...options,
  })
  return {
    workloads, folder, logs, written,
    async image(files) {
      const { digest } = await contextArchive(files)
      const code = join(folder, 'code', digest, 'lambda')
      await mkdir(code, { recursive: true })
      for (const [name, text] of Object.entries(files)) await writeFile(join(code, name), text)
      return writeImage(folder, { environment: environmentKey, context: digest, variables: null })
    },
    async kill(pod) {
      const { pid } = await recordOf(folder, pod)
      process.kill(pid, 'SIGKILL')
    },
    async close() {
      await workloads.close()
      await rm(folder, { recursive: true, force: true })
    },
  }
}

/** The process that got the configuration of this pod. */
async function recordOf(folder: string, pod: string): Promise<{ pid: number }> {
  const pids = (await readdir(join(folder, 'processes'))).map((name) => parseInt(name, 10))
  for (const pid of pids) {
    const environment = await readFile(`/proc/${pid}/environ`, 'utf8').catch(() => '')
    if (environment.includes(`.config-${pod}-`)) return { pid }
  }
  throw new Error(`${pod} does not run`)
}

workloadsContract('workloads, on this machine', (options) => local(options))

const test = suite<{ on: Local; watch: Watched }>('local workloads')
test.before.each(async (context) => {
  context.on = await local({ graceMs: 500 })
  context.watch = await watched(context.on.workloads)
})
test.after.each(({ on }) => on.close())
test.after(async () => rm(await bareEnvironment(), { recursive: true, force: true }))

test('a lambda gets of kiln\'s environment only what is harmless', async ({ on, watch }) => {
  await on.workloads.apply(workload(await on.image(server('hello')), { env: { LAMBDA_PORT: '1', MINE: 'yes' } }))
  const { env } = await ask((await watch.until(runs(1))).endpoints[0])
  assert.equal([env['KILN_SECRET'], env['MINE'], env['PYTHONUNBUFFERED'], env['HOME']], [undefined, 'yes', '1', process.env['HOME']])
  assert.is.not(env['LAMBDA_PORT'], '1')
})

test('only its owner may read a lambda\'s configuration, and it is gone with the lambda', async ({ on, watch }) => {
  const wanted = workload(await on.image(server('hello')), {}, { userConfig: { password: 'x' } })
  await on.workloads.apply(wanted)
  const { env } = await ask((await watch.until(runs(1))).endpoints[0])
  assert.is((await stat(env['LAMBDA_USER_CONFIG']!)).mode & 0o777, 0o600)
  await on.workloads.remove(wanted.id)
  assert.not(existsSync(env['LAMBDA_USER_CONFIG']!))
})

test('what a lambda prints is logged under its pod, with a new run after each start', async ({ on, watch }) => {
  const wanted = workload(await on.image(crash('no such colour', 1)))
  await on.workloads.apply(wanted)
  const { pods } = await watch.until((o) => o.pods[0]?.restarts === 2)
  const lines = on.written.filter(({ run }) => run < 2).map(({ of, pod, run, line }) => [of.id === wanted.id && of.kind, pod === pods[0]!.name, run, line])
  assert.equal(lines, [['run', true, 0, 'begins'], ['run', true, 0, 'no such colour'], ['run', true, 1, 'begins'], ['run', true, 1, 'no such colour']])
})

test('a lambda that ignores SIGTERM, and what it forked, is gone when it is removed', async ({ on, watch }) => {
  const stubborn = 'signal.signal(signal.SIGTERM, signal.SIG_IGN)\nchild = os.fork()\nif child == 0:\n    while True: signal.pause()\nprint("child", child, flush=True)'
  const wanted = workload(await on.image(server('hello', stubborn)))
  await on.workloads.apply(wanted)
  const { endpoints } = await watch.until(runs(1))
  const { pid } = await ask(endpoints[0])
  const child = Number(on.written.find(({ line }) => line.startsWith('child '))?.line.slice(6))
  assert.ok(await identify(child))
  await on.workloads.remove(wanted.id)
  assert.equal([await identify(pid), await identify(child)], [null, null])
})

test('what a lambda forked goes with it when it crashes', async ({ on, watch }) => {
  const files = { 'run.py': 'import os, signal\nchild = os.fork()\nif child == 0:\n    while True: signal.pause()\nprint(child, flush=True)\nos._exit(1)\n' }
  await on.workloads.apply(workload(await on.image(files)))
  const crashed = await watch.until((o) => o.reason === 'CrashLoopBackOff')
  assert.is(await identify(Number(crashed.log?.[0])), null)
})

test('a killed kiln leaves no lambda running, and the next one removes its configuration', async ({ on }) => {
  const wanted = workload(await on.image(server('hello', 'if os.fork() == 0:\n    signal.pause()')))
  const kiln = otherKiln(on.folder, wanted)
  const [said] = (await once(kiln.stdout, 'data')) as [Buffer]
  const { pid, port } = JSON.parse(String(said)) as { pid: number; port: number }
  assert.is((await identify(pid))?.pid, pid)
  const hungUp = once(connect(port, '127.0.0.1').on('error', () => undefined), 'close')
  const ended = once(kiln, 'exit')
  kiln.kill('SIGKILL')
  await Promise.all([ended, hungUp])
  assert.ok((await readdir(on.folder)).some((name) => name.startsWith('.config-')))
  await localWorkloads({ folder: on.folder, processes: processes(on.folder), logs: on.logs, log: silentLog, inherited: {} }).close()
  assert.not((await readdir(on.folder)).some((name) => name.startsWith('.config-')))
})

/** A kiln in its own process, that runs this and says where. */
function otherKiln(folder: string, wanted: Workload) {
  const at = (path: string): string => JSON.stringify(fileURLToPath(new URL(path, import.meta.url)))
  const program = `
    import { localWorkloads } from ${at('../shared/local/workloads.ts')}
    import { processes } from ${at('../shared/local/processes.ts')}
    import { silentLog } from ${at('../shared/log.ts')}
    const [folder, wanted] = process.argv.slice(1)
    const logs = { writer: () => ({ line() {}, flush: async () => {} }) }
    const workloads = localWorkloads({ folder, processes: processes(folder + '/processes'), logs, log: silentLog, inherited: process.env })
    await workloads.observe(async ({ endpoints: [origin] }) => {
      if (!origin) return
      const { pid } = await (await fetch(origin)).json()
      console.log(JSON.stringify({ pid, port: Number(new URL(origin).port) }))
    })
    await workloads.apply(JSON.parse(wanted))
  `
  return spawn(process.execPath, ['--import', 'tsx', '--input-type=module', '-e', program, folder, JSON.stringify(wanted)], { stdio: ['ignore', 'pipe', 'inherit'] })
}

test('a replaced version still answers requests that are on their way', async () => {
  const on = await local({ drainMs: 600_000 })
  const watch = await watched(on.workloads)
  const old = workload(await on.image(server('old')))
  await on.workloads.apply(old)
  const { endpoints } = await watch.until(runs(1))
  await on.workloads.apply({ ...old, version: 2, image: await on.image(server('new')) })
  await watch.until(runs(2))
  assert.is((await ask(endpoints[0])).answer, 'old')
  await on.workloads.remove(old.id)
  assert.equal(watch.seen.slice(-2).map(({ shows, endpoints }) => [shows, endpoints]), [['terminated', []], ['terminated', []]])
  await on.close()
})

test('a lambda that closes its output serves on', async ({ on, watch }) => {
  await on.workloads.apply(workload(await on.image(server('hello', 'import builtins\nbuiltins.print = lambda *a, **k: None\nos.close(1); os.close(2)'))))
  assert.is((await ask((await watch.until(runs(1))).endpoints[0])).answer, 'hello')
})

test('a lambda that prints without end does not keep others from starting', async ({ on, watch }) => {
  const loud = workload(await on.image({ 'run.py': 'import sys\nwhile True: sys.stdout.write("y\\n" * 100000 + "x" * 1000000)\n' }), {})
  await on.workloads.apply(loud)
  await watch.until((o) => o.id === loud.id)
  const calm = workload(await on.image(server('calm')))
  await on.workloads.apply(calm)
  assert.is((await ask((await watch.until((o) => o.id === calm.id && runs(1)(o))).endpoints[0])).answer, 'calm')
  await on.workloads.remove(loud.id)
})

test('a lambda that does not answer any more is started again', async () => {
  const on = await local({ probing: { startingMs: 20, everyMs: 20, limitMs: 200, failures: 2 } })
  const watch = await watched(on.workloads)
  await on.workloads.apply(workload(await on.image(server('hello'))))
  const { pods, endpoints } = await watch.until(runs(1))
  const { pid } = await ask(endpoints[0])
  process.kill(pid, 'SIGSTOP')
  const unhealthy = await watch.until((o) => o.reason === 'Unhealthy')
  assert.equal([unhealthy.shows, unhealthy.endpoints], ['waiting', []])
  process.kill(pid, 'SIGCONT')
  const again = await watch.until((o) => runs(1)(o) && o.pods[0]!.restarts === 1)
  assert.is(again.pods[0]!.name, pods[0]!.name)
  await on.close()
})

if (findPrlimit(process.env['PATH'] ?? '')) {
  test('a lambda beyond its memory limit tells so, with the limit', async ({ on, watch }) => {
    await on.workloads.apply(workload(await on.image({ 'run.py': 'x = bytearray(512 * 1024 * 1024)\n' }), { resources: { limits: { memory: '200Mi' } } }))
    const killed = await watch.until((o) => o.reason === 'OOMKilled')
    assert.match(killed.message, /200Mi/)
  })

  test('a lambda has 4096 open files at most', async ({ on, watch }) => {
    await on.workloads.apply(workload(await on.image({ 'run.py': 'import resource\nraise SystemExit(str(resource.getrlimit(resource.RLIMIT_NOFILE)))\n' })))
    assert.match((await watch.until((o) => o.reason === 'CrashLoopBackOff')).message, /\(4096, 4096\)/)
  })
}

test('a pod that is killed from outside says by which signal, and comes back', async ({ on, watch }) => {
  await on.workloads.apply(workload(await on.image(server('hello'))))
  await on.kill((await watch.until(runs(1))).pods[0]!.name)
  const killed = await watch.until((o) => o.pods[0]?.signal !== null)
  assert.is(killed.pods[0]?.signal, 'SIGKILL')
  await watch.until((o) => runs(1)(o) && o.pods[0]?.restarts === 1)
})

test('a lambda with a memory limit that is killed from outside counts as out of memory', async ({ on, watch }) => {
  await on.workloads.apply(workload(await on.image(server('hello')), { resources: { limits: { memory: '1Gi' } } }))
  await on.kill((await watch.until(runs(1))).pods[0]!.name)
  assert.match((await watch.until((o) => o.reason === 'OOMKilled')).message, /1Gi/)
})

test('a GPU, labels and secrets that this machine has not got are all named at once', async ({ on, watch }) => {
  const image = await on.image(silent)
  await on.workloads.close()
  const other = await local({ gpuDevice: '/dev/there-is-none' })
  const seen = await watched(other.workloads)
  await other.workloads.apply(workload(image, { enable_gpu: true, selector: { zone: 'moon' }, secrets: { TOKEN: { name: 'vault', key: 'token' } } }))
  const { message, pods } = await seen.until((o) => o.shows === 'pending')
  for (const word of [/GPU/, /zone=moon/, /vault\/token/]) assert.match(message, word)
  assert.equal(pods.map(({ state }) => state), ['pending'])
  assert.is(watch.seen.length, 0)
  await other.close()
})

test('an image that is missing is waited for', async ({ on, watch }) => {
  const image = await on.image(server('hello'))
  const [note] = await readdir(join(on.folder, 'images'))
  const text = await readFile(join(on.folder, 'images', note!))
  await rm(join(on.folder, 'images', note!))
  await on.workloads.apply(workload(image))
  const missing = await watch.until((o) => o.reason === 'ImageMissing')
  assert.equal([missing.shows, missing.message.includes(image.reference)], ['waiting', true])
  await writeFile(join(on.folder, 'images', note!), text)
  await watch.until(runs(1))
})

test('with autoscaling, its least number of pods runs', async ({ on, watch }) => {
  await on.workloads.apply(workload(await on.image(server('hello')), { pod_count: 1, autoscaling: { min: 2, max: 5 } }))
  await watch.until((o) => o.endpoints.length === 2)
})

test('an environment that no process can have is told as a failed start', async ({ on, watch }) => {
  await on.workloads.apply(workload(await on.image(silent), { env: { BAD: 'a\0b' } }))
  assert.is((await watch.until((o) => o.reason === 'CannotStart')).shows, 'waiting')
})

test('an observer that breaks breaks nothing', async ({ on, watch }) => {
  await on.workloads.observe(() => { throw new Error('broken') })
  await on.workloads.apply(workload(await on.image(server('hello'))))
  await watch.until(runs(1))
})

test.run()
