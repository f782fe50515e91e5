// ingest over NATS: the same commands, published by other systems into stream COMMANDS.
import type { Asker } from '../../shared/asker.ts'
import type { Command, Hearing, Settlement } from '../../shared/bus.ts'
import { uuidFrom } from '../../shared/events.ts'
import type { Ports } from '../../shared/ports.ts'
import { Refusal, Unavailable, invalid, unknownBuild, unknownLambda } from '../../shared/trouble.ts'
import { versionIn } from './http.ts'
import type { OwnBuilds } from './builds.ts'
import { stateRejection, type Ingest } from './index.ts'
import { flagIn } from './sent.ts'

export function obeyCommands(ports: Pick<Ports, 'bus' | 'log' | 'metrics'>, lambdas: Ingest, builds: OwnBuilds): Promise<Hearing> {
  const act = (command: Command): Promise<unknown> => (command.kind === 'build' ? actOnBuild(lambdas, builds, command) : actOnLambda(lambdas, command))
  return ports.bus.obey((command) => obey(ports, act, command), async (unreadable) => {
    ports.metrics.refused('ingest')
    await stateRejection(ports, unreadable, new Refusal(400, 42005, unreadable.reason))
  })
}

async function obey(ports: Pick<Ports, 'bus' | 'log' | 'metrics'>, act: (command: Command) => Promise<unknown>, command: Command): Promise<Settlement> {
  const end = ports.metrics.begin('ingest')
  const fact = `${command.kind}.commands.${command.verb}`
  try {
    await act(command)
    end({ fact, verdict: 'done' })
    return 'settled'
  } catch (error) {
    if (error instanceof Refusal) {
      await stateRejection(ports, { kind: command.kind, account: command.account, id: idOrUnknown(command), cause: command.cause, traceparent: command.traceparent }, error)
      end({ fact, verdict: 'refuse', cause: 'user' })
      return 'settled'
    }
    end({ fact, verdict: 'later' })
    ports.log.warn('a command waits', { verb: command.verb, cause: command.cause, error })
    if (error instanceof Unavailable) return { againInMs: 5_000 }
    throw error
  }
}

const askerOf = ({ account, cause, traceparent }: Command): Asker => ({ account, cause, traceparent, priority: 'automatic' })

async function actOnLambda(service: Ingest, command: Command): Promise<unknown> {
  const { account, verb, body, cause } = command
  const asker = askerOf(command)
  refuseUnknown(body, ['lambda_id', 'archive', 'parameters', 'rebase', 'version'])
  if (verb === 'create') {
    // Delivered twice, it still makes one lambda: the id comes from the command.
    return service.create(asker, { archive: await service.fetchArchive(body.archive), parameters: withId(body), id: uuidFrom(account, cause) })
  }
  const id = idIn(body, 'lambda_id')
  if (verb === 'update') return service.update(asker, id, { archive: body.archive === undefined ? null : await service.fetchArchive(body.archive), parameters: body.parameters, rebase: flagIn(body.rebase, 'rebase') })
  if (verb === 'rollback') return service.rollback(asker, id, versionIn(body.version))
  if (verb === 'cancel') return service.cancel(asker, id)
  if (verb === 'delete') return service.remove(asker, id)
  return service.turn(asker, id, verb === 'enable')
}

async function actOnBuild({ fetchArchive }: Ingest, builds: OwnBuilds, command: Command): Promise<unknown> {
  const { account, verb, body, cause } = command
  refuseUnknown(body, ['build_id', 'archive', 'parameters'])
  if (verb === 'create') return builds.create(askerOf(command), { archive: await fetchArchive(body.archive), parameters: body.parameters, id: uuidFrom(account, cause) })
  const id = idIn(body, 'build_id')
  return verb === 'cancel' ? builds.cancel(askerOf(command), id) : builds.remove(askerOf(command), id)
}

/** The id stands beside the parameters. What is no object is left for ingest to refuse. */
function withId({ parameters = {}, lambda_id }: Record<string, unknown>): unknown {
  const isObject = typeof parameters === 'object' && !Array.isArray(parameters)
  return isObject && lambda_id !== undefined ? { ...parameters, lambda_id } : parameters
}

function refuseUnknown(body: Record<string, unknown>, known: string[]): void {
  const unknown = Object.keys(body).filter((key) => !known.includes(key))
  if (unknown.length === 0) return
  throw invalid(unknown.map((field) => ({ code: 'UnknownField', field, message: `There is no field ${field}.`, fix: `A command takes ${known.slice(0, -1).join(', ')} and ${known.at(-1)}.` })))
}

const uuid = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i

function idIn(body: Record<string, unknown>, field: 'lambda_id' | 'build_id'): string {
  const id = body[field]
  if (typeof id !== 'string') throw invalid([{ code: 'BadParameter', field, message: `${field} is missing.`, fix: 'Say which is meant.' }])
  if (!uuid.test(id)) throw field === 'build_id' ? unknownBuild(id) : unknownLambda(id)
  return id.toLowerCase()
}

const idOrUnknown = ({ kind, body, verb, account, cause }: Command): string => {
  const given = body[`${kind}_id`]
  if (typeof given === 'string' && uuid.test(given)) return given.toLowerCase()
  return verb === 'create' && given === undefined ? uuidFrom(account, cause) : 'unknown'
}
