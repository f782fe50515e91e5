// Configuration and parameters: what is taken, and what is complained of by name.
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { readConfig } from '../shared/config.ts'
import { bytesOf, mergePatch, parseParameters } from '../shared/parameters.ts'

const config = suite('configuration')
config('nothing set: the defaults', () => {
  const { host, port, natsUrl, maxArchiveBytes, buildTimeoutMs, objects } = readConfig({})
  assert.equal({ host, port, natsUrl, maxArchiveBytes, buildTimeoutMs, objects }, { host: '127.0.0.1', port: 8080, natsUrl: null, maxArchiveBytes: 64 * 2 ** 20, buildTimeoutMs: 600_000, objects: { kind: 'nats', bucket: 'kiln' } })
})
config('every complaint comes in one message, with the name and what is allowed', () => {
  const message = ((): string => { try { readConfig({ PORT: 'x', LOG_LEVEL: 'loud', MAX_ARCHIVE_BYTES: '1 stone', OBJECTS: 'ftp://x', PLATFORM: 'moon', TOKENS: 'nonsense', BUILD_TIMEOUT: '0' }); return '' } catch (error) { return (error as Error).message } })()
  for (const name of ['PORT', 'LOG_LEVEL', 'MAX_ARCHIVE_BYTES', 'OBJECTS', 'PLATFORM', 'TOKENS', 'BUILD_TIMEOUT']) assert.match(message, name)
})
config('it is frozen', () => { assert.throws(() => { (readConfig({}) as { port: number }).port = 1 }) })
config('tokens name accounts', () => { assert.equal([...readConfig({ TOKENS: 'acme=secret-token, other=12345678' }).tokens], [['secret-token', 'acme'], ['12345678', 'other']]) })
const onKubernetes = { PLATFORM: 'kubernetes', OBJECTS: 's3://kiln', LAMBDA_REGISTRY: 'registry.example:5000/team' }
config('on Kubernetes: images, contexts and namespaces have their places', () => {
  const { kubernetes, can, objects, baseImage } = readConfig({ ...onKubernetes, LAMBDA_NAMESPACES: 'blue, green', BUILD_LIMITS: 'cpu=2,memory=4Gi', LAMBDA_INSECURE_REGISTRIES: 'registry.example:5000' })
  assert.equal([kubernetes?.namespaces, kubernetes?.buildLimits, kubernetes?.insecureRegistries, kubernetes?.scheduleTimeoutMs], [['blue', 'green'], { cpu: '2', memory: '4Gi' }, ['registry.example:5000'], 300_000])
  assert.equal([can.runDockerCommands, can.readSecrets, can.namespaces, objects.kind, baseImage], [true, true, ['blue', 'green'], 's3', 'registry.example:5000/team/lpa-lambda-base:latest'])
})
config('images are made by the operator\'s builder, and by those that lambdas may ask for; for this machine unless it is said', () => {
  const of = (env: Record<string, string>): unknown[] => {
    const { imageBuilder, can, kubernetes } = readConfig({ ...onKubernetes, ...env })
    return [imageBuilder, can.imageBuilders, kubernetes!.imagePlatform]
  }
  const here = `linux/${process.arch === 'x64' ? 'amd64' : process.arch}`
  assert.equal(of({}), ['auto', ['auto'], here])
  assert.equal(of({ IMAGE_BUILDER: 'kaniko' }), ['kaniko', ['kaniko'], here])
  assert.equal(of({ IMAGE_BUILDERS: 'kaniko, auto', IMAGE_PLATFORM: 'linux/arm/v7' }), ['auto', ['auto', 'kaniko'], 'linux/arm/v7'])
  const { imageBuilder, can } = readConfig({})
  assert.equal([imageBuilder, can.imageBuilders], ['auto', ['auto']])
})
for (const env of [{ IMAGE_BUILDER: 'kaniko' }, { IMAGE_BUILDERS: 'kaniko' }]) {
  config(`without pods there is no ${Object.entries(env).join(' ')}`, () => assert.throws(() => readConfig(env), /IMAGE_BUILDER.*PLATFORM=local/))
}
const badOnes: Array<[string, Record<string, string>]> = [
  ['OBJECTS', { OBJECTS: 'nats://kiln' }], ['LAMBDA_REGISTRY', { LAMBDA_REGISTRY: 'http://registry/' }], ['LAMBDA_NAMESPACES', { LAMBDA_NAMESPACES: 'kube-system' }],
  ['BUILD_LIMITS', { BUILD_LIMITS: 'cpu:2' }], ['INSTALLATION', { INSTALLATION: 'My Kiln' }], ['AWS_SECRET_ACCESS_KEY', { AWS_ACCESS_KEY_ID: 'x' }], ['S3_ENDPOINT', { S3_ENDPOINT: 's3.example' }],
  ['IMAGE_BUILDER', { IMAGE_BUILDER: 'docker' }], ['IMAGE_BUILDERS', { IMAGE_BUILDERS: 'auto,docker' }], ['IMAGE_PLATFORM', { IMAGE_PLATFORM: 'arm64' }],
]
for (const [name, env] of badOnes) config(`a ${name} that cannot be is complained of by name`, () => assert.throws(() => readConfig({ ...onKubernetes, ...env }), (error: Error) => error.message.includes(name)))
config('another name of a setting is that setting', () => {
  const { platform, kubernetes } = readConfig({ OBJECTS: 's3://kiln', USE_KUBERNETES: '1', LUNA_BUILDER_REGISTRY: 'registry.example/team', LUNA_BUILDER_INSECURE_REGISTRIES: 'registry.example', LUNA_BUILDER_BUILD_LIMITS: 'cpu=2' })
  assert.equal([platform, kubernetes!.registry, kubernetes!.insecureRegistries, kubernetes!.buildLimits], ['kubernetes', 'registry.example/team', ['registry.example'], { cpu: '2' }])
  const here = readConfig({ USE_KUBERNETES: '0', LUNA_BUILDER_REGISTRY: 'registry.example/team', LAMBDA_REGISTRY: 'registry.example/team', KANIKO_EXECUTOR: '/opt/executor', LUNA_BUILDER_BUILD_LIMITS: 'cpu=2' })
  assert.equal([here.platform, here.localImages], ['local', { executor: '/opt/executor', registry: 'registry.example/team', insecureRegistries: [], registryAuthFile: null, ignoredLimits: 'cpu=2' }])
})
for (const [other, own, values] of [
  ['USE_KUBERNETES', 'PLATFORM', ['1', 'local']], ['LUNA_BUILDER_REGISTRY', 'LAMBDA_REGISTRY', ['a.example', 'b.example']],
  ['LUNA_BUILDER_INSECURE_REGISTRIES', 'LAMBDA_INSECURE_REGISTRIES', ['a.example', 'b.example']], ['LUNA_BUILDER_BUILD_LIMITS', 'BUILD_LIMITS', ['cpu=1', 'cpu=2']],
] as const) {
  config(`${other} and another ${own} are an error that names both`, () => assert.throws(() => readConfig({ [other]: values[0], [own]: values[1] }), (error: Error) => error.message.includes(other) && error.message.includes(`${own} is "${values[1]}"`)))
}
config('USE_KUBERNETES is 0 or 1', () => assert.throws(() => readConfig({ USE_KUBERNETES: 'yes' }), /USE_KUBERNETES is "yes"; it must be 0 or 1/))
config('the base image is the registry\'s own, here as well', () => assert.equal([{}, { LAMBDA_REGISTRY: 'registry.example/team' }, { LAMBDA_REGISTRY: 'registry.example', LAMBDA_BASE_IMAGE: 'debian:12' }].map((env) => readConfig(env).baseImage), ['lpa-lambda-base:latest', 'registry.example/team/lpa-lambda-base:latest', 'debian:12']))
config('lambdas may have Dockerfile commands here when there is an executor', () => assert.equal([{}, { KANIKO_EXECUTOR: '/opt/executor' }].map((env) => readConfig(env).can.runDockerCommands), [false, true]))
config('an account may have as many builds in the works as all, and a thousand waiting, unless it is said', () => {
  assert.equal(readConfig({ BUILD_CONCURRENCY: '7' }).buildsOfAccount, { running: 7, waiting: 1_000 })
  assert.equal(readConfig({ BUILD_CONCURRENCY_PER_ACCOUNT: '2', BUILDS_WAITING_PER_ACCOUNT: '5' }).buildsOfAccount, { running: 2, waiting: 5 })
})
config.run()

