// A registry behind a proxy that can fail it, and clients of it: what tests of images begin with.
import * as assert from 'uvu/assert'
import { credentialsFrom, registries, type Registry, type RegistriesOptions } from '../../shared/oci/registry.ts'
import { Unavailable } from '../../shared/trouble.ts'
import { faults, type Faults } from './oci-faults.ts'
import type { Origin } from './oci-images.ts'
import { registryServer, type RegistryOptions, type RegistryServer } from './registry.ts'

export interface World {
  server: RegistryServer
  proxy: Faults
  /** Past the proxy. */
  origin: Origin
  /** A new client, through the proxy; `hosts`: others that it may speak plain http with. */
  client(options?: { config?: object; limits?: RegistriesOptions['limits']; hosts?: string[] }): (host: string) => Registry
  /** The same for the one registry. */
  registry(): Registry
}

export async function world(options: RegistryOptions, work: (world: World) => Promise<void>): Promise<void> {
  const server = await registryServer(options)
  const proxy = await faults(server.address)
  const client: World['client'] = ({ config, limits, hosts = [] } = {}) => registries({ insecure: new Set([proxy.address, ...hosts]), credentials: credentialsFrom(config ? JSON.stringify(config) : null), ...(limits && { limits }) })
  try {
    await work({ server, proxy, origin: { url: `http://${server.address}` }, client, registry: () => client()(proxy.address) })
  } finally {
    await proxy.close()
    await server.close()
  }
}

/** Quick ones, for tests of what nobody answers. */
export const shortLimits = { connectMs: 5_000, idleMs: 300, wholeMs: 300 }

export const failure = async (work: Promise<unknown>): Promise<Error> => work.then(() => { throw new Error('it should have failed') }, (error: Error) => error)

export async function isUnavailable(work: Promise<unknown>, ...words: Array<string | RegExp>): Promise<Error> {
  const error = await failure(work)
  assert.instance(error, Unavailable, error.stack)
  for (const word of words) assert.match(error.message, word)
  return error
}

export async function bytesOf(chunks: AsyncIterable<Buffer> | null): Promise<Buffer> {
  const all: Buffer[] = []
  for await (const chunk of chunks!) all.push(chunk)
  return Buffer.concat(all)
}

/** A docker config.json with one password. */
export const passwordAt = (host: string, username: string, password: string): object => ({ auths: { [host]: { username, password } } })
