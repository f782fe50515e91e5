// Garbage in a whole kiln of its own process, on this machine: it is told of, and goes by itself.
import { mkdir, readdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { readConfig } from '../shared/config.ts'
import { connectNats } from '../shared/nats/connect.ts'
import { archiveName } from '../shared/objects.ts'
import { caller } from './stand/caller.ts'
import { digestFor, recordFor, write } from './stand/lives.ts'
import { testKiln } from './stand/kiln.ts'
import { standPorts } from './stand/ports.ts'

const test = suite('garbage of a whole kiln')

test('what no version refers to goes after the grace period, at the next interval', async () => {
  const kiln = await testKiln({ GARBAGE_GRACE: '3', GARBAGE_INTERVAL: '1' })
  assert.ok(await kiln.start(), kiln.output())
  const [ports, nats] = [await standPorts(kiln.natsUrl), await connectNats(kiln.natsUrl, { name: 'test' })]
  try {
    const [stray, key] = [archiveName(digestFor('stray')), digestFor('environment')]
    const environments = join(kiln.dataDir, 'local', 'environments')
    const standing = await readdir(environments)
    await mkdir(join(environments, key))
    await writeFile(join(environments, key, 'package.py'), '12345')
    await ports.objects.put(stray, Buffer.from('1234'))
    const user = caller(kiln.address)
    assert.equal((await user.get('/garbage')).body, { unneeded: [], bytes: 0, grace_seconds: 3 }, 'a kiln that knows of no lambda removes nothing')

    const bucket = await (await nats.js.views.os('kiln')).watch({ includeHistory: false })
    await write(ports, recordFor({ deleted: true }))
    const { body } = await user.get('/garbage')
    assert.equal(body.unneeded.map(({ kind, name, bytes }: Record<string, unknown>) => [kind, name, bytes]), [['archive', stray, 4], ['environment', `local/environments/${key}`, 5]])
    for await (const info of bucket) if (info?.name === stray && info.deleted) break
    // Whatever is under way has ended when this is answered.
    await user.post('/garbage')
    assert.equal(await readdir(environments), standing, 'the one with the runtime alone stays')
    assert.equal((await user.get('/garbage')).body.unneeded, [])
  } finally {
    await Promise.all([ports.close(), nats.nc.close()])
    await kiln.remove()
  }
})

test('its settings are seconds', () => {
  const { garbageGraceMs, garbageIntervalMs, builderUrl } = readConfig({})
  assert.equal([garbageGraceMs, garbageIntervalMs, builderUrl], [24 * 3_600_000, 3_600_000, null])
  const set = readConfig({ GARBAGE_GRACE: '604800', GARBAGE_INTERVAL: '60', BUILDER_URL: 'http://builder-watcher:8080' })
  assert.equal([set.garbageGraceMs, set.garbageIntervalMs, set.builderUrl], [604_800_000, 60_000, 'http://builder-watcher:8080'])
  assert.throws(() => readConfig({ GARBAGE_GRACE: '0', GARBAGE_INTERVAL: 'hourly' }), (error: Error) => error.message.includes('GARBAGE_GRACE') && error.message.includes('GARBAGE_INTERVAL'))
})

test.run()
