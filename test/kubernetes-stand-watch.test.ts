// Watches of the stand-in for Kubernetes: as recorded, resumed, expired, broken and filtered.
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { withStand, type Stand, type Watching } from './stand/kubernetes/calls.ts'
import { comparable, recordings } from './stand/kubernetes/recorded.ts'
import type { Kind, Thing } from './stand/kubernetes/store.ts'

interface RecordedWatch {
  name: string
  request: { path: string }
  response: { status: number; events: any[] }
  /** One bookmark of each kind. */
  events: any[]
}

const recorded = new Map(recordings<RecordedWatch[]>('watch').map((one) => [one.name, one]))
const { things } = recordings<Array<{ things: Thing[] }>>('list')[0]!
const pods = '/api/v1/namespaces/default/pods'

const fill = (stand: Stand): void => things.filter(({ kind }) => kind === 'Pod').forEach((pod) => stand.store.put('pods', pod))
function label(stand: Stand, name: string, labels: Record<string, string>, namespace = 'default'): Thing {
  const metadata: Thing['metadata'] = stand.store.get('pods', namespace, name)?.metadata ?? { name, namespace, uid: '', resourceVersion: '', creationTimestamp: '' }
  return stand.store.put('pods', { apiVersion: 'v1', kind: 'Pod', spec: {}, status: {}, metadata: { ...metadata, labels: { ...metadata.labels, ...labels } } })
}
const take = async (watching: Watching, count: number): Promise<any[]> => {
  const events = []
  for (let index = 0; index < count; index += 1) events.push(await watching.next())
  return events
}
const brief = (event: any): unknown => (['ADDED', 'MODIFIED', 'DELETED'].includes(event.type)
  ? { type: event.type, object: { kind: event.object.kind, metadata: { name: event.object.metadata.name, labels: event.object.metadata.labels } } } : event)
const names = (events: any[]): string[] => events.map(({ type, object }) => `${type} ${object.metadata.name}`)

/** A recorded watch from the present version on, and then what happens while it is open. */
async function replayed(stand: Stand, name: string, happens: () => void = () => {}, from = stand.store.version()): Promise<Watching> {
  const { request, response } = recorded.get(name)!
  const watching = await stand.watch(request.path.replace(/resourceVersion=55\d\d/, `resourceVersion=${from}`).replace(/timeoutSeconds=\d+/, 'timeoutSeconds=60'))
  assert.is(watching.status, response.status)
  happens()
  const events = await take(watching, response.events.length)
  assert.equal(comparable(events.map(brief)), comparable(response.events), name)
  return watching
}

const tests = suite('the stand-in for Kubernetes: watches')

