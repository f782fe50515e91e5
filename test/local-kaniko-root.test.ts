// The private root in which images are made on this machine: nothing leads out of it, and nothing of it outlives kiln.
import { spawn } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { mkdir, readdir, readFile, readlink, rm, stat, writeFile } from 'node:fs/promises'
import { createServer, type AddressInfo } from 'node:net'
import { join } from 'node:path'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { processes } from '../shared/local/processes.ts'
import { executorInWords, kanikoWorld, ownNamespace, processesThatSay, refusedByTheSystem as refused, type KanikoWorld } from './stand/local-kaniko.ts'
import { otherKiln, probed } from './stand/local-kaniko-runs.ts'

const python = process.env['KILN_TEST_PYTHON'] || 'python3'

const name = `the root of a build on this machine, with ${executorInWords}`
const test = suite<{ world: KanikoWorld }>(name)
test.before.each(async (context) => { context.world = await kanikoWorld() })
test.after.each(({ world }) => world.close())

test('a build sees its own root and none of the files of the machine', async ({ world }) => {
  const secret = join(world.folder, 'secret')
  await writeFile(secret, 'of the machine')
  const lists = ['/', '/proc/1/root', '/proc/1/root/..', '/proc/self/cwd/../..', '/dev', '/kaniko/old']
  const said = await probed(world.kaniko, await world.wish([`RUN probe read ${secret} && probe list ${lists.join(' ')}`, 'RUN probe climb']))
  assert.ok(said.includes(`${secret}: open ${secret}: no such file or directory`), said.join('\n'))
  const listed = (path: string): string[] => said.findLast((line) => line.startsWith(`${path} lists `))!.split(' ').slice(2)
  const known = ['bin', 'climb', 'dev', 'etc', 'kaniko', 'proc', 'tmp']
  for (const path of lists.slice(0, 4)) assert.equal(listed(path).filter((one) => !known.includes(one)), [], path)
  assert.ok(listed('/').includes('climb'), 'nobody climbed')
  assert.equal(listed('/dev'), ['fd', 'full', 'null', 'random', 'shm', 'stderr', 'stdin', 'stdout', 'urandom', 'zero'])
  assert.ok(said.includes('/kaniko/old: open /kaniko/old: no such file or directory'))
})

/** What a build says of these: `file <path> is <where it leads>`. */
const linksIn = (said: string[]): Map<string, string> => new Map(said.flatMap((line) => { const [, path, to] = /^file (\S+) is (.*)$/.exec(line) ?? []; return path ? [[path, to!]] : [] }))

test('nothing that is open in a build leads out of it, and it is in namespaces of its own', async ({ world }) => {
  const links = linksIn(await probed(world.kaniko, await world.wish(['RUN probe files'])))
  const open = [...links].filter(([path]) => /\/(fd\/\d+|root|cwd)$/.test(path)).map(([, to]) => to)
  assert.ok(open.length >= 10)
  assert.equal(open.filter((to) => !/^(\/|\/dev\/null|socket:\S+|anon_inode:\S+|\S+\/said)$/.test(to)), [])
  for (const which of ['mnt', 'pid', 'ipc', 'uts']) assert.is.not(links.get(`/proc/self/ns/${which}`), await readlink(`/proc/self/ns/${which}`), which)
  assert.is(links.get('/proc/self/ns/net'), await readlink('/proc/self/ns/net'))
})

test('its mounts are its own', async ({ world }) => {
  const said = await probed(world.kaniko, await world.wish(['RUN probe read /proc/self/mountinfo && probe write /dev/stdout probe can be written to']))
  assert.ok(said.includes('can be written to'), said.join('\n'))
  const mounts = new Map([...said[0]!.matchAll(/\d+ \d+ \d+:\d+ \S+ (\/\S*) (\S+) .*?- /g)].map(([, path, options]) => [path!, options!.split(',')]))
  const known = /^(\/|\/proc|\/proc\/(kcore|keys|latency_stats|timer_list|sched_debug)|\/dev|\/dev\/(null|zero|full|random|urandom|shm)|\/etc\/(resolv\.conf|hosts)|\/kaniko\/(executor|digest|environment))$/
  assert.ok(mounts.size >= 14, said[0])
  assert.equal([...mounts.keys()].filter((path) => !known.test(path)), [])
  assert.equal(['nosuid', 'nodev'].filter((option) => !mounts.get('/')!.includes(option)), [])
})

