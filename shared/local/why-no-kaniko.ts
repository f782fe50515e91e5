// Why there is no kaniko on this machine: each thing that it needs, and in the end the whole of it, is tried.
import { constants } from 'node:fs'
import { access, mkdtemp, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { privateRoot } from './private-root.ts'
import { processes } from './processes.ts'
import { missingOn, systemPath } from './system-programs.ts'

const needed = ['sh', 'unshare', 'nsenter', 'setpriv', 'mount', 'umount', 'pivot_root', 'mkfifo', 'cat', 'rm']
const trialMs = 30_000

/** null: it can be run here; otherwise why not, and what to do about it. `path`: where the system's programs are. */
export async function whyNoLocalKaniko(executor: string | null, path = systemPath): Promise<string | null> {
  if (process.platform !== 'linux') return `kaniko runs on Linux only, and this is ${process.platform}. Use PLATFORM=kubernetes, or run kiln on Linux.`
  if (executor === null) return 'No executor is named: set KANIKO_EXECUTOR to the path of kaniko\'s static program, which is /kaniko/executor in its image.'
  const file = await stat(executor).catch(() => null)
  if (!file?.isFile()) return `There is no program at ${executor}: set KANIKO_EXECUTOR to the path of kaniko's static program, which is /kaniko/executor in its image.`
  if (!(await access(executor, constants.X_OK).then(() => true, () => false))) return `${executor} may not be executed: chmod +x it.`
  const missing = await missingOn(path, needed)
  if (missing.length > 0) return `${missing.join(', ')} cannot be found in ${path}: install util-linux and coreutils.`
  return tried(resolve(executor))
}

/** In an empty root of its own it says which version it is. */
async function tried(executor: string): Promise<string | null> {
  const folder = await mkdtemp(join(tmpdir(), 'kiln-kaniko-'))
  const children = processes(join(folder, 'processes'))
  try {
    const root = await privateRoot(folder, executor, children)
    const trial = await root.start(['version'], {}, () => undefined)
    const timer = setTimeout(() => void children.end(trial, 0), trialMs)
    const { code } = await trial.ended.finally(() => clearTimeout(timer))
    const said = trial.lastLines().at(-1) ?? 'it says nothing'
    if (!(await root.began())) return `${noRoot()} (${said}).`
    return code === 0 ? null : `${executor} does not run in a root of its own (${said}): KANIKO_EXECUTOR must be kaniko's static program for this machine.`
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

function noRoot(): string {
  if (process.getuid?.() === 0) return 'kiln is root, but may make neither namespaces and mounts nor a user namespace of its own: run it outside of its container, or give that SYS_ADMIN'
  return 'kiln is not root, and the system lets it be no root of a user namespace: run it as root, or allow user namespaces (sysctl kernel.unprivileged_userns_clone=1, kernel.apparmor_restrict_unprivileged_userns=0)'
}
