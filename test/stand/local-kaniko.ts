// Images made on this machine for a test: a registry of its own, an executor, a base image whose shell tries to get out, and folders that go.
import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync } from 'node:fs'
import { mkdir, mkdtemp, readdir, readFile, rename, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { delimiter, dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { PINNED_GO } from '../../deploy/go-programs.mjs'
import { allOnPath, run } from '../../deploy/programs.mjs'
import { localKaniko, type LocalKaniko, type LocalKanikoOptions, type LocalKanikoWish } from '../../shared/local/kaniko.ts'
import { processes } from '../../shared/local/processes.ts'
import { layerOf, pushImage, tarOf } from './base-image.ts'
import { registryServer, type RegistryOptions, type RegistryServer } from './registry.ts'

const root = fileURLToPath(new URL('../..', import.meta.url))
const sources = ['shell.go', 'executor.go', 'lambda.go'].map((name) => join(root, 'test/stand/local-kaniko', name))

/** The path of a real executor, where the environment names one. */
const given = process.env['KANIKO_EXECUTOR'] || null
export const executorInWords = given ? `a real executor, ${given}` : 'what stands for its executor'

/** All of it in one static program, built once for each state of its source. */
export async function probes(): Promise<string> {
  const texts = await Promise.all(sources.map((path) => readFile(path)))
  const path = join(root, '.kiln', 'bin', `local-kaniko-${createHash('sha256').update(Buffer.concat(texts)).digest('hex').slice(0, 12)}`)
  if (existsSync(path)) return path
  const go = allOnPath('go', { PATH: [process.env['PATH'], join(root, '.kiln', 'tools', `go-${PINNED_GO}`, 'go', 'bin')].join(delimiter) })[0]
  if (!go) throw new Error('go is not on PATH: what stands for kaniko\'s executor cannot be built')
  await mkdir(dirname(path), { recursive: true })
  const part = await mkdtemp(join(dirname(path), '.part-'))
  try {
    await run(go, ['build', '-trimpath', '-ldflags', '-s -w', '-o', join(part, 'program'), ...sources], { env: { ...process.env, CGO_ENABLED: '0' }, cwd: part, lastLines: 20 })
    await rename(join(part, 'program'), path)
  } finally {
    await rm(part, { recursive: true, force: true })
  }
  return path
}

/** What `unshare` needs to be told here so that its program may make mounts of its own; an error where the system refuses, whatever kiln does. */
const namespace = ((): string[] | Error => {
  let said = ''
  for (const way of [...(process.getuid?.() === 0 ? [['--mount']] : []), ['--map-root-user', '--mount']]) {
    const { status, stderr, error } = spawnSync('unshare', [...way, '--pid', '--fork', '--', 'mount', '-t', 'proc', 'proc', '/proc'], { encoding: 'utf8' })
    if (status === 0) return way
    said = error?.message ?? stderr.trim()
  }
  return new Error(said)
})()
export const refusedByTheSystem = namespace instanceof Error ? `the system lets nobody here have namespaces and mounts of his own (${namespace.message})` : null
export const ownNamespace = namespace instanceof Error ? [] : namespace

export const executor = async (): Promise<string> => given ?? probes()

export interface KanikoWorld {
  registry: RegistryServer
  /** Where private roots come and go. */
  folder: string
  kaniko: LocalKaniko
  /** As the world's own, with these options. */
  another(options: Partial<LocalKanikoOptions>): Promise<LocalKaniko>
  /** A context with `hello.txt` and this Dockerfile, after its FROM, and a name to push to. Without its registry nothing is pushed. */
  wish(lines: string[], more?: Partial<LocalKanikoWish>): Promise<LocalKanikoWish>
  /** Roots and records of processes that are there. */
  left(): Promise<string[]>
  close(): Promise<void>
}

let images = 0

export async function kanikoWorld(options: RegistryOptions = {}): Promise<KanikoWorld> {
  const registry = await registryServer(options)
  const folder = await mkdtemp(join(tmpdir(), 'kiln-test-kaniko-'))
  const path = await executor()
  const more: LocalKaniko[] = []
  const another = async (own: Partial<LocalKanikoOptions>): Promise<LocalKaniko> => {
    more.push(localKaniko({ executor: path, folder, processes: processes(join(folder, 'processes')), insecureRegistries: [registry.address], auth: null, env: {}, ...own }))
    return more.at(-1)!
  }
  const from = options.tls || options.auth ? 'FROM scratch' : `FROM ${await shellImage({ registry })}`
  return {
    registry, folder, another, kaniko: await another({}),
    async wish(lines, wish) {
      const context = await tarOf([{ name: 'Dockerfile', content: [from, ...lines, ''].join('\n') }, { name: 'hello.txt', content: 'hello\n' }])
      return { context, destination: `${registry.address}/made/image-${++images}:1`, buildArgs: {}, timeoutMs: 120_000, ...wish }
    },
    async left() {
      const [roots, records] = await Promise.all([folder, join(folder, 'processes')].map((one) => readdir(one).catch(() => [])))
      return [...roots!.filter((name) => name.startsWith('.')), ...records!]
    },
    async close() {
      await Promise.all(more.map((one) => one.close()))
      await registry.close()
      await rm(folder, { recursive: true, force: true })
    },
  }
}

/** What a real executor runs RUN in. The stand-in needs none: it is its own. */
export async function shellImage({ registry }: Pick<KanikoWorld, 'registry'>): Promise<string> {
  if (!given) return 'scratch'
  const layer = await layerOf([
    { name: 'bin/', type: 'directory', mode: 0o755 }, { name: 'bin/sh', mode: 0o755, content: await readFile(await probes()) },
    { name: 'etc/', type: 'directory', mode: 0o755 }, { name: 'etc/passwd', content: 'root:x:0:0:root:/root:/bin/sh\n' }, { name: 'tmp/', type: 'directory', mode: 0o1777 },
  ])
  return (await pushImage(`${registry.address}/shell:1`, { layers: [layer], config: { architecture: 'amd64', os: 'linux', config: { Env: ['PATH=/bin'] } } })).reference
}

/** Processes of this machine in whose command line this word stands. */
export async function processesThatSay(word: string): Promise<Array<{ pid: number; line: string }>> {
  const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name))
  const lines = await Promise.all(pids.map(async (pid) => ({ pid: Number(pid), line: await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '') })))
  return lines.filter(({ line }) => line.includes(word))
}