/** CHOWN DAC_OVERRIDE FOWNER FSETID KILL SETGID SETUID SETPCAP SYS_CHROOT SETFCAP */
const kept = [0, 1, 3, 4, 5, 6, 7, 8, 18, 31].reduce((mask, bit) => mask | (1n << BigInt(bit)), 0n)

test('a build has the capabilities of an ordinary container and can get no others', async ({ world }) => {
  const said = await probed(world.kaniko, await world.wish(['RUN probe status']))
  const status = Object.fromEntries(said.map((line) => /^status (\w+): (.*)$/.exec(line)?.slice(1) ?? []))
  for (const which of ['CapPrm', 'CapEff', 'CapBnd']) assert.is(BigInt(`0x${status[which]}`) & ~kept, 0n, `${which} ${status[which]}`)
  assert.equal([status.CapInh, status.CapAmb, status.NoNewPrivs], ['0000000000000000', '0000000000000000', '1'])
})

test('a build can change nothing of the machine: no device, no mount, no setting, no mode of a file that is the machine\'s', async ({ world }) => {
  // What is set is what is there already: should it be possible, no harm is done.
  const setting = '/proc/sys/kernel/core_pattern'
  const tries: Array<[string, string[], RegExp]> = [
    ['mknod', ['/disk'], /operation not permitted$/], ['mount', ['/tmp'], /operation not permitted$/],
    ['remount', ['/', '/proc', '/dev/null', '/kaniko/executor'], /operation not permitted$/], ['umount', ['/proc', '/dev/null'], /operation not permitted$/],
    ['hostname', ['other'], /operation not permitted$/], ['chmod', ['/dev/null', '/dev/zero', '/kaniko/executor'], /read-only file system$/],
  ]
  const lines = tries.map(([what, paths]) => `RUN probe ${what} ${paths.join(' ')}`)
  const said = await probed(world.kaniko, await world.wish([...lines, `RUN probe write ${setting} ${(await readFile(setting, 'utf8')).trim()}`]))
  const results = tries.flatMap(([, paths, wanted]) => paths.map((path): [string, RegExp] => [path, wanted]))
  assert.equal(said.length, results.length + 1, said.join('\n'))
  for (const [index, [path, wanted]] of results.entries()) assert.match(said[index]!, new RegExp(`^${path}: .*${wanted.source}`))
  assert.is(said.at(-1), `write: open ${setting}: read-only file system`)
})

test('a build sees its own processes, ends none but those, and what it leaves behind ends with it', async ({ world }) => {
  const word = randomUUID()
  const other = spawn('sleep', ['1000'])
  await once(other, 'spawn')
  try {
    const said = await probed(world.kaniko, await world.wish([
      `RUN probe processes && probe daemon ${word}`, 'RUN probe kill', `RUN probe daemon ${word}`, 'RUN probe processes',
    ], { destination: `${world.registry.address}/made/${word}:1` }))
    const seen = said.flatMap((line) => /^process \d+ (.*)$/.exec(line)?.[1] ?? [])
    assert.is(said.filter((line) => line === 'process 1 executor').length, 2)
    assert.is(seen.filter((one) => one === 'executor').length, 2)
    assert.equal(seen.filter((one) => !['executor', 'sh', 'exe'].includes(one)), [])
    assert.is(said.filter((line) => line === 'kill: done' || line === 'daemon runs').length, 3, said.join('\n'))
    assert.equal([other.exitCode, other.signalCode], [null, null])
    assert.equal(await processesThatSay(word), [])
  } finally {
    other.kill('SIGKILL')
  }
})

