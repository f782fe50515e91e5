// gateway: services in processes of their own are reached over HTTP, and their answers are the gateway's to dress.
import { once } from 'node:events'
import { createServer, type IncomingHttpHeaders, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { forwardTo } from '../services/gateway/index.ts'
import { Unavailable } from '../shared/trouble.ts'

const test = suite<{ server: Server; url: string; heard: { method: string; path: string; headers: IncomingHttpHeaders; body: string } | null }>('gateway: forwarding')

test.before.each(async (context) => {
  context.heard = null
  context.server = createServer(async (req, res) => {
    const chunks: Buffer[] = []
    for await (const chunk of req) chunks.push(chunk as Buffer)
    context.heard = { method: req.method!, path: req.url!, headers: req.headers, body: Buffer.concat(chunks).toString() }
    res.writeHead(202, { 'content-type': 'application/json', location: '/lambdas/x' }).end('{"lambda_id":"x"}')
  })
  await once(context.server.listen(0, '127.0.0.1'), 'listening')
  context.url = `http://127.0.0.1:${(context.server.address() as AddressInfo).port}`
})
test.after.each(({ server }) => {
  server.closeAllConnections()
  return new Promise<void>((resolve) => server.close(() => resolve()))
})

test('method, path, query, headers and body arrive; status, headers and body come back, open to more headers', async (context) => {
  const request = new Request('http://gateway/lambdas?limit=2', { method: 'POST', body: 'an archive', headers: { 'luna-account-id': 'acme' } })
  const answer = await forwardTo(context.url)(request)
  answer.headers.set('luna-request-id', 'r')
  assert.equal([answer.status, answer.headers.get('location'), answer.headers.get('luna-request-id'), await answer.json()], [202, '/lambdas/x', 'r', { lambda_id: 'x' }])
  const { method, path, headers, body } = context.heard!
  assert.equal([method, path, headers['luna-account-id'], body], ['POST', '/lambdas?limit=2', 'acme', 'an archive'])
})

test('what speaks of the caller\'s connection stays with it', async (context) => {
  const body = new Blob(['in chunks']).stream()
  const headers = new Headers({ 'content-type': 'text/plain' })
  const request = new Request('http://gateway/lambdas', { method: 'POST', body, headers, duplex: 'half' } as RequestInit)
  // A Request made by hand refuses these names; one that came over the wire has them.
  const arrived = new Proxy(request, { get: (of, name) => (name === 'headers' ? [...headers, ['expect', '100-continue'], ['transfer-encoding', 'chunked'], ['connection', 'keep-alive']] : Reflect.get(of, name, of)) })
  assert.is((await forwardTo(context.url)(arrived)).status, 202)
  assert.equal([context.heard!.body, context.heard!.headers.expect], ['in chunks', undefined])
})

test('a service that is away is the world\'s trouble', async ({ server, url }) => {
  server.closeAllConnections()
  await new Promise((resolve) => server.close(resolve))
  const error = await Promise.resolve(forwardTo(url)(new Request('http://gateway/lambdas'))).then(() => null, (e: unknown) => e)
  assert.instance(error, Unavailable)
})

test.run()
