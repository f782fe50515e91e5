// Load on one address, from a process of its own: wrk where it is installed, else autocannon.
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'

export interface Measure {
  perSecond: number
  p50Ms: number
  errors: number
}

const connections = 32
const seconds = 5

export const isOnPath = (command: string): boolean => spawnSync('which', [command]).status === 0

/** GET as often as it goes, over 32 connections, for five seconds. Only for addresses of this machine. */
export async function load(url: string): Promise<Measure> {
  if (!['127.0.0.1', 'localhost', '[::1]'].includes(new URL(url).hostname)) throw new Error('load is for the loopback only')
  return isOnPath('wrk') ? withWrk(url) : withAutocannon(url)
}

async function withWrk(url: string): Promise<Measure> {
  const text = await output('wrk', ['--latency', '-t', '1', '-c', String(connections), '-d', `${seconds}s`, url])
  const wrong = [...text.matchAll(/(?:connect|read|write|timeout|responses:) (\d+)/g)].map((found) => Number(found[1]))
  const [, p50, unit] = /50%\s+([\d.]+)(us|ms|s)/.exec(text) ?? []
  const scale = { us: 0.001, ms: 1, s: 1_000 }[unit ?? 'ms']!
  return { perSecond: Number(/Requests\/sec:\s+([\d.]+)/.exec(text)?.[1]), p50Ms: Number(p50) * scale, errors: wrong.reduce((sum, n) => sum + n, 0) }
}

async function withAutocannon(url: string): Promise<Measure> {
  const program = fileURLToPath(import.meta.resolve('autocannon'))
  const result = JSON.parse(await output(process.execPath, [program, '-j', '-n', '-c', String(connections), '-d', String(seconds), url]))
  return { perSecond: result.requests.average, p50Ms: result.latency.p50, errors: result.errors + result.timeouts + result.non2xx }
}

async function output(command: string, args: string[]): Promise<string> {
  const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'ignore'] })
  let text = ''
  child.stdout.on('data', (chunk: Buffer) => { text += chunk.toString() })
  await once(child, 'close')
  return text
}
