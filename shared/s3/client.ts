// The client of S3: how long it waits, how often it tries, and its trouble in words.
import type { S3 } from '@aws-sdk/client-s3'
import { Unavailable } from '../trouble.ts'

export interface S3Options {
  /** null: Amazon's own, in the region. */
  endpoint: string | null
  region: string
  /** null: where Amazon's clients look for them, such as the identity of the pod. */
  credentials: { accessKeyId: string; secretAccessKey: string; sessionToken?: string } | null
}

export interface Limits {
  connectMs: number
  /** Until the answer begins, and once more until it is whole: both for nothing. */
  answerMs: number
  /** Added to that for what is sent or got. */
  bytesPerMs: number
}

export const usualLimits: Limits = { connectMs: 3_000, answerMs: 30_000, bytesPerMs: 1_000 }

/** One client, whose connections are used again and keep no process alive. */
export interface Store {
  s3: S3
  /** For sentences. */
  name: string
  /** For each try of a request that carries so many bytes. */
  timeout(bytes: number): { requestTimeout: number }
}

/** Loaded when it is wanted: whoever keeps nothing in S3 does not pay for it. */
export async function s3Store({ endpoint, region, credentials }: S3Options, { connectMs, answerMs, bytesPerMs }: Limits): Promise<Store> {
  const { S3 } = await import('@aws-sdk/client-s3')
  const s3 = new S3({
    region,
    ...(endpoint === null ? { followRegionRedirects: true } : { endpoint, forcePathStyle: true }),
    ...(credentials && { credentials }),
    maxAttempts: 3, retryMode: 'standard',
    // Since 2025 the client adds checksums of a kind that many servers other than Amazon's refuse, and expects them back.
    requestChecksumCalculation: 'WHEN_REQUIRED', responseChecksumValidation: 'WHEN_REQUIRED',
    // With it the client would make a connection for each larger object, and wait in vain at servers that do not know it.
    expectContinueHeader: false,
    requestHandler: { connectionTimeout: connectMs, requestTimeout: answerMs, throwOnRequestTimeout: true },
  })
  const name = endpoint === null ? `Amazon S3 (${region})` : `S3 at ${endpoint}`
  return { s3, name, timeout: (bytes) => ({ requestTimeout: answerMs + bytes / bytesPerMs }) }
}

/** What the store said: `status` null when it said nothing (`code` is Late when that was waited for), `code` '' when it answered without saying why, as to every HEAD. */
export interface Said {
  status: number | null
  code: string
  text: string
}

export function said(error: unknown): Said {
  const { name, message, code, $metadata } = error as Error & { code?: string; $metadata?: { httpStatusCode?: number } }
  const status = $metadata?.httpStatusCode ?? null
  if (status === null) {
    // The client's own words have its name in front. It calls every broken connection a TimeoutError, too.
    const [, own] = /^@smithy\/node-http-handler - (?:\[\w+\] )?(.*)/s.exec(message) ?? []
    return { status, code: own && code === 'ETIMEDOUT' ? 'Late' : code ?? '', text: own || message || code || name }
  }
  if (name !== 'Unknown') return { status, code: name, text: `${status} ${name}: ${message}` }
  return { status, code: '', text: status === 401 || status === 403 ? `${status}, which is about credentials or rights` : String(status) }
}

export const isMissing = (error: unknown): boolean => ['NoSuchKey', 'NoSuchBucket', 'NotFound'].includes(said(error).code)

const badCredentials = new Set([
  'InvalidAccessKeyId', 'SignatureDoesNotMatch', 'ExpiredToken', 'InvalidToken', 'TokenRefreshRequired', 'RequestTimeTooSkewed', 'AuthorizationHeaderMalformed', 'NotSignedUp',
])
export const isOfCredentials = (error: unknown): boolean =>
  badCredentials.has(said(error).code) || (error as Error).name === 'CredentialsProviderError'

/** Whatever else the store says, it says no for now. `what`: what was asked, for the sentence. */
export function unavailable({ name }: Store, what: string, error: unknown): Unavailable {
  if (error instanceof Unavailable) return error
  const { status, code, text } = said(error)
  const because = { cause: error }
  if (isOfCredentials(error)) return new Unavailable(`${name} does not accept kiln's credentials for ${what}: ${text}`, because)
  if (code === 'Late') return new Unavailable(`${name} did not answer in time to ${what}.`, because)
  if (status === null) return new Unavailable(`${name} cannot be reached for ${what}: ${text}`, because)
  return new Unavailable(`${name} said no to ${what}: ${text}`, because)
}
