// What every Workloads adapter promises, written against the port alone: it runs unchanged on each platform.
// Longer than 250 lines: a platform's promises and the lambdas that test them are read as one list.
import { randomUUID } from 'node:crypto'
import { EventEmitter, once } from 'node:events'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import type { Image } from '../../shared/builds.ts'
import { deployParameters, type GivenParameters } from '../../shared/parameters.ts'
import type { Observation, Workload, Workloads } from '../../shared/workloads.ts'

export interface WorkloadsUnderTest {
  workloads: Workloads
  /** An image whose code is these files; `run.py` is what runs. */
  image(files: Record<string, string>): Promise<Image>
  close(): Promise<void>
}

/** Python that serves what `answer` says: enough of the runtime to be run like it, and ready at once. */
export const server = (answer: string, before = ''): Record<string, string> => ({ 'run.py': `
import json, os, signal, socketserver, sys, threading, time, uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
${before}
life = str(uuid.uuid4())
class Answer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        body = json.dumps({"answer": ${JSON.stringify(answer)}, "pid": os.getpid(), "life": life, "env": dict(os.environ), "cwd": os.getcwd(),
            "config": json.load(open(os.environ["LAMBDA_USER_CONFIG"]))}).encode()
        if self.path.startswith("/end"): os._exit(3)
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = True
    def log_message(self, *args): pass
class Server(ThreadingHTTPServer):
    daemon_threads = False
    request_queue_size = 128
    def server_bind(self): socketserver.TCPServer.server_bind(self)  # without looking up a name
def end_with_parent():
    os.read(0, 1)  # a blocked sys.stdin would delay the end by a second
    os.killpg(0, signal.SIGKILL)
server = Server((os.environ["LAMBDA_HOST"], int(os.environ["LAMBDA_PORT"])), Answer)
if signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
if os.environ.get("LAMBDA_ENDS_WITH_PARENT") == "1": threading.Thread(target=end_with_parent, daemon=True).start()
print("serving", flush=True)
server.serve_forever(0.01)
server.server_close()
` })

export const crash = (line: string, code: number): Record<string, string> => ({ 'run.py': `import sys\nprint("begins")\nprint(${JSON.stringify(line)})\nsys.exit(${code})\n` })
/** It runs and listens on nothing. */
export const silent: Record<string, string> = { 'run.py': `
import os, signal, sys
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
print("not listening", flush=True)
sys.stdin.buffer.read() if os.environ.get("LAMBDA_ENDS_WITH_PARENT") == "1" else signal.pause()
` }

export const workload = (image: Image, deploy: GivenParameters['deploy_parameters'] = {}, more: Partial<Workload> = {}): Workload => ({
  id: randomUUID(), account: 'default', version: 1, epoch: 0, image, userConfig: {}, deploy: deployParameters.parse(deploy), ...more,
})

export interface Watched {
  /** All that was told so far. */
  seen: Observation[]
  /** The first observation, told already or yet to come, that is so; `from`: only from this place in `seen` on. */
  until(is: (observation: Observation) => boolean, from?: number): Promise<Observation>
  close(): void
}

/** A test that waits for what never comes says what came instead. */
const patienceMs = 60_000

export async function watched(workloads: Workloads): Promise<Watched> {
  const seen: Observation[] = []
  const events = new EventEmitter().setMaxListeners(0)
  const { close } = await workloads.observe((observation) => {
    seen.push(observation)
    events.emit('told')
  })
  return {
    seen, close,
    until(is, from = 0) {
      return new Promise((resolve, reject) => {
        const end = (): void => {
          clearTimeout(patience)
          events.off('told', look)
        }
        const look = (): void => {
          const found = seen.slice(from).find(is)
          if (!found) return
          end()
          resolve(found)
        }
        const patience = setTimeout(() => {
          end()
          reject(new Error(`it never came; there came ${JSON.stringify(seen.map(brief))}`))
        }, patienceMs)
        events.on('told', look)
        look()
      })
    },
  }
}

