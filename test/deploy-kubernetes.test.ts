// What is applied to a cluster holds together: services, rights, settings, ports, policies, images. Reads the files as they are, without kustomize.
import { readFileSync } from 'node:fs'
import { join, normalize } from 'node:path'
import { fileURLToPath } from 'node:url'
import type {
  KubernetesObject, V1NetworkPolicy, V1NetworkPolicyPeer, V1PodDisruptionBudget, V1PodSpec, V1Role, V1RoleBinding, V1Service, V1ServiceAccount, V1StatefulSet,
} from '@kubernetes/client-node'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { PINNED_VERSION } from '../deploy/nats-server.mjs'
import { gateway, type GatewayParts } from '../services/gateway/index.ts'
import { healthServer } from '../services/health.ts'
import { houses } from '../services/houses.ts'
import { dockerfile } from '../services/packager/dockerfile.ts'
import { readConfig, settings } from '../shared/config.ts'
import {
  all, containersOf, files, generated, isSelected, kilns, kustomizations, labelsOf, named, nameOf, podOf, portsOf, probesOf, selectedBy, text, things, workloads, type Selector, type Workload,
} from './stand/manifests.ts'
import { testNats } from './stand/nats.ts'
import { standPorts } from './stand/ports.ts'

const root = fileURLToPath(new URL('..', import.meta.url))
interface ScaledObject extends KubernetesObject {
  spec: { scaleTargetRef: { name: string }; minReplicaCount: number; triggers: Array<{ type: string; metadata: { url: string; valueLocation: string } }> }
}
const services = Object.keys(houses).filter((name) => name !== 'all')
const given = Object.fromEntries(text('base/settings.env').split('\n').filter((line) => /^\w+=/.test(line)).map((line) => [line.slice(0, line.indexOf('=')), line.slice(line.indexOf('=') + 1)]))

const test = suite('on Kubernetes')

test('every file is named by the kustomization beside it, and what is named is there', () => {
  const names = kustomizations.flatMap(({ at, thing }) => [
    join(at, 'kustomization.yaml'), ...(thing.patches ?? []).flatMap(({ path }) => (path ? [join(at, path)] : [])),
    ...[...(thing.resources ?? []), ...(thing.components ?? [])].map((name) => normalize(join(at, name))).map((path) => (path.endsWith('.yaml') ? path : join(path, 'kustomization.yaml'))),
    ...(thing.configMapGenerator ?? []).flatMap(({ envs = [], files: of = [] }) => [...envs, ...of].map((name) => join(at, name))),
  ])
  assert.equal([...new Set(names)].sort(), files)
})
test('each service has one Deployment and a ServiceAccount of its own; a token only where rights are given', () => {
  assert.equal(kilns.map(nameOf).sort(), [...services].sort())
  assert.ok(kilns.every(({ kind }) => kind === 'Deployment'))
  assert.equal(kilns.map((workload) => podOf(workload).containers.map(({ args }) => args)), kilns.map((workload) => [[nameOf(workload)]]))
  const withRights = all<V1RoleBinding>('RoleBinding').flatMap(({ subjects }) => subjects!.map(({ name }) => name))
  for (const workload of workloads) {
    const account = named<V1ServiceAccount>('ServiceAccount', nameOf(workload))
    assert.is(podOf(workload).serviceAccountName, nameOf(workload))
    assert.is(account?.automountServiceAccountToken, withRights.includes(nameOf(workload)), nameOf(workload))
    assert.is(podOf(workload).automountServiceAccountToken, withRights.includes(nameOf(workload)), nameOf(workload))
  }
})
test('rights are for a namespace of lambdas, say what they are for, and reach no secrets', () => {
  assert.equal(all('ClusterRole', 'ClusterRoleBinding'), [])
  const roles = all<V1Role>('Role')
  for (const { rules } of roles) for (const { apiGroups, resources, verbs } of rules!) {
    assert.equal([...apiGroups!, ...resources!, ...verbs].filter((word) => word.includes('*') || /secret|role|token|impersonate|escalate|bind/.test(word)), [])
  }
  const bindings = all<V1RoleBinding>('RoleBinding')
  assert.equal(bindings.map(({ roleRef }) => `${roleRef.kind} ${roleRef.name}`).sort(), roles.map((role) => `Role ${nameOf(role)}`).sort())
  const subjects = bindings.flatMap((binding) => binding.subjects!)
  assert.equal(subjects.map(({ kind, namespace, name }) => [kind, namespace, services.includes(name)]), subjects.map(() => ['ServiceAccount', 'kiln', true]))
})

