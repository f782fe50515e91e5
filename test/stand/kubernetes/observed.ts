// A stand-in cluster with a real registry, all that it shows written down, and how to hold that to what a real cluster was recorded to show.
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import * as assert from 'uvu/assert'
import { registryServer } from '../registry.ts'
import { standCluster, type StandCluster } from './cluster.ts'
import { imageOf } from './executor/image.ts'
import { push } from './executor/push.ts'
import { recordings } from './recorded.ts'
import type { Change, Kind, Thing } from './store.ts'
import { isTold, plain, told, type Told, type ToldKind } from './told.ts'
import type { WorldOptions } from './world.ts'

export interface Observed extends StandCluster {
  /** host:port of the registry; it holds `lambda-rec:v1` and `:v2`. */
  registry: string
  send(method: string, path: string, body?: unknown): Promise<any>
  /** The first change, from now on, of an object of this kind that fits; also the object as it is. */
  until(kind: Kind, fits: (thing: Thing, type: Change['type']) => boolean): Promise<Thing>
  /** What was told of the objects with this plain name, of each in the order in which they appeared. */
  lines(kind: ToldKind, name: string): string[][]
}

interface Recorded { kind: ToldKind; object: string; lines: string[] }
const world = recordings<Record<string, Recorded[]>>('world')

const patienceMs = 60_000
const server = `import http.server, os, signal
signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
server = http.server.ThreadingHTTPServer((os.environ['HOST'], 8000), http.server.SimpleHTTPRequestHandler)
print('it serves', flush=True)
server.serve_forever()
`

export async function observed(options: WorldOptions = {}): Promise<Observed> {
  const registry = await registryServer()
  await Promise.all(['v1', 'v2'].map((tag) => pushImage(`${registry.address}/lambda-rec:${tag}`, { 'lambda/server.py': server, 'lambda/tag': tag })))
  const stand = await standCluster({ timeScale: 0.02, phaseLagMs: 25, ...options })
  const heard: Told[] = []
  stand.store.hear((kind, change) => { if (isTold(kind)) heard.push(told(kind, change)) })
  return {
    ...stand, registry: registry.address,
    async send(method, path, body) {
      const type = method === 'PATCH' ? 'application/strategic-merge-patch+json' : 'application/json'
      const headers = { 'authorization': 'Bearer any', 'content-type': type }
      const response = await fetch(stand.api.address + path, { method, headers, ...(body !== undefined && { body: JSON.stringify(body) }) })
      const text = await response.text()
      return { status: response.status, body: response.headers.get('content-type') === 'application/json' ? JSON.parse(text) : text }
    },
    until(kind, fits) {
      const there = stand.store.list(kind, null).find((thing) => fits(thing, 'MODIFIED'))
      if (there) return Promise.resolve(there)
      return new Promise((resolve, reject) => {
        const last = (): string => heard.slice(-30).map(({ object, line }) => `\n${object}: ${line}`).join('')
        const late = setTimeout(() => reject(new Error(`It did not come. What was told at last: ${last()}`)), patienceMs)
        const stop = stand.store.hear((of, { object, type }) => {
          if (of !== kind || !fits(object, type)) return
          clearTimeout(late)
          stop()
          resolve(object)
        })
      })
    },
    lines(kind, name) {
      const objects = new Map<string, string[]>()
      for (const { object, line } of heard.filter((one) => one.kind === kind && plain(one.object) === name)) objects.set(object, [...(objects.get(object) ?? []), line])
      return [...objects.values()]
    },
    async close() {
      await stand.close()
      await registry.close()
    },
  }
}

/** An image of these files, whose program is `python3 server.py`. */
export async function pushImage(reference: string, files: Record<string, string>): Promise<void> {
  const root = await mkdtemp(join(tmpdir(), 'kiln-test-image-'))
  for (const [name, text] of Object.entries(files)) {
    await mkdir(join(root, name, '..'), { recursive: true })
    await writeFile(join(root, name), text)
  }
  const settings = { Env: ['HOST=0.0.0.0', 'PYTHONUNBUFFERED=1'], Entrypoint: ['python3', 'server.py'], WorkingDir: '/lambda' }
  await push(await imageOf(root, settings), reference, { insecure: true, insecureRegistries: [] })
  await rm(root, { recursive: true, force: true })
}

export interface Comparing {
  /** Which of several objects, in the order in which they appeared. */
  nth?: number
  /** From the first line, and up to the first line, that contains these words. */
  from?: string
  upTo?: string
  /** So many lines only. */
  first?: number
  /** Lines that may be there or not. */
  but?: RegExp
  /** In the recorded lines: what was called otherwise there. */
  renamed?: [string, string]
}