const brief = ({ version, shows, reason, message }: Observation): string => `${version} ${shows} ${reason}: ${message}`

export const runs = (version: number) => (o: Observation): boolean => o.version === version && o.shows === 'running' && o.endpoints.length > 0

export interface Answer {
  answer: string
  pid: number
  /** Another one in each process, on every platform. */
  life: string
  cwd: string
  env: Record<string, string>
  config: unknown
}

export async function ask(origin: string | undefined): Promise<Answer> {
  const response = await fetch(`${origin}/ask`)
  return (await response.json()) as Answer
}

const isRejected = (promise: Promise<unknown>): Promise<boolean> => promise.then(() => false, () => true)

/** Sends requests, one after the other, to whatever serves at that moment, until it is stopped: how many, and what failed. */
function requesting(watch: Watched): { answered(word: string): Promise<void>; stop(): Promise<{ answers: Set<string>; failures: unknown[] }> } {
  let stopped = false
  const answers = new Set<string>()
  const events = new EventEmitter()
  const failures: unknown[] = []
  const newest = (): string | undefined => [...watch.seen].filter((o) => o.endpoints.length > 0).sort((a, b) => b.version - a.version)[0]?.endpoints[0]
  const all = (async () => {
    while (!stopped) await ask(newest()).then(({ answer }) => { answers.add(answer); events.emit('answer') }, (error: unknown) => failures.push(error))
  })()
  return {
    async answered(word) {
      while (!answers.has(word)) await once(events, 'answer')
    },
    async stop() {
      stopped = true
      await all
      return { answers, failures }
    },
  }
}

