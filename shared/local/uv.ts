// uv: what the output of a failed installation means, and for whom.
import type { BuildEnd } from '../builds.ts'

export type Failed = Extract<BuildEnd, { built: false }>

const noFetch = /Failed to (fetch|download)|Could not connect|network was disabled/i
/** A requirement by direct URL is the user's to correct, not the index's fault. */
const byUrl = /Failed to (fetch|download):? `[^`]* @ /
const network = /error sending request|client error \(Connect\)|dns error|tcp connect error|network timeout|operation timed out|connection (reset|closed)|error decoding response body|HTTP status server error|\(429 |network was disabled/i
const diskFull = /No space left on device|Disk quota exceeded|os error 28\b|Read-only file system/

/** Why `uv` ended with this code after printing these lines. */
export function failureOf(lines: string[], end: { code: number | null; signal: string | null }): Failed {
  const text = lines.join('\n')
  if (diskFull.test(text)) return infrastructure('DiskFull', 'There is no room on the disk for the environment. It is tried again; free some space meanwhile.', lines)
  if (end.signal !== null) return infrastructure('InstallerKilled', `The installer was ended from outside (${end.signal}), perhaps for want of memory. It is tried again.`, lines)
  if (noFetch.test(text) && network.test(text) && !byUrl.test(text)) return unreachable(lines)
  return {
    built: false, again: false,
    failure: { cause: 'dependency', reason: 'RequirementsNotInstallable', message: 'The requirements cannot be installed: correct requirements.txt and send it again with PUT.', log: lines },
  }
}

export const infrastructure = (reason: string, message: string, log: string[] = []): Failed =>
  ({ built: false, again: true, failure: { cause: 'infrastructure', reason, message, log } })

const unreachable = (log: string[]): Failed => ({
  built: false, again: true,
  failure: {
    cause: 'registry', reason: 'PackageIndexUnreachable', log,
    message: 'The package index does not answer. It is tried again; if it stays so, check the network, the proxy and the index that uv is told to use (UV_DEFAULT_INDEX).',
  },
})

/** What a process that could not even be started, or a disk that refuses, means for a build. */
export function failureOfSystem(error: unknown, doing: string): Failed | null {
  const { code, path } = error as NodeJS.ErrnoException
  if (code === undefined) return null
  if (code === 'ENOSPC' || code === 'EDQUOT') return infrastructure('DiskFull', `There is no room on the disk while ${doing}. It is tried again; free some space meanwhile.`)
  return infrastructure('BuilderCannotWork', `The builder cannot work while ${doing}: ${code}${path ? ` at ${path}` : ''}. It is tried again; the operator must make it possible.`)
}
