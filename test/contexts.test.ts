// Contexts: what an image and its environment are made from, and what of it decides which environment a lambda gets.
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import type { Base } from '../shared/bases.ts'
import type { Runtime } from '../services/packager/context.ts'
import { dockerfile } from '../services/packager/dockerfile.ts'
import { baseWith, contextMade, type Made } from './stand/contexts.ts'
import { unpackedEntries, unpackedFiles } from './stand/unpacked.ts'

const runtime: Runtime = {
  files: new Map([['run.py', Buffer.from('# kiln\'s')], ['luna_lambda_tools/__init__.py', Buffer.from('# kiln\'s tools')]]),
  requirements: Buffer.from('sanic==1\n'), digest: 'runtime',
}
const other = `registry.example/base@sha256:${'b'.repeat(64)}`
/** It holds the runtime. */
const full = baseWith(`registry.example/base@sha256:${'a'.repeat(64)}`, runtime)
const bare: Base = { ...full, runtime: null }
const main = { 'lambda_main.py': 'main' }

type More = Partial<{ base: Base | null; commands: string[]; runtime: Runtime }>
const made = (files: Record<string, string>, more: More = {}): Promise<Made> => contextMade(files, { base: full, runtime, ...more })

interface Parts { whole: Record<string, string>; environment: Record<string, string> | null; key: string | null }

async function partsOf(files: Record<string, string>, more: More = {}): Promise<Parts> {
  const { packaged: { context, foundation: { environment } }, archives } = await made(files, more)
  const whole = await unpackedFiles(archives.get(context.name)!)
  return { whole, environment: environment && (await unpackedFiles(archives.get(environment.context.name)!)), key: environment?.key ?? null }
}

const keyOf = async (files: Record<string, string>, more: More = {}): Promise<string> => {
  const { key } = await partsOf(files, more)
  if (key === null) throw new Error('it needs no environment')
  return key
}
const lines = (text: string | undefined): string[] => text!.trimEnd().split('\n')

const whole = suite('the context')

whole('the code lies under lambda/, with the runtime\'s files and its requirements; the Dockerfile beside it', async () => {
  const { whole } = await partsOf({ ...main, 'sub/x': 'y' })
  const { Dockerfile, ...code } = whole
  assert.ok(Dockerfile)
  assert.equal(code, {
    'lambda/lambda_main.py': 'main', 'lambda/sub/x': 'y', 'lambda/run.py': '# kiln\'s', 'lambda/luna_lambda_tools/__init__.py': '# kiln\'s tools', 'lambda/luna_lambda_tools/requirements.txt': 'sanic==1\n',
  })
})

whole('kiln\'s own files replace what the user sent under their names, and nothing else', async () => {
  const names = ['run.py', 'luna_lambda_tools/__init__.py', 'luna_lambda_tools/evil.py', 'luna_lambda_tools/requirements.txt', 'lambda_main.py', 'sub/run.py', 'luna_lambda_tools_extra.py', 'Dockerfile', 'lambda/x']
  const given = Object.fromEntries(names.map((name) => [name, 'mine']))
  const { whole } = await partsOf(given)
  assert.equal(Object.entries(whole).filter(([, text]) => text === 'mine').map(([name]) => name).sort(),
    ['lambda/Dockerfile', 'lambda/lambda/x', 'lambda/lambda_main.py', 'lambda/luna_lambda_tools_extra.py', 'lambda/sub/run.py'])
  assert.equal([whole['lambda/run.py'], whole['lambda/luna_lambda_tools/evil.py'], whole['lambda/luna_lambda_tools/requirements.txt']], ['# kiln\'s', undefined, 'sanic==1\n'])
  assert.match(whole['Dockerfile']!, /^FROM registry/)
  const { packaged, archives } = await made(given)
  const all = (await unpackedEntries(archives.get(packaged.context.name)!)).map(({ name }) => name)
  assert.is(new Set(all).size, all.length, 'nothing lies there twice')
})

whole('every input counts', async () => {
  const all = await Promise.all([
    made(main), made({ 'lambda_main.py': 'other' }), made({ 'main.py': 'main' }), made(main, { base: { ...full, reference: other } }), made(main, { commands: ['RUN x'] }), made(main, { base: bare }),
    made(main, { runtime: { ...runtime, requirements: Buffer.from('sanic==2\n') } }), made(main, { runtime: { ...runtime, files: new Map([['run.py', Buffer.from('other')]]) } }),
  ])
  assert.is(new Set(all.map(({ packaged }) => packaged.context.digest)).size, all.length)
})

whole('how it is built stands in the Dockerfile and not in the code: another base, the same layer', async () => {
  const layers = await Promise.all([made(main), made(main, { base: { ...bare, reference: other }, commands: ['RUN x'] }), made(main, { base: null })])
  assert.is(new Set(layers.map(({ packaged }) => packaged.context.code.digest)).size, 1)
  assert.is(new Set(layers.map(({ packaged }) => packaged.context.digest)).size, 3)
})

