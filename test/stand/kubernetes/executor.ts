// Stands for the program that builds images in a pod: same flags, same last lines, same exit codes, for Dockerfiles of the kind that kiln writes.
// Run as `node --import tsx executor.ts --context=… --destination=…`; RUN lines run as processes of this machine, in a folder that stands for the root.
import { execFile, spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync, writeFileSync, writeSync } from 'node:fs'
import { mkdir } from 'node:fs/promises'
import { constants, tmpdir } from 'node:os'
import { isAbsolute, join } from 'node:path'
import { promisify } from 'node:util'
import { baseOf } from './executor/base.ts'
import { BuildTrouble } from './executor/build-trouble.ts'
import { contextFolder, ContextTrouble } from './executor/context.ts'
import { authorizationIn } from './executor/credentials.ts'
import { DockerfileTrouble, readDockerfile, type Instruction } from './executor/dockerfile.ts'
import { BadFlags, readFlags, type Flags } from './executor/flags.ts'
import { imageOf } from './executor/image.ts'
import { checkPush, push, PushTrouble } from './executor/push.ts'
import { makeShims, pathOf, python } from './executor/python.ts'
import { unpackBase, type Before } from './executor/root.ts'
import { carryOut, needsFiles, stepsOf } from './executor/stage.ts'
import { referenceOf } from './registry-talk.ts'

// Modes are those that files have in an image, whoever runs this.
process.umask(0o022)
const folder = mkdtempSync(join(tmpdir(), 'kiln-stand-executor-'))
/** It leads a process group when the kubelet has started it: whoever ends the group ends what RUN has started, too. */
const leadsGroup = leads()
let running: ChildProcess | null = null

const print = (line: string): void => void writeSync(2, `${line}\n`)
const began = Date.now()
type Level = 'info' | 'warning'
const formats: Record<string, (level: Level, line: string) => string> = {
  text: (level, line) => `time="${new Date().toISOString().slice(0, 19)}Z" level=${level} msg=${JSON.stringify(line)}`,
  json: (level, line) => JSON.stringify({ level, msg: line, time: `${new Date().toISOString().slice(0, 19)}Z` }),
  color: (level, line) => `\u001b[${level === 'info' ? '36mINFO' : '33mWARN'}\u001b[0m[${String(Math.floor((Date.now() - began) / 1_000)).padStart(4, '0')}] ${line}`,
}

function leads(): boolean {
  try {
    return process.kill(-process.pid, 0)
  } catch {
    return false
  }
}

function end(code: number): never {
  rmSync(folder, { recursive: true, force: true })
  process.exit(code)
}

function endRunning(): void {
  if (running?.pid === undefined || running.exitCode !== null) return
  try {
    process.kill(leadsGroup ? running.pid : -running.pid, 'SIGKILL')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error
  }
}

process.once('SIGTERM', () => {
  endRunning()
  end(2)
})

async function run(command: string[], cwd: string, env: Record<string, string>): Promise<number> {
  const [program = '', ...args] = command
  running = spawn(program, args, { cwd, env, stdio: ['ignore', 'inherit', 'inherit'], detached: !leadsGroup })
  const [code, signal] = (await once(running, 'exit')) as [number | null, NodeJS.Signals | null]
  return code ?? 128 + constants.signals[signal!]
}

async function ask([program = '', ...args]: string[], env: Record<string, string>): Promise<string> {
  return (await promisify(execFile)(program, args, { env })).stdout
}

async function build(flags: Flags): Promise<void> {
  const info = (line: string): void => print(formats[flags.logFormat]!('info', line))
  const warn = (line: string): void => print(formats[flags.logFormat]!('warning', line))
  const authorization = authorizationIn(process.env['DOCKER_CONFIG'])
  const context = await contextFolder(flags.context, join(folder, 'context'), process.env)
  const file = dockerfileOf(context, flags.dockerfile)
  if (!flags.noPush) for (const destination of flags.destinations) await checkPush(destination, { ...flags, authorization })
  const instructions = readDockerfile(readFileSync(file, 'utf8'))
  const base = await baseOf(baseNameIn(instructions), { ...flags, insecure: flags.insecurePull, retries: flags.downloadRetries, authorization, info, warn })
  const root = join(folder, 'root')
  const interpreter = pathOf(process.env['KILN_TEST_PYTHON'] ?? 'python3', process.env['PATH'] ?? '')
  await mkdir(root)
  await makeShims(folder, interpreter)
  const steps = stepsOf(instructions, base)
  const needing = base && needsFiles(steps)
  if (needing) info(`Unpacking rootfs as cmd ${needing.name} ${needing.text} requires it.`)
  const before: Before = needing ? await unpackBase(base, root) : new Map()
  const { settings, touched } = await carryOut(steps, { context, root, base, info, run, buildArgs: flags.buildArgs, python: python({ folder, interpreter, machine: process.env, ask }) })
  info('Taking snapshot of full filesystem...')
  const image = await imageOf(root, settings, { base, before, touched })
  for (const destination of flags.noPush ? [] : flags.destinations) {
    info(`Pushing image to ${destination}`)
    await pushed(() => push(image, destination, { ...flags, authorization }), flags.pushRetries)
    info(`Pushed ${referenceOf(destination, '')!.repository}@${image.manifest.digest}`)
  }
  if (flags.digestFile) writeFileSync(flags.digestFile, image.manifest.digest)
}

function baseNameIn(instructions: Instruction[]): string {
  const [first, second] = instructions.filter(({ name }) => name === 'FROM')
  if (!first || second) throw new BuildTrouble(`error building image: the stand-in knows one FROM, neither none nor another${second ? ` (line ${second.line})` : ''}`)
  return /^\S+/.exec(first.text)![0]
}

function dockerfileOf(context: string, name: string): string {
  const path = isAbsolute(name) ? name : join(context, name)
  try {
    readFileSync(path)
    return path
  } catch (cause) {
    throw new ContextTrouble('please provide a valid path to a Dockerfile within the build context with --dockerfile', { cause }, 'dockerfile path')
  }
}

async function pushed(attempt: () => Promise<void>, retries: number): Promise<void> {
  for (let left = retries; ; left--) {
    try {
      return await attempt()
    } catch (error) {
      if (!(error instanceof PushTrouble) || left <= 0) throw error
    }
  }
}

try {
  await build(readFlags(process.argv.slice(2)))
  end(0)
} catch (error) {
  if (error instanceof BadFlags) print(`Error: ${error.message}\nUsage:\n  executor [flags]\n  executor [command]\n`)
  else if (error instanceof ContextTrouble) print(`Error: error resolving ${error.what}: ${error.message}\nUsage:\n  executor [flags]\n  executor [command]\n`)
  else if (error instanceof DockerfileTrouble) print(`error building image: parsing dockerfile: ${error.message}`)
  else if (error instanceof BuildTrouble || error instanceof PushTrouble) print(error.message)
  else print(`error building image: ${error instanceof Error ? error.stack : String(error)}`)
  end(error instanceof BuildTrouble ? error.exitCode : 1)
}
