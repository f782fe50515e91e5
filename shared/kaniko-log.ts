// kaniko's log: its lines without their dress, and what the last of them mean when no image was made. Pure, and the same wherever kaniko runs.
import type { BuildEnd } from './builds.ts'
import type { Cause } from './trouble.ts'

export type Failed = Extract<BuildEnd, { built: false }>

/** What differs from platform to platform. */
export interface KanikoAdvice {
  /** Whom a refusal by the registry concerns, as a sentence. */
  credentials: string
  registry: string
  /** Who must reach the package index. */
  whoInstalls: string
  /** null: the context is not what the line complains of. */
  context(last: string, log: string[]): Failed | null
}

export const failed = (cause: Cause, reason: string, message: string, again: boolean, log: string[]): Failed =>
  ({ built: false, again, failure: { cause, reason, message, ...(log.length > 0 && { log }) } })
/** The world's trouble: it is built again, a bounded number of times. */
export const world = (reason: string, message: string, log: string[] = []): Failed => failed('infrastructure', reason, message, true, log)
export const cancelled = (log: string[]): Failed => failed('cancelled', 'BuildCancelled', 'The build was cancelled.', false, log)

/** kaniko's own lines without their dress: `time="…" level=info msg="COPY lambda/ /lambda/"` → `COPY lambda/ /lambda/`. */
function plainly(line: string): string {
  const message = /^time="[^"]*" level=info msg=("(?:[^"\\]|\\.)*"|\S+)$/.exec(line)?.[1]
  if (!message?.startsWith('"')) return message ?? line
  try { return JSON.parse(message) as string } catch { return line }
}

const linesKept = 40
/** With this the list of all its flags begins, a hundred lines that drive out the one before, which says what is wrong. */
const usage = '  executor [flags]'

/** What it prints, told plainly as it comes; `last` are the last lines of it. */
export function kanikoLines(tell: (line: string) => void): { line(written: string): void; last: string[] } {
  const last: string[] = []
  let isUsage = false
  return {
    last,
    line(written) {
      const text = plainly(written)
      isUsage ||= text === usage && last.at(-1) === 'Usage:'
      if (isUsage) return
      if (last.push(text) > linesKept) last.shift()
      tell(text)
    },
  }
}

const unauthorised = /UNAUTHORIZED|DENIED|401 Unauthorized|403 Forbidden|authentication required/i
const unreachable = /dial tcp|connection refused|connection reset|no such host|i\/o timeout|TLS handshake|HTTP response to HTTPS client|x509|context deadline exceeded|unexpected EOF|TOOMANYREQUESTS|50[0234] /i
const pushing = /error (checking push permissions|pushing image)|failed to push/i
const noBase = /MANIFEST_UNKNOWN|NAME_UNKNOWN|manifest unknown|name unknown|NOT_FOUND/
const noIndex = /NewConnectionError|connection broken by|Temporary failure in name resolution|Name or service not known|Network is unreachable|Max retries exceeded|ReadTimeoutError/

/** `log`: the last lines, oldest first. */
export function failureInLog(log: string[], exitCode: number | null, advice: KanikoAdvice): Failed {
  const text = log.join('\n')
  const last = log.findLast((line) => /^(error|Error)[ :]/.test(line)) ?? log.at(-1) ?? `it ended with exit code ${exitCode}`
  const step = /waiting for process to exit: exit status (\d+)/.exec(last)
  if (step) return failedStep(log, text, Number(step[1]), advice)
  if (/parsing dockerfile/.test(last)) return failed('user', 'DockerfileInvalid', `The Dockerfile cannot be read: ${last}. Correct user_docker_commands and send it again with PUT.`, false, log)
  if (pushing.test(last)) return registryTrouble('pushed', last, log, advice)
  if (noBase.test(last)) return failed('user', 'BaseImageMissing', `The base image is not there: ${last}. Correct base_image and send it again with PUT.`, false, log)
  const noContext = advice.context(last, log)
  if (noContext) return noContext
  if (unauthorised.test(last) || unreachable.test(last)) return registryTrouble('pulled', last, log, advice)
  return failed('user', 'BuildFailed', `The image cannot be made: ${last}`, false, log)
}

function registryTrouble(what: 'pushed' | 'pulled', last: string, log: string[], { credentials, registry }: KanikoAdvice): Failed {
  const reason = unauthorised.test(last) ? 'RegistryUnauthorised' : 'RegistryUnreachable'
  return failed('registry', reason, `The image cannot be ${what}: ${last}. ${reason === 'RegistryUnauthorised' ? credentials : registry} It is tried again.`, true, log)
}

function failedStep(log: string[], text: string, status: number, { whoInstalls }: KanikoAdvice): Failed {
  const command = log.findLast((line) => line.includes('Running: ['))?.replace(/^.*Running: \[(\/bin\/sh -c )?/, '').replace(/\]"?$/, '') ?? 'a command'
  if (!/\bpip3? install\b/.test(command)) {
    return failed('user', 'CommandFailed', `\`${command}\` ended with exit code ${status}. Correct user_docker_commands and send it again with PUT.`, false, log)
  }
  if (noIndex.test(text)) return failed('registry', 'PackageIndexUnreachable', `The package index does not answer the build. It is tried again; if it stays so, check that ${whoInstalls} reach it.`, true, log)
  return failed('dependency', 'RequirementsNotInstallable', 'The requirements cannot be installed: correct requirements.txt and send it again with PUT.', false, log)
}
