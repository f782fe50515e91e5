// The keeper: a shell that outlives this process, however that dies, and ends what it left running. A process group cannot do that by itself.
import { spawn } from 'node:child_process'
import { once } from 'node:events'

export interface Keeper {
  /** Nothing may be started any more. */
  readonly closed: boolean
  /** From now on this process group ends with us. */
  keep(pid: number): void
  /** It has ended by itself: its number may be given to others. */
  forget(pid: number): void
  /** Ends what is left, and removes the folder. */
  close(): Promise<void>
}

/** Reads `+ pid` and `- pid` until we are gone. */
const script = `trap '' INT TERM HUP
while read -r sign pid; do
  rest=
  for one in $pids; do [ "$one" = "$pid" ] || rest="$rest $one"; done
  [ "$sign" = + ] && rest="$rest $pid"
  pids=$rest
done
for one in $pids; do kill -s KILL -- "-$one"; done
rm -rf "$0"`

/** `folder` goes with us, too. */
export function keeper(folder: string): Keeper {
  const shell = spawn('/bin/sh', ['-c', script, folder], { stdio: ['pipe', 'ignore', 'ignore'], detached: true })
  const ended = once(shell, 'exit')
  shell.stdin.on('error', () => undefined)
  let closed = false
  return {
    get closed() { return closed },
    keep: (pid) => void shell.stdin.write(`+ ${pid}\n`),
    forget: (pid) => void shell.stdin.write(`- ${pid}\n`),
    async close() {
      closed = true
      shell.stdin.end()
      await ended
    },
  }
}