// ---
const parameters = suite('parameters')
const fields = (given: unknown): string[] => { const result = parseParameters(given); return result.ok ? [] : result.findings.map((f) => f.field!) }

parameters('nothing given: all defaults', () => {
  const result = parseParameters({})
  assert.ok(result.ok && result.parameters.deploy_parameters.pod_count === 1 && result.parameters.image_builder === null)
})
const bad: Array<[string, unknown, string[]]> = [
  ['unknown names', { nme: 'x', deploy_parameters: { pods: 1 } }, ['deploy_parameters.pods', 'nme']],
  ['wrong types', { name: 1, deploy_parameters: { pod_count: '2' } }, ['name', 'deploy_parameters.pod_count']],
  ['out of range', { description: 'x'.repeat(257), deploy_parameters: { pod_count: 101, workers: 0 } }, ['description', 'deploy_parameters.pod_count', 'deploy_parameters.workers']],
  ['env that is no string', { deploy_parameters: { env: { A: 1 } } }, ['deploy_parameters.env.A']],
  ['quantities', { deploy_parameters: { resources: { limits: { memory: '1 GB', cpu: 'two' } } } }, ['deploy_parameters.resources.limits.cpu', 'deploy_parameters.resources.limits.memory']],
  ['a namespace that is too short', { deploy_parameters: { namespace: 'a' } }, ['deploy_parameters.namespace']],
  ['a namespace of kube-', { deploy_parameters: { namespace: 'kube-system' } }, ['deploy_parameters.namespace']],
  ['a namespace with a bad end', { deploy_parameters: { namespace: 'ab-' } }, ['deploy_parameters.namespace']],
  ['autoscaling upside down', { deploy_parameters: { autoscaling: { min: 3, max: 2 } } }, ['deploy_parameters.autoscaling']],
  ['a Dockerfile line of two', { user_docker_commands: ['RUN a\nRUN b'] }, ['user_docker_commands.0']],
  ['a lambda_id that is no uuid', { lambda_id: 'me' }, ['lambda_id']],
  ['no object', [], ['parameters']],
  ['too large', { user_config: { x: 'y'.repeat(70_000) } }, ['parameters']],
  ['another lambda type', { lambda_type: 'agent' }, ['lambda_type']],
  ['a builder that there is not', { image_builder: 'docker' }, ['image_builder']],
]
for (const [what, given, expected] of bad) parameters(`${what}: refused by name`, () => assert.equal(fields(given).sort(), [...expected].sort()))

parameters('merging follows RFC 7396', () => {
  assert.equal(mergePatch({ a: 1, b: { c: 2, d: 3 } }, { a: null, b: { c: 4 }, e: [1] }), { b: { c: 4, d: 3 }, e: [1] })
  assert.equal(mergePatch({ a: [1, 2] }, { a: { b: 1 } }), { a: { b: 1 } })
  mergePatch({}, JSON.parse('{"__proto__":{"polluted":1}}'))
  assert.is(({} as Record<string, unknown>)['polluted'], undefined)
})
parameters('quantities in bytes', () => { assert.equal(['256Mi', '1G', '1024', '0.5Gi'].map(bytesOf), [268_435_456, 1e9, 1024, 536_870_912]) })
parameters.run()
