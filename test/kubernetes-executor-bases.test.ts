// What stands for the builder of images, on bases that are in a registry: what it takes over from them, and what it says of those that it cannot have.
import { randomUUID } from 'node:crypto'
import { chmod, mkdtemp, mkdir, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { layerOf, pushBase, pushImage, pushIndex } from './stand/base-image.ts'
import { executorRuns } from './stand/kubernetes/executor-runs.ts'
import { observedPods } from './stand/kubernetes/observed-pods.ts'
import { observed } from './stand/kubernetes/observed.ts'
import { readImage, sha256, type ImageFile, type ReadImage } from './stand/read-image.ts'
import { registryServer } from './stand/registry.ts'

const folder = await mkdtemp(join(tmpdir(), 'kiln-test-executor-bases-'))
const on = await observed()
const { registry } = on
const { built, context, run } = executorRuns(folder)

const test = suite('what stands for the builder of images, on bases')
test.after(async () => {
  await on.close()
  await rm(folder, { recursive: true })
})

let images = 0
/** Builds, pushes, and reads what was pushed. */
async function image(files: string | Record<string, string>): Promise<ReadImage & { reference: string }> {
  const reference = `${registry}/built-${images++}:v1`
  const { code, printed } = await built(files, [`--destination=${reference}`])
  assert.is(code, 0, printed)
  return { reference, ...(await readImage(reference)) }
}

/** Of the layers above the base's. */
const entriesAbove = ({ layers }: ReadImage, base: ReadImage): string[] => layers.slice(base.layers.length).flat().map(({ header }) => header.name)

test('all of the base is there, its layers below one of its own; a name with a digest stays what it was', async () => {
  const { reference, pinned } = await pushBase(registry, { repository: 'moving', labels: { 'kiln.runtime': 'abc' }, env: ['A=b'], layers: 3, bytes: 10_000, top: { author: 'somebody', variant: 'v2', 'made.with': 'care' } })
  const base = await readImage(reference)
  const made = await image({ Dockerfile: `FROM ${reference}\nCOPY main.py /lambda/\n`, 'main.py': 'x = 1\n' })
  assert.equal(made.manifest.layers.slice(0, 4), base.manifest.layers)
  assert.equal(made.config.rootfs.diff_ids.slice(0, 4), base.config.rootfs.diff_ids)
  assert.equal([made.manifest.layers.length, made.config.history.length], [5, 5])
  assert.equal(made.config.config, base.config.config)
  // What the builder does not know of it forgets.
  assert.equal([made.config['author'], made.config['variant'], made.config['architecture'], made.config['os'], made.config['made.with']], ['somebody', 'v2', 'amd64', 'linux', undefined])
  assert.equal(made.files, new Map([...base.files, ['lambda/main.py', { type: 'file', mode: 0o644, uid: 0, gid: 0, content: sha256('x = 1\n') }]]))
  assert.equal(entriesAbove(made, base), ['lambda/', 'lambda/main.py'])

  await pushBase(registry, { repository: 'moving', labels: { moved: 'yes' } })
  assert.equal((await image(`FROM ${pinned}\n`)).config.config, base.config.config)
  assert.equal((await image(`FROM ${reference}\n`)).config.config['Labels'], { moved: 'yes' })
})

test('an image of Docker\'s kind stays one', async () => {
  const { pinned } = await pushBase(registry, { repository: 'docker', kind: 'docker' })
  const { mediaType, manifest } = await image({ Dockerfile: `FROM ${pinned}\nCOPY a /a\n`, a: '' })
  const layer = 'application/vnd.docker.image.rootfs.diff.tar.gzip'
  assert.equal([mediaType, manifest['mediaType'], manifest.config.mediaType, ...manifest.layers.map((one) => one.mediaType)], [
    'application/vnd.docker.distribution.manifest.v2+json', 'application/vnd.docker.distribution.manifest.v2+json', 'application/vnd.docker.container.image.v1+json', layer, layer,
  ])
})

test('where nothing changes there is no layer more', async () => {
  const { reference } = await pushBase(registry)
  const [base, made] = [await readImage(reference), await image(`FROM ${reference}\nLABEL a=b\nRUN cat /etc/base-release\nWORKDIR /lambda\n`)]
  assert.equal([made.manifest.layers, made.config.history], [base.manifest.layers, base.config.history])
  // What no step looks at is not fetched.
  assert.not.match((await built(`FROM ${reference}\nUSER 7\n`)).printed, 'Unpacking rootfs')
})

test('every instruction does what it does on a base', async () => {
  const { reference } = await pushBase(registry, {
    env: ['KEPT=1', 'CHANGED=1'], labels: { kept: '1', changed: '1' }, config: { User: 'luna', WorkingDir: '/opt', ExposedPorts: { '80/tcp': {} }, StopSignal: 'SIGINT', Volumes: { '/data': {} }, Unknown: 'x' },
  })
  const made = await image({
    Dockerfile: [
      `FROM ${reference} AS base`, 'ENV CHANGED=2 BEFORE=$CHANGED NEW="a b"', 'LABEL changed=$NEW "with space"=\'x y\'', 'USER 1000:1000', 'EXPOSE 8000 53/udp', 'COPY here.txt luna/',
      'WORKDIR deep/er', 'COPY code/ /lambda/', 'COPY code/a.py sub/renamed.py', 'COPY *.txt ./', 'VOLUME /more', 'STOPSIGNAL SIGTERM', 'CMD ["run"]', '',
    ].join('\n'),
    'here.txt': 'here', 'code/a.py': 'a', 'code/pack/b.py': 'b', 'code/__pycache__/c.pyc': 'c',
  })
  const { Env, ...config } = made.config.config
  assert.equal(Env.slice(1), ['KEPT=1', 'CHANGED=2', 'BEFORE=1', 'NEW=a b'])
  assert.equal(config, {
    Cmd: ['run'], Labels: { kept: '1', changed: 'a b', 'with space': 'x y' }, User: '1000:1000', WorkingDir: '/opt/deep/er', StopSignal: 'SIGTERM',
    ExposedPorts: { '80/tcp': {}, '8000/tcp': {}, '53/udp': {} }, Volumes: { '/data': {}, '/more': {} },
  })
  const base = await readImage(reference)
  assert.equal(entriesAbove(made, base), [
    'lambda/', 'lambda/__pycache__/', 'lambda/__pycache__/c.pyc', 'lambda/a.py', 'lambda/pack/', 'lambda/pack/b.py', 'opt/', 'opt/deep/', 'opt/deep/er/', 'opt/deep/er/here.txt',
    'opt/deep/er/sub/', 'opt/deep/er/sub/renamed.py', 'opt/luna/', 'opt/luna/here.txt',
  ])
  const own = made.layers.at(-1)!.map(({ header }) => header).filter(({ name }) => name !== 'opt/luna/')
  assert.equal(own.filter(({ uid, gid, mode, type }) => uid !== 0 || gid !== 0 || mode !== (type === 'directory' ? 0o755 : 0o644)), [])
  assert.equal(made.files.get('opt/luna'), base.files.get('opt/luna'), 'a folder that something comes into stays whose it is')
})

test('what is copied has the modes that it has in the context', async () => {
  const { reference } = await pushBase(registry)
  const path = await context({ 'Dockerfile': `FROM ${reference}\nCOPY code /code\n`, 'code/tool': '', 'code/secret': '' })
  for (const [name, mode] of [['', 0o770], ['tool', 0o777], ['secret', 0o600]] as const) await chmod(join(path, 'code', name), mode)
  const destination = `${registry}/modes:v1`
  const { code, printed } = await run([`--context=dir://${path}`, `--destination=${destination}`])
  assert.is(code, 0, printed)
  const { files } = await readImage(destination)
  assert.equal(['code', 'code/tool', 'code/secret'].map((name) => files.get(name)!.mode), [0o770, 0o777, 0o600])
})

test('an ENTRYPOINT is without the CMD of the base, unless there is one with it', async () => {
  const { reference } = await pushBase(registry, { config: { Entrypoint: ['old'], Cmd: ['inherited'] } })
  const parts = async (lines: string): Promise<unknown[]> => { const { config } = await image(`FROM ${reference}\n${lines}`); return [config.config['Entrypoint'], config.config['Cmd']] }
  assert.equal(await parts(''), [['old'], ['inherited']])
  assert.equal(await parts('ENTRYPOINT ["new"]\n'), [['new'], undefined])
  assert.equal(await parts('CMD ["own"]\nENTRYPOINT ["new"]\n'), [['new'], ['own']])
  assert.equal(await parts('CMD own\n'), [['old'], ['/bin/sh', '-c', 'own']])
})

test('a base without an environment gets the usual PATH; what it has in store for its builders is done first, and once', async () => {
  const { reference } = await pushBase(registry, { config: { Env: null, OnBuild: ['ENV TRIGGERED=1', 'COPY a /from-trigger'] } })
  const { config: { config }, files } = await image({ Dockerfile: `FROM ${reference}\nENV AFTER=$TRIGGERED\n`, a: '' })
  assert.equal(config['Env'], ['PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin', 'TRIGGERED=1', 'AFTER=1'])
  assert.equal([config['OnBuild'], files.has('from-trigger')], [undefined, true])
})

test('RUN finds the files of the base, in its working folder and as its environment has them; what it takes away is gone', async () => {
  // No folder of this machine: a step that went astray would find nothing there to write to.
  const top = `kiln-${randomUUID()}`
  const { reference } = await pushBase(registry, {
    config: { Env: ['PATH=/nowhere', `PLACE=/${top}/place`], WorkingDir: `/${top}` },
    files: Object.fromEntries([['place/word', 'from the base'], ['gone/a', 'a'], ['gone/b', 'b'], ['edited', 'before'], ['rewritten', 'before'], ['__pycache__/x.pyc', 'x']].map(([name, text]) => [`${top}/${name}`, text!])),
  })
  const base = await readImage(reference)
  const made = await image({
    'copied': 'copied',
    'Dockerfile': [
      `FROM ${reference}`, `RUN cat "$PLACE"/word /${top}/place/word place/word > read`, 'RUN rm -r gone && rm place/word && chmod 700 edited && printf "after!" > rewritten && echo y > __pycache__/y.pyc',
      `RUN ln -s /${top}/read /${top}/link && mkdir /${top}/new && mkdir /${top}/new/deep && ln -s /${top}/new /${top}/to-new && ln -s /${top}-else/deep out`, `COPY copied /${top}/to-new/`, `COPY copied /${top}/out/`, '',
    ].join('\n'),
  })
  const own = entriesAbove(made, base).map((name) => name.replace(top, '.'))
  assert.equal(own, [
    './.wh.gone', './place/.wh.word', './', '.-else/', '.-else/deep/', '.-else/deep/copied', './edited', './link', './new/', './new/copied', './new/deep/', './out', './place/', './read', './rewritten', './to-new',
  ])
  const file = (name: string): ImageFile | undefined => made.files.get(`${top}/${name}`)
  assert.equal(['gone', 'gone/a', 'place/word'].map(file), [undefined, undefined, undefined])
  assert.equal([file('edited')!.mode, file('link')!.content, file('read')!.content], [0o700, `/${top}/read`, sha256('from the base'.repeat(3))])

  const { create, ended, log } = observedPods(on)
  await create('over-base', { image: made.reference, command: ['sh', '-c', `cat /${top}/read; cat link; ls place gone; python3 -c "print()"; echo "$PLACE"`] })
  await ended('over-base')
  const printed: string = await log('over-base')
  assert.is(printed.split('from the base').length - 1, 6)
  assert.match(printed, /'?gone'?: No such file/)
  assert.not.match(printed, 'word')
})

test('what is copied over a link of the base goes where it leads in the image', async () => {
  const outside = join(folder, 'outside')
  await mkdir(outside)
  const { reference } = await pushImage(`${registry}/linked:v1`, {
    layers: [await layerOf([
      { name: 'lambda/', type: 'directory', mode: 0o755 }, { name: 'to-lambda', type: 'symlink', linkname: '/lambda' }, { name: 'out', type: 'symlink', linkname: outside }, { name: 'lambda/file', content: 'a' },
      { name: 'hard', type: 'link', linkname: 'lambda/file' },
    ])],
  })
  const { files } = await image({ Dockerfile: `FROM ${reference}\nCOPY a /to-lambda/a\nCOPY a /out/a\nCOPY a /hard\n`, a: 'x' })
  const is = (path: string): string => files.get(path)!.content
  assert.equal([is('lambda/a'), is(`${outside.slice(1)}/a`), is('to-lambda'), is('hard'), is('lambda/file')], [sha256('x'), sha256('x'), '/lambda', sha256('x'), sha256('a')])
})

test('of an index, what is for linux/amd64; where there is none, it says so', async () => {
  const [arm, amd] = await Promise.all(['arm64', 'amd64'].map((architecture) => pushBase(registry, { repository: 'both', tag: architecture, architecture, labels: { architecture } })))
  const { reference } = await pushIndex(`${registry}/both:index`, [{ ...arm!, architecture: 'arm64' }, { ...amd!, architecture: 'amd64' }])
  assert.equal((await image(`FROM ${reference}\n`)).config.config['Labels'], { architecture: 'amd64' })
  const other = await pushIndex(`${registry}/both:arm`, [{ ...arm!, architecture: 'arm64' }], 'oci')
  const { code, last } = await built(`FROM ${other.reference}\n`)
  assert.equal([code, last], [1, `error building image: unable to complete operation after 0 attempts, last error: no child with platform linux/amd64 in index ${other.reference}`])
})

test('a base that is not there, in the words that were recorded, and as often as it was told to try', async () => {
  const missing = `GET http://${registry}/v2/some/base/manifests/latest: MANIFEST_UNKNOWN: manifest unknown; unknown tag=latest`
  const once = await built(`FROM ${registry}/some/base\n`)
  assert.equal([once.code, once.last], [1, `error building image: unable to complete operation after 0 attempts, last error: ${missing}`])
  const { code, printed, last } = await built(`FROM ${registry}/some/base\n`, ['--no-push', '--image-download-retry=2'])
  assert.equal([code, last], [1, `error building image: unable to complete operation after 2 attempts, last error: ${missing}`])
  assert.equal(printed.match(/level=warning msg="Retrying operation after \ds/g)?.map((line) => line.slice(-2)), ['1s', '2s'])
  const digest = sha256('nothing')
  assert.match((await built(`FROM ${registry}/some/base@${digest}\n`)).last, `/v2/some/base/manifests/${digest}: MANIFEST_UNKNOWN: manifest unknown`)
  assert.is((await built('FROM Not:A:Name\n')).last, 'error building image: could not parse reference: Not:A:Name')
})

test('a registry of bases that is away, or without TLS and nobody spoke of it', async () => {
  const words = 'error building image: unable to complete operation after 0 attempts, last error: '
  const refused = 'dial tcp 127.0.0.1:9: connect: connection refused'
  assert.is((await built('FROM 127.0.0.1:9/x:v1\n')).last, `${words}Get "https://127.0.0.1:9/v2/": ${refused}; Get "http://127.0.0.1:9/v2/": ${refused}`)
  const plain = `${words}Get "https://registry.invalid:5000/v2/": http: server gave HTTP response to HTTPS client`
  assert.is((await built('FROM registry.invalid:5000/x:v1\n')).last, plain)
  assert.is((await built('FROM registry.invalid:5000/x:v1\n', ['--no-push', '--insecure'])).last, plain, 'that is said of what is pushed to')
  for (const flag of ['--insecure-pull', '--insecure-registry=registry.invalid:5000']) assert.match((await built('FROM registry.invalid:5000/x:v1\n', ['--no-push', flag])).last, /dial tcp: lookup registry\.invalid/)
})

test('a registry that asks who it is; and layers of one registry in another', async () => {
  const login = { username: 'kiln', password: 'secret' }
  const locked = await registryServer({ auth: login })
  try {
    const { reference } = await pushBase(locked.address, { login, layers: 2 })
    const anonymous = await built(`FROM ${reference}\n`)
    assert.equal([anonymous.code, anonymous.last], [1, `error building image: unable to complete operation after 0 attempts, last error: GET http://${locked.address}/v2/lpa-lambda-base/manifests/latest: `
      + 'UNAUTHORIZED: authentication required; [map[Action:pull Class: Name:lpa-lambda-base Type:repository]]'])
    const files = { Dockerfile: `FROM ${reference}\nCOPY a /a\n`, a: '' }
    for (const [index, entry] of [login, { auth: Buffer.from('kiln:secret').toString('base64') }].entries()) {
      const home = join(folder, `docker-${index}`)
      await mkdir(home)
      await writeFile(join(home, 'config.json'), JSON.stringify({ auths: { [index === 0 ? locked.address : `http://${locked.address}/v1/`]: entry } }))
      const destinations = [`${locked.address}/mine-${index}:v1`, `${registry}/theirs-${index}:v1`]
      const { code, printed } = await built(files, destinations.map((one) => `--destination=${one}`), { DOCKER_CONFIG: home })
      assert.is(code, 0, printed)
      const [here, there] = [await readImage(destinations[0]!, login), await readImage(destinations[1]!)]
      assert.equal([here.manifest.layers.length, there.digest], [3, here.digest])
    }
  } finally {
    await locked.close()
  }
})

test('what it does not know it does not pass over', async () => {
  for (const [lines, words] of [['HEALTHCHECK CMD true', 'knows no HEALTHCHECK'], ['COPY --from=x a b', 'knows no COPY --from=x'], ['FROM scratch', 'knows one FROM']] as const) {
    const { code, last } = await built(`FROM scratch\n${lines}\n`)
    assert.equal([code, last.includes(words)], [1, true], last)
  }
})

test.run()
