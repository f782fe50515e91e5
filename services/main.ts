// The only process entry: `main.ts packager` runs one service, `main.ts all` the whole house in one process.
import { mkdir } from 'node:fs/promises'
import { createWriteStream } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { natsServer } from '../deploy/nats-server.mjs'
import { uvEnvironment } from '../deploy/pip-config.mjs'
import { python } from '../deploy/python.mjs'
import { readConfig, type Config } from '../shared/config.ts'
import { processes, type Processes } from '../shared/local/processes.ts'
import { jsonLog, type Log } from '../shared/log.ts'
import { ownServer, type OwnServer } from '../shared/nats/server.ts'
import { wire, type Machine, type Wired } from '../shared/wire.ts'
import { houses, type House, type Open } from './houses.ts'

const root = fileURLToPath(new URL('..', import.meta.url))

export interface Kiln {
  config: Config
  wired: Wired
  /** Where the gateway, or the one service, listens. */
  port: number
  natsUrl: string
  /** Stops everything that was started, children of children included. */
  close(): Promise<void>
}

export interface Start {
  what: string
  env: Record<string, string | undefined>
  /** For a person who watches: one line for each step. */
  say(line: string): void
  log?: Log
}

/** Starts one service or all. Throws with a sentence for a person; whatever was started by then is stopped again. */
export async function startKiln({ what, env, say, log: given }: Start): Promise<Kiln> {
  const house: House | undefined = houses[what]
  if (!house) throw new Error(`There is no service ${what}; there are ${Object.keys(houses).join(', ')}.`)
  const config = readConfig(env)
  await mkdir(config.dataDir, { recursive: true })
  const log = given ?? jsonLog(config.logLevel, (line) => process.stdout.write(line))
  const opened: Open[] = []
  const close = async (): Promise<void> => {
    for (const one of opened.splice(0).reverse()) await one.close().catch((error: unknown) => log.error('could not be closed', { error }))
  }
  try {
    const children = processes(join(config.dataDir, 'processes'))
    await children.reap()
    const nats = await natsFor(config, env, children, log, say)
    if (nats) opened.push(nats)
    const natsUrl = nats?.url ?? config.natsUrl!
    const wired = await wire(config, natsUrl, once(() => machineOf(config, env, children, say)), log)
    opened.push(wired)
    const { port, open } = await house({ config, wired, root, say })
    opened.push(...open)
    return { config, wired, port, natsUrl, close }
  } catch (error) {
    await close()
    throw error
  }
}

async function natsFor(config: Config, env: Start['env'], children: Processes, log: Log, say: Start['say']): Promise<OwnServer | null> {
  if (config.natsUrl) return null
  const binary = await natsServer({ dataDir: config.dataDir, say, env })
  return ownServer({ binary, conf: join(root, 'nats.conf'), folder: config.dataDir, port: config.natsPort, processes: children, env: definedIn(env), log })
}

async function machineOf(config: Config, env: Start['env'], children: Processes, say: Start['say']): Promise<Machine> {
  const found = await python({ dataDir: config.dataDir, root, say, env })
  const translated = await uvEnvironment(found.python, env)
  return {
    ...found, env, processes: children, runtimeRequirements: join(root, 'services/packager/runtime/requirements.txt'),
    uvEnvironment: { args: translated.args, env: { ...definedIn(env), ...translated.env } },
  }
}

/** Asked for several times, done once. */
function once<T>(act: () => Promise<T>): () => Promise<T> {
  let done: Promise<T> | null = null
  return () => done ??= act()
}

const definedIn = (env: Start['env']): Record<string, string> =>
  Object.fromEntries(Object.entries(env).filter((entry): entry is [string, string] => entry[1] !== undefined))

/** Runs until SIGINT or SIGTERM; a second one does not wait. */
export async function run(start: Omit<Start, 'log'> & { log?: Log }): Promise<Kiln> {
  const kiln = await startKiln(start)
  let stopping = false
  const stop = (signal: string): void => {
    if (stopping) process.exit(1)
    stopping = true
    start.say(`${signal}: stopping everything that was started …`)
    void kiln.close().then(() => { start.say('stopped.'); process.exit(0) })
  }
  process.on('SIGINT', () => stop('Ctrl-C'))
  process.on('SIGTERM', () => stop('SIGTERM'))
  // A bug in one handler must not take the others with it.
  process.on('unhandledRejection', (error) => kiln.wired.ports.log.error('a bug: nobody caught this', { error }))
  return kiln
}

/** The log of `npm start` goes to a file: the terminal is for the person. */
export async function fileLog(dataDir: string, level: Config['logLevel']): Promise<Log> {
  await mkdir(dataDir, { recursive: true })
  const file = createWriteStream(join(dataDir, 'kiln.log'), { flags: 'a' })
  return jsonLog(level, (line) => file.write(line))
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const say = (line: string): void => void process.stderr.write(`${line}\n`)
  run({ what: process.argv[2] ?? 'all', env: process.env, say }).then(({ port }) => say(`ready on port ${port}`), (error: Error) => {
    say(error.message)
    process.exit(1)
  })
}
