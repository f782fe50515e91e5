// A lambda in the root of its image: behind the same walls as a build, and unable to change what it runs in.
import { mkdir, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import { dirname, join, resolve } from 'node:path'
import { runs } from '../running.ts'
import { unseen } from './folders.ts'
import { begin, enter, furnishForLambda, settle } from './private-root-scripts.ts'
import type { Process, Processes } from './processes.ts'
import { systemPath } from './system-programs.ts'
import { becomingRoot } from './user-namespace.ts'

export interface InRoot {
  /** Where roots come and go. */
  folder: string
  processes: Processes
  /** The folder that is its root. */
  image: string
  /** Its variables; PATH among them. */
  env: Record<string, string>
  /** What it finds at `userConfigInside`. */
  userConfig: string
  /** The command that runs a command within limits. */
  limited(command: string[]): string[]
  line(text: string): void
}

export const userConfigInside = '/kaniko/user_config.json'
const usualPath = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'

/** Resolves when it runs; `clear` removes what only this run needed, when it has ended. */
export async function startInRoot({ folder, processes, image, env, userConfig, limited, line }: InRoot): Promise<{ process: Process; clear(): Promise<void> }> {
  const home = await unseen(resolve(folder), 'root')
  const clear = (): Promise<void> => rm(home, { recursive: true, force: true })
  try {
    await mkdir(dirname(home), { recursive: true })
    await mkdir(home, { mode: 0o700 })
    await mkdir(join(home, 'root/kaniko/old'), { recursive: true })
    await symlink(resolve(image), join(home, 'image'))
    await writeFile(join(home, 'user_config.json'), userConfig)
    await writeFile(join(home, 'resolv.conf'), await readFile('/etc/resolv.conf').catch(() => ''))
    await writeFile(join(home, 'hosts'), await readFile('/etc/hosts').catch(() => '127.0.0.1 localhost\n'))
    const [command, ...args] = limited([
      'unshare', ...(await becomingRoot(processes)), '--mount', '--propagation', 'private', '--', 'setpriv', '--pdeathsig', 'KILL', '--',
      'sh', '-c', enter, 'enter', String(process.pid), home, settle, furnishForLambda, begin,
      // Its shell's variables end where the image's begin.
      'env', `PATH=${env['PATH'] ?? usualPath}`, 'sh', '-c', `cd ${runs.workingDir} && exec "$@"`, 'lambda', ...runs.entrypoint,
    ])
    const started = await processes.start(command!, args, { cwd: '/', env: { ...env, PATH: systemPath }, kind: 'lambda', stdin: 'ignore', line })
    return { process: started, clear }
  } catch (error) {
    await clear()
    throw error
  }
}
