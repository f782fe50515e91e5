// NATS that does not answer is the world's trouble: everything an adapter is asked then fails as Unavailable, and is tried again by whoever asked.
import { ErrorCode, NatsError } from 'nats'
import { Unavailable } from '../trouble.ts'

const passing = new Set<string>([ErrorCode.Timeout, ErrorCode.NoResponders, ErrorCode.ConnectionClosed, ErrorCode.ConnectionDraining, ErrorCode.ConnectionTimeout, ErrorCode.Disconnect, ErrorCode.JetStreamNotEnabled, '503'])

const isPassing = (error: unknown): boolean => error instanceof NatsError && (passing.has(error.code) || error.api_error?.code === 503)

/** The same port; a promise of it that fails because NATS is away fails as Unavailable. */
export function withTrouble<T extends object>(port: T): T {
  const told = (error: unknown): never => {
    if (isPassing(error)) throw new Unavailable('NATS does not answer at the moment.', { cause: error })
    throw error
  }
  const wrapped = Object.entries(port).map(([name, method]) => [name, (...args: unknown[]) => {
    const result: unknown = (method as (...all: unknown[]) => unknown)(...args)
    return result instanceof Promise ? result.catch(told) : result
  }])
  return Object.fromEntries(wrapped) as T
}
