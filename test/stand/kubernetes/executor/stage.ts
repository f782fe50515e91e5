// Carries out the instructions of a Dockerfile in a folder that stands for the root of the image.
import { existsSync } from 'node:fs'
import { chmod, copyFile, mkdir, readdir, rm, stat } from 'node:fs/promises'
import { basename, dirname, join, resolve } from 'node:path'
import { containerPaths } from '../container-paths.ts'
import { pathIn } from '../unpack-layer.ts'
import type { Base } from './base.ts'
import { BuildTrouble } from './build-trouble.ts'
import { listOf, pairs, readDockerfile, substitute, words, type Instruction } from './dockerfile.ts'
import { settingsOf, type ImageSettings } from './image.ts'
import type { Python } from './python.ts'

export interface StageParts {
  /** Where the context is. */
  context: string
  root: string
  /** What the image is made on; its files are in the root where they are wanted. */
  base: Base | null
  python: Python
  /** `<name>=<value>` */
  buildArgs: string[]
  info(line: string): void
  /** Runs a program and resolves with its exit code. */
  run(command: string[], cwd: string, env: Record<string, string>): Promise<number>
}

export interface StageEnd {
  settings: ImageSettings
  /** Full paths of what was copied into the root. */
  touched: Set<string>
}

/** Of an image that says nothing. */
const usualPath = 'PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'
/** They look for files in the root. */
const looking = ['ADD', 'COPY', 'RUN', 'WORKDIR']

/** What has to be done: what the base has in store for whoever builds on it, and then what follows FROM. */
export function stepsOf(instructions: Instruction[], base: Base | null): Instruction[] {
  const triggers = (base ? settingsOf(base.config).OnBuild ?? [] : []).flatMap((text) => readDockerfile(`FROM scratch\n${text}`).slice(1))
  return [...triggers, ...instructions.filter(({ name }) => name !== 'FROM')]
}

/** The step for which the base must be unpacked, if there is one. */
export const needsFiles = (steps: Instruction[]): Instruction | null => steps.find(({ name }) => looking.includes(name)) ?? null

