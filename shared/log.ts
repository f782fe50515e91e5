// Logs: one JSON object a line, with whatever ties the line to a lambda or a request.

export const levels = ['debug', 'info', 'warn', 'error'] as const
export type Level = (typeof levels)[number]
export type Fields = Record<string, unknown>

export interface Log {
  debug(message: string, fields?: Fields): void
  info(message: string, fields?: Fields): void
  warn(message: string, fields?: Fields): void
  error(message: string, fields?: Fields): void
  /** The same log with fields that every line of it carries. */
  with(fields: Fields): Log
}

/** Writes lines of at least `level` to `write`, which gets each line with its newline. */
export function jsonLog(level: Level, write: (line: string) => void, fields: Fields = {}, now = () => new Date()): Log {
  const least = levels.indexOf(level)
  const say = (at: Level) => (message: string, more: Fields = {}) => {
    if (levels.indexOf(at) < least) return
    const line = { time: now().toISOString(), level: at, message, ...fields, ...more }
    write(`${JSON.stringify(line, readable)}\n`)
  }
  return {
    debug: say('debug'), info: say('info'), warn: say('warn'), error: say('error'),
    with: (more) => jsonLog(level, write, { ...fields, ...more }, now),
  }
}

/** Errors do not survive JSON by themselves; their causes are what one looks for at three in the morning. */
function readable(_key: string, value: unknown): unknown {
  if (!(value instanceof Error)) return value
  return { name: value.name, message: value.message, stack: value.stack, ...(value.cause !== undefined && { cause: value.cause }) }
}

export const silentLog: Log = jsonLog('error', () => undefined)
