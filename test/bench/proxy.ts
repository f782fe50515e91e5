// How much the gateway's invocation path costs: requests a second through it, beside nginx and beside no proxy at all.
// Interleaved rounds and ratios within one run, since other work on the machine moves all of them together.
import { fork, spawn, spawnSync, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import { createServer as createTcpServer, type AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { createAdaptorServer } from '@hono/node-server'
import { RESPONSE_ALREADY_SENT } from '@hono/node-server/utils/response'
import { Hono } from 'hono'
import { requestIdOf } from '../../shared/http.ts'
import { proxy } from '../../services/gateway/proxy.ts'

const rounds = 3
const seconds = 5
const connections = 32
const bar = 0.5
const here = fileURLToPath(import.meta.url)
const body = JSON.stringify({ hello: 'from a lambda' })

interface Measure { perSecond: number; errors: number }

/** What runs in processes of its own; each tells its port to the bench. */
const servers: Record<string, (pod: string) => Server> = {
  pod: () => createServer((_req, res) => res.writeHead(200, { 'content-type': 'application/json', 'content-length': body.length }).end(body)),
  raw: (pod) => {
    const carry = carrying(pod)
    return createServer((req, res) => void carry(req, res))
  },
  hono: (pod) => {
    const carry = carrying(pod)
    const app = new Hono<{ Bindings: { incoming: IncomingMessage; outgoing: ServerResponse } }>()
    app.all('/*', async (c) => {
      await carry(c.env.incoming, c.env.outgoing)
      return RESPONSE_ALREADY_SENT
    })
    return createAdaptorServer({ fetch: app.fetch as (request: Request) => Promise<Response> }) as Server
  },
}

function carrying(pod: string): (req: IncomingMessage, res: ServerResponse) => Promise<void> {
  const gateway = proxy({ timeoutMs: 60_000 })
  const place = { running: true, version: 1, endpoints: [pod] } as const
  return (req, res) => gateway.carry(req, res, { place: () => place, path: req.url!, requestId: requestIdOf(req.headers['luna-request-id'] as string | undefined) })
}

function serve(role: string, pod: string): void {
  const server = servers[role]!(pod)
  server.listen(0, '127.0.0.1', () => process.send!((server.address() as AddressInfo).port))
  process.on('disconnect', () => process.exit())
}

async function start(role: string, pod = ''): Promise<{ url: string; child: ChildProcess }> {
  const child = fork(here, [role, pod], { execArgv: ['--import', 'tsx'] })
  const [port] = await once(child, 'message') as [number]
  return { url: `http://127.0.0.1:${port}`, child }
}

async function freePort(): Promise<number> {
  const server = createTcpServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  server.close()
  await once(server, 'close')
  return port
}

const onPath = (program: string): boolean => spawnSync('sh', ['-c', `command -v ${program}`]).status === 0

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
  const port = await freePort()
  writeFileSync(join(folder, 'nginx.conf'), nginxConf(folder, port, pod))
  const child = spawn('nginx', ['-p', folder, '-c', join(folder, 'nginx.conf')], { stdio: 'ignore' })
  const url = `http://127.0.0.1:${port}`
  while (!await fetch(url).then((answer) => answer.ok, () => false)) if (child.exitCode !== null) throw new Error('nginx did not start')
  return { url, child }
}

async function output(command: string, args: string[]): Promise<string> {
  const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'ignore'] })
  let text = ''
  child.stdout.on('data', (chunk: Buffer) => { text += chunk.toString() })
  await once(child, 'close')
  return text
}

async function measureWithWrk(url: string): Promise<Measure> {
  const text = await output('wrk', ['-t', '1', '-c', String(connections), '-d', `${seconds}s`, url])
  const wrong = [...text.matchAll(/(?:connect|read|write|timeout|responses:) (\d+)/g)].map((found) => Number(found[1]))
  return { perSecond: Number(/Requests\/sec:\s+([\d.]+)/.exec(text)?.[1]), errors: wrong.reduce((sum, n) => sum + n, 0) }
}

async function measureWithAutocannon(url: string): Promise<Measure> {
  const program = fileURLToPath(import.meta.resolve('autocannon'))
  const result = JSON.parse(await output(process.execPath, [program, '-j', '-n', '-c', String(connections), '-d', String(seconds), url]))
  return { perSecond: result.requests.average, errors: result.errors + result.timeouts + result.non2xx }
}

const median = (values: number[]): number => [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)]!

async function measureAll(urls: Map<string, string>): Promise<Map<string, Measure>> {
  const measure = onPath('wrk') ? measureWithWrk : measureWithAutocannon
  const taken = new Map<string, Measure[]>([...urls.keys()].map((name) => [name, []]))
  for (let round = 0; round < rounds; round++) {
    for (const [name, url] of urls) taken.get(name)!.push(await measure(url))
  }
  const summary = (all: Measure[]): Measure => ({ perSecond: median(all.map((one) => one.perSecond)), errors: all.reduce((sum, one) => sum + one.errors, 0) })
  return new Map([...taken].map(([name, all]) => [name, summary(all)]))
}

export interface Row { what: string; value: string; reach: string; met: boolean }

function rowsOf(measures: Map<string, Measure>): Row[] {
  const nginx = measures.get('nginx')?.perSecond
  const direct = measures.get('direct')!.perSecond
  return [...measures].map(([name, { perSecond, errors }]) => {
    const isOurs = name.startsWith('gateway')
    const ofNginx = nginx === undefined ? '' : `, ${(perSecond / nginx).toFixed(2)} of nginx`
    return {
      what: `invoking, ${name}`,
      value: `${Math.round(perSecond)} requests/s, ${(perSecond / direct).toFixed(2)} of direct${ofNginx}, ${errors} errors`,
      reach: isOurs ? `>= ${bar} of nginx, no error` : 'no error',
      met: errors === 0 && (!isOurs || nginx === undefined || perSecond / nginx >= bar),
    }
  })
}

/** Through the gateway, both ways of mounting it, beside nginx (where it is installed) and no proxy at all. */
export async function benchProxy(): Promise<Row[]> {
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
    if (onPath('nginx')) urls.set('nginx', await started(startNginx(pod, folder)))
    urls.set('gateway, raw', await started(start('raw', pod)))
    urls.set('gateway, in a Hono route', await started(start('hono', pod)))
    return rowsOf(await measureAll(urls))
  } finally {
    const ended = children.map((child) => once(child, 'exit'))
    for (const child of children) child.kill()
    await Promise.all(ended)
    rmSync(folder, { recursive: true })
  }
}

if (process.argv[1] === here) {
  if (process.send !== undefined && process.argv[2]! in servers) serve(process.argv[2]!, process.argv[3] ?? '')
  else console.table(await benchProxy())
}