/** `make` gives a platform that waits this long for a new version beside an old one. */
export function workloadsContract(name: string, make: (options: { readyTimeoutMs: number }) => Promise<WorkloadsUnderTest>): void {
  const test = suite<{ on: WorkloadsUnderTest; watch: Watched }>(name)
  test.before.each(async (context) => {
    context.on = await make({ readyTimeoutMs: 30_000 })
    context.watch = await watched(context.on.workloads)
  })
  test.after.each(({ on }) => on.close())

  test('what is applied runs, and its endpoints answer', async ({ on, watch }) => {
    const wanted = workload(await on.image(server('hello')), { env: { COLOUR: 'red' } }, { userConfig: { depth: 3 } })
    await on.workloads.apply(wanted)
    const { endpoints, pods, account, epoch } = await watch.until(runs(1))
    const { answer, env, config } = await ask(endpoints[0])
    assert.equal([answer, env['COLOUR'], config, account, epoch], ['hello', 'red', { depth: 3 }, 'default', 0])
    assert.equal([env['LAMBDA_ID'], env['LAMBDA_VERSION'], env['LAMBDA_WORKERS']], [wanted.id, '1', '1'])
    assert.equal(pods.map(({ state, ready, restarts }) => ({ state, ready, restarts })), [{ state: 'running', ready: true, restarts: 0 }])
    assert.equal(await on.workloads.list(), [{ id: wanted.id, version: 1, epoch: 0 }])
  })

  test('before it is ready it is waiting, without endpoints', async ({ on, watch }) => {
    await on.workloads.apply(workload(await on.image(server('hello'))))
    await watch.until(runs(1))
    assert.equal([watch.seen[0]?.shows, watch.seen[0]?.endpoints], ['waiting', []])
  })

  test('applying what is applied changes nothing', async ({ on, watch }) => {
    const wanted = workload(await on.image(server('hello')))
    await on.workloads.apply(wanted)
    const { endpoints } = await watch.until(runs(1))
    const { life } = await ask(endpoints[0])
    const before = watch.seen.length
    await on.workloads.apply(structuredClone(wanted))
    const again = await watched(on.workloads)
    assert.equal(again.seen.map(({ shows }) => shows), ['running'])
    assert.is((await ask(again.seen[0]!.endpoints[0])).life, life)
    assert.is(watch.seen.length, before)
  })

  test('whoever observes is told first what there is', async ({ on, watch }) => {
    const wanted = workload(await on.image(server('hello')))
    await on.workloads.apply(wanted)
    const told = await watch.until(runs(1))
    const late = await watched(on.workloads)
    assert.equal(late.seen, [told])
  })

  test('an update serves without one failed request', async ({ on, watch }) => {
    const old = workload(await on.image(server('old')))
    await on.workloads.apply(old)
    await watch.until(runs(1))
    const requests = requesting(watch)
    await on.workloads.apply({ ...old, version: 2, image: await on.image(server('new')) })
    await watch.until(runs(2))
    const replaced = await watch.until((o) => o.version === 1 && o.shows === 'terminated')
    await requests.answered('new')
    const { answers, failures } = await requests.stop()
    assert.equal(failures, [])
    assert.equal([...answers], ['old', 'new'])
    assert.equal([replaced.reason, replaced.endpoints], ['Replaced', []])
    const told = watch.seen.map(({ version, shows }) => `${version} ${shows}`)
    assert.ok(told.indexOf('2 running') < told.indexOf('1 terminated'), told.join())
    assert.equal(await on.workloads.list(), [{ id: old.id, version: 2, epoch: 0 }])
  })

  test('a new version that takes over has been told to run by nobody before', async ({ on, watch }) => {
    const old = workload(await on.image(server('old')), { pod_count: 2 })
    await on.workloads.apply(old)
    await watch.until((o) => o.endpoints.length === 2)
    await on.workloads.apply({ ...old, version: 2 })
    const first = await watch.until(runs(2))
    assert.is(first.endpoints.length, 2)
  })

  test('switching on again is another epoch, and starts anew', async ({ on, watch }) => {
    const wanted = workload(await on.image(server('hello')))
    await on.workloads.apply(wanted)
    const { life } = await ask((await watch.until(runs(1))).endpoints[0])
    await on.workloads.apply({ ...wanted, epoch: 1 })
    const { endpoints } = await watch.until((o) => runs(1)(o) && o.epoch === 1)
    assert.is.not((await ask(endpoints[0])).life, life)
    await watch.until((o) => o.epoch === 0 && o.shows === 'terminated')
  })

  test('an older version than the wanted one is ignored', async ({ on, watch }) => {
    const newer = workload(await on.image(server('new')), {}, { version: 2 })
    await on.workloads.apply(newer)
    await watch.until(runs(2))
    await on.workloads.apply({ ...newer, version: 1 })
    assert.equal(await on.workloads.list(), [{ id: newer.id, version: 2, epoch: 0 }])
    assert.not(watch.seen.some(({ version }) => version === 1))
  })

  test('a version that crashes tells how it ended and what it printed last', async ({ on, watch }) => {
    await on.workloads.apply(workload(await on.image(crash('no such colour', 7))))
    const crashed = await watch.until((o) => o.reason === 'CrashLoopBackOff')
    assert.equal([crashed.shows, crashed.endpoints, crashed.pods[0]?.exitCode, crashed.pods[0]?.reason], ['waiting', [], 7, 'CrashLoopBackOff'])
    assert.match(crashed.message, /exit code 7.*no such colour/)
    assert.equal(crashed.log, ['begins', 'no such colour'])
    await watch.until((o) => o.pods[0]?.restarts === 1)
  })

  test('a version that stands still says so, and the log says where', async ({ on, watch }) => {
    const image = await on.image({ 'run.py': 'import faulthandler, threading\nfaulthandler.dump_traceback_later(0.2, exit=True)\nthreading.Event().wait()\n' })
    await on.workloads.apply(workload(image))
    const crashed = await watch.until((o) => o.reason === 'CrashLoopBackOff')
    assert.match(crashed.message, /stood still for 0:00:00, and it ended itself/)
    assert.match(crashed.log!.join('\n'), /File ".*run.py", line 3 in <module>/)
  })

  test('more pods are more endpoints', async ({ on, watch }) => {
    const one = workload(await on.image(server('hello')))
    await on.workloads.apply(one)
    await watch.until(runs(1))
    await on.workloads.apply({ ...one, version: 2, deploy: { ...one.deploy, pod_count: 3 } })
    const { endpoints, pods, message } = await watch.until((o) => o.endpoints.length === 3)
    assert.is(new Set((await Promise.all(endpoints.map(ask))).map(({ life }) => life)).size, 3)
    assert.is(new Set(pods.map(({ name }) => name)).size, 3)
    assert.match(message, /3 of 3 pods are ready/)
  })

  test('no pods at all is terminated, and replaces what ran', async ({ on, watch }) => {
    const one = workload(await on.image(server('hello')))
    await on.workloads.apply(one)
    await watch.until(runs(1))
    await on.workloads.apply({ ...one, version: 2, deploy: { ...one.deploy, pod_count: 0 } })
    const none = await watch.until((o) => o.version === 2)
    assert.equal([none.shows, none.reason, none.endpoints, none.pods], ['terminated', 'ScaledToZero', [], []])
    await watch.until((o) => o.version === 1 && o.shows === 'terminated')
  })

  test('what is removed is gone when it resolves', async ({ on, watch }) => {
    const wanted = workload(await on.image(server('hello')))
    await on.workloads.apply(wanted)
    const { endpoints } = await watch.until(runs(1))
    await on.workloads.remove(wanted.id)
    assert.ok(await isRejected(ask(endpoints[0])))
    const last = watch.seen.at(-1)
    assert.equal([last?.shows, last?.reason, last?.endpoints], ['terminated', 'Removed', []])
    assert.equal([await on.workloads.list(), (await watched(on.workloads)).seen], [[], []])
    await on.workloads.remove(wanted.id)
  })

  test('what was removed can be applied again', async ({ on, watch }) => {
    const wanted = workload(await on.image(server('hello')))
    await on.workloads.apply(wanted)
    await watch.until(runs(1))
    await on.workloads.remove(wanted.id)
    await on.workloads.apply({ ...wanted, epoch: 1 })
    const { endpoints } = await watch.until((o) => runs(1)(o) && o.epoch === 1)
    assert.is((await ask(endpoints[0])).answer, 'hello')
  })

  test('what cannot be scheduled is pending, and says what is missing', async ({ on, watch }) => {
    await on.workloads.apply(workload(await on.image(server('hello')), { selector: { zone: 'moon' } }))
    const pending = await watch.until((o) => o.shows === 'pending')
    assert.equal([pending.reason, pending.endpoints], ['Unschedulable', []])
    assert.match(pending.message, /zone/)
  })

  test('a pod whose process ends comes back', async ({ on, watch }) => {
    await on.workloads.apply(workload(await on.image(server('hello')), { pod_count: 2 }))
    const both = await watch.until((o) => o.endpoints.length === 2)
    const from = watch.seen.length
    assert.ok(await isRejected(ask(`${both.endpoints[0]}/end`)))
    const one = await watch.until((o) => o.endpoints.length === 1, from)
    assert.equal([one.shows, one.endpoints[0]], ['running', both.endpoints[1]])
    assert.match(one.message, /1 of 2 pods/)
    const again = await watch.until((o) => o.endpoints.length === 2, from)
    assert.equal(again.pods.map(({ restarts, exitCode }) => ({ restarts, exitCode })).sort((a, b) => b.restarts - a.restarts), [{ restarts: 1, exitCode: 3 }, { restarts: 0, exitCode: null }])
  })

  test('a closed platform has ended or let go of everything and takes nothing more', async ({ on, watch }) => {
    const wanted = workload(await on.image(server('hello')))
    await on.workloads.apply(wanted)
    await watch.until(runs(1))
    await on.workloads.close()
    assert.ok(await isRejected(on.workloads.apply({ ...wanted, version: 2 })))
  })

  test.run()
  badUpdates(`${name}: bad updates`, make)
}

