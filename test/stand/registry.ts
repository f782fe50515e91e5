// A real container registry for a test: its own port, its own folder, gone afterwards.
import { mkdtemp, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { htpasswdLine } from './htpasswd.ts'
import { builtByGo, program } from './program.ts'

export interface RegistryServer {
  /** host:port */
  address: string
  close(): Promise<void>
}

export interface RegistryOptions {
  /** Whoever does not say these is refused. */
  auth?: { username: string; password: string }
  /** Tokens of this server are asked for, signed by one of these keys (a JSON Web Key Set). */
  token?: { realm: string; service: string; issuer: string; keys: object[] }
  /** Whether manifests may be deleted; they may when nothing is said. */
  delete?: boolean
  /** The host that it listens on, at a port of its own. */
  host?: string
  /** Instead: host and port, where one was before. */
  address?: string
  /** Its certificate and its key, as PEM: it speaks https then. */
  tls?: { certificate: string; key: string }
}

export async function registryServer(options: RegistryOptions = {}): Promise<RegistryServer> {
  const folder = await mkdtemp(join(tmpdir(), 'kiln-test-registry-'))
  const [configuration, htpasswd, jwks, certificate, key] = ['config.json', 'htpasswd', 'keys.json', 'certificate.pem', 'key.pem'].map((name) => join(folder, name)) as [string, string, string, string, string]
  const { auth, token, tls } = options
  if (auth) await writeFile(htpasswd, `${htpasswdLine(auth.username, auth.password)}\n`)
  if (token) await writeFile(jwks, JSON.stringify({ keys: token.keys }))
  if (tls) await Promise.all([writeFile(certificate, tls.certificate), writeFile(key, tls.key)])
  // JSON is YAML, which is what it reads.
  await writeFile(configuration, JSON.stringify({
    version: '0.1',
    log: { level: 'info', accesslog: { disabled: true } },
    storage: { filesystem: { rootdirectory: join(folder, 'images') }, delete: { enabled: options.delete ?? true } },
    http: { addr: options.address ?? `${options.host ?? '127.0.0.1'}:0`, secret: 'of no value', ...(tls && { tls: { certificate, key } }) },
    ...(auth && { auth: { htpasswd: { realm: 'kiln tests', path: htpasswd } } }),
    ...(token && { auth: { token: { realm: token.realm, service: token.service, issuer: token.issuer, jwks } } }),
  }))
  const server = program(folder, builtByGo('registry'), ['serve', configuration])
  const [, address] = await server.line(/msg="listening on ([^",]+)/).catch(async (error: unknown) => { await server.close(); throw error })
  return { address: address!, close: () => server.close() }
}