for (const name of ['without-resourceVersion-sends-existing-as-ADDED', 'resourceVersion-0-sends-existing-as-ADDED', 'resourceVersion-not-a-number']) {
  tests(`recorded: ${name}`, () => withStand(async (stand) => {
    fill(stand)
    const gold = label(stand, 'kaniko-lambda-list-b2', { 'kiln.example/tier': 'gold' })
    assert.is(gold.metadata.name, 'kaniko-lambda-list-b2')
    await replayed(stand, name)
  }))
}
tests('recorded: an object that leaves a selector is DELETED as it was, with the new version; one that enters is ADDED', () => withStand(async (stand) => {
  fill(stand)
  let left: Thing | undefined
  const leaving = await replayed(stand, 'leaves-label-selector-is-DELETED', () => {
    left = label(stand, 'kaniko-lambda-list-b2', { 'kiln.example/tier': 'bronze' })
  })
  await replayed(stand, 'enters-label-selector-is-ADDED', () => label(stand, 'kaniko-lambda-list-b2', { 'kiln.example/tier': 'gold' }))
  assert.is((await leaving.next()).type, 'ADDED')
  const watching = await stand.watch(`${pods}?watch=1&labelSelector=kiln.example%2Ftier%3Dgold&resourceVersion=${Number(left!.metadata.resourceVersion) - 1}`)
  const [gone, back] = await take(watching, 2)
  assert.equal([gone.type, gone.object.metadata.resourceVersion, gone.object.metadata.labels['kiln.example/tier']], ['DELETED', left!.metadata.resourceVersion, 'gold'])
  assert.is(back.type, 'ADDED')
}))
tests('recorded: a watch by name hears what was missed, and then what happens', () => withStand(async (stand) => {
  fill(stand)
  label(stand, 'kaniko-lambda-list-b2', { 'kiln.example/tier': 'bronze' })
  const from = stand.store.version()
  label(stand, 'kaniko-lambda-list-b2', { 'kiln.example/tier': 'gold' })
  label(stand, 'kaniko-lambda-list-a1', { other: '1' })
  await replayed(stand, 'field-metadata-name', () => label(stand, 'kaniko-lambda-list-b2', { 'kiln.example/tier': 'bronze' }), from)
}))
for (const name of ['resourceVersion-1-expired', 'resourceVersion-1-expired-deployments']) {
  tests(`recorded: ${name}, and then the stream ends`, () => withStand(async (stand) => {
    assert.is(await (await replayed(stand, name)).next(), null)
  }))
}
tests('recorded: initial events end with a bookmark, and more bookmarks follow', () => withStand(async (stand) => {
  fill(stand)
  await replayed(stand, 'sendInitialEvents-ends-with-a-BOOKMARK')
}, {}, { bookmarkMs: 5 }))
tests('recorded: bookmarks beside changes', () => withStand(async (stand) => {
  fill(stand)
  label(stand, 'kaniko-lambda-list-b2', { 'kiln.example/tier': 'bronze' })
  const from = stand.store.version()
  label(stand, 'kaniko-lambda-list-b2', { 'kiln.example/tier': 'gold' })
  await replayed(stand, 'timeoutSeconds-with-bookmarks', () => {}, from)
}, {}, { bookmarkMs: 5 }))
tests('recorded: the bookmark of each kind is an empty shell', () => withStand(async (stand) => {
  const paths: Record<string, string> = {
    Pod: pods, Service: '/api/v1/services', Deployment: '/apis/apps/v1/deployments', ReplicaSet: '/apis/apps/v1/replicasets',
    HorizontalPodAutoscaler: '/apis/autoscaling/v2/horizontalpodautoscalers',
  }
  const events = recorded.get('bookmarks')!.events
  assert.is(events.length, 5)
  for (const event of events) {
    const watching = await stand.watch(`${paths[event.object.kind]}?watch=1&allowWatchBookmarks=true&resourceVersion=${stand.store.version()}`)
    assert.equal(comparable(await watching.next()), comparable(event))
  }
}, {}, { bookmarkMs: 5 }))
tests('no bookmark comes to who asked for none', () => withStand(async (stand) => {
  const [without, asked] = [await stand.watch(`${pods}?watch=1`), await stand.watch(`${pods}?watch=1&allowWatchBookmarks=true`)]
  await take(asked, 3)
  label(stand, 'one', {})
  assert.equal(names([await without.next()]), ['ADDED one'])
}, {}, { bookmarkMs: 5 }))
tests('timeoutSeconds ends a watch cleanly, without an event', () => withStand(async (stand) => {
  fill(stand)
  const watching = await stand.watch(`${pods}?watch=1&timeoutSeconds=1&resourceVersion=${stand.store.version()}`)
  assert.is(await watching.next(), null)
  assert.is(stand.api.watches(), 0)
}))
tests('a version in the future: silence', () => withStand(async (stand) => {
  const watching = await stand.watch(recorded.get('resourceVersion-in-the-future')!.request.path)
  assert.is(watching.status, 200)
  const present = await stand.watch(`${pods}?watch=1`)
  label(stand, 'one', {})
  await present.next()
  stand.api.breakWatches()
  assert.is(await watching.next(), 'broken')
}))