/** The lines that a real cluster told in this situation, in their order, are exactly those that were told here. */
export function assertTold(on: Observed, situation: string, kind: ToldKind, { nth = 0, from, upTo, first, but, renamed: [old, now] = ['', ''] }: Comparing = {}): void {
  const recorded = world[situation]!.filter((one) => one.kind === kind)
  const name = recorded[nth]!.object
  const among = recorded.filter((one) => one.object === name).indexOf(recorded[nth]!)
  const part = (lines: string[]): string[] => {
    const kept = lines.filter((line) => !but?.test(line))
    const begin = from === undefined ? 0 : kept.findIndex((line) => line.includes(from))
    const last = upTo === undefined ? kept.length : kept.findIndex((line, index) => index >= begin && line.includes(upTo)) + 1
    return begin === -1 || last === 0 ? [`nothing tells of ${begin === -1 ? from : upTo}`, ...kept] : kept.slice(begin, last).slice(0, first)
  }
  assert.equal(part(on.lines(kind, name)[among] ?? []), part(recorded[nth]!.lines.map((line) => (old ? line.replaceAll(old, now) : line))), `${situation}: ${kind} ${name}`)
}

export interface Lambda { replicas?: number; image?: string; container?: object; spec?: object; pod?: object }

/** A Deployment as those that were recorded. */
export const lambda = (on: Pick<Observed, 'registry'>, name: string, { replicas = 1, image = 'lambda-rec:v1', container = {}, spec = {}, pod = {} }: Lambda = {}): object => {
  const labels = { 'app.kubernetes.io/managed-by': 'kiln', 'kiln.example/lambda-id': name }
  return {
    apiVersion: 'apps/v1', kind: 'Deployment', metadata: { name: `lambda-${name}`, labels },
    spec: {
      replicas, revisionHistoryLimit: 2, strategy: { type: 'RollingUpdate', rollingUpdate: { maxUnavailable: 0, maxSurge: 1 } }, selector: { matchLabels: labels }, ...spec,
      template: {
        metadata: { labels },
        spec: {
          containers: [{
            name: 'lambda', image: `${on.registry}/${image}`, ports: [{ containerPort: 8000, name: 'http' }],
            readinessProbe: { httpGet: { path: '/', port: 8000 }, periodSeconds: 2, failureThreshold: 3 }, ...container,
          }],
          automountServiceAccountToken: false, enableServiceLinks: false, ...pod,
        },
      },
    },
  }
}

export interface BuildPod { dockerfile?: string; container?: object; spec?: object; withContext?: boolean }

/** Creates a build pod as those that were recorded, with a context in a ConfigMap. */
export async function build(on: Observed, name: string, { dockerfile = 'FROM base:latest', container = {}, spec = {}, withContext = true }: BuildPod = {}): Promise<void> {
  const pod = `kaniko-lambda-${name}`
  const mounts = ['Dockerfile', 'handler.py'].map((file) => ({ name: 'context', mountPath: `/workspace/${file}`, subPath: file }))
  if (withContext) await on.send('POST', configMaps, { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: pod }, data: { 'Dockerfile': dockerfile, 'handler.py': 'print("it runs")\n' } })
  await on.send('POST', pods, {
    apiVersion: 'v1', kind: 'Pod', metadata: { name: pod, labels: { 'kiln.example/lambda-id': name } },
    spec: {
      restartPolicy: 'Never', automountServiceAccountToken: false, enableServiceLinks: false, volumes: [{ name: 'context', configMap: { name: pod } }], ...spec,
      containers: [{
        name: 'kaniko', image: `${on.registry}/kaniko-executor:latest`, volumeMounts: mounts,
        args: [
          '--dockerfile=Dockerfile', '--context=dir:///workspace', `--destination=${on.registry}/lambda-${name}:v1`, '--insecure',
          '--digest-file=/dev/termination-log', '--log-format=text', '--log-timestamp=false',
        ],
        ...container,
      }],
    },
  })
}

export const pods = '/api/v1/namespaces/default/pods'
export const configMaps = '/api/v1/namespaces/default/configmaps'
export const secrets = '/api/v1/namespaces/default/secrets'
export const deployments = '/apis/apps/v1/namespaces/default/deployments'
export const scalers = '/apis/autoscaling/v2/namespaces/default/horizontalpodautoscalers'

interface Condition { type: string; status: string; reason?: string }
const conditionsOf = (thing: Thing): Condition[] => thing.status?.conditions ?? []
export const hasCondition = (thing: Thing, type: string, reason: string): boolean => conditionsOf(thing).some((one) => one.type === type && one.reason === reason)
export const isReady = (thing: Thing): boolean => conditionsOf(thing).some(({ type, status }) => type === 'Ready' && status === 'True')
/** All that it wants runs in its newest version, and nothing else does. */
export const isRolledOut = ({ metadata, spec, status = {} }: Thing): boolean => status.observedGeneration === metadata.generation
  && [status.replicas, status.updatedReplicas, status.availableReplicas].every((count) => (count ?? 0) === spec.replicas) && (status.unavailableReplicas ?? 0) === 0
