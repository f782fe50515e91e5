// The name of an image, taken apart as every container tool does it.

export interface ImageName {
  /** host or host:port; `docker.io` when the name has none. */
  registry: string
  repository: string
  tag: string | null
  digest: string | null
}

export const dockerHub = 'docker.io'
const dockerHubAliases = new Set([dockerHub, 'index.docker.io', 'registry-1.docker.io', 'registry.hub.docker.com'])

/** One name for each registry. */
export const registryOf = (host: string): string => (dockerHubAliases.has(host.toLowerCase()) ? dockerHub : host.toLowerCase())

const part = '[a-z0-9]+(?:(?:\\.|_|__|-+)[a-z0-9]+)*'
const repositories = new RegExp(`^${part}(?:/${part})*$`)
const tags = /^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$/
const digests = /^(?:sha256:[a-f0-9]{64}|sha512:[a-f0-9]{128})$/
const hosts = /^(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[A-Fa-f0-9:]+\])(?::\d{1,5})?$/

export const isRepository = (text: string): boolean => text.length <= 255 && repositories.test(text)
export const isTag = (text: string): boolean => tags.test(text)
export const isDigest = (text: string): boolean => digests.test(text)

/** Takes `host:5000/a/b:tag@sha256:…` apart. Throws an Error that tells what is wrong. */
export function imageName(reference: string): ImageName {
  const wrong = (why: string): Error => new Error(`"${reference}" is no name of an image: ${why}.`)
  const [name = '', digest = null, ...more] = reference.split('@')
  if (more.length > 0 || (digest !== null && !isDigest(digest))) throw wrong('what follows the @ is no digest such as sha256:…')
  const [, path = '', tag = null] = /^(.*?)(?::([^/]*))?$/s.exec(name) ?? []
  if (tag !== null && !isTag(tag)) throw wrong('a tag has up to 128 letters, digits, and . _ -')
  const [first, ...rest] = path.split('/') as [string, ...string[]]
  const hasHost = rest.length > 0 && (/[.:]/.test(first) || first === 'localhost')
  if (hasHost && !hosts.test(first)) throw wrong(`${first} is no host`)
  const registry = registryOf(hasHost ? first : dockerHub)
  const named = hasHost ? rest.join('/') : path
  const repository = registry === dockerHub && !named.includes('/') ? `library/${named}` : named
  if (!isRepository(repository)) throw wrong('a repository has lower-case letters and digits, with . _ - between them and / between its parts')
  return { registry, repository, tag, digest }
}
