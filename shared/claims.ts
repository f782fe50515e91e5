// Claims: of several who wish for the same, the first decides how it is done. The port; `nats/claims.ts` keeps them in KV `claims`.

export interface Claim<T> {
  /** What the first said. */
  value: T
  /** Tells this claim from a later one of the same name. */
  mark: number
  isMine: boolean
}

export interface Claims {
  /** The claim of this name: whoever was first has made it. One that nobody lets go of is forgotten after a day. */
  claim<T>(name: string, mine: T): Promise<Claim<T>>
  /** What was claimed is done, or given up. A later claim of the same name stays. */
  release(name: string, claim: Pick<Claim<unknown>, 'mark'>): Promise<void>
}