whole('the Dockerfile takes the pinned base, commands, the runtime\'s packages, the code and its requirements, in this order', () => {
  const text = dockerfile({ baseImage: other, userDockerCommands: ['RUN apt-get update', 'ENV A=b'], installsRuntime: true, hasRequirements: true })
  assert.equal(lines(text), [
    `FROM ${other}`, 'RUN apt-get update', 'ENV A=b', 'WORKDIR /lambda', 'COPY --chown=0:0 lambda/luna_lambda_tools/requirements.txt luna_lambda_tools/requirements.txt',
    'RUN python3 -m pip install --no-cache-dir -r luna_lambda_tools/requirements.txt', 'COPY --chown=0:0 lambda/ /lambda/', 'RUN python3 -m pip install --no-cache-dir -r requirements.txt',
    'ENV PYTHONUNBUFFERED=1', 'EXPOSE 8000', 'ENTRYPOINT ["python3", "run.py"]', 'CMD []',
  ])
  const least = dockerfile({ baseImage: 'b', userDockerCommands: [], installsRuntime: false, hasRequirements: false })
  assert.equal(lines(least), ['FROM b', 'WORKDIR /lambda', 'COPY --chown=0:0 lambda/ /lambda/', 'ENV PYTHONUNBUFFERED=1', 'EXPOSE 8000', 'ENTRYPOINT ["python3", "run.py"]', 'CMD []'])
})

whole('the runtime is installed only where the base does not say that it holds it', async () => {
  const installs = async (base: Base | null): Promise<boolean> => /-r luna_lambda_tools/.test((await partsOf(main, { base })).whole['Dockerfile']!)
  assert.equal(await Promise.all([full, bare, { ...full, runtime: 'of another kiln' }, null].map(installs)), [false, true, true, true])
})

whole('a platform without base images is given the name, and no environment', async () => {
  const { packaged, archives } = await contextMade({ ...main, 'requirements.txt': 'six\n' }, { base: null, runtime })
  assert.equal(packaged.foundation, { base: null, environment: null })
  assert.match((await unpackedFiles(archives.get(packaged.context.name)!))['Dockerfile']!, /^FROM base\n/)
})

whole.run()

// ---
const environments = suite('the environment')

environments('there is none to make where the base holds the runtime and nothing is asked for', async () => {
  for (const files of [main, { ...main, 'requirements.txt': '' }, { ...main, 'requirements.txt': '# none\n\n' }]) assert.is((await partsOf(files)).environment, null)
})

environments('it is the base with the commands, the runtime\'s packages and the user\'s, without the code', async () => {
  const { environment } = await partsOf({ ...main, 'requirements.txt': 'six\n' }, { base: bare, commands: ['RUN x', 'ENV A=b'] })
  assert.equal(Object.keys(environment!).sort(), ['Dockerfile', 'lambda/luna_lambda_tools/requirements.txt', 'lambda/requirements.txt'])
  assert.equal(lines(environment!['Dockerfile']), [
    `FROM ${bare.reference}`, 'RUN x', 'ENV A=b', 'WORKDIR /lambda', 'COPY --chown=0:0 lambda/luna_lambda_tools/requirements.txt luna_lambda_tools/requirements.txt',
    'RUN python3 -m pip install --no-cache-dir -r luna_lambda_tools/requirements.txt', 'COPY --chown=0:0 lambda/requirements.txt requirements.txt', 'RUN python3 -m pip install --no-cache-dir -r requirements.txt',
  ])
  assert.equal([environment!['lambda/requirements.txt'], environment!['lambda/luna_lambda_tools/requirements.txt']], ['six\n', 'sanic==1\n'])
})

environments('each reason for one is enough, and only what it needs lies in its context', async () => {
  const cases: Array<[Record<string, string>, More, string[]]> = [
    [main, { base: bare }, ['Dockerfile', 'lambda/luna_lambda_tools/requirements.txt']], [main, { commands: ['RUN x'] }, ['Dockerfile']],
    [{ ...main, 'requirements.txt': 'six' }, {}, ['Dockerfile', 'lambda/requirements.txt']], [{ ...main, 'requirements.txt': '# none' }, { commands: ['RUN x'] }, ['Dockerfile']],
  ]
  for (const [files, more, expected] of cases) {
    const { environment } = await partsOf(files, more)
    assert.equal(Object.keys(environment!).sort(), expected)
    assert.equal(lines(environment!['Dockerfile']).filter((line) => line.startsWith('COPY')).length, expected.length - 1)
  }
})