test('the executor gets the environment that it is given, and nothing of kiln\'s own', async ({ world }) => {
  process.env['KILN_TEST_SECRET'] = 'of kiln'
  try {
    const kaniko = await world.another({ env: { NO_PROXY: 'registry.example' } })
    const [said] = await probed(kaniko, await world.wish(['RUN probe read /proc/1/environ']))
    const names = said!.split(' ').slice(2).map((one) => one.split('=')[0])
    assert.ok(said!.includes(' NO_PROXY=registry.example'), said)
    assert.equal(names.filter((one) => !['NO_PROXY', 'HOME', 'USER', 'DOCKER_CONFIG', 'SSL_CERT_FILE', 'PATH', 'PWD', 'OLDPWD', 'SHLVL', '_'].includes(one!)), [])
  } finally {
    delete process.env['KILN_TEST_SECRET']
  }
})

test('a folder that kiln was given open by whoever started it leads nobody out', async ({ world }) => {
  const wish = await world.wish(['RUN probe list /proc/1/fd/99 /proc/self/fd/99 /'])
  const open = 'import os, sys; os.dup2(os.open("/", os.O_RDONLY), 99); os.execvp(sys.argv[1], sys.argv[1:])'
  const kiln = await otherKiln(world, wish, [python, '-c', open])
  await kiln.says('"built":true')
  assert.ok(kiln.said.some((line) => line.startsWith('probe / lists ')), kiln.said.join('\n'))
  assert.equal(kiln.said.filter((line) => /fd\/99/.test(line) && line.startsWith('probe ')), ['1', 'self'].map((pid) => `probe /proc/${pid}/fd/99: open /proc/${pid}/fd/99: no such file or directory`))
  await kiln.ended
})

const rootsIn = async ({ folder }: KanikoWorld): Promise<string[]> => (await readdir(folder)).filter((one) => one.startsWith('.'))

test('when kiln is killed nothing of a build lives on, and the next one removes what lies about', async ({ world }) => {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const called = once(server, 'connection')
  const wish = await world.wish([`RUN probe stay port ${(server.address() as AddressInfo).port}`])
  const kiln = await otherKiln(world, wish)
  await kiln.says('probe stays')
  const [line] = await called
  const closed = new Promise((resolve) => line.on('error', () => undefined).on('close', resolve).resume())
  const roots = await rootsIn(world)
  assert.is(roots.length, 1)
  assert.is((await stat(join(world.folder, roots[0]!))).mode & 0o777, 0o700, 'what a build leaves there is for others')
  await world.kaniko.sweep()
  assert.equal(await rootsIn(world), roots, 'the root of a living kiln is swept')
  await kiln.kill()
  // Nobody but the system has ended it.
  await closed
  await new Promise((resolve) => server.close(resolve))
  assert.equal(await rootsIn(world), roots)
  await world.kaniko.sweep()
  assert.equal([await rootsIn(world), await processesThatSay(wish.destination)], [[], []])
  await processes(join(world.folder, 'processes')).reap()
})

test('what lives on in the root of a dead kiln is ended before that is removed; what is no root stays', async ({ world }) => {
  const [dead, other] = ['.root-4194305_long_ago-12345678', '.other-4194305_long_ago-12345678']
  const root = join(world.folder, dead, 'root')
  for (const folder of [root, join(world.folder, other)]) await mkdir(folder, { recursive: true })
  const survivor = spawn('unshare', [...ownNamespace, 'sh', '-c', 'mount --bind "$0" "$0" && echo here && exec tail -f /dev/null', root])
  await once(survivor.stdout, 'data')
  const ended = once(survivor, 'exit')
  await world.kaniko.sweep()
  assert.equal(await ended, [null, 'SIGKILL'])
  assert.equal(await rootsIn(world), [other])
  await rm(join(world.folder, other), { recursive: true })
})

if (refused) console.log(`SKIPPED ${name}: ${refused}`)
else test.run()
