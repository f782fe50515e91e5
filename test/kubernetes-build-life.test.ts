// A build of somebody's own on a cluster, as a user sees it: every service a process of its own, one of them killed in the middle. On a real cluster when KUBECONFIG names one.
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { imageBuildName, path } from '../shared/kubernetes/names.ts'
import { writeZip } from '../shared/zip.ts'
import { fact } from './stand/await.ts'
import { caller, form } from './stand/caller.ts'
import { kilnOnCluster } from './stand/kiln-on-cluster.ts'
import { standPorts } from './stand/ports.ts'
import { readImage } from './stand/read-image.ts'

const patienceMs = 120_000
const test = suite('a build\'s life on Kubernetes')

test('an archive becomes an image, though the builder is killed while it is made, and is then forgotten', async () => {
  const kiln = await kilnOnCluster({}, ['packager', 'deployer'])
  const [ports, client, user] = [await standPorts(kiln.nats.url), kiln.under.client(), caller(kiln.address)]
  const dockerfile = `FROM ${kiln.under.baseImage}\nARG WHO\nCOPY word /word\nRUN echo "made for $WHO" && cat /word\n`
  const archive = writeZip(new Map([['Dockerfile', dockerfile], ['word', 'a word of its own\n']]))
  try {
    const { status, body } = await user.post('/builds', { body: form({ archive, parameters: { image_name: 'made/life', tag: kiln.under.bucket, build_args: { WHO: 'you' } } }) })
    assert.is(status, 202, JSON.stringify(body))
    const id = body.build_id
    await fact(ports, id, 'image.started', 1, patienceMs)
    await kiln.services['builder-watcher'].end('SIGKILL')
    await kiln.services['builder-watcher'].start()
    const { data: { image } } = await fact(ports, id, 'image.built', 1, patienceMs)

    const there = await readImage(`${kiln.config.registry}/made/life:${kiln.under.bucket}`)
    assert.equal([image.reference, there.files.has('word')], [`${kiln.config.registry}/made/life@${there.digest}`, true])
    assert.equal((await user.get(`/builds/${id}/status`)).body.status, 'completed')
    const { text } = await user.get(`/builds/${id}/logs`, { accept: 'text/plain' })
    assert.match(text, 'made for you\na word of its own\n')
    assert.is(await client.get(path.pods('default', imageBuildName(id))), null)

    assert.is((await user.ask('DELETE', `/builds/${id}`)).status, 202)
    assert.is((await user.get(`/builds/${id}`)).status, 404)
    await fact(ports, id, 'image.forgotten', 1, patienceMs)
  } finally {
    await Promise.all([ports.close(), client.close()])
    await kiln.close()
  }
})
test.run()
