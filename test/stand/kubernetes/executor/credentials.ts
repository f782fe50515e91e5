// What is said to a registry so that it knows who asks: from the config.json in the folder that DOCKER_CONFIG names.
import { readFileSync } from 'node:fs'
import { join } from 'node:path'

/** Headers for a registry, by its host and port. */
export type Authorization = (host: string) => Record<string, string>

interface Login { auth?: string; username?: string; password?: string }

/** Nobody's, where there is no such file. Tokens are not asked for. */
export function authorizationIn(folder: string | undefined): Authorization {
  const text = folder === undefined ? null : read(join(folder, 'config.json'))
  const { auths = {} } = text === null ? {} : JSON.parse(text) as { auths?: Record<string, Login> }
  const logins = new Map(Object.entries(auths).map(([name, login]) => [name.replace(/^https?:\/\//, '').replace(/\/.*$/, ''), login]))
  return (host): Record<string, string> => {
    const { auth, username = '', password = '' } = logins.get(host) ?? {}
    if (!auth && !username) return {}
    return { authorization: `Basic ${auth || Buffer.from(`${username}:${password}`).toString('base64')}` }
  }
}

function read(file: string): string | null {
  try {
    return readFileSync(file, 'utf8')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null
    throw error
  }
}
