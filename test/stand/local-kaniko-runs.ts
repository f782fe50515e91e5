// Runs of kaniko on this machine, as tests want them: what a build says as it says it, how it ended, and a kiln of its own to be killed.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { writeFile } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import type { LocalKaniko, LocalKanikoWish } from '../../shared/local/kaniko.ts'
import { lines } from '../../shared/local/output.ts'
import { gate } from './await.ts'
import { executor, type KanikoWorld } from './local-kaniko.ts'

export type Made = Awaited<ReturnType<LocalKaniko['run']>>

interface Said {
  said: string[]
  line(text: string): void
  /** Resolves with the first line that holds this; rejects when it ends without one. */
  says(text: string): Promise<string>
}

/** `over`: nothing more will be said. */
function listening(over: () => Promise<unknown>): Said {
  const said: string[] = []
  const seekers = new Set<() => void>()
  return {
    said,
    line(text) {
      said.push(text)
      for (const seek of seekers) seek()
    },
    async says(text) {
      const found = gate<string>()
      const seek = (): void => { const there = said.find((one) => one.includes(text)); if (there !== undefined) found.open(there) }
      seekers.add(seek)
      seek()
      return Promise.race([found.promise, over().then(() => { throw new Error(`it ended without saying ${text}:\n${said.join('\n')}`) })])
    },
  }
}

export interface Run extends Said {
  made: Promise<Made>
  stop(reason?: unknown): void
}

export function started(kaniko: LocalKaniko, wish: LocalKanikoWish): Run {
  const stopping = new AbortController()
  const heard = listening(() => made)
  const made: Promise<Made> = kaniko.run(wish, { line: heard.line, waits: (why) => heard.line(why?.message ?? 'goes on'), signal: stopping.signal })
  return { ...heard, made, stop: (reason) => stopping.abort(reason) }
}

export async function done(kaniko: LocalKaniko, wish: LocalKanikoWish): Promise<{ made: Made; said: string[] }> {
  const { made, said } = started(kaniko, wish)
  return { made: await made, said }
}

/** What the probes of a build say, without the word before. */
export async function probed(kaniko: LocalKaniko, wish: LocalKanikoWish): Promise<string[]> {
  const { made, said } = await done(kaniko, wish)
  if (!made.built) throw new Error(`${made.failure.message}\n${said.join('\n')}`)
  return said.flatMap((line) => /^probe (.*)$/.exec(line)?.[1] ?? [])
}

export function failureOf(made: Made): [cause: string, reason: string, again: boolean] {
  if (made.built) throw new Error('it was built')
  return [made.failure.cause, made.failure.reason, made.again]
}

export interface OtherKiln extends Said {
  /** Resolves when it is gone. */
  kill(): Promise<void>
  ended: Promise<unknown>
}

const at = (path: string): string => JSON.stringify(fileURLToPath(new URL(`../../shared/local/${path}`, import.meta.url)))
const program = `
  import { readFileSync } from 'node:fs'
  import { localKaniko } from ${at('kaniko.ts')}
  import { processes } from ${at('processes.ts')}
  const [folder, executor, registry, destination] = process.argv.slice(1)
  const kaniko = localKaniko({ executor, folder, processes: processes(folder + '/processes'), insecureRegistries: [registry], auth: null, env: {} })
  const wish = { context: readFileSync(folder + '/context.tar'), destination, buildArgs: {}, timeoutMs: 120_000 }
  console.log(JSON.stringify(await kaniko.run(wish, { line: console.log, waits: () => undefined, signal: new AbortController().signal })))
`

/** A kiln in its own process, which makes one image, prints its lines, and in the end what came of it. `around`: a command that becomes it. */
export async function otherKiln(world: KanikoWorld, wish: LocalKanikoWish, around: string[] = []): Promise<OtherKiln> {
  await writeFile(`${world.folder}/context.tar`, wish.context as Buffer)
  const [command, ...args] = [...around, process.execPath, '--import', import.meta.resolve('tsx'), '--input-type=module', '-e', program, world.folder, await executor(), world.registry.address, wish.destination]
  const child = spawn(command!, args, { stdio: ['ignore', 'pipe', 'inherit'] })
  const ended = once(child, 'close')
  const heard = listening(() => ended)
  const split = lines(heard.line)
  child.stdout.on('data', (chunk: Buffer) => split.push(chunk))
  return {
    ...heard, ended,
    async kill() {
      child.kill('SIGKILL')
      await ended
    },
  }
}
