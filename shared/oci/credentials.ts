// Credentials for registries, as a docker config.json holds them.
import { registryOf } from './image-name.ts'

export type Login =
  | { kind: 'password'; username: string; password: string }
  /** Given to the token server, which gives a token for it. */
  | { kind: 'identity'; token: string }
  /** Given to the registry as it is. */
  | { kind: 'registry'; token: string }

export interface Credentials {
  /** Of several that fit the one whose key is longest; null: none. */
  of(registry: string, repository: string): Login | null
  /** Why there are none, as far as that is known: a sentence, or ''. */
  lack(registry: string): string
}

interface Entry { registry: string; path: string; login: Login }

interface Config {
  auths?: Record<string, { auth?: string; username?: string; password?: string; identitytoken?: string; registrytoken?: string }>
  credHelpers?: Record<string, string>
  credsStore?: string
}

/** `text`: a whole config.json; null: there is none. Throws an Error that tells what is wrong, without the secrets. */
export function credentialsFrom(text: string | null): Credentials {
  const config = text === null ? {} : configIn(text)
  const entries = Object.entries(config.auths ?? {}).flatMap(([key, given]): Entry[] => {
    const login = loginOf(key, given ?? {})
    return login ? [{ ...placeOf(key), login }] : []
  })
  // The longest first.
  entries.sort((a, b) => b.path.length - a.path.length)
  const helpers = new Map(Object.entries(config.credHelpers ?? {}).map(([key, helper]) => [placeOf(key).registry, helper]))
  return {
    of: (registry, repository) => entries.find((entry) => entry.registry === registryOf(registry) && covers(entry.path, repository))?.login ?? null,
    lack(registry) {
      const helper = helpers.get(registryOf(registry)) ?? config.credsStore
      return helper ? `The docker configuration leaves them to docker-credential-${helper}, which kiln does not run: put them under "auths".` : ''
    },
  }
}

function configIn(text: string): Config {
  const wrong = (why: string): Error => new Error(`The docker configuration with registries' credentials ${why}.`)
  let config: unknown
  try { config = JSON.parse(text) } catch { throw wrong('is no JSON') }
  const isObject = (value: unknown): boolean => typeof value === 'object' && value !== null && !Array.isArray(value)
  if (!isObject(config)) throw wrong('is no object with "auths"')
  const { auths = {}, credHelpers = {} } = config as Config
  if (!isObject(auths) || !isObject(credHelpers)) throw wrong('has "auths" or "credHelpers" that are no objects')
  return config as Config
}

/** Of `https://index.docker.io/v1/`, `host:5000` and `host/some/path` alike. */
function placeOf(key: string): { registry: string; path: string } {
  const [host = '', ...path] = key.replace(/^https?:\/\//i, '').replace(/\/+$/, '').split('/')
  const isVersion = path.length === 1 && /^v[12]$/.test(path[0]!)
  return { registry: registryOf(host), path: isVersion ? '' : path.join('/') }
}

const covers = (path: string, repository: string): boolean => path === '' || repository === path || repository.startsWith(`${path}/`)

/** null: an entry without content, as one that a helper program fills. */
function loginOf(key: string, { auth, username, password, identitytoken, registrytoken }: NonNullable<Config['auths']>[string]): Login | null {
  if (registrytoken) return { kind: 'registry', token: registrytoken }
  if (identitytoken) return { kind: 'identity', token: identitytoken }
  if (username) return { kind: 'password', username, password: password ?? '' }
  if (!auth) return null
  const [, name, secret] = /^([^:]+):(.*)$/s.exec(Buffer.from(auth, 'base64').toString()) ?? []
  if (name === undefined || secret === undefined) throw new Error(`The docker configuration has an "auth" for ${key} that is not the Base64 of name:password.`)
  // Some tools fill them up with zeros.
  return { kind: 'password', username: name, password: secret.replace(/\0+$/, '') }
}
