// Identity: which process is meant. A pid alone is reused sooner or later; with its start time it is not.
import { execFile } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { readdir, readFile } from 'node:fs/promises'

export interface Identity {
  pid: number
  /** When it started, as the system tells it: letters, digits and _ only, so that it fits a file name. */
  start: string
}

const hasProc = existsSync('/proc/self/stat')
/** Start times on Linux count from the boot, so the boot is part of them. */
const boot = hasProc ? readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').slice(0, 8) : ''

/** null: no such process runs, or it has ended and only waits for its parent to notice. */
export async function identify(pid: number): Promise<Identity | null> {
  const start = hasProc ? await startInProc(pid) : await startFromPs(pid)
  return start === null ? null : { pid, start }
}

export async function lives({ pid, start }: Identity): Promise<boolean> {
  const now = await identify(pid)
  return now !== null && now.start === start
}

let asked: Promise<Identity> | undefined

/** This process. */
export function self(): Promise<Identity> {
  asked ??= identify(process.pid).then((me) => me ?? { pid: process.pid, start: 'unknown' })
  return asked
}

/** An identity as part of a file name: `<pid>_<start>`. */
export const tagOf = ({ pid, start }: Identity): string => `${pid}_${start}`

/** null: this is no tag. */
export function identityOf(tag: string): Identity | null {
  const [, pid, start] = /^(\d+)_(\w+)$/.exec(tag) ?? []
  return pid === undefined || start === undefined ? null : { pid: Number(pid), start }
}

/** False: all that is left of this process group are zombies. Where there is no /proc nobody can tell. */
export async function groupLives(group: number): Promise<boolean> {
  if (!hasProc) return true
  const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name))
  const found = await Promise.all(pids.map(statInProc))
  return found.some((one) => one !== null && one.group === group && !one.isZombie)
}

async function startInProc(pid: number): Promise<string | null> {
  const found = await statInProc(pid)
  return found === null || found.isZombie ? null : found.start
}

async function statInProc(pid: number | string): Promise<{ group: number; isZombie: boolean; start: string } | null> {
  const stat = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => null)
  if (stat === null) return null
  // The name in parentheses may hold anything, even a parenthesis: what follows the last one is regular.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  return { group: Number(fields[2]), isZombie: fields[0] === 'Z' || fields[0] === 'X', start: `${boot}_${fields[19]}` }
}

/** Where there is no /proc. `ps` ends by itself, so it needs no record. */
function startFromPs(pid: number): Promise<string | null> {
  return new Promise((resolve) => {
    execFile('ps', ['-o', 'lstart=', '-p', String(pid)], (error, out) => {
      resolve(error || out.trim() === '' ? null : out.trim().replace(/\W+/g, '_'))
    })
  })
}