function badUpdates(name: string, make: (options: { readyTimeoutMs: number }) => Promise<WorkloadsUnderTest>): void {
  const test = suite<{ on: WorkloadsUnderTest; watch: Watched; old: Workload }>(name)
  test.before.each(async (context) => {
    context.on = await make({ readyTimeoutMs: 3_000 })
    context.watch = await watched(context.on.workloads)
    context.old = workload(await context.on.image(server('old')))
    await context.on.workloads.apply(context.old)
    await context.watch.until(runs(1))
  })
  test.after.each(({ on }) => on.close())

  const oldServes = async ({ on, watch, old }: { on: WorkloadsUnderTest; watch: Watched; old: Workload }): Promise<void> => {
    const { endpoints } = watch.seen.findLast(({ version }) => version === 1)!
    assert.is((await ask(endpoints[0])).answer, 'old')
    assert.equal(await on.workloads.list(), [{ id: old.id, version: 1, epoch: 0 }])
  }

  test('a new version that does not get ready fails, and the old one serves on', async (context) => {
    const { on, watch, old } = context
    await on.workloads.apply({ ...old, version: 2, image: await on.image(silent) })
    const failed = await watch.until((o) => o.shows === 'failed')
    assert.equal([failed.version, failed.reason, failed.pods, failed.endpoints], [2, 'ProgressDeadlineExceeded', [], []])
    assert.equal(failed.log, ['not listening'])
    await oldServes(context)
  })

  test('a new version that crashes fails with its last lines, and the old one serves on', async (context) => {
    const { on, watch, old } = context
    await on.workloads.apply({ ...old, version: 2, image: await on.image(crash('no such colour', 7)) })
    const failed = await watch.until((o) => o.shows === 'failed')
    assert.equal([failed.reason, failed.cause], ['CrashLoopBackOff', 'user'])
    assert.match(failed.message, /exit code 7.*no such colour/)
    assert.ok(failed.log?.includes('no such colour'))
    await oldServes(context)
  })

  test('applying again what failed changes nothing, and a newer version replaces the old one', async (context) => {
    const { on, watch, old } = context
    const bad = { ...old, version: 2, image: await on.image(crash('no such colour', 7)) }
    await on.workloads.apply(bad)
    await watch.until((o) => o.shows === 'failed')
    const before = watch.seen.length
    await on.workloads.apply(bad)
    assert.is(watch.seen.length, before)
    await oldServes(context)
    await on.workloads.apply({ ...old, version: 3 })
    await watch.until(runs(3))
    await watch.until((o) => o.version === 1 && o.shows === 'terminated')
  })

  test('a newer version supersedes one that is not ready yet', async ({ on, watch, old }) => {
    await on.workloads.apply({ ...old, version: 2, image: await on.image(silent) })
    await watch.until((o) => o.version === 2)
    await on.workloads.apply({ ...old, version: 3 })
    const half = await watch.until((o) => o.version === 2 && o.shows !== 'waiting')
    assert.equal([half.shows, half.reason], ['terminated', 'Replaced'])
    await watch.until(runs(3))
  })

  test('where nothing serves, a version goes on trying and is not given up', async ({ on, watch }) => {
    const alone = workload(await on.image(silent))
    await on.workloads.apply(alone)
    const late = await watch.until((o) => o.id === alone.id && o.reason === 'ProgressDeadlineExceeded')
    assert.is(late.shows, 'waiting')
    assert.ok((await on.workloads.list()).some(({ id }) => id === alone.id))
  })

  test.run()
}
