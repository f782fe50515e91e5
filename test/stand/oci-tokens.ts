// A token server for a registry: gives what is wished for, of as many repositories as there are, and tells what was asked.
import { generateKeyPairSync, randomUUID, sign } from 'node:crypto'
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'

export interface Tokens {
  realm: string
  keys: object[]
  /** The scopes of each question, in order. */
  asked: string[][]
  /** What of a scope is given: its actions. */
  give: (repository: string, actions: string[]) => string[]
  /** Instead of a token. */
  refuse: (scopes: string[]) => number | null
  /** For tests that talk to the registry themselves. */
  bearer(scope: string): Promise<Record<string, string>>
  close(): Promise<void>
}

export const tokenOptions = ({ realm, keys }: Tokens) => ({ realm, service: 'kiln tests', issuer: 'kiln-test', keys })

export async function tokenServer(): Promise<Tokens> {
  const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const server = createServer(async (request, response) => {
    let body = ''
    for await (const chunk of request) body += chunk
    const isExchange = request.method === 'POST'
    const wish = isExchange ? new URLSearchParams(body) : new URL(request.url!, 'http://x').searchParams
    // In a form they are one text.
    const scopes = isExchange ? wish.get('scope')!.split(' ') : wish.getAll('scope')
    self.asked.push(scopes)
    const status = self.refuse(scopes)
    if (status !== null) return void response.writeHead(status).end()
    const now = Math.floor(Date.now() / 1_000)
    const access = scopes.map((scope) => {
      const [type, name = '', actions = ''] = scope.split(':')
      return { type, name, actions: self.give(name, actions.split(',')) }
    })
    const claims = { iss: 'kiln-test', aud: wish.get('service'), iat: now, nbf: now - 10, exp: now + 300, jti: randomUUID(), access }
    const content = [{ alg: 'ES256', typ: 'JWT', kid: 'test' }, claims].map((part) => Buffer.from(JSON.stringify(part)).toString('base64url')).join('.')
    const signature = sign('sha256', Buffer.from(content), { key: privateKey, dsaEncoding: 'ieee-p1363' }).toString('base64url')
    response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify({ token: `${content}.${signature}`, expires_in: 300 }))
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const self: Tokens = {
    realm: `http://127.0.0.1:${(server.address() as AddressInfo).port}/token`, keys: [{ ...publicKey.export({ format: 'jwk' }), kid: 'test', alg: 'ES256', use: 'sig' }],
    asked: [], give: (_, actions) => actions, refuse: () => null,
    async bearer(scope) {
      const response = await fetch(`${self.realm}?service=kiln%20tests&scope=${scope}`)
      return { authorization: `Bearer ${((await response.json()) as { token: string }).token}` }
    },
    async close() {
      if (!server.listening) return
      server.closeAllConnections()
      server.close()
      await once(server, 'close')
    },
  }
  return self
}
