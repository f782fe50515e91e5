// NATS on a cluster: its configuration is one that a real nats-server runs with, and three servers are what the overlay promises.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import type { V1StatefulSet } from '@kubernetes/client-node'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { containersOf, folder, generated, isSelected, labelsOf, named, nameOf, podOf, portsOf, probesOf, text, things, type Selector } from './stand/manifests.ts'

const root = fileURLToPath(new URL('..', import.meta.url))
const test = suite('NATS on Kubernetes')

const limitsIn = (conf: string): Record<string, string> =>
  Object.fromEntries([...conf.matchAll(/^ *(max_\w+|ping_\w+|lame_duck_\w+|write_deadline): *("[^"]*"|\S+)/gm)].map(([, name, value]) => [name!, value!]))
test('NATS has the limits of kiln\'s own nats.conf', () => {
  const own = limitsIn(readFileSync(join(root, 'nats.conf'), 'utf8'))
  assert.ok(Object.keys(own).length >= 9)
  assert.equal(limitsIn(text('base/nats.conf')), own)
  const pauses = Number(/\d+/.exec(own['lame_duck_grace_period']!)![0]) + Number(/\d+/.exec(own['lame_duck_duration']!)![0])
  assert.ok(podOf(named<V1StatefulSet>('StatefulSet', 'nats')!).terminationGracePeriodSeconds! > pauses)
})
test('a nats-server runs with this nats.conf, and answers every probe', async () => {
  const home = mkdtempSync(join(tmpdir(), 'kiln-nats-conf-'))
  const own = ['-a', '127.0.0.1', '-p', '-1', '-m', '-1', '-P', join(home, 'pid'), '-sd', home]
  const server = spawn(process.env['KILN_TEST_NATS'] ?? 'nats-server', ['-c', join(folder, 'base/nats.conf'), ...own], { stdio: ['ignore', 'ignore', 'pipe'] })
  let said = ''
  for await (const line of createInterface({ input: server.stderr! })) if ((said += `${line}\n`).includes('Server is ready')) break
  server.stderr!.resume()
  const monitor = /http monitor on [^\s:]+:(\d+)/.exec(said)?.[1]
  const probes = containersOf(named<V1StatefulSet>('StatefulSet', 'nats')!).flatMap(probesOf)
  const statuses = await Promise.all(probes.map(async ({ httpGet }) => (await fetch(`http://127.0.0.1:${monitor}${httpGet!.path}`)).status)).catch((error: Error) => [`${error.message}: ${said}`])
  const ended = server.exitCode ?? once(server, 'exit')
  server.kill('SIGKILL')
  await ended
  rmSync(home, { recursive: true })
  assert.equal(statuses, [200, 200, 200])
})
test('three servers of NATS: as many as hold each stream, on three nodes, known to each other, with volumes that the one never had', () => {
  const three = things.find(({ file }) => file === 'overlays/three-nats/nats.yaml')!.thing as V1StatefulSet
  const one = named<V1StatefulSet>('StatefulSet', 'nats')!
  const replicas = generated('kiln-settings').flatMap(({ literals = [] }) => literals)
  assert.equal(replicas, [`STREAM_REPLICAS=${three.spec!.replicas}`])
  const args = podOf(three).containers[0]!.args!
  const routes = args[args.indexOf('--routes') + 1]!.split(',')
  assert.equal(routes, [0, 1, 2].map((n) => `nats://nats-${n}.${one.spec!.serviceName}:6222`))
  assert.ok(portsOf(one).includes(6222) && args.join(' ').startsWith(podOf(one).containers[0]!.args!.join(' ')))
  assert.ok(podOf(three).affinity!.podAntiAffinity!.requiredDuringSchedulingIgnoredDuringExecution!.every(({ labelSelector, topologyKey }) =>
    topologyKey === 'kubernetes.io/hostname' && isSelected(labelSelector as Selector, labelsOf(one))))
  const claim = (set: V1StatefulSet): string => nameOf(set.spec!.volumeClaimTemplates![0]!)
  const data = (set: V1StatefulSet): string | undefined => podOf(set).containers[0]!.volumeMounts!.find(({ mountPath }) => mountPath === '/data')?.name
  assert.equal([data(one), data(three)], [claim(one), claim(three)])
  assert.is.not(claim(one), claim(three))
})
test.run()
