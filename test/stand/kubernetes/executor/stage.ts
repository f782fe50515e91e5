// Carries out the instructions of a Dockerfile in a folder that stands for the root of the image.
import { existsSync } from 'node:fs'
import { cp, mkdir, readdir, stat } from 'node:fs/promises'
import { basename, dirname, join, resolve } from 'node:path'
import { containerPaths } from '../container-paths.ts'
import { listOf, pairs, substitute, words, type Instruction } from './dockerfile.ts'
import type { ImageSettings } from './image.ts'
import type { Python } from './python.ts'

/** The build fails, in these words, and with this exit code. */
export class BuildTrouble extends Error {
  readonly exitCode: number

  constructor(message: string, exitCode = 1) {
    super(message)
    this.exitCode = exitCode
  }
}

export interface StageParts {
  /** Where the context is. */
  context: string
  root: string
  python: Python
  info(line: string): void
  /** Runs a program and resolves with its exit code. */
  run(command: string[], cwd: string, env: Record<string, string>): Promise<number>
}

export async function carryOut(instructions: Instruction[], { context, root, python, info, run }: StageParts): Promise<ImageSettings> {
  const env = new Map<string, string>()
  const args = new Map<string, string>()
  let settings: Omit<ImageSettings, 'Env'> = {}
  let folder = '/'
  const filled = (text: string): string => substitute(text, new Map([...args, ...env]))
  const inRoot = (path: string): string => join(root, resolve('/', folder, path))
  const command = (text: string): string[] => listOf(text) ?? ['/bin/sh', '-c', text]

  async function copy(text: string): Promise<void> {
    const all = listOf(text) ?? words(filled(text)).filter((word) => !word.startsWith('--chown') && !word.startsWith('--chmod'))
    if (all.some((word) => word.startsWith('--'))) throw new BuildTrouble(`error building image: the stand-in knows no COPY ${all.find((word) => word.startsWith('--'))}`)
    const to = all.pop()!
    const sources = (await Promise.all(all.map((source) => matching(context, source)))).flat()
    const intoFolder = to.endsWith('/') || to === '.' || sources.length > 1 || (await isFolder(inRoot(to)))
    for (const source of sources) {
      const target = (await isFolder(source)) || !intoFolder ? inRoot(to) : join(inRoot(to), basename(source))
      await mkdir(dirname(target), { recursive: true })
      // The context may consist of links to where its files are.
      await cp(source, target, { recursive: true, force: true, dereference: true })
    }
  }

  async function execute(text: string): Promise<void> {
    info(`Running: [${command(text).join(' ')}]`)
    if (/\bpip3?\b/.test(text)) await python.prepare()
    const paths = containerPaths(new Map(), root, root)
    const code = await run(command(text).map((word, index) => (index === 0 ? word : paths.real(word))), inRoot('.'), python.env(Object.fromEntries([...args, ...env])))
    if (code !== 0) throw new BuildTrouble(`error building image: error building stage: failed to execute command: waiting for process to exit: exit status ${code}`, code)
  }

  const handlers: Record<string, (text: string) => unknown> = {
    FROM(text) { // Whatever image it names: an empty root.
      refuseMissing(filled(words(text)[0]!))
      settings = {}
      folder = '/'
    },
    ARG(text) { for (const [name, value] of pairs(text.includes('=') ? text : `${text}=`)) args.set(name, filled(value)) },
    ENV(text) { for (const [name, value] of pairs(text)) env.set(name, filled(value)) },
    WORKDIR(text) {
      folder = resolve('/', folder, filled(text))
      settings.WorkingDir = folder
      return mkdir(join(root, folder), { recursive: true })
    },
    COPY: copy,
    ADD: copy,
    RUN: execute,
    ENTRYPOINT(text) { settings.Entrypoint = command(text) },
    CMD(text) { settings.Cmd = command(text) },
    USER(text) { settings.User = filled(text) },
    EXPOSE(text) { for (const port of words(filled(text))) (settings.ExposedPorts ??= {})[port.includes('/') ? port : `${port}/tcp`] = {} },
    LABEL(text) { for (const [name, value] of pairs(text)) (settings.Labels ??= {})[name] = filled(value) },
  }

  for (const { name, text } of instructions) {
    if (name !== 'FROM') info(`${name} ${text}`)
    await handlers[name]?.(text)
  }
  const packages = await python.packagesInto(root)
  if (packages !== null) env.set('PYTHONPATH', [packages, ...(env.has('PYTHONPATH') ? [env.get('PYTHONPATH')!] : [])].join(':'))
  return { Env: [...env].map(([name, value]) => `${name}=${value}`), ...settings }
}

/** A tag that no registry has, for tests of a base image that is not there. */
function refuseMissing(image: string): void {
  const [, host = 'index.docker.io', name = '', tag = ''] = /^(?:([^/]+[.:][^/]*)\/)?(.*?)(?::([^:/]+))?$/.exec(image) ?? []
  if (tag !== 'does-not-exist') return
  throw new BuildTrouble('error building image: unable to complete operation after 0 attempts, last error: '
    + `GET http://${host}/v2/${name}/manifests/${tag}: MANIFEST_UNKNOWN: manifest unknown; map[Tag:${tag}]`)
}

const isFolder = (path: string): Promise<boolean> => stat(path).then((is) => is.isDirectory(), () => false)

/** The files that a source names; a `*` stands for any part of a name. */
async function matching(context: string, source: string): Promise<string[]> {
  const path = join(context, source)
  if (!basename(source).includes('*')) {
    if (existsSync(path)) return [path]
    throw new BuildTrouble('error building image: error building stage: failed to optimize instructions: failed to get files used from context: '
      + `failed to get fileinfo for ${path}: lstat ${path}: no such file or directory`)
  }
  const pattern = new RegExp(`^${basename(source).replace(/[.+^${}()|[\]\\]/g, '\\$&').replaceAll('*', '.*')}$`)
  return (await readdir(dirname(path))).filter((name) => pattern.test(name)).sort().map((name) => join(dirname(path), name))
}
