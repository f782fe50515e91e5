// The whole kiln as a stranger meets it: a process, HTTP, real Python lambdas on the local platform.
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { writeZip } from '../shared/zip.ts'
import { client, exampleZip, type Client } from './stand/client.ts'
import { testKiln, type TestKiln } from './stand/kiln.ts'

let kiln: TestKiln
let http: Client
const zip = (main: string, more: Record<string, string> = {}): Buffer => writeZip(new Map(Object.entries({ 'lambda_main.py': main, ...more })))
const answering = (text: string): Buffer => zip(`async def main(request):\n    return {"says": ${JSON.stringify(text)}}\n`)
const json = { 'content-type': 'application/json' }

async function up(archive: Buffer, parameters: unknown = {}): Promise<string> {
  const { status, body } = await http.post(archive, parameters)
  assert.is(status, 202, JSON.stringify(body))
  await http.fact(body.lambda_id, 'workload.running', 1)
  return body.lambda_id
}

const examples = suite('the examples')
examples.before(async () => {
  kiln = await testKiln({ READY_TIMEOUT: '5', PROXY_TIMEOUT: '2', MAX_ARCHIVE_BYTES: '1Mi' })
  assert.ok(await kiln.start(), kiln.output())
  http = client(kiln.address)
})

examples('hello', async () => {
  const id = await up(await exampleZip('hello'))
  const named = await http.send('POST', `/lambdas/${id}/proxy/main`, '{"name":"Ada"}', json)
  assert.equal(named.body, { hello: 'Ada' })
  assert.is(named.headers.get('lambda-version'), '1')
  assert.match(named.headers.get('luna-request-id')!, /^\d{10},[0-9a-f-]{36}$/)
  assert.equal((await http.send('POST', `/lambdas/${id}/proxy/main`)).body, { hello: 'world' })
})
examples('with-requirements: a real package from the index', async () => {
  const id = await up(await exampleZip('with-requirements'))
  assert.equal((await http.send('POST', `/lambdas/${id}/proxy/main`, '{"bytes":1536}', json)).body, { size: '1.5 KiB' })
  const lines = (await http.get(`/lambdas/${id}/image/logs`)).body.pods.build.join('\n')
  assert.match(lines, 'humanize')
})
examples('with-routes: routes, methods, static files', async () => {
  const id = await up(await exampleZip('with-routes'))
  assert.equal((await http.get(`/lambdas/${id}/proxy/notes`)).body, { notes: [{ id: 1, text: 'buy milk' }] })
  assert.is((await http.send('POST', `/lambdas/${id}/proxy/notes`, '"more"', json)).status, 201)
  assert.is((await http.send('DELETE', `/lambdas/${id}/proxy/notes/1`)).status, 204)
  assert.is((await http.get(`/lambdas/${id}/proxy/notes/1`)).status, 404)
  assert.match((await http.get(`/lambdas/${id}/proxy/static/index.html`)).body, '<')
})
examples('with-context: start-up, user configuration, metrics', async () => {
  const id = await up(await exampleZip('with-context'), { user_config: { language: 'fr' } })
  assert.equal((await http.get(`/lambdas/${id}/proxy/main`)).body, { greeting: 'Bonjour' })
  assert.match((await http.get(`/lambdas/${id}/proxy/lambda_metrics`)).body, /greetings_total\{.*fr.*\} 1/)
})
examples('with-docs: its own documentation, by Accept', async () => {
  const id = await up(await exampleZip('with-docs'))
  assert.match((await http.get(`/lambdas/${id}/docs`, { accept: 'text/html' })).headers.get('content-type')!, 'text/html')
  assert.match((await http.get(`/lambdas/${id}/docs`, { accept: 'application/yaml' })).body, 'openapi')
})
examples.run()

// ---
const life = suite('a life')

