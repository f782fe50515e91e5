// Ends: what the end of a pod's process means, in words for the lambda's author.
import type { DeployParameters } from '../parameters.ts'
import { standstill } from '../standstill.ts'
import { memoryLimitOf } from './limits.ts'
import type { End } from './processes.ts'

export interface PodEnd {
  reason: string
  message: string
  exitCode: number | null
  signal: string | null
  log: string[]
}

/** `unhealthy`: kiln ended it, since it did not answer any more. */
export function endOfRun(end: End, log: string[], deploy: DeployParameters, unhealthy: boolean): PodEnd {
  const { code: exitCode, signal } = end
  const said = log.findLast((line) => line.trim() !== '')
  const closing = said === undefined ? 'It printed nothing.' : `Its last line: ${said.slice(0, 500)}`
  const of = (reason: string, message: string): PodEnd => ({ reason, message: `${message} ${closing}`, exitCode, signal, log })
  const still = standstill(log)
  if (still) return { reason: 'CrashLoopBackOff', message: still, exitCode, signal, log }
  if (unhealthy) return of('Unhealthy', 'It did not answer GET /healthz several times in a row and is started again.')
  if (ranOutOfMemory(end, log, deploy)) return of('OOMKilled', `It ran out of memory${limitInWords(deploy)}.`)
  return of('CrashLoopBackOff', `It ended ${signal === null ? `with exit code ${exitCode}` : `by ${signal}`}.`)
}

export const cannotStart = (reason: string, message: string): PodEnd => ({ reason, message, exitCode: null, signal: null, log: [] })

function ranOutOfMemory({ signal }: End, log: string[], deploy: DeployParameters): boolean {
  return (signal === 'SIGKILL' && memoryLimitOf(deploy) !== null) || log.some((line) => /\bMemoryError\b/.test(line))
}

function limitInWords(deploy: DeployParameters): string {
  const limit = memoryLimitOf(deploy)
  return limit === null ? '' : `: its limit is ${limit}; raise deploy_parameters.resources.limits.memory`
}
