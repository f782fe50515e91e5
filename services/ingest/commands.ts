// ingest over NATS: the same commands, published by other systems into stream COMMANDS.
import type { Command, Hearing, Settlement } from '../../shared/bus.ts'
import { uuidFrom } from '../../shared/events.ts'
import type { Ports } from '../../shared/ports.ts'
import { Refusal, Unavailable, invalid, unknownLambda } from '../../shared/trouble.ts'
import { flagIn, versionIn } from './http.ts'
import { stateRejection, type Accepted, type Asker, type Ingest } from './index.ts'

export function obeyCommands(ports: Pick<Ports, 'bus' | 'log' | 'metrics'>, service: Ingest): Promise<Hearing> {
  return ports.bus.obey((command) => obey(ports, service, command), async (unreadable) => {
    ports.metrics.refused('ingest')
    await stateRejection(ports, unreadable, new Refusal(400, 42005, unreadable.reason))
  })
}

async function obey(ports: Pick<Ports, 'bus' | 'log' | 'metrics'>, service: Ingest, command: Command): Promise<Settlement> {
  const end = ports.metrics.begin('ingest')
  const fact = `lambda.commands.${command.verb}`
  try {
    await act(service, command)
    end({ fact, verdict: 'done' })
    return 'settled'
  } catch (error) {
    if (error instanceof Refusal) {
      await stateRejection(ports, { account: command.account, id: idOrUnknown(command), cause: command.cause, traceparent: command.traceparent }, error)
      end({ fact, verdict: 'refuse', cause: 'user' })
      return 'settled'
    }
    end({ fact, verdict: 'later' })
    ports.log.warn('a command waits', { verb: command.verb, cause: command.cause, error })
    if (error instanceof Unavailable) return { againInMs: 5_000 }
    throw error
  }
}

async function act(service: Ingest, { account, verb, body, cause, traceparent }: Command): Promise<Accepted> {
  const asker: Asker = { account, cause, traceparent, priority: 'automatic' }
  refuseUnknown(body)
  if (verb === 'create') {
    // Delivered twice, it still makes one lambda: the id comes from the command.
    return service.create(asker, { archive: await service.fetchArchive(body.archive), parameters: withId(body), id: uuidFrom(account, cause) })
  }
  const id = idIn(body)
  if (verb === 'update') return service.update(asker, id, { archive: body.archive === undefined ? null : await service.fetchArchive(body.archive), parameters: body.parameters, rebase: flagIn(body.rebase, 'rebase') })
  if (verb === 'rollback') return service.rollback(asker, id, versionIn(body.version))
  if (verb === 'cancel') return service.cancel(asker, id)
  if (verb === 'delete') return service.remove(asker, id)
  return service.turn(asker, id, verb === 'enable')
}

/** The id stands beside the parameters. What is no object is left for ingest to refuse. */
function withId({ parameters = {}, lambda_id }: Record<string, unknown>): unknown {
  const isObject = typeof parameters === 'object' && !Array.isArray(parameters)
  return isObject && lambda_id !== undefined ? { ...parameters, lambda_id } : parameters
}

function refuseUnknown(body: Record<string, unknown>): void {
  const unknown = Object.keys(body).filter((key) => !['lambda_id', 'archive', 'parameters', 'rebase', 'version'].includes(key))
  if (unknown.length === 0) return
  throw invalid(unknown.map((field) => ({ code: 'UnknownField', field, message: `There is no field ${field}.`, fix: 'A command takes lambda_id, archive, parameters, rebase and version.' })))
}

const uuid = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i

function idIn(body: Record<string, unknown>): string {
  const id = body.lambda_id
  if (typeof id !== 'string') throw invalid([{ code: 'BadParameter', field: 'lambda_id', message: 'lambda_id is missing.', fix: 'Say which lambda is meant.' }])
  if (!uuid.test(id)) throw unknownLambda(id)
  return id.toLowerCase()
}

const idOrUnknown = ({ body, verb, account, cause }: Command): string => {
  if (typeof body.lambda_id === 'string' && uuid.test(body.lambda_id)) return body.lambda_id.toLowerCase()
  return verb === 'create' && body.lambda_id === undefined ? uuidFrom(account, cause) : 'unknown'
}
