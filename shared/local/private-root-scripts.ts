// What the shell does to make a private root: texts for `sh -c`, in the order in which they run. They need util-linux and nothing else.
// A chroot would not hold a process that is root: the old root is detached from the mount namespace before the program begins, and with it
// every file of the machine. The program's own shell must then be running already, with the capabilities that it may keep, since from that moment
// on no program but its own is there; so a second process, which nobody inside can see, turns the root while the first one waits at a pipe.

/** What an ordinary container has: CHOWN DAC_OVERRIDE FOWNER FSETID KILL SETGID SETUID SETPCAP SYS_CHROOT SETFCAP. */
const kept = ['chown', 'dac_override', 'fowner', 'fsetid', 'kill', 'setgid', 'setuid', 'setpcap', 'sys_chroot', 'setfcap']
/** The same as the kernel shows it. */
const keptMask = '0x800401fb'

/**
 * Arguments: pid of kiln, home, the three texts below, program and its arguments. Ends when all has ended, with the program's exit code. A kiln that
 * has died meanwhile is noticed; whatever dies from now on takes the rest with it. Who is told to end passes that on by being in one group with the rest.
 * Open files that kiln has got from whoever started it would lead out: only bash can close those above 9. What the program prints goes through a pipe,
 * since kiln's own is a socket, which nobody can open as /dev/stdout.
 */
export const enter = `
set -eu
[ "$PPID" = "$1" ] || exit 1
home=$2 settle=$3 furnish=$4 begin=$5
shift 5
mkfifo "$home/inside" "$home/go"
mkfifo -m 666 "$home/said"
set -- sh -c "$furnish" furnish "$home" "$begin" "$@"
close='for fd in /proc/self/fd/*; do fd=\${fd##*/}; [ "$fd" -le 2 ] || eval "exec $fd>&-"; done; exec "$@"'
if command -v bash > /dev/null; then set -- bash -c "$close" close "$@"; fi
trap : TERM
setpriv --pdeathsig KILL -- sh -c "$settle" settle "$home" &
settling=$!
setpriv --pdeathsig KILL -- sh -c 'trap "" TERM; exec cat "$0/said"' "$home" &
telling=$!
isolate='echo $$ > "$0/outside"; exec unshare --mount --propagation private --pid --ipc --uts --fork --kill-child -- "$@"'
code=0
setpriv --pdeathsig KILL -- sh -c "$isolate" "$home" "$@" > "$home/said" 2>&1 || code=$?
kill -KILL "$settling" 2> /dev/null || true
wait "$settling" "$telling" || true
exit "$code"
`

/** Arguments: home. Outside of the new root: makes it the root of the namespaces whose process waits, and detaches the old one. */
export const settle = `
read -r word < "$1/inside" && read -r outside < "$1/outside" || exit 1
word=no
within="nsenter --mount=/proc/$outside/ns/mnt"
if $within -- pivot_root "$1/root" "$1/root/kaniko/old" && $within --root="/proc/$outside/root/kaniko/old" -- umount --lazy / && rmdir "$1/root/kaniko/old"
then word=go
fi
echo "$word" > "$1/go"
`

/**
 * Arguments: home, the text below, program and its arguments. The first process of its namespaces. What is the machine's own is mounted read-only:
 * even the mode of /dev/null is the machine's. /proc is read-only as a whole, since much of what can be set there needs no capability.
 * `own`: how the root comes to be where it is. `capabilities`: what is left of them. `files`: paths in it, over which files of home with the same last name are laid.
 */
const furnishing = (own: string, files: string[], capabilities: string[]): string => `
set -eu
home=$1 begin=$2 root=$1/root
shift 2
cd /
${own}
mount -t proc -o ro,nosuid,nodev,noexec proc "$root/proc"
mount -t tmpfs -o nosuid,noexec,mode=755,size=64k,nr_inodes=32 tmpfs "$root/dev"
for name in null zero full random urandom; do
  : > "$root/dev/$name"
  mount --bind "/dev/$name" "$root/dev/$name"
  mount -o remount,bind,ro,nosuid,noexec "$root/dev/$name"
done
for name in kcore keys latency_stats timer_list sched_debug; do
  if [ -e "$root/proc/$name" ]; then mount --bind "$root/dev/null" "$root/proc/$name"; fi
done
ln -s /proc/self/fd "$root/dev/fd"
ln -s /proc/self/fd/0 "$root/dev/stdin"
ln -s /proc/self/fd/1 "$root/dev/stdout"
ln -s /proc/self/fd/2 "$root/dev/stderr"
mkdir "$root/dev/shm"
mount -t tmpfs -o nosuid,nodev,noexec,mode=1777,size=64m tmpfs "$root/dev/shm"
for name in ${['etc/resolv.conf', 'etc/hosts', ...files].join(' ')}; do mount --bind "$home/\${name##*/}" "$root/$name"; done
exec setpriv --no-new-privs --inh-caps=-all --ambient-caps=-all --bounding-set=${['-all', ...capabilities.map((name) => `+${name}`)].join()} -- sh -c "$begin" begin "$home" "$@"
`

/** For a build, in a folder of its own. */
export const furnish = furnishing(`mount --bind "$root" "$root"
mount -o remount,bind,nosuid,nodev "$root"
mount --bind "$home/program" "$root/kaniko/executor"
mount -o remount,bind,ro,nosuid,nodev "$root/kaniko/executor"`, ['kaniko/digest', 'kaniko/environment'], kept)

/** For a lambda, whose root is an image that others may run in as well: nothing of it can be changed, /tmp is this one's own, and it is root of nothing. */
export const furnishForLambda = furnishing(`mount --bind "$home/image" "$root"
mount -o remount,bind,ro,nosuid,nodev "$root"
mount -t tmpfs -o nosuid,nodev,mode=1777 tmpfs "$root/tmp"`, ['kaniko/user_config.json'], [])

/**
 * Arguments: home, program and its arguments. Waits until the root is the new one, looks whether all is as promised, and becomes the program.
 * `began` gets a word then: whatever goes wrong before is no fault of the program.
 */
export const begin = `
exec 3<> "$1/go" 4> "$1/began"
echo inside > "$1/inside"
read -r word <&3
exec 3>&-
fail() { echo "the private root is not closed: $1" >&2; exit 1; }
[ "$word" = go ] && [ ! -e "$1" ] || fail 'the old root is still there'
cd /
shift
for fd in /proc/self/fd/*; do
  case \${fd##*/} in
    0|1|2|4) ;;
    *) if [ -e "$fd" ] || [ -h "$fd" ]; then fail "file descriptor \${fd##*/} is open"; fi ;;
  esac
done
promised=0
while read -r name value rest; do
  case $name in
    CapInh:|CapPrm:|CapEff:|CapBnd:|CapAmb:) [ $((0x$value & ~${keptMask})) = 0 ] || fail "$name $value"; promised=$((promised + 1)) ;;
    NoNewPrivs:) [ "$value" = 1 ] || fail 'new privileges can be had'; promised=$((promised + 1)) ;;
  esac
done < /proc/self/status
[ "$promised" = 6 ] || fail 'its capabilities are not shown'
echo begun >&4
exec 4>&-
PATH=/usr/local/bin:/usr/bin:/bin:/kaniko
exec "$@"
`
