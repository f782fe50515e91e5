// A wish: the archive and the parameters that a user sent, looked at before anything is decided.
import { createHash } from 'node:crypto'
import type { Finding } from '../../shared/finding.ts'
import { parseParameters, type Parameters } from '../../shared/parameters.ts'
import type { Version } from '../../shared/records.ts'
import { Refusal, invalid } from '../../shared/trouble.ts'
import { checkCapabilities } from './capabilities.ts'
import type { Capabilities } from '../../shared/config.ts'

export interface WishRules {
  can: Capabilities
  maxArchiveBytes: number
  /** Builds of one account that may wait. */
  mostWaiting: number
  /** All findings about an archive; none: it is good. */
  examine(archive: Buffer): Promise<Finding[]>
}

const sha256 = (bytes: Buffer | string): string => createHash('sha256').update(bytes).digest('hex')
export const archiveOf = (bytes: Buffer): Version['archive'] => ({ digest: sha256(bytes), bytes: bytes.length })
export const digestOf = (archive: Buffer, parameters: unknown): string => sha256(JSON.stringify([sha256(archive), parameters ?? null]))
export const isSame = (v: Version, digest: string, parameters: Parameters): boolean => v.archive.digest === digest && equal(v.parameters, parameters)

/** Equal whatever the order of keys. */
export const equal = (a: unknown, b: unknown): boolean => JSON.stringify(a, sorted) === JSON.stringify(b, sorted)
const sorted = (_: string, v: unknown): unknown =>
  typeof v === 'object' && v !== null && !Array.isArray(v) ? Object.fromEntries(Object.entries(v).sort(([a], [b]) => (a < b ? -1 : 1))) : v

export function parsed(rules: WishRules, given: unknown): { id: string | null; parameters: Parameters } {
  const result = parseParameters(given ?? {})
  const findings = result.ok ? checkCapabilities(result.parameters, rules.can) : result.findings
  if (!result.ok || findings.length > 0) throw invalid(findings)
  return result
}

/** Findings of parameters and archive together. */
export async function examineAll(rules: WishRules, archive: Buffer, given: unknown): Promise<{ id: string | null; parameters: Parameters }> {
  if (archive.length > rules.maxArchiveBytes) throw new Refusal(413, 42005, `The archive has ${archive.length} bytes; at most ${rules.maxArchiveBytes} are taken.`)
  const result = parseParameters(given ?? {})
  const findings = [...(result.ok ? checkCapabilities(result.parameters, rules.can) : result.findings), ...(await rules.examine(archive))]
  if (!result.ok || findings.length > 0) throw invalid(findings)
  return result
}

/** Far more than anyone nests, and far less than what runs a reader out of stack: here, or in the lambda's Python. */
const maxDepth = 100

/** Asked first: everything that looks at parameters afterwards does so recursively. */
export function refuseDeep(given: unknown): void {
  let level: unknown[] = [given]
  for (let depth = 0; level.length > 0; depth++) {
    if (depth > maxDepth) throw invalid([{ code: 'ParametersTooDeep', field: 'parameters', message: `The parameters are nested more than ${maxDepth} deep.`, fix: 'Put such data into a file of the archive.' }])
    level = level.flatMap((value) => (typeof value === 'object' && value !== null ? Object.values(value) : []))
  }
}
