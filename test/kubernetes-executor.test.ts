// What stands for the builder of images: real contexts from a real S3, real images in a real registry, and the words with which it gives up.
import { CreateBucketCommand, PutObjectCommand, S3Client } from '@aws-sdk/client-s3'
import { once } from 'node:events'
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises'
import { createServer, type AddressInfo, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { contextArchive } from './contract/builds.ts'
import { gate } from './stand/await.ts'
import { manifestType } from './stand/kubernetes/executor/image.ts'
import { executorRuns } from './stand/kubernetes/executor-runs.ts'
import { observedPods } from './stand/kubernetes/observed-pods.ts'
import { observed, type Observed } from './stand/kubernetes/observed.ts'
import { ask } from './stand/kubernetes/registry-talk.ts'
import { registryServer } from './stand/registry.ts'
import { s3Server, type S3Server } from './stand/s3.ts'

const folder = await mkdtemp(join(tmpdir(), 'kiln-test-executor-'))
const on: Observed = await observed()
const store: S3Server = await s3Server()
const bucket = `kiln-executor-${process.pid}`
const { endpoint, region, accessKeyId, secretAccessKey } = store
const client = new S3Client({ endpoint, forcePathStyle: true, region, credentials: { accessKeyId, secretAccessKey } })
await client.send(new CreateBucketCommand({ Bucket: bucket }))

const test = suite('what stands for the builder of images')
test.after(async () => {
  client.destroy()
  await Promise.all([on.close(), store.close(), rm(folder, { recursive: true })])
})

const { run, start, context, built } = executorRuns(folder, {
  S3_ENDPOINT: endpoint, S3_FORCE_PATH_STYLE: 'true', AWS_ACCESS_KEY_ID: accessKeyId, AWS_SECRET_ACCESS_KEY: secretAccessKey, AWS_REGION: region,
})

test('a context in S3 becomes an image, with what its RUN lines installed, and Kubernetes runs it', async () => {
  // Python's own means make a package, so that none has to be fetched.
  const wheel = `import zipfile
with zipfile.ZipFile('probe-1.0-py3-none-any.whl', 'w') as wheel:
    wheel.writestr(zipfile.ZipInfo('probe/__init__.py'), 'word = "installed"')
    wheel.writestr(zipfile.ZipInfo('probe-1.0.dist-info/METADATA'), 'Metadata-Version: 2.1\\nName: probe\\nVersion: 1.0\\n')
    wheel.writestr(zipfile.ZipInfo('probe-1.0.dist-info/WHEEL'), 'Wheel-Version: 1.0\\nGenerator: test\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n')
    wheel.writestr(zipfile.ZipInfo('probe-1.0.dist-info/RECORD'), '')
`
  const { archive } = await contextArchive({
    'Dockerfile': [
      'FROM base:latest', 'ENV GREETING="hello there" OTHER=${GREETING:-none}', 'WORKDIR /lambda', 'COPY wheel.py /tmp/wheel.py',
      'RUN python3 /tmp/wheel.py && \\', '  python3 -m pip install --no-cache-dir --no-index probe-1.0-py3-none-any.whl', 'COPY code/ /lambda/',
      'USER nobody', 'EXPOSE 8000', 'ENTRYPOINT ["python3", "main.py"]', 'CMD ["an argument"]', '',
    ].join('\n'),
    'wheel.py': wheel, 'code/main.py': 'import os, sys, probe, deep.more\nprint(probe.word, deep.more.x, os.environ["GREETING"], sys.argv[1])\n', 'code/deep/more.py': 'x = 1\n',
  })
  await client.send(new PutObjectCommand({ Bucket: bucket, Key: 'contexts/one', Body: archive as Buffer }))
  const digestFile = join(folder, 'digest')
  const args = [`--context=s3://${bucket}/contexts/one`, `--digest-file=${digestFile}`, '--insecure', '--log-format=text']
  const first = await run([...args, `--destination=${on.registry}/probe:one`, `--destination=${on.registry}/other:two`])
  assert.is(first.code, 0, first.printed)
  const digest = await readFile(digestFile, 'utf8')
  for (const reference of ['probe/manifests/one', 'other/manifests/two']) {
    const { headers } = await ask('HEAD', `http://${on.registry}/v2/${reference}`, { headers: { accept: manifestType } })
    assert.is(headers['docker-content-digest'], digest)
  }

  const again = await run([...args, `--destination=${on.registry}/probe:again`])
  assert.match(again.last, new RegExp(`Pushed ${on.registry}/probe@${digest}`))

  const { create, ended, log } = observedPods(on)
  await create('probe', { image: `${on.registry}/probe@${digest}` })
  await ended('probe')
  assert.is(await log('probe'), 'installed 1 hello there an argument\n')
})

test('a context that is not there, or may not be read', async () => {
  const gone = await run([`--context=s3://${bucket}/contexts/none`, '--no-push'])
  assert.is(gone.code, 1)
  assert.match(gone.printed, /^Error: error resolving source context: operation error S3: GetObject, https response error StatusCode: 404, RequestID: .*, HostID: .*, NoSuchKey: /)
  const refused = await run([`--context=s3://${bucket}/contexts/one`, '--no-push'], { AWS_SECRET_ACCESS_KEY: 'wrong' })
  assert.is(refused.code, 1)
  assert.match(refused.printed, /^Error: error resolving source context: operation error S3: GetObject, https response error StatusCode: 403, .*SignatureDoesNotMatch: /)
})

test('flags that it does not know, and no Dockerfile', async () => {
  const unknown = await run(['--what=1'])
  assert.equal([unknown.code, unknown.printed.split('\n')[0]], [1, 'Error: unknown flag: --what'])
  const nothing = await run([`--context=dir://${await context({ other: '' })}`, '--no-push'])
  assert.is(nothing.code, 1)
  assert.match(nothing.printed, /^Error: error resolving dockerfile path: please provide a valid path to a Dockerfile within the build context with --dockerfile\n/)
})

test('a Dockerfile that cannot be read', async () => {
  const syntax = await built('FORM base:latest\n')
  assert.equal([syntax.code, syntax.last], [1, 'error building image: parsing dockerfile: dockerfile parse error on line 1: unknown instruction: FORM (did you mean FROM?)'])
})

test('its exit code is that of the RUN line that fails', async () => {
  const { code, last } = await built('FROM base:latest\nRUN ["sh", "-c", "exit 42"]\n')
  assert.equal([code, last], [42, 'error building image: error building stage: failed to execute command: waiting for process to exit: exit status 42'])
})

test('a registry that does not answer, one that refuses, and one without TLS that nobody spoke of', async () => {
  const words = 'error checking push permissions -- make sure you entered the correct tag name, and that you are authenticated correctly, and try again: checking push permission for '
  const away = await built('FROM base:latest\n', ['--destination=127.0.0.1:9/x:v1'])
  assert.equal([away.code, away.last], [1, `${words}"127.0.0.1:9/x:v1": creating push check transport for 127.0.0.1:9 failed: `
    + 'Get "https://127.0.0.1:9/v2/": dial tcp 127.0.0.1:9: connect: connection refused; Get "http://127.0.0.1:9/v2/": dial tcp 127.0.0.1:9: connect: connection refused'])
  const locked = await registryServer({ auth: { username: 'kiln', password: 'secret' } })
  try {
    const refused = await built('FROM base:latest\n', [`--destination=${locked.address}/x:v1`])
    assert.equal([refused.code, refused.last], [1, `${words}"${locked.address}/x:v1": POST http://${locked.address}/v2/x/blobs/uploads/: UNAUTHORIZED: authentication required; `
      + '[map[Action:pull Class: Name:x Type:repository] map[Action:push Class: Name:x Type:repository]]'])
  } finally {
    await locked.close()
  }
  const plain = await built('FROM base:latest\n', ['--destination=registry.test:5000/x:v1'])
  assert.match(plain.last, /failed: Get "https:\/\/registry\.test:5000\/v2\/": http: server gave HTTP response to HTTPS client$/)
})

test('asked to end, it ends what RUN has started, removes what it made, and ends with 2', async () => {
  const started = gate<Socket>()
  const server = createServer((socket) => started.open(socket)).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  const connected = `python3 -c "import socket; socket.create_connection(('127.0.0.1', ${port})).recv(1)"`
  const args = [`--context=dir://${await context({ Dockerfile: `FROM base:latest\nRUN ${connected}; true\n` })}`, '--no-push']
  const child = start(args)
  const socket = await started.promise
  // However it goes.
  const closed = new Promise<void>((resolve) => socket.on('error', () => undefined).once('close', () => resolve()).resume())
  const exited = once(child, 'exit')
  child.kill('SIGTERM')
  assert.is((await exited)[0], 2)
  await closed
  server.close()
  assert.equal((await readdir(folder)).filter((name) => name.startsWith('kiln-stand')), [])
})

test.run()