environments('its key is of the environment alone: code, comments, blank lines and other names of the same base do not change it', async () => {
  const files = { ...main, 'requirements.txt': 'six\nidna\n' }
  const more: More = { base: bare, commands: ['RUN x'] }
  const key = await keyOf(files, more)
  assert.match(key, /^[0-9a-f]{64}$/)
  assert.is(await keyOf({ ...files, 'lambda_main.py': 'other', 'more.txt': 'x' }, more), key)
  assert.is(await keyOf({ ...files, 'requirements.txt': '# why\r\n\r\nsix  # because\nidna' }, more), key)
  assert.is(await keyOf(files, { ...more, base: { ...bare, reference: bare.reference.replace('registry.example', 'mirror.example') } }), key)
  assert.is(await keyOf(files, { ...more, runtime: { ...runtime, files: new Map([['run.py', Buffer.from('other')]]) } }), key)
  assert.is(await keyOf({ ...main, 'requirements.txt': '# none' }, more), await keyOf(main, more))
})

environments('everything that determines it changes its key', async () => {
  const files = { ...main, 'requirements.txt': 'six\nidna\n' }
  const keys = await Promise.all([
    keyOf(files, { base: bare }), keyOf(files, { base: { ...bare, reference: other } }), keyOf(files, { base: { ...bare, platform: 'linux/arm64' } }), keyOf(files, { base: full }),
    keyOf(files, { base: bare, commands: ['RUN x'] }), keyOf(files, { base: bare, commands: ['RUN y'] }), keyOf(files, { base: bare, commands: ['RUN x', 'RUN y'] }), keyOf(files, { base: bare, commands: ['RUN y', 'RUN x'] }),
    keyOf(files, { base: bare, runtime: { ...runtime, requirements: Buffer.from('sanic==2\n') } }), keyOf({ ...files, 'requirements.txt': 'six' }, { base: bare }), keyOf({ ...files, 'requirements.txt': 'idna\nsix' }, { base: bare }),
    keyOf(main, { base: bare }), keyOf(main, { base: full, commands: ['six'] }), keyOf({ ...main, 'requirements.txt': 'six' }, { base: full }), keyOf(files, { base: { ...bare, triggers: true } }),
  ])
  assert.is(new Set(keys).size, keys.length)
})

const taking: Array<[string, string | null, string[]]> = [
  ['a wheel of the archive', './wheels/x.whl\n', []], ['an option that names a file', '-r more.txt\n', []], ['a COPY', null, ['COPY lambda/wheels /wheels']],
  ['an add in small letters', null, ['RUN x', '  add lambda/x.tar /x']], ['a mount', null, ['RUN --mount=type=bind,source=lambda,target=/l make']],
]
for (const [what, requirements, commands] of taking) {
  environments(`${what} takes files of the archive: all of it lies in the environment's context, and its key changes with the code`, async () => {
    const files = { ...main, 'wheels/x.whl': 'w', ...(requirements !== null && { 'requirements.txt': requirements }) }
    const { environment, key, whole } = await partsOf(files, { base: bare, commands })
    const { Dockerfile, ...code } = environment!
    const { Dockerfile: _, ...all } = whole
    assert.equal(code, all)
    if (requirements !== null) assert.equal(lines(Dockerfile).slice(-2), ['COPY --chown=0:0 lambda/ /lambda/', 'RUN python3 -m pip install --no-cache-dir -r requirements.txt'])
    assert.is.not(await keyOf({ ...files, 'lambda_main.py': 'other' }, { base: bare, commands }), key)
    assert.is(await keyOf(files, { base: bare, commands }), key)
  })
}

environments('a command that only sounds so takes none', async () => {
  for (const command of ['RUN apk add gcc', 'RUN useradd me', 'ENV COPY=1', 'LABEL add="copy"']) {
    assert.is(await keyOf(main, { commands: [command] }), await keyOf({ 'lambda_main.py': 'other' }, { commands: [command] }), command)
  }
})

environments('a base image with triggers is built on by who runs commands, though nothing is asked for; which files they take nobody knows', async () => {
  const more: More = { base: { ...full, triggers: true } }
  const { environment, key } = await partsOf(main, more)
  assert.equal(lines(environment!['Dockerfile']), [`FROM ${full.reference}`, 'WORKDIR /lambda'])
  assert.is(environment!['lambda/lambda_main.py'], 'main')
  assert.is.not(await keyOf({ 'lambda_main.py': 'other' }, more), key)
})

environments('a context is the same bytes whenever it is packed', async () => {
  const files = { ...main, 'requirements.txt': 'six\n', 'wheels/x.whl': 'w' }
  const of = (order: Record<string, string>): Promise<Made> => made(order, { base: bare, commands: ['RUN x'] })
  const [one, two] = [await of(files), await of(Object.fromEntries(Object.entries(files).reverse()))]
  assert.equal(two.packaged, one.packaged)
  assert.ok(one.packaged.foundation.environment)
  for (const [name, archive] of one.archives) assert.ok(archive.equals(two.archives.get(name)!))
  for (const archive of one.archives.values()) assert.ok((await unpackedEntries(archive)).every(({ mtime }) => mtime === 0))
})

environments.run()
