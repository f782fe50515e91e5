// How pods of the stand-in cluster end, what can be read of them, and that nothing is left of them, however the cluster itself ends.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, readdir, rm, watch } from 'node:fs/promises'
import { connect, createServer, type AddressInfo, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { gate } from './stand/await.ts'
import { standCluster } from './stand/kubernetes/cluster.ts'
import { named, observedPods, stateOf, statusOf } from './stand/kubernetes/observed-pods.ts'
import { deployments, isReady, isRolledOut, lambda, observed, pods, secrets, type Observed } from './stand/kubernetes/observed.ts'

const on: Observed = await observed()
/** Its seconds are so long that nothing but what is waited for happens in it. */
const slow: Observed = await observed({ timeScale: 60, phaseLagMs: 0 })
const { create, seen, running, ended, log, remove } = observedPods(on)
const slowly = observedPods(slow)
const test = suite('ends of pods of a stand-in cluster')
test.after(() => Promise.all([on.close(), slow.close()]).then(() => undefined))

/** A signal that is ignored stays so for the program that comes after. */
const ignoring = ['sh', '-c', 'trap "" TERM; exec tail -f /dev/null']

test('what ignores SIGTERM has its grace, and then ends with 137', async () => {
  await create('stubborn', { command: ignoring }, { terminationGracePeriodSeconds: 5 })
  await running('stubborn')
  const last = await remove('stubborn')
  assert.equal([last.status.phase, stateOf(last).terminated.exitCode, stateOf(last).terminated.reason], ['Failed', 137, 'Error'])
})

/** What it prints, as it comes. */
async function following({ api }: Observed, name: string): Promise<ReadableStreamDefaultReader<string>> {
  const response = await fetch(`${api.address}${pods}/${name}/log?follow=true`, { headers: { authorization: 'Bearer any' } })
  return response.body!.pipeThrough(new TextDecoderStream()).getReader()
}

test('a hook that waits keeps SIGTERM away, and a DELETE that leaves less time does not wait for it', async () => {
  await slowly.create('hooked', { lifecycle: { preStop: { sleep: { seconds: 5 } } } })
  const { status: { podIP } } = await slowly.running('hooked')
  const reader = await following(slow, 'hooked')
  assert.is((await reader.read()).value, 'it serves\n')
  await slow.send('DELETE', `${pods}/hooked`)
  assert.is((await fetch(`http://${podIP}:8000/tag`)).status, 200)
  const open = connect(8000, podIP)
  await once(open, 'connect')
  const closed = closing(open)
  const gone = slow.until('pods', (pod, type) => named('hooked')(pod) && type === 'DELETED')
  await slow.send('DELETE', `${pods}/hooked`, { gracePeriodSeconds: 0 })
  await gone
  await closed
})

test('a second DELETE may shorten the grace, and never lengthen it', async () => {
  await create('hurried', { command: ignoring }, { terminationGracePeriodSeconds: 100_000 })
  await running('hurried')
  const gone = on.until('pods', (pod, type) => named('hurried')(pod) && type === 'DELETED')
  const left = async (gracePeriodSeconds?: number): Promise<number> => (await on.send('DELETE', `${pods}/hurried`, { gracePeriodSeconds })).body.metadata.deletionGracePeriodSeconds
  assert.equal([await left(), await left(200_000), await left(1)], [100_000, 100_000, 1])
  assert.is(stateOf(await gone).terminated.exitCode, 137)
})

test('what a container has started ends with it', async () => {
  const { server, port, connected } = await listening()
  const child = `python3 -c "import socket; s = socket.create_connection(('127.0.0.1', ${port})); print('it runs', flush=True); s.recv(1)"`
  await create('parent', { command: ['sh', '-c', `(${child} &) | read -r line`] })
  const closed = closing(await connected)
  await ended('parent')
  await closed
  server.close()
  await remove('parent')
})

/** A server of this process, and its first connection. */
async function listening(): Promise<{ server: ReturnType<typeof createServer>; port: number; connected: Promise<Socket> }> {
  const { promise: connected, open } = gate<Socket>()
  const server = createServer(open).listen(0, '127.0.0.1')
  await once(server, 'listening')
  return { server, port: (server.address() as AddressInfo).port, connected }
}

/** Resolves when the other side is gone, however it went. */
const closing = (socket: Socket): Promise<void> => new Promise((resolve) => socket.on('error', () => undefined).once('close', () => resolve()).resume())

test('logs: all of it, the end of it, from a time on, and with times', async () => {
  await create('printing', { command: ['sh', '-c', 'echo one; echo two >&2; echo three'] })
  await ended('printing')
  assert.is(await log('printing'), 'one\ntwo\nthree\n')
  assert.is(await log('printing', '?tailLines=2'), 'two\nthree\n')
  assert.is(await log('printing', '?limitBytes=6'), 'one\ntw')
  const timed = (await log('printing', '?timestamps=true')).trim().split('\n') as string[]
  assert.ok(timed.every((line) => /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z \w+$/.test(line)), timed.join())
  assert.is(await log('printing', `?sinceTime=${timed[1]!.split(' ')[0]}`), 'two\nthree\n')
  assert.is((await log('printing', '?previous=true')).message, 'previous terminated container "main" in pod "printing" not found')
  assert.is((await log('printing', '?container=nope')).message, 'container nope is not valid for pod printing')
  await remove('printing')
})

test('of a container that is started again only the last run is kept, and the one before is told to be lost', async () => {
  await create('again', { command: ['sh', '-c', 'echo run; exit 1'] }, { restartPolicy: 'Always' })
  await seen('again', (pod) => stateOf(pod).waiting?.reason === 'CrashLoopBackOff')
  assert.equal([await log('again'), await log('again', '?previous=true')], ['run\n', 'run\n'])
  await remove('again')

  await slowly.create('again', { command: ['sh', '-c', 'echo run; exit 1'] }, { restartPolicy: 'Always' })
  const ended = await slowly.seen('again', (pod) => statusOf(pod).restartCount === 1 && 'terminated' in stateOf(pod))
  const { lastState } = statusOf(ended)
  assert.equal([await slowly.log('again'), await slowly.log('again', '?previous=true')], ['run\n', `unable to retrieve container logs for ${lastState.terminated.containerID}`])
})

test('a log that is followed comes as it is printed, and ends with the run', async () => {
  const { server, port, connected } = await listening()
  const code = "import os, socket; print('first', flush=True); socket.create_connection(('127.0.0.1', int(os.environ['PORT']))).recv(1); print('last', end='')"
  await create('followed', { command: ['python3', '-c', code], env: [{ name: 'PORT', value: String(port) }] })
  await running('followed')
  const reader = await following(on, 'followed')
  assert.is((await reader.read()).value, 'first\n')
  const socket = await connected
  socket.end('x')
  assert.is((await reader.read()).value, 'last')
  assert.ok((await reader.read()).done)
  server.close()
  await ended('followed')
  await remove('followed')
})

test('one that waits has no log, and says for what; what it lacks wakes it', async () => {
  await slowly.create('waiting', { command: ['sh', '-c', 'echo $X'], env: [{ name: 'X', valueFrom: { secretKeyRef: { name: 'nowhere', key: 'x' } } }] })
  await slow.until('events', (event) => event['message'] === 'Error: secret "nowhere" not found')
  assert.is((await slowly.log('waiting')).message, 'container "main" in pod "waiting" is waiting to start: ContainerCreating')
  await slow.send('POST', secrets, { apiVersion: 'v1', kind: 'Secret', metadata: { name: 'other' } })
  await slowly.seen('waiting', (pod) => stateOf(pod).waiting?.reason === 'CreateContainerConfigError')
  assert.is((await slowly.log('waiting')).message, 'container "main" in pod "waiting" is waiting to start: CreateContainerConfigError')
  await slow.send('POST', secrets, { apiVersion: 'v1', kind: 'Secret', metadata: { name: 'nowhere' }, stringData: { x: 'it is there' } })
  await slowly.ended('waiting')
  assert.is(await slowly.log('waiting'), 'it is there\n')
})

test('a thousand lambdas without processes, shown as a real cluster shows them', async () => {
  const still = await standCluster({ runs: false })
  const done = new Set<string>()
  const { promise: all, open } = gate()
  still.store.hear((kind, { object }) => { if (kind === 'deployments' && isRolledOut(object) && done.add(object.metadata.name).size === 1_000) open() })
  const headers = { 'authorization': 'Bearer any', 'content-type': 'application/json' }
  for (let n = 0; n < 1_000; n++) await fetch(still.api.address + deployments, { method: 'POST', headers, body: JSON.stringify(lambda(on, `many${n}`)) })
  await all
  assert.is(still.store.list('pods', 'default').filter(isReady).length, 1_000)
  const { promise: gone, open: empty } = gate()
  still.store.hear((kind, { type }) => { if (kind === 'pods' && type === 'DELETED' && still.store.list('pods', 'default').length === 0) empty() })
  await fetch(still.api.address + deployments, { method: 'DELETE', headers })
  await gone
  await still.close()
})

test('nothing is left when the cluster is closed, nor when its process is killed', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'kiln-test-left-'))
  const program = fileURLToPath(new URL('stand/kubernetes/left-behind.ts', import.meta.url))
  for (const [end, code] of [['close', 0], ['kill', null]] as const) {
    const left = emptied(folder)
    const child = spawn(process.execPath, ['--import', import.meta.resolve('tsx'), program, `${on.registry}/lambda-rec:v1`], {
      stdio: ['pipe', 'pipe', 'inherit'], env: { ...process.env, TMPDIR: folder },
    })
    const [address] = (await once(createInterface({ input: child.stdout }), 'line')) as [string]
    const open = connect(8000, address)
    await once(open, 'connect')
    const closed = closing(open)
    const exited = once(child, 'exit')
    if (end === 'close') child.stdin.end()
    else child.kill('SIGKILL')
    assert.is((await exited)[0], code)
    await closed
    await left
  }
  await rm(folder, { recursive: true })
})

/** Resolves when a cluster's folder was there, and none is any more. */
async function emptied(folder: string): Promise<void> {
  const leaving = new AbortController()
  const has = async (): Promise<boolean> => (await readdir(folder)).some((name) => name.startsWith('kiln-stand'))
  let there = false
  for await (const _ of watch(folder, { signal: leaving.signal })) {
    if (there && !(await has())) break
    there ||= await has()
  }
  leaving.abort()
}

test.run()
