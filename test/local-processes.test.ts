import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { PassThrough } from 'node:stream'
import { fileURLToPath } from 'node:url'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { identify, lives, self } from '../shared/local/identity.ts'
import { lines, maxLineBytes, readLines } from '../shared/local/output.ts'
import { processes, type Process, type Processes } from '../shared/local/processes.ts'
import { gate } from './contract/builds.ts'

const python = process.env['KILN_TEST_PYTHON'] || 'python3'
const given = Object.fromEntries(Object.entries(process.env).flatMap(([name, value]) => (value === undefined ? [] : [[name, value]])))

const output = suite('output of child processes')

/** The lines of these chunks, however they are cut. */
function linesOf(...chunks: Array<string | Buffer>): string[] {
  const told: string[] = []
  const split = lines((line) => told.push(line))
  for (const chunk of chunks) split.push(Buffer.from(chunk))
  split.end()
  return told
}

output('lines end with \\n, \\r\\n or a lone \\r', () => {
  assert.equal(linesOf('a\nb\r\nc\rd\n\ne\r\n\r\nf'), ['a', 'b', 'c', 'd', '', 'e', '', 'f'])
})

output('where chunks are cut makes no difference', () => {
  const text = Buffer.from('é\r\n10%\r20%\r\n\nend\r')
  const whole = linesOf(text)
  assert.equal(linesOf(...[...text].map((byte) => Buffer.from([byte]))), whole)
  assert.equal(whole, ['é', '10%', '20%', '', 'end'])
})

output('a line that is too long is cut, between characters, with a mark, and the next one is whole', () => {
  const [long, next] = linesOf('x' + 'é'.repeat(maxLineBytes), '\nnext')
  assert.is(long, `x${'é'.repeat(maxLineBytes / 2 - 1)} … [cut: ${maxLineBytes + 1} bytes more]`)
  assert.is(next, 'next')
})

output('a line of exactly the limit is whole', () => {
  assert.equal(linesOf('x'.repeat(maxLineBytes) + '\n'), ['x'.repeat(maxLineBytes)])
})

output('bytes that are no UTF-8 do no harm', () => {
  assert.equal(linesOf(Buffer.from([0x61, 0xff, 0xfe, 0x0a, 0x62])), ['a\uFFFD\uFFFD', 'b'])
})

output('who prints more than is bearable is read more slowly, and at once when it has ended', async () => {
  const stream = new PassThrough()
  let told = 0
  const reader = readLines(stream, () => { told++ })
  const paused = once(stream, 'pause')
  stream.write('y\n'.repeat(32_768))
  await paused
  assert.is(told, 32_768)
  const ended = once(stream, 'end')
  stream.end('last\n')
  reader.hurry()
  await ended
  assert.is(told, 32_769)
})

output.run()

const test = suite<{ folder: string; children: Processes; run(script: string, line?: (text: string) => void): Promise<Process> }>('child processes')
test.before.each(async (context) => {
  context.folder = await mkdtemp(join(tmpdir(), 'kiln-processes-'))
  context.children = processes(context.folder)
  context.run = (script, line) => context.children.start('/bin/sh', ['-c', script], { cwd: '/', env: {}, kind: 'test', stdin: 'ignore', line: line ?? (() => undefined) })
})
test.after.each(({ folder }) => rm(folder, { recursive: true, force: true }))

/** Starts it and waits until it has printed this. */
async function running(run: (script: string, line: (text: string) => void) => Promise<Process>, script: string, says: RegExp): Promise<{ process: Process; said: string }> {
  const { opened, open } = gate()
  let said = ''
  const process = await run(script, (text) => {
    if (!says.test(text)) return
    said = text
    open()
  })
  await opened
  return { process, said }
}

test('a process tells its lines, its exit code, and keeps its last lines', async ({ run }) => {
  const told: string[] = []
  const process = await run('i=0; while [ $i -lt 30 ]; do echo line $i; i=$((i+1)); done; printf partial >&2; exit 3', (text) => told.push(text))
  assert.equal(await process.ended, { code: 3, signal: null })
  assert.is(told.length, 31)
  assert.is(process.lastLines().length, 20)
  assert.ok(process.lastLines().includes('partial'))
})

test('a process that ends by a signal tells which', async ({ run }) => {
  assert.equal(await (await run('kill -KILL $$')).ended, { code: null, signal: 'SIGKILL' })
})

test('a command that is not there is an error, and leaves no record', async ({ children, folder }) => {
  const error = await children.start('/there/is/none', [], { cwd: '/', env: {}, kind: 'test', stdin: 'ignore' }).catch((error: NodeJS.ErrnoException) => error.code)
  assert.is(error, 'ENOENT')
  assert.equal(await readdir(folder), [])
})

test('ending a process ends its whole group', async ({ children, run }) => {
  const { process, said } = await running(run, 'sleep 1000 & echo $!; wait', /^\d+$/)
  assert.is((await children.end(process, 10_000)).signal, 'SIGTERM')
  assert.is(await identify(Number(said)), null)
})

