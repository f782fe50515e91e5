// How much the gateway costs an invocation: requests a second through it, beside nginx and beside no proxy at all.
// Interleaved rounds and ratios within one run, since other work on the machine moves all of them together.
import { fork, spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { listen, type GatewayParts } from '../../services/gateway/index.ts'
import { proxy } from '../../services/gateway/proxy.ts'
import { accountsBy } from '../../services/gateway/tokens.ts'
import type { Bus } from '../../shared/bus.ts'
import { silentLog } from '../../shared/log.ts'
import { metrics } from '../../shared/metrics.ts'
import { freePort } from '../../shared/nats/server.ts'
import { isOnPath, load, type Measure } from './load.ts'
import { median, type Line } from './line.ts'

const rounds = 3
const here = fileURLToPath(import.meta.url)
const body = JSON.stringify({ hello: 'from a lambda' })
const lambda = '00000000-0000-4000-8000-000000000001'

/** What runs in processes of its own; each tells its port to the bench. */
const servers: Record<string, (pod: string) => Promise<number>> = {
  async pod() {
    const server = createServer((_req, res) => res.writeHead(200, { 'content-type': 'application/json', 'content-length': body.length }).end(body))
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    return (server.address() as AddressInfo).port
  },
  /** The gateway as it is, with a table of one lambda. */
  async gateway(pod) {
    const place = { running: true, version: 1, endpoints: [pod] } as const
    const places: GatewayParts['places'] = { find: () => place, caughtUp: async () => undefined, close: () => undefined }
    const nothing = (): Response => new Response()
    const ports = { bus: {} as Bus, log: silentLog, metrics: metrics({ processFigures: false }) }
    const { port } = await listen(ports, { ingest: nothing, statusApi: nothing, builder: null, places, proxy: proxy({ timeoutMs: 60_000 }), accountOf: accountsBy(new Map()) }, { host: '127.0.0.1', port: 0 })
    return port
  },
}

async function serve(role: string, pod: string): Promise<void> {
  process.on('disconnect', () => process.exit())
  process.send!(await servers[role]!(pod))
}

async function start(role: string, pod = ''): Promise<{ url: string; child: ChildProcess }> {
  const child = fork(here, [role, pod], { execArgv: ['--import', 'tsx'] })
  const [port] = await once(child, 'message') as [number]
  return { url: `http://127.0.0.1:${port}`, child }
}

const nginxConf = (folder: string, port: number, pod: string): string => `
daemon off; worker_processes 1; pid ${folder}/nginx.pid; error_log ${folder}/error.log;
events { worker_connections 1024; }
http {
  access_log off;
  client_body_temp_path ${folder}/body; proxy_temp_path ${folder}/proxy; fastcgi_temp_path ${folder}/f; uwsgi_temp_path ${folder}/u; scgi_temp_path ${folder}/s;
  upstream pod { server ${pod.slice('http://'.length)}; keepalive 64; }
  server {
    listen 127.0.0.1:${port};
    keepalive_requests 100000000;
    location / {
      proxy_pass http://pod; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; proxy_set_header X-Forwarded-Host $host;
    }
  }
}`

async function startNginx(pod: string, folder: string): Promise<{ url: string; child: ChildProcess }> {
  const port = await freePort(0)
  writeFileSync(join(folder, 'nginx.conf'), nginxConf(folder, port, pod))
  const child = spawn('nginx', ['-p', folder, '-c', join(folder, 'nginx.conf')], { stdio: 'ignore' })
  const url = `http://127.0.0.1:${port}`
  while (!await fetch(url).then((answer) => answer.ok, () => false)) if (child.exitCode !== null) throw new Error('nginx did not start')
  return { url, child }
}

async function measureAll(urls: Map<string, string>): Promise<Map<string, Measure>> {
  const taken = new Map<string, Measure[]>([...urls.keys()].map((name) => [name, []]))
  for (let round = 0; round < rounds; round++) {
    for (const [name, url] of urls) taken.get(name)!.push(await load(url))
  }
  return new Map([...taken].map(([name, all]) => [name, {
    perSecond: median(all.map((one) => one.perSecond)), p50Ms: median(all.map((one) => one.p50Ms)), errors: all.reduce((sum, one) => sum + one.errors, 0),
  }]))
}

/** Against nginx where it is installed, else against the direct call. */
function linesOf(measures: Map<string, Measure>): Line[] {
  const direct = measures.get('direct')!.perSecond
  const nginx = measures.get('nginx')?.perSecond
  return [...measures].map(([name, { perSecond, errors }]) => {
    const isEnough = nginx === undefined ? perSecond / direct >= 0.3 : perSecond / nginx >= 0.5
    const ofNginx = nginx === undefined ? '' : `, ${(perSecond / nginx).toFixed(2)} of nginx`
    return {
      what: `invoking a trivial server, 32 connections: ${name}`, value: `${Math.round(perSecond)} requests/s, ${(perSecond / direct).toFixed(2)} of direct${ofNginx}, ${errors} errors`,
      reach: name !== 'gateway' ? '–' : nginx === undefined ? '>= 0.3 of direct, no error' : '>= 0.5 of nginx, no error', met: errors === 0 && isEnough,
    }
  })
}

export async function benchProxy(): Promise<Line[]> {
  const folder = mkdtempSync(join(tmpdir(), 'kiln-bench-'))
  const children: ChildProcess[] = []
  const started = async (one: Promise<{ url: string; child: ChildProcess }>): Promise<string> => {
    const { url, child } = await one
    children.push(child)
    return url
  }
  try {
    const pod = await started(start('pod'))
    const urls = new Map([['direct', pod]])
    if (isOnPath('nginx')) urls.set('nginx', await started(startNginx(pod, folder)))
    urls.set('gateway', `${await started(start('gateway', pod))}/lambdas/${lambda}/proxy/main`)
    return linesOf(await measureAll(urls))
  } finally {
    const ended = children.map((child) => once(child, 'exit'))
    for (const child of children) child.kill()
    await Promise.all(ended)
    rmSync(folder, { recursive: true })
  }
}

if (process.argv[1] === here && process.send !== undefined) void serve(process.argv[2]!, process.argv[3] ?? '')