const volumesAllowed = ['configMap', 'csi', 'downwardAPI', 'emptyDir', 'ephemeral', 'persistentVolumeClaim', 'projected', 'secret']
/** What the profile `restricted` of Pod Security forbids, and beyond it: a root that can be written to, a user that only the image names. */
function forbidden(pod: V1PodSpec): string[] {
  const found: string[] = []
  const forbid = (is: boolean | undefined, what: string): void => { if (is) found.push(what) }
  forbid(pod.hostNetwork || pod.hostPID || pod.hostIPC, 'the host\'s namespaces')
  for (const { name, ...source } of pod.volumes ?? []) forbid(Object.entries(source).some(([kind, value]) => value !== undefined && !volumesAllowed.includes(kind)), `volume ${name}`)
  for (const { name, ports, ...container } of [...pod.containers, ...(pod.initContainers ?? []), ...(pod.ephemeralContainers ?? [])]) {
    const own = container.securityContext ?? {}
    forbid((own.runAsNonRoot ?? pod.securityContext?.runAsNonRoot) !== true, `${name}: may be root`)
    forbid(!((own.runAsUser ?? pod.securityContext?.runAsUser) ?? 0), `${name}: user`)
    forbid(!['RuntimeDefault', 'Localhost'].includes((own.seccompProfile ?? pod.securityContext?.seccompProfile)?.type ?? ''), `${name}: seccomp`)
    forbid(own.allowPrivilegeEscalation !== false || own.privileged, `${name}: privileges`)
    forbid(!own.capabilities?.drop?.includes('ALL') || (own.capabilities.add ?? []).some((one) => one !== 'NET_BIND_SERVICE'), `${name}: capabilities`)
    forbid(own.readOnlyRootFilesystem !== true, `${name}: root can be written to`)
    forbid(own.procMount !== undefined && own.procMount !== 'Default', `${name}: procMount`)
    forbid(ports?.some(({ hostPort }) => hostPort), `${name}: host port`)
  }
  return found
}
test('every pod passes Pod Security restricted, and the namespace asks for it', () => {
  assert.is(named('Namespace', 'kiln')?.metadata?.labels?.['pod-security.kubernetes.io/enforce'], 'restricted')
  assert.equal(workloads.flatMap((workload) => forbidden(podOf(workload)).map((what) => `${nameOf(workload)}: ${what}`)), [])
  const careless: V1PodSpec = { hostNetwork: true, volumes: [{ name: 'host', hostPath: { path: '/' } }], containers: [{ name: 'c', ports: [{ containerPort: 1, hostPort: 1 }] }] }
  assert.is(forbidden(careless).length, 9)
})
test('every container says what it needs and keeps to some memory; what it writes goes to /tmp', () => {
  for (const workload of workloads) for (const { resources } of containersOf(workload)) {
    assert.ok(resources?.requests?.['cpu'] && resources.requests['memory'] && resources.limits?.['memory'], nameOf(workload))
  }
  for (const workload of kilns) {
    const tmp = podOf(workload).containers[0]!.volumeMounts?.find(({ mountPath }) => mountPath === '/tmp')
    assert.ok(podOf(workload).volumes?.find(({ name }) => name === tmp?.name)?.emptyDir, nameOf(workload))
  }
})

