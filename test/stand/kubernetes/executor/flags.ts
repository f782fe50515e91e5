// The flags of the image builder that the executor stands for, read as its own parser does.

export interface Flags {
  dockerfile: string
  context: string
  destinations: string[]
  digestFile: string | null
  insecure: boolean
  insecurePull: boolean
  insecureRegistries: string[]
  pushRetries: number
  downloadRetries: number
  logFormat: string
  noPush: boolean
  /** `<name>=<value>`: of the Dockerfile's ARGs. */
  buildArgs: string[]
}

/** The command line is refused, in these words. */
export class BadFlags extends Error {}

/** Those that have a value; what the stand-in has no use for is accepted all the same. */
const valued = [
  'dockerfile', 'context', 'destination', 'digest-file', 'insecure-registry', 'push-retry', 'log-format', 'image-fs-extract-retry', 'image-download-retry', 'compressed-caching',
  'snapshot-mode', 'snapshotMode', 'skip-tls-verify-registry', 'cache-dir', 'cache-repo', 'cache-ttl', 'verbosity', 'build-arg', 'label', 'context-sub-path', 'target', 'custom-platform',
  'customPlatform', 'registry-mirror', 'registry-certificate', 'registry-map', 'tar-path', 'tarPath', 'image-name-with-digest-file', 'image-name-tag-with-digest-file', 'oci-layout-path',
  'ignore-path', 'kaniko-dir', 'git', 'compression', 'compression-level', 'annotation', 'secret', 'materialize', 'cpuprofile',
]
/** Those that are there or not, or say `=true` or `=false`. */
const plain = [
  'insecure', 'insecure-pull', 'skip-tls-verify', 'skip-tls-verify-pull', 'cache', 'cache-copy-layers', 'cache-run-layers', 'reproducible', 'log-timestamp', 'single-snapshot',
  'use-new-run', 'no-push', 'no-push-cache', 'cleanup', 'force', 'ignore-var-run', 'skip-unused-stages', 'skip-push-permission-check', 'push-ignore-immutable-tag-errors',
  'skip-default-registry-fallback', 'credential-helpers', 'preserve-context', 'use-oci-stages', 'pre-cleanup', 'run-v2',
]
const shorthands: Record<string, string> = { c: 'context', d: 'destination', f: 'dockerfile', v: 'verbosity', b: 'build-arg' }

export function readFlags(args: string[]): Flags {
  const given = new Map<string, string[]>()
  const rest = [...args]
  for (let arg = rest.shift(); arg !== undefined; arg = rest.shift()) {
    const [, dashes = '', word = '', , value] = /^(--?)([^=]*)(=(.*))?$/s.exec(arg) ?? []
    if (dashes === '') throw new BadFlags(`unknown command "${arg}" for "executor"`)
    const name = dashes === '-' ? shorthands[word] : word
    if (name === undefined) throw new BadFlags(`unknown shorthand flag: '${word[0]}' in ${arg}`)
    if (!valued.includes(name) && !plain.includes(name)) throw new BadFlags(`unknown flag: --${name}`)
    const told = value ?? (plain.includes(name) ? 'true' : rest.shift())
    if (told === undefined) throw new BadFlags(`flag needs an argument: ${arg}`)
    given.set(name, [...(given.get(name) ?? []), told])
  }
  const last = (name: string): string | undefined => given.get(name)?.at(-1)
  const flags: Flags = {
    dockerfile: last('dockerfile') ?? 'Dockerfile', context: last('context') ?? '/workspace/', destinations: given.get('destination') ?? [], digestFile: last('digest-file') ?? null,
    insecure: last('insecure') === 'true', insecurePull: last('insecure-pull') === 'true', insecureRegistries: (given.get('insecure-registry') ?? []).flatMap((list) => list.split(',')),
    pushRetries: Number(last('push-retry') ?? 0), downloadRetries: Number(last('image-download-retry') ?? 0), logFormat: last('log-format') ?? 'color', noPush: last('no-push') === 'true',
    buildArgs: given.get('build-arg') ?? [],
  }
  if (!['text', 'color', 'json'].includes(flags.logFormat)) throw new BadFlags(`not a valid log format: "${flags.logFormat}"`)
  if (!flags.noPush && flags.destinations.length === 0) throw new BadFlags('you must provide --destination, or use --no-push')
  return flags
}
