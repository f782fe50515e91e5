// Who calls: a bearer token names an account; without tokens everyone is `default`.
import { createHash, timingSafeEqual } from 'node:crypto'

export type AccountOf = (authorization: string | undefined) => string | null

const sha256 = (text: string): Buffer => createHash('sha256').update(text).digest()

/** null: no such token. Every token is compared in constant time. */
export function accountsBy(tokens: ReadonlyMap<string, string>): AccountOf {
  if (tokens.size === 0) return () => 'default'
  const known = [...tokens].map(([token, account]) => ({ digest: sha256(token), account }))
  return (authorization) => {
    const given = sha256(/^Bearer +(\S+)$/i.exec(authorization ?? '')?.[1] ?? '')
    return known.filter((one) => timingSafeEqual(one.digest, given)).at(0)?.account ?? null
  }
}