/** Not kiln's but Node's. */
const foreign = ['NODE_OPTIONS']
test('every setting is one that kiln knows, wherever it is given', () => {
  const known = [...settings.map(({ name }) => name), ...foreign]
  const literals = generated('kiln-settings').flatMap((one) => one.literals ?? []).map((pair) => pair.split('=')[0]!)
  const own = kilns.flatMap((workload) => containersOf(workload)).flatMap(({ env }) => (env ?? []).map(({ name }) => name))
  assert.ok(literals.length > 0 && own.length > 0)
  assert.equal([...Object.keys(given), ...literals, ...own].filter((name) => !known.includes(name)), [])
})
test('what envFrom and volumes name is generated, or a Secret that README has one make', () => {
  const secrets = ['kiln-s3', 'kiln-registry', 'kiln-tokens']
  for (const workload of workloads) {
    const from = containersOf(workload).flatMap(({ envFrom }) => envFrom ?? [])
    const configMaps = [...from.map(({ configMapRef }) => configMapRef?.name), ...(podOf(workload).volumes ?? []).map(({ configMap }) => configMap?.name)].filter((name) => name !== undefined)
    assert.equal(configMaps.filter((name) => generated(name).length === 0), [], nameOf(workload))
    const asked = [...from.map(({ secretRef }) => secretRef?.name), ...(podOf(workload).volumes ?? []).map(({ secret }) => secret?.secretName)].filter((name) => name !== undefined)
    assert.equal(asked.filter((name) => !secrets.includes(name)), [], nameOf(workload))
    if (kilns.includes(workload)) assert.ok(configMaps.includes('kiln-settings'), nameOf(workload))
  }
})
test('kiln starts with these settings once the registry and the base image are named', () => {
  assert.throws(() => readConfig(given), (error: Error) => error.message.includes('LAMBDA_REGISTRY') && error.message.split('\n').length === 2)
  const config = readConfig({ ...given, LAMBDA_REGISTRY: 'registry.example/team', LAMBDA_BASE_IMAGE: 'registry.example/team/base:1' })
  assert.equal([config.platform, config.objects.kind, config.streamReplicas, config.kubernetes?.installation], ['kubernetes', 's3', 1, 'kiln'])
})
test('no pod gets variables of Services: NATS_PORT of a Service called nats would be taken for a setting', () => {
  assert.ok(settings.some(({ name }) => name === 'NATS_PORT') && named('Service', 'nats'))
  assert.equal(workloads.filter((workload) => podOf(workload).enableServiceLinks !== false).map(nameOf), [])
})

test('every port that is named exists where it is named', () => {
  for (const workload of workloads) for (const container of containersOf(workload)) {
    assert.is(probesOf(container).length, 3, nameOf(workload))
    assert.equal(probesOf(container).filter(({ httpGet }) => !portsOf(workload).includes(httpGet!.port as string)), [], nameOf(workload))
  }
  for (const service of all<V1Service>('Service')) {
    const behind = selectedBy({ matchLabels: service.spec!.selector! })
    assert.equal(behind.map(nameOf), [nameOf(service).replace('-headless', '')])
    for (const { targetPort } of service.spec!.ports!) assert.ok(portsOf(behind[0]!).includes(targetPort as string), nameOf(service))
  }
  for (const set of all<V1StatefulSet>('StatefulSet')) assert.is(named<V1Service>('Service', set.spec!.serviceName!)?.spec?.clusterIP, 'None')
})
test('every address in the settings leads to a port of a Service', () => {
  const addresses = ['NATS_URL', 'INGEST_URL', 'STATUS_API_URL', 'BUILDER_URL'].map((name) => new URL(given[name]!))
  const triggers = all<ScaledObject>('ScaledObject').flatMap(({ spec }) => spec.triggers.map(({ metadata }) => new URL(metadata.url)))
  for (const { hostname, port } of [...addresses, ...triggers]) {
    const ports = named<V1Service>('Service', hostname.split('.')[0]!)?.spec?.ports
    assert.ok(ports?.some((one) => String(one.port) === port), `${hostname}:${port}`)
  }
})
const policies = (isOfLambdas: boolean): V1NetworkPolicy[] =>
  things.filter(({ file, thing }) => thing.kind === 'NetworkPolicy' && file.startsWith('lambdas/') === isOfLambdas).map(({ thing }) => thing as V1NetworkPolicy)
