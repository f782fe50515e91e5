// Environments: what code needs around it, made once for all who need the same. Their key and the words about them are the same on every platform.
import { createHash } from 'node:crypto'
import { refersToFiles, requirementLines } from './requirements.ts'

/** Counts up whenever an environment is made in another way than before. */
const recipe = '2'

export interface EnvironmentInputs {
  /** What it is made on, and what else decides what comes out: a base image by its digest and its platform, or Python, libc and the index. */
  on: string[]
  /** The user's Dockerfile lines. */
  commands: string[]
  /** What every lambda is served with. Empty: it is there already. */
  runtimeRequirements: string
  /** The user's requirements.txt; null: there is none. */
  requirements: string | null
  /** Digest of the archive's files: it counts only where a requirement or a command takes one of them. */
  code: string
}

/** Equal keys, equal environments: SHA-256 (hex) of everything that determines one. Comments and blank lines do not. */
export function environmentKey({ on, commands, runtimeRequirements, requirements, code }: EnvironmentInputs): string {
  const takes = takesFiles({ commands, requirements })
  const parts = [recipe, String(on.length), ...on, String(commands.length), ...commands, linesOf(runtimeRequirements), linesOf(requirements), takes ? code : '']
  const hash = createHash('sha256')
  for (const part of parts) hash.update(`${Buffer.byteLength(part)}:`).update(part)
  return hash.digest('hex')
}

/** Whether something of it lies in the archive: then it changes with the code, and another archive needs another. */
export const takesFiles = ({ commands, requirements }: Pick<EnvironmentInputs, 'commands' | 'requirements'>): boolean =>
  commands.some((command) => /^\s*(COPY|ADD)\b|--mount/i.test(command)) || refersToFiles(requirementLines(requirements ?? ''))

/** Nothing to make: the code can lie on what is there. */
export const needsNothing = ({ commands, runtimeRequirements, requirements }: Pick<EnvironmentInputs, 'commands' | 'runtimeRequirements' | 'requirements'>): boolean =>
  commands.length === 0 && linesOf(runtimeRequirements) === '' && linesOf(requirements) === ''

const linesOf = (text: string | null): string => requirementLines(text ?? '').join('\n')

/** What build logs say. `whose`: who makes it, e.g. `lambda <id>` or `process 12`. */
export const environmentSays = {
  reused: (key: string): string => `Environment ${short(key)}: reused`,
  making: (key: string, how: string): string => `Environment ${short(key)}: making, ${how}`,
  made: (key: string): string => `Environment ${short(key)}: made`,
  waits: (key: string, whose: string): string => `Environment ${short(key)}: waits for another build of the same environment (${whose})`,
}

const short = (key: string): string => `${key.slice(0, 12)}…`