tests('a broken watch is resumed without a gap and without a repetition', () => withStand(async (stand) => {
  const first = await stand.watch(`${pods}?watch=true`)
  label(stand, 'one', {})
  const last = (await first.next()).object.metadata.resourceVersion
  stand.api.breakWatches()
  assert.is(await first.next(), 'broken')
  label(stand, 'one', { a: '1' })
  label(stand, 'two', {})
  stand.store.drop('pods', 'default', 'one')
  const second = await stand.watch(`${pods}?watch=true&resourceVersion=${last}`)
  label(stand, 'three', {})
  const events = await take(second, 4)
  assert.equal(names(events), ['MODIFIED one', 'ADDED two', 'DELETED one', 'ADDED three'])
  const versions = events.map(({ object }) => Number(object.metadata.resourceVersion))
  assert.equal(versions, [...versions].sort((a, b) => a - b))
}))
tests('after the history is forgotten, a watch from before it is 410, and one from a new list is not', () => withStand(async (stand) => {
  const from = stand.store.version()
  label(stand, 'one', {})
  stand.store.compact()
  const old = await stand.watch(`${pods}?watch=1&resourceVersion=${from}`)
  const { type, object } = await old.next()
  assert.equal([type, object.code, object.reason, object.message], ['ERROR', 410, 'Expired', `too old resource version: ${from} (${stand.store.version()})`])
  assert.is(await old.next(), null)
  const list = await stand.send({ method: 'GET', path: pods })
  const fresh = await stand.watch(`${pods}?watch=1&resourceVersion=${list.body.metadata.resourceVersion}`)
  label(stand, 'two', {})
  assert.equal(names([await fresh.next()]), ['ADDED two'])
}))
tests('a watch hears its kind and its namespace only; one without a namespace hears all', () => withStand(async (stand) => {
  const [one, every] = [await stand.watch(`${pods}?watch=1`), await stand.watch('/api/v1/pods?watch=1')]
  const [first, second] = ['pods', 'configmaps'] as Kind[]
  const thing = (kind: string, namespace: string): Thing =>
    ({ apiVersion: 'v1', kind, metadata: { name: 'x', namespace, uid: '', resourceVersion: '', creationTimestamp: '' } })
  stand.store.put(second!, thing('ConfigMap', 'default'))
  stand.store.put(first!, thing('Pod', 'kube-system'))
  stand.store.put(first!, thing('Pod', 'default'))
  assert.is((await one.next()).object.metadata.namespace, 'default')
  assert.equal((await take(every, 2)).map(({ object }) => object.metadata.namespace), ['kube-system', 'default'])
}))
tests('who changes something while hearing of a change is heard by all in the order of the changes', () => withStand(async (stand) => {
  stand.store.hear((kind, { type, object }) => {
    if (kind === 'pods' && type === 'ADDED' && object.metadata.name === 'one') label(stand, 'answer', {})
  })
  const watching = await stand.watch(`${pods}?watch=1`)
  label(stand, 'one', {})
  assert.equal(names(await take(watching, 2)), ['ADDED one', 'ADDED answer'])
}))
tests('an unchanged object tells nobody', () => withStand(async (stand) => {
  const watching = await stand.watch(`${pods}?watch=1`)
  const { resourceVersion } = label(stand, 'one', { a: '1' }).metadata
  assert.is(label(stand, 'one', { a: '1' }).metadata.resourceVersion, resourceVersion)
  label(stand, 'two', {})
  assert.equal(names(await take(watching, 2)), ['ADDED one', 'ADDED two'])
}))
tests('pages of a list are of one moment, whatever happens in between', () => withStand(async (stand) => {
  for (const name of ['a', 'b', 'c']) label(stand, name, {})
  const first = await stand.send({ method: 'GET', path: `${pods}?limit=1` })
  assert.is(first.body.metadata.remainingItemCount, 2)
  stand.store.drop('pods', 'default', 'b')
  label(stand, 'c', { later: '1' })
  label(stand, 'c', { later: '2' })
  label(stand, 'd', {})
  const rest = await stand.send({ method: 'GET', path: `${pods}?continue=${first.body.metadata.continue}` })
  assert.equal(rest.body.items.map(({ metadata }: Thing) => [metadata.name, metadata.labels]), [['b', {}], ['c', {}]])
  assert.is(rest.body.metadata.resourceVersion, first.body.metadata.resourceVersion)
}))
tests.run()
