// A user namespace: where kiln may not do what root may, what makes it root of its own. Its subordinate users come along where the system has given it
// some, since an image's files belong to several.
import type { Processes } from './processes.ts'
import { systemPath } from './system-programs.ts'

const alone = ['--map-root-user']
const withOthers = [...alone, '--map-auto']
const asItIs: string[] = []

let asked: Promise<string[]> | undefined

/** What `unshare` is told so that its program may do in its namespaces what root may; nothing where kiln may already. */
export function becomingRoot(processes: Processes): Promise<string[]> {
  asked ??= firstThatWorks(processes).catch((error: unknown) => {
    asked = undefined
    throw error
  })
  return asked
}

/** Where none does, the last one's complaint is told by whoever uses it. */
async function firstThatWorks(processes: Processes): Promise<string[]> {
  const ways = process.getuid?.() === 0 ? [asItIs, withOthers, alone] : [withOthers, alone]
  for (const way of ways) {
    const trial = await processes.start('unshare', [...way, '--mount', '--', 'true'], { cwd: '/', env: { PATH: systemPath }, kind: 'build', stdin: 'ignore' })
    if ((await trial.ended).code === 0) return way
  }
  return alone
}
