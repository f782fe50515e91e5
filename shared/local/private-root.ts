// A private root: a folder that is all of the machine that one program sees, in namespaces of its own; it and all that it starts end together.
// What stands in it afterwards is a stranger's work: kiln only removes it, and reads nothing of it. What the program says stands beside it.
import { chmod, mkdir, open, readdir, readFile, rename, symlink, writeFile } from 'node:fs/promises'
import { dirname, join, resolve } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { namesIn, unseen } from './folders.ts'
import { identityOf, lives } from './identity.ts'
import { begin, enter, furnish, settle } from './private-root-scripts.ts'
import type { Process, Processes } from './processes.ts'
import { systemPath } from './system-programs.ts'
import { becomingRoot } from './user-namespace.ts'

export interface PrivateRoot {
  /** Where this path of the root lies now: only until something runs in it. */
  path(inside: string): string
  /** Starts the executor in it, as /kaniko/executor. */
  start(args: string[], env: Record<string, string>, line: (text: string) => void): Promise<Process>
  /** The executor has begun: the root was made. */
  began(): Promise<boolean>
  /** The beginning of what stands in /kaniko/digest. */
  digest(): Promise<string>
  /** When nothing runs in it any more: what was made of it becomes the folder `to`, without what was there for the executor. The beginning of what stands in /kaniko/environment. */
  keep(to: string): Promise<string>
  /** When nothing runs in it any more. False: something of it could not be removed. */
  remove(): Promise<boolean>
}

const folders = ['proc', 'dev', 'etc', 'kaniko/old', 'kaniko/.docker', 'kaniko/ssl']
const minimal: Record<string, string> = {
  'etc/passwd': 'root:x:0:0:root:/root:/sbin/nologin\n', 'etc/group': 'root:x:0:\n', 'etc/nsswitch.conf': 'hosts: files dns\n',
  // Files of these names are laid over them.
  'etc/resolv.conf': '', 'etc/hosts': '', 'kaniko/digest': '', 'kaniko/environment': '', 'kaniko/executor': '',
}
const digestBytes = 200
const environmentBytes = 256 << 10

/** A new one below `folder`, for this executor. */
export async function privateRoot(folder: string, executor: string, processes: Processes): Promise<PrivateRoot> {
  const home = await unseen(resolve(folder), 'root')
  const root = join(home, 'root')
  await mkdir(dirname(home), { recursive: true })
  // Programs that a build leaves with another user's rights are nobody's to start.
  await mkdir(home, { mode: 0o700 })
  const made: PrivateRoot = {
    path: (inside) => join(root, inside),
    async start(args, env, line) {
      const asRoot = await becomingRoot(processes)
      return processes.start('unshare', [
        ...asRoot, '--mount', '--propagation', 'private', '--', 'setpriv', '--pdeathsig', 'KILL', '--',
        'sh', '-c', enter, 'enter', String(process.pid), home, settle, furnish, begin, '/kaniko/executor', ...args,
      ], { cwd: '/', env: { ...env, PATH: systemPath }, kind: 'build', stdin: 'ignore', line })
    },
    began: () => beginningOf(join(home, 'began'), digestBytes).then((text) => text !== ''),
    digest: () => beginningOf(join(home, 'digest'), digestBytes),
    async keep(to) {
      await cleared(root, processes)
      // As long as it lies there: programs in it may have another user's rights.
      await mkdir(dirname(to), { recursive: true, mode: 0o700 })
      await rename(root, to)
      return beginningOf(join(home, 'environment'), environmentBytes)
    },
    remove: () => removeRoot(home, processes),
  }
  try {
    await furnished(home, root, executor)
    return made
  } catch (error) {
    await made.remove()
    throw error
  }
}

async function furnished(home: string, root: string, executor: string): Promise<void> {
  for (const name of folders) await mkdir(join(root, name), { recursive: true })
  for (const [name, text] of Object.entries(minimal)) await writeFile(join(root, name), text)
  await mkdir(join(root, 'tmp'))
  await chmod(join(root, 'tmp'), 0o1777)
  await symlink(resolve(executor), join(home, 'program'))
  await writeFile(join(home, 'resolv.conf'), await readFile('/etc/resolv.conf').catch(() => ''))
  await writeFile(join(home, 'hosts'), await readFile('/etc/hosts').catch(() => '127.0.0.1 localhost\n'))
  for (const name of ['digest', 'environment']) await writeFile(join(home, name), '')
}

/** Nothing when there is no such file. */
async function beginningOf(path: string, most: number): Promise<string> {
  const file = await open(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return null
    throw error
  })
  if (file === null) return ''
  try {
    const { buffer, bytesRead } = await file.read(Buffer.alloc(most), 0, most, 0)
    return buffer.toString('utf8', 0, bytesRead)
  } finally {
    await file.close()
  }
}

/** By `rm`, which goes deeper than a path can be long, and as whoever owns the files in there. */
async function removeRoot(home: string, processes: Processes): Promise<boolean> {
  const asRoot = await becomingRoot(processes)
  const command = ['rm', '-rf', '--', home]
  const [first, ...args] = asRoot.length > 0 ? ['unshare', ...asRoot, '--', ...command] : command
  const removing = await processes.start(first!, args, { cwd: '/', env: { PATH: systemPath }, kind: 'build', stdin: 'ignore' })
  return (await removing.ended).code === 0
}

/** Of credentials and certificates, too; what a lambda's start lays over files of the root finds its places. As whoever owns what is in there. */
async function cleared(root: string, processes: Processes): Promise<void> {
  const command = ['sh', '-c', 'rm -rf -- "$1/kaniko" && mkdir -p "$1/kaniko/old" "$1/tmp" && : > "$1/kaniko/user_config.json"', 'clear', root]
  const asRoot = await becomingRoot(processes)
  const [first, ...args] = asRoot.length > 0 ? ['unshare', ...asRoot, '--', ...command] : command
  const clearing = await processes.start(first!, args, { cwd: '/', env: { PATH: systemPath }, kind: 'build', stdin: 'ignore' })
  if ((await clearing.ended).code !== 0) throw new Error(`the root of an image cannot be kept: ${clearing.lastLines().at(-1)}`)
}

/** Ends what lives on in the roots of dead kilns, and removes them. Mounts are nobody else's, and go with the last who sees them. */
export async function sweepRoots(folder: string, processes: Processes): Promise<void> {
  for (const name of await namesIn(folder)) {
    const owner = identityOf(name.split('-').at(-2) ?? '')
    if (!name.startsWith('.root-') || owner === null || (await lives(owner))) continue
    await endAllIn(name)
    await removeRoot(join(folder, name), processes)
  }
}

/** Nobody is told when they are gone, so this looks, lightly. They go at once, unless they hang in the kernel. */
async function endAllIn(name: string): Promise<void> {
  for (let ms = 2; ms < 2_000; ms *= 2) {
    const pids = await pidsIn(name)
    if (pids.length === 0) return
    for (const pid of pids) endNow(pid)
    await pause(ms)
  }
}

/** The name is nowhere else: whoever has it among his mounts lives there. */
async function pidsIn(name: string): Promise<number[]> {
  const pids = (await readdir('/proc')).filter((one) => /^\d+$/.test(one))
  const found = await Promise.all(pids.map(async (pid) => (await readFile(`/proc/${pid}/mountinfo`, 'utf8').catch(() => '')).includes(`/${name}/`)))
  return pids.filter((_, index) => found[index]).map(Number)
}

function endNow(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error
  }
}