life('update, roll back, disable, enable, delete; no request fails while versions change', async () => {
  const id = await up(answering('one'))
  let isOver = false
  const failures: string[] = []
  const calling = (async () => {
    while (!isOver) {
      const { status, body } = await http.get(`/lambdas/${id}/proxy/main`)
      if (status !== 200) failures.push(`${status} ${JSON.stringify(body)}`)
    }
  })()
  await http.put(id, answering('two'))
  await http.fact(id, 'workload.running', 2)
  await http.fact(id, 'workload.terminated', 1)
  await http.send('POST', `/lambdas/${id}/rollback?version=1`)
  await http.fact(id, 'workload.running', 3)
  await http.fact(id, 'workload.terminated', 2)
  isOver = true
  await calling
  assert.equal(failures, [])
  assert.equal((await http.get(`/lambdas/${id}/proxy/main`)).body, { says: 'one' })

  assert.is((await http.send('POST', `/lambdas/${id}/disable`)).status, 202)
  assert.is((await http.get(`/lambdas/${id}/proxy/main`)).status, 409)
  assert.is((await http.get(`/lambdas/${id}`)).body.status, 'not_found')
  await http.send('POST', `/lambdas/${id}/enable`)
  await http.fact(id, 'workload.applied', 3)
  await http.send('DELETE', `/lambdas/${id}`)
  assert.is((await http.get(`/lambdas/${id}`)).status, 404)
  assert.is((await http.get(`/lambdas/${id}/proxy/main`)).status, 404)
})
life('a change of user_config goes straight to deployment', async () => {
  const id = await up(zip('async def main(request):\n    return dict(request.config.userConfig)\n'), { user_config: { a: 1, b: 2 } })
  assert.is((await http.put(id, null, { user_config: { b: null, c: 3 } })).status, 202)
  await http.fact(id, 'workload.running', 2)
  const { events } = (await http.get(`/lambdas/${id}/events`)).body
  assert.equal(events.filter((e: any) => e.version === 2).map((e: any) => e.fact).filter((f: string) => /^(context|image)/.test(f)), [])
})
life('a rebase is a new version of the same, through every stage', async () => {
  const id = await up(answering('the same'), { user_config: { a: 1 } })
  assert.is((await http.send('PUT', `/lambdas/${id}`, '{"rebase":true}', json)).status, 202)
  await http.fact(id, 'workload.running', 2)
  const { events } = (await http.get(`/lambdas/${id}/events`)).body
  assert.equal(events.filter((e: any) => e.version === 2).map((e: any) => e.fact).filter((f: string) => /^(context|image)/.test(f)), ['context.packaged', 'image.built'])
  const { versions, parameters, image } = (await http.get(`/lambdas/${id}`)).body
  assert.equal([versions[1].archive, parameters.user_config, image.status, image.base], [versions[0].archive, { a: 1 }, 'completed', null])
  assert.equal((await http.get(`/lambdas/${id}/proxy/main`)).body, { says: 'the same' })
  assert.is((await http.send('PUT', `/lambdas/${id}`, '{"rebase":"yes"}', json)).status, 400)
})
life('a version that does not get ready leaves the old one serving, and says why', async () => {
  const id = await up(answering('old'))
  await http.put(id, zip('raise RuntimeError("no config")\n\nasync def main(request):\n    return {}\n'))
  await http.fact(id, 'workload.failed', 2).catch(() => undefined)
  const { body } = await http.get(`/lambdas/${id}`)
  assert.equal([body.status, body.version, body.serving_version, body.state], ['running', 2, 1, 'failed'])
  assert.match(JSON.stringify(body.failure), 'no config')
  assert.equal((await http.get(`/lambdas/${id}/proxy/main`)).body, { says: 'old' })
})
life('requirements that cannot be installed: image.failed by dependency, mended by a PUT', async () => {
  const main = 'async def main(request):\n    return {"ok": True}\n'
  const { body } = await http.post(zip(main, { 'requirements.txt': 'kiln-there-is-no-such-package==1.2.3\n' }))
  await http.fact(body.lambda_id, 'image.failed', 1).catch(() => undefined)
  const image = (await http.get(`/lambdas/${body.lambda_id}/image/status`)).body
  assert.equal([image.status, image.failure.cause, image.failure.stage], ['error', 'dependency', 'builder-watcher'])
  assert.match(image.failure.log.join('\n'), 'kiln-there-is-no-such-package')
  assert.is((await http.put(body.lambda_id, zip(main))).status, 202)
  await http.fact(body.lambda_id, 'workload.running', 2)
  assert.equal((await http.get(`/lambdas/${body.lambda_id}/proxy/main`)).body, { ok: true })
})
life('a lambda that raises, returns no dict, is too slow, or dies', async () => {
  const id = await up(zip([
    'import asyncio, os', 'from luna_lambda_tools import UserException', '',
    'class Teapot(UserException):', '    statusCode = 418', '    errorText = "short and stout"', '',
    'async def main(request):', '    what = request.args.get("what")', '    if what == "raise":', '        raise ValueError("secret")', '    if what == "teapot":', '        raise Teapot',
    '    if what == "list":', '        return []', '    if what == "slow":', '        await asyncio.sleep(30)', '    if what == "die":', '        os._exit(3)', '    return {}', '',
  ].join('\n')))
  const ask = (what: string) => http.get(`/lambdas/${id}/proxy/main?what=${what}`)
  const raised = await ask('raise')
  assert.equal([raised.status, raised.body.error_code, /secret|Traceback/.test(JSON.stringify(raised.body))], [500, 42004, false])
  const teapot = await ask('teapot')
  assert.equal([teapot.status, teapot.body.detail, teapot.body.error_code], [418, 'short and stout', 42004])
  assert.equal([(await ask('list')).status, (await ask('slow')).status, (await ask('die')).status], [500, 504, 502])
  assert.match((await http.get(`/lambdas/${id}/logs`)).body.pods[`lambda-${id}-1-0`].join('\n'), 'ValueError: secret')
})
life('everything wrong with a zip comes at once, and nothing was begun', async () => {
  const { status, body } = await http.post(zip('def main():\n    pass\n', { 'requirements.txt': 'ok\n???\n', 'docs/lambda.html': 'x' }), { nme: 1, user_docker_commands: ['RUN true'] })
  assert.equal([status, body.error_code], [400, 42005])
  assert.equal(body.errors.map((e: any) => e.code).sort(), ['BadRequirement', 'DocsIncomplete', 'MainArguments', 'MainNotAsync', 'UnknownParameter'].sort())
  assert.ok(body.errors.every((e: any) => e.message && e.fix))
  assert.is((await http.post(Buffer.from('no zip'))).body.errors[0].code, 'NotAZip')
  assert.is((await http.post(Buffer.alloc(3 * 2 ** 20))).status, 413)
})
life('nothing is left running', async () => {
  assert.is(await kiln.stop(), 0)
  assert.equal(await kiln.leftovers(), [])
  await kiln.remove()
})
life.run()
