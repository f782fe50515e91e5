// Room: how much of an account may wait for a builder.
import type { Queue } from '../../shared/queue.ts'
import { Refusal } from '../../shared/trouble.ts'

/** A builder is free again after about this. */
const retryAfterS = 10

/** Throws the 429 that says how many wait. */
export async function refuseBeyond(most: number, queue: Queue, account: string): Promise<void> {
  const { waiting } = await queue.depth(account)
  if (waiting >= most) throw new Refusal(429, null, `${waiting} builds of account ${account} wait already, and no more than ${most} may. Try again when some have begun.`, [], retryAfterS)
}