test('a policy or a budget concerns pods that are there, and opens ports that they have', () => {
  for (const policy of policies(false)) {
    const concerned = selectedBy(policy.spec!.podSelector as Selector)
    assert.ok(concerned.length > 0, nameOf(policy))
    const opened = (policy.spec!.ingress ?? []).flatMap(({ ports }) => ports!.map(({ port }) => port as string))
    assert.equal(opened.filter((port) => !concerned.every((workload) => portsOf(workload).includes(port))), [], nameOf(policy))
  }
  for (const budget of all<V1PodDisruptionBudget>('PodDisruptionBudget')) assert.equal(selectedBy(budget.spec!.selector as Selector).map(nameOf), [nameOf(budget)])
})
test('who reaches whom in kiln\'s namespace: NATS is for kiln, the services are for the gateway, the gateway is for all', () => {
  const concerning = (workload: Workload): V1NetworkPolicy[] => policies(false).filter(({ spec }) => isSelected(spec!.podSelector as Selector, labelsOf(workload)))
  const callersIn = ({ podSelector, namespaceSelector }: V1NetworkPolicyPeer): string[] => {
    if (namespaceSelector) return Object.entries(namespaceSelector.matchLabels!).map((pair) => pair.join('='))
    return podSelector ? selectedBy(podSelector as Selector).map(nameOf) : ['everyone']
  }
  const callers = (workload: Workload): string[] => concerning(workload).flatMap(({ spec }) => spec!.ingress ?? [])
    .flatMap(({ _from: from, ports }) => ports!.flatMap(({ port }) => (from ?? [{}]).flatMap(callersIn).map((caller) => `${caller} -> ${port}`)))
  const metrics = 'kiln-metrics=true -> http'
  const expected: Record<string, string[]> = {
    nats: ['kiln-nats=true -> client', ...services.map((name) => `${name} -> client`), 'nats -> routes'], gateway: ['everyone -> http', metrics],
    ingest: ['gateway -> http', metrics], 'builder-watcher': ['gateway -> http', metrics], 'status-api': ['gateway -> http', metrics, 'kubernetes.io/metadata.name=keda -> http'],
  }
  for (const workload of workloads) {
    assert.ok(concerning(workload).every(({ spec }) => spec!.policyTypes!.join() === 'Ingress') && concerning(workload).some(({ spec }) => !spec!.ingress), nameOf(workload))
    assert.equal(callers(workload).sort(), (expected[nameOf(workload)] ?? [metrics]).sort(), nameOf(workload))
  }
})
test('lambdas are reached by the gateway on the port that they listen on; builds by nobody', () => {
  const of = (component: string) => policies(true).find(({ spec }) => isSelected(spec!.podSelector as Selector, { 'app.kubernetes.io/managed-by': 'kiln', 'app.kubernetes.io/component': component }))
  const [rule] = of('lambda')!.spec!.ingress!
  const [gate] = rule!._from!
  assert.equal(selectedBy(gate!.podSelector as Selector).map(nameOf), ['gateway'])
  assert.equal(gate!.namespaceSelector!.matchLabels, { 'kubernetes.io/metadata.name': 'kiln' })
  assert.match(dockerfile({ baseImage: 'b', userDockerCommands: [], installsRuntime: false, hasRequirements: false }), `EXPOSE ${rule!.ports![0]!.port}\n`)
  assert.equal([of('build')!.spec!.policyTypes, of('build')!.spec!.ingress], [['Ingress'], undefined])
})
test('the path of every probe of kiln answers', async () => {
  const nats = await testNats()
  const ports = await standPorts(nats.url)
  const config = { ...readConfig({}), port: 0 }
  const { port, open } = await healthServer({ config, wired: { ports, close: async () => undefined, runtimePython: async () => '' } })
  const gate = gateway(ports, { accountOf: () => null } as unknown as GatewayParts)
  const statuses = await Promise.all(kilns.flatMap((workload) => containersOf(workload).flatMap(probesOf).map(async ({ httpGet }) =>
    (nameOf(workload) === 'gateway' ? await gate.request(httpGet!.path!) : await fetch(`http://127.0.0.1:${port}${httpGet!.path}`)).status)))
  await Promise.all(open.map((one) => one.close()))
  await ports.close()
  await nats.close()
  assert.equal(statuses, kilns.flatMap(() => [200, 200, 200]))
})

test('KEDA scales by queues that exist, and never the deployer', () => {
  const scaled = all<ScaledObject>('ScaledObject')
  assert.equal(scaled.map(({ spec }) => spec.scaleTargetRef.name).sort(), ['builder-watcher', 'packager'])
  for (const { spec } of scaled) {
    const { name } = spec.scaleTargetRef
    const consumer = /\bname: '([^']+)'/.exec(readFileSync(join(root, 'services', name, 'index.ts'), 'utf8'))?.[1] ?? name
    assert.equal(spec.triggers.map(({ type, metadata }) => [type, new URL(metadata.url).pathname, metadata.valueLocation]), [['metrics-api', `/queues/${consumer}`, 'depth']])
    assert.ok(spec.minReplicaCount >= 1)
  }
})
test('each image is named in one place, kiln\'s with its version', () => {
  const images = kustomizations.flatMap(({ thing }) => thing.images ?? [])
  assert.equal([...new Set(workloads.flatMap((workload) => containersOf(workload)).map(({ image }) => image!))].sort(), images.map(({ name }) => name).sort())
  const tag = (name: string): string | undefined => images.find((image) => image.name === name)?.newTag
  assert.is(tag('kiln'), JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')).version)
  assert.is(tag('nats'), `${PINNED_VERSION}-alpine`)
})
test.run()
