// ingest and the cleaner: what a deletion takes with it, and what it leaves.
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { archiveName, contextName } from '../shared/objects.ts'
import { caller, ownZip, seen, type Caller } from './stand/caller.ts'
import { fact, gate } from './stand/await.ts'
import { site, type Site } from './stand/site.ts'

const test = suite('a deletion')
let house: Site
let user: Caller

test.before(async () => {
  house = await site()
  user = caller(house.address)
})
test.after(() => house.close())

async function running(word: string): Promise<string> {
  const { body } = await user.create({}, ownZip(word))
  await seen(house, body.lambda_id, 'workload.running')
  await seen(house, body.lambda_id, 'workload.applied')
  return body.lambda_id
}

test('makes the lambda unknown at once for every read and every change', async () => {
  const id = await running('deleted')
  assert.is((await user.ask('DELETE', `/lambdas/${id}`)).status, 202)
  const reads = ['', '/status', '/logs', '/image/status', '/image/logs', '/events', '/docs', '/proxy/main'].map((path) => user.get(`/lambdas/${id}${path}`))
  const changes = [user.ask('DELETE', `/lambdas/${id}`), user.change(id, { parameters: {} }), ...['disable', 'enable', 'cancel', 'rollback?version=1'].map((verb) => user.post(`/lambdas/${id}/${verb}`))]
  for (const { status, body } of await Promise.all([...reads, ...changes])) assert.equal([status, body.error_code], [404, 42001])
})

test('takes archive, context, image and logs with it, but not what another lambda needs', async () => {
  const { ports } = house
  const [alone, shared, other] = [await running('alone'), await running('shared'), await running('shared')]
  const objectsOf = async (id: string): Promise<string[]> => {
    const packaged = await fact(ports, id, 'context.packaged')
    const { versions } = (await user.get(`/lambdas/${id}`)).body
    return [archiveName(versions[0].archive.digest), contextName(packaged.data.context.digest)]
  }
  const [ofAlone, ofShared] = [await objectsOf(alone), await objectsOf(shared)]
  const logOf = (id: string) => ({ account: 'default', id, version: 1, kind: 'build' as const })
  assert.is((await ports.logs.read(logOf(alone))).length, 1)
  const present = (names: string[]): Promise<boolean[]> => Promise.all(names.map((name) => ports.objects.has(name)))
  assert.equal(await present([...ofAlone, ...ofShared]), [true, true, true, true])

  const removed: string[] = []
  const { remove: removeObject } = ports.objects
  ports.objects.remove = (name) => { removed.push(name); return removeObject(name) }
  // The logs are the last thing that goes.
  const remove = ports.logs.remove
  const gone = new Map([alone, shared].map((id) => [id, gate()]))
  ports.logs.remove = async (account, id) => { await remove(account, id); gone.get(id)!.open() }
  for (const id of [alone, shared]) await user.ask('DELETE', `/lambdas/${id}`)
  await Promise.all([...gone.values()].map((one) => one.promise))
  ports.logs.remove = remove
  ports.objects.remove = removeObject

  assert.equal(removed.sort(), [...ofAlone].sort())
  assert.equal(await present(ofAlone), [false, false])
  assert.equal(await present(ofShared), [true, true])
  assert.equal(await ports.logs.read(logOf(alone)), [])
  assert.is((await user.get(`/lambdas/${other}`)).body.status, 'running')
  assert.not.ok(ports.workloads.wanted.has(alone))
})

test('leaves an archive that another lambda comes to need just as it goes', async () => {
  const { objects, logs } = house.ports
  for (const moment of ['before the removal', 'after the removal']) {
    const id = await running(moment)
    const archive = archiveName((await user.get(`/lambdas/${id}`)).body.versions[0].archive.digest)
    const { remove } = objects
    const made = gate<string>()
    const cleaned = gate()
    const create = async (): Promise<void> => made.open((await user.create({}, ownZip(moment))).body.lambda_id)
    objects.remove = async (name) => {
      if (name !== archive) return remove(name)
      objects.remove = remove
      if (moment === 'before the removal') await create()
      await remove(name)
      if (moment === 'after the removal') await create()
    }
    const forget = logs.remove
    logs.remove = async (account, of) => { await forget(account, of); cleaned.open() }
    await user.ask('DELETE', `/lambdas/${id}`)
    await cleaned.promise
    logs.remove = forget
    assert.ok(await objects.has(archive), moment)
    assert.is((await user.change(await made.promise, { parameters: { name: 'still there' } })).status, 202)
  }
})

test('says what went, and what the platform would not remove', async () => {
  const { ports } = house
  const id = await running('kept by the registry')
  const { remove } = ports.builds
  ports.builds.remove = async (lambda, contexts, elsewhere) => { await remove(lambda, contexts, elsewhere); return [{ image: 'registry.example/lambda:1', why: 'It does not allow deletion.' }] }
  await user.ask('DELETE', `/lambdas/${id}`)
  const { data } = await fact(ports, id, 'lambda.cleaned')
  ports.builds.remove = remove
  assert.equal(data, { archives: 1, contexts: 1, images: 0, kept: [{ image: 'registry.example/lambda:1', why: 'It does not allow deletion.' }] })
})

test.run()