test('who ignores SIGTERM is killed after its grace, with its group', async ({ children, run }) => {
  const { process, said } = await running(run, 'trap "" TERM; (while :; do sleep 1000; done) & echo $!; while :; do sleep 1000; done', /^\d+$/)
  assert.is((await children.end(process, 50)).signal, 'SIGKILL')
  assert.is(await identify(Number(said)), null)
})

test('a member that outlives its leader has its grace as well', async ({ children, run }) => {
  const told: string[] = []
  const script = '(trap "sleep 0.1; echo finished; exit" TERM; echo ready; while :; do sleep 0.01; done) & trap "exit 0" TERM; wait; wait'
  const { opened, open } = gate()
  const process = await run(script, (text) => { told.push(text); open() })
  await opened
  await children.end(process, 10_000)
  assert.ok(told.includes('finished'), told.join())
})

test('what a process started goes with it when it ends by itself', async ({ run }) => {
  const process = await run('sleep 1000 & echo $!')
  await process.ended
  assert.is(await identify(Number(process.lastLines()[0])), null)
})

test('ending what has ended is fine', async ({ children, run }) => {
  const process = await run('exit 4')
  await process.ended
  assert.equal(await children.end(process, 10), { code: 4, signal: null })
})

test('a process that left its group and holds its output does not hold up its end', async ({ children }) => {
  const script = 'import os, signal\nchild = os.fork()\nif child == 0:\n    os.setsid(); print(os.getpid(), flush=True); signal.pause()\nos.wait()\n'
  const { process: leader, said } = await running(
    (text, line) => children.start(python, ['-c', text], { cwd: '/', env: given, kind: 'test', stdin: 'ignore', line }), script, /^\d+$/)
  await children.end(leader, 10_000)
  process.kill(Number(said), 'SIGKILL')
})

test('a process is recorded while it runs, and not afterwards', async ({ children, run, folder }) => {
  const { process } = await running(run, 'echo here; sleep 1000', /here/)
  const [name] = await readdir(folder)
  const kept = JSON.parse(await readFile(join(folder, name!), 'utf8'))
  assert.equal([kept.process.pid, kept.kind, kept.owner], [process.pid, 'test', await self()])
  await children.end(process, 10_000)
  assert.equal(await readdir(folder), [])
})

test('reaping leaves the processes of a living kiln alone', async ({ children, run, folder }) => {
  const { process } = await running(run, 'echo here; sleep 1000', /here/)
  assert.is(await processes(folder).reap(), 0)
  assert.ok(await identify(process.pid))
  await children.end(process, 10_000)
})

test('reaping ends, with its group, what a killed kiln left', async ({ children, folder }) => {
  const kiln = otherKiln(folder, 'sleep 1000 & echo $!; wait')
  const [said] = (await once(kiln.stdout, 'data')) as [Buffer]
  kiln.kill('SIGKILL')
  await once(kiln, 'exit')
  const child = Number(String(said))
  assert.ok(await identify(child))
  assert.is(await children.reap(), 1)
  assert.is(await identify(child), null)
  assert.equal(await readdir(folder), [])
})

test('reaping never ends a stranger that got the pid of a process long gone', async ({ children, folder }) => {
  const stranger = spawn('sleep', ['1000'], { detached: true })
  await once(stranger, 'spawn')
  const gone = { pid: 2 ** 22 + 1, start: 'long_ago' }
  await writeFile(join(folder, 'old.json'), JSON.stringify({ process: { pid: stranger.pid, start: 'long_ago' }, owner: gone, kind: 'test' }))
  assert.is(await children.reap(), 0)
  assert.ok(await identify(stranger.pid!))
  assert.equal(await readdir(folder), [])
  stranger.kill()
  await once(stranger, 'exit')
})

test('reaping drops records that cannot be read', async ({ children, folder }) => {
  await mkdir(folder, { recursive: true })
  for (const [name, text] of [['a', ''], ['b', '{}'], ['c', 'null'], ['d', '{"owner":{"pid":"x"}}']]) await writeFile(join(folder, `${name}.json`), text!)
  assert.is(await children.reap(), 0)
  assert.equal(await readdir(folder), [])
})

test('this process lives, and one with its pid and another start time does not', async () => {
  const me = await self()
  assert.equal([await lives(me), await lives({ ...me, start: 'other' })], [true, false])
})

test.run()

/** A kiln in its own process, that starts this script and passes on what it prints. */
function otherKiln(folder: string, script: string) {
  const at = JSON.stringify(fileURLToPath(new URL('../shared/local/processes.ts', import.meta.url)))
  const program = `
    import { processes } from ${at}
    const [folder, script] = process.argv.slice(1)
    let tell
    const said = new Promise((resolve) => { tell = resolve })
    const child = await processes(folder).start('/bin/sh', ['-c', script], { cwd: '/', env: process.env, kind: 'test', stdin: 'ignore', line: tell })
    console.log(await said)
    await child.ended
  `
  return spawn(process.execPath, ['--import', 'tsx', '--input-type=module', '-e', program, folder, script], { stdio: ['ignore', 'pipe', 'inherit'] })
}