export async function carryOut(steps: Instruction[], { context, root, base, buildArgs, python, info, run }: StageParts): Promise<StageEnd> {
  const { OnBuild: _, ...inherited }: ImageSettings = base ? { Env: [usualPath], ...settingsOf(base.config) } : {}
  const settings: ImageSettings = inherited
  const env = new Map((settings.Env ?? []).map((line) => [line.slice(0, line.indexOf('=')), line.slice(line.indexOf('=') + 1)]))
  const args = new Map<string, string>()
  const given = new Map(buildArgs.map((pair) => [pair.slice(0, pair.indexOf('=')), pair.slice(pair.indexOf('=') + 1)]))
  const touched = new Set<string>()
  const folder = (): string => settings.WorkingDir ?? '/'
  const filled = (text: string): string => substitute(text, new Map([...args, ...env]))
  const inRoot = (path: string): Promise<string> => pathIn(root, resolve('/', folder(), path), 'followed')
  const command = (text: string): string[] => listOf(text) ?? [...(settings.Shell ?? ['/bin/sh', '-c']), text]
  /** All values of a line are those that were before it. */
  const filledPairs = (text: string): Array<[string, string]> => pairs(text).map(([name, value]) => [name, filled(value)])

  async function copy(text: string): Promise<void> {
    const all = (listOf(text) ?? words(text)).map(filled).filter((word) => !word.startsWith('--chown') && !word.startsWith('--chmod'))
    if (all.some((word) => word.startsWith('--'))) throw new BuildTrouble(`error building image: the stand-in knows no COPY ${all.find((word) => word.startsWith('--'))}`)
    const to = all.pop()!
    const sources = (await Promise.all(all.map((source) => matching(context, source)))).flat()
    const intoFolder = to.endsWith('/') || to === '.' || sources.length > 1 || (await isFolder(await inRoot(to)))
    for (const source of sources) {
      const target = (await isFolder(source)) || !intoFolder ? to : join(to, basename(source))
      await copyOver(source, await inRoot(target))
    }
  }

  /** Folders are joined. The context may consist of links to where its files are. */
  async function copyOver(source: string, target: string): Promise<void> {
    const is = await stat(source)
    touched.add(target)
    if (is.isDirectory()) {
      if (!(await isFolder(target))) await rm(target, { force: true })
      await mkdir(target, { recursive: true })
      for (const name of await readdir(source)) await copyOver(join(source, name), join(target, name))
    } else {
      await mkdir(dirname(target), { recursive: true })
      await rm(target, { recursive: true, force: true })
      await copyFile(source, target)
    }
    await chmod(target, is.mode & 0o7777)
  }

  async function execute(text: string): Promise<void> {
    info(`Running: [${command(text).join(' ')}]`)
    if (/\bpip3?\b/.test(text)) await python.prepare()
    const paths = containerPaths(new Map(), root, root, true)
    const given = Object.fromEntries([...args, ...env].map(([name, value]) => [name, paths.real(value)]))
    const wanted = await inRoot('.')
    const code = await run(command(text).map((word, index) => (index === 0 ? word : paths.real(word))), existsSync(wanted) ? wanted : root, python.env(given))
    if (code !== 0) throw new BuildTrouble(`error building image: error building stage: failed to execute command: waiting for process to exit: exit status ${code}`, code)
  }

  const handlers: Record<string, (text: string) => unknown> = {
    ARG(text) { for (const [name, value] of filledPairs(text.includes('=') ? text : `${text}=`)) args.set(name, given.get(name) ?? value) },
    ENV(text) { for (const [name, value] of filledPairs(text)) env.set(name, value) },
    WORKDIR(text) {
      settings.WorkingDir = resolve('/', folder(), filled(text))
      return inRoot('.').then((path) => mkdir(path, { recursive: true }))
    },
    COPY: copy,
    ADD: copy,
    RUN: execute,
    ENTRYPOINT(text) { settings.Entrypoint = command(text) },
    CMD(text) { settings.Cmd = command(text) },
    USER(text) { settings.User = filled(text) },
    EXPOSE(text) { for (const port of words(filled(text))) (settings.ExposedPorts ??= {})[port.includes('/') ? port : `${port}/tcp`] = {} },
    LABEL(text) { for (const [name, value] of filledPairs(text)) (settings.Labels ??= {})[name] = value },
    MAINTAINER() {},
    ONBUILD(text) { (settings.OnBuild ??= []).push(text) },
    SHELL(text) { settings.Shell = listOf(text) ?? [] },
    STOPSIGNAL(text) { settings.StopSignal = filled(text) },
    VOLUME(text) { for (const path of listOf(text) ?? words(filled(text))) (settings.Volumes ??= {})[path] = {} },
  }

  for (const { name, text } of steps) {
    info(`${name} ${text}`)
    const handle = handlers[name]
    if (!handle) throw new BuildTrouble(`error building image: the stand-in knows no ${name}`)
    await handle(text)
  }
  const said = (name: string): boolean => steps.some((step) => step.name === name)
  if (said('ENTRYPOINT') && !said('CMD')) delete settings.Cmd
  const packages = await python.packagesInto(root)
  if (packages !== null) env.set('PYTHONPATH', [...new Set([packages, ...(env.get('PYTHONPATH') ?? '').split(':')])].filter(Boolean).join(':'))
  return { touched, settings: { ...settings, Env: [...env].map(([name, value]) => `${name}=${value}`) } }
}

const isFolder = (path: string): Promise<boolean> => stat(path).then((is) => is.isDirectory(), () => false)

/** The files that a source names; a `*` stands for any part of a name. */
async function matching(context: string, source: string): Promise<string[]> {
  const path = join(context, source)
  if (!basename(source).includes('*')) {
    if (existsSync(path)) return [path]
    throw new BuildTrouble('error building image: error building stage: failed to get files used from context: '
      + `failed to get fileinfo for ${path}: lstat ${path}: no such file or directory`)
  }
  const pattern = new RegExp(`^${basename(source).replace(/[.+^${}()|[\]\\]/g, '\\$&').replaceAll('*', '.*')}$`)
  return (await readdir(dirname(path))).filter((name) => pattern.test(name)).sort().map((name) => join(dirname(path), name))
}
