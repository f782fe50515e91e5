// The life of a lambda: the table, the fold in every order of the facts, and what users read of it.
// Longer than 250 lines: a case for each rule of one file.
import { readFile } from 'node:fs/promises'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import type { FactName, Facts, Heard } from '../shared/events.ts'
import {
  baseOf, desiredVersion, drawing, fold, imageStatus, isEnd, isOfALife, lambdaStatus, leadsTo, lifecycle, next, servingVersion, stateOf, states, type Life, type State,
} from '../shared/lifecycle.ts'
import type { LambdaRecord } from '../shared/records.ts'
import { versionFor } from './stand/lives.ts'

const id = '00000000-0000-4000-8000-000000000001'
const image = { reference: 'r/i', digest: 'sha256:1' }
const failure = { stage: 'builder-watcher', cause: 'user' as const, reason: 'Bad', message: 'It is bad.' }
const sight = (endpoints: string[]) => ({ reason: 'Running', message: 'It runs.', pods: [], endpoints })

const code = { offset: 1, bytes: 2, digest: 'sha256:c', unpacked: 'sha256:u' }
const base = { name: 'base:1', reference: 'base@sha256:old' }
const packaged = { context: { name: 'c', digest: 'ctx', bytes: 1, code }, foundation: { base, environment: { key: 'env', context: { name: 'e', digest: 'e' } } } }

const payload = {
  'lambda.accepted': { archive: { digest: 'a', bytes: 1 }, name: 'x', image: null }, 'lambda.enabled': { image: null },
  'context.packaged': { ...packaged, files: 1 }, 'context.refused': { ...failure, stage: 'packager' }, 'image.queued': { ...packaged, priority: 'person' },
  'image.outdated': { base: base.name, reference: base.reference, newer: 'base@sha256:new' },
  'image.started': { context: 'ctx', attempt: 1 }, 'image.pending': { context: 'ctx', attempt: 1, reason: 'Unschedulable', message: 'No node.' }, 'image.built': { image, context: 'ctx', reused: false, seconds: 1 }, 'image.failed': failure,
  'workload.applied': { image, pod_count: 1 }, 'workload.failed': { ...failure, stage: 'deployer' }, 'workload.running': sight(['http://127.0.0.1:1']),
  'workload.pending': sight([]), 'workload.waiting': sight([]), 'workload.terminated': sight([]),
} as Partial<Facts>

let seq = 0
function heard(fact: FactName, more: Partial<Heard> = {}): Heard {
  seq += 1
  return { fact, id, account: 'default', version: 1, epoch: 0, seq, time: new Date(seq * 1_000).toISOString(), source: 't', cause: 'c', traceparent: null, data: payload[fact] ?? {}, ...more } as Heard
}
const foldAll = (facts: Heard[]): Life => facts.reduce<Life | null>(fold, null)!
const road: FactName[] = ['lambda.accepted', 'context.packaged', 'image.queued', 'image.started', 'image.built', 'workload.applied', 'workload.running']

const until = (fact: FactName): FactName[] => road.slice(0, road.indexOf(fact) + 1)

function record(more: Partial<LambdaRecord> = {}): LambdaRecord {
  const change = { fact: 'lambda.accepted' as const, time: '', cause: '' }
  return { id, account: 'default', version: 1, epoch: 0, alive: true, deleted: false, cancelled: [], created: '', updated: '', versions: [], change, ...more }
}

function permutations<T>(all: T[]): T[][] {
  if (all.length <= 1) return [all]
  return all.flatMap((one, i) => permutations(all.toSpliced(i, 1)).map((rest) => [one, ...rest]))
}

// ---
const table = suite('the table')

for (const state of states) {
  for (const fact of Object.keys(leadsTo) as FactName[]) {
    const to = (lifecycle[state] as Partial<Record<FactName, State>>)[fact]
    table(`${state} and ${fact}: ${to ?? 'early or stale'}`, () => {
      const move = next(state, fact)
      if (to) assert.equal(move, { move: 'moved', state: to })
      else assert.is.not(move.move, 'moved')
      if (move.move === 'stale') assert.is(move.state, state)
      if (isEnd(state) && fact !== 'lambda.deleted' && fact !== 'image.forgotten' && fact !== 'lambda.disabled') assert.is(move.state, state)
    })
  }
}
table('a fact leads to the same state wherever it is heard', () => {
  for (const row of Object.values(lifecycle)) for (const [fact, to] of Object.entries(row)) assert.is(leadsTo[fact as FactName], to)
})
table('no row leads back, but for what the platform shows, a build that waits, and the switch', () => {
  const free = ['building', 'unscheduled', 'pending', 'waiting', 'running', 'terminated', 'disabled', 'enabled']
  for (const [state, row] of Object.entries(lifecycle)) {
    for (const to of Object.values(row)) assert.ok(free.includes(to) || states.indexOf(to) > states.indexOf(state as State), `${state} -> ${to}`)
  }
})
table.run()

// ---
const folding = suite('fold')

folding('every order of the happy road ends alike', () => {
  seq = 0
  const facts = road.map((fact) => heard(fact))
  const straight = foldAll(facts)
  assert.is(straight.versions[1]!.state, 'running')
  for (const order of permutations(facts)) assert.equal(foldAll(order), straight)
})
folding('every order of two versions, a replacement and a failure ends alike', () => {
  seq = 0
  const facts = [
    heard('lambda.accepted'), heard('workload.running'), heard('lambda.accepted', { version: 2 }), heard('workload.running', { version: 2, data: sight(['http://127.0.0.1:2']) }),
    heard('workload.terminated'), heard('lambda.accepted', { version: 3 }), heard('image.failed', { version: 3 }),
  ]
  const straight = foldAll(facts)
  for (const order of permutations(facts)) assert.equal(foldAll(order), straight)
  assert.is(servingVersion(straight), 2)
  assert.is(straight.versions[3]!.state, 'failed')
})
folding('every order of a switch off and on ends alike', () => {
  seq = 0
  const facts = [
    heard('image.built'), heard('workload.running'), heard('lambda.disabled', { epoch: 1 }), heard('workload.terminated'),
    heard('lambda.enabled', { epoch: 2, data: { image } }), heard('workload.running', { epoch: 2 }),
  ]
  const straight = foldAll(facts)
  assert.is(straight.versions[1]!.state, 'running')
  for (const order of permutations(facts)) assert.equal(foldAll(order), straight)
})
folding('every order of a build that waits for a place ends alike, and the last of waiting and going on is right', () => {
  seq = 0
  const facts = [heard('context.packaged'), heard('image.queued'), heard('image.started'), heard('image.pending'), heard('image.started'), heard('image.pending', { data: { context: 'ctx', attempt: 1, reason: 'Unschedulable', message: 'Still no node.' } })]
  const straight = foldAll(facts)
  assert.equal([straight.versions[1]!.state, straight.versions[1]!.held?.message, imageStatus(record(), straight)], ['unscheduled', 'Still no node.', 'pending'])
  for (const order of permutations(facts)) assert.equal(foldAll(order), straight)
  assert.is(imageStatus(record(), foldAll([...facts, heard('image.started')])), 'in_progress')
})
folding('every order of a base image that moves, and moves again, ends alike, and no state moves with it', () => {
  seq = 0
  const facts = [
    heard('lambda.accepted'), heard('context.packaged'), heard('image.built'), heard('image.outdated'),
    heard('image.outdated', { data: { base: base.name, reference: base.reference, newer: 'base@sha256:newest' } }), heard('workload.running'),
  ]
  const straight = foldAll(facts)
  const { state, newerBase } = straight.versions[1]!
  assert.equal([state, newerBase, straight.seq], ['running', { reference: 'base@sha256:newest', seq: 5 }, 6])
  for (const order of permutations(facts)) assert.equal(foldAll(order), straight)
  const without = foldAll(facts.filter(({ fact }) => fact !== 'image.outdated'))
  assert.equal(straight, { ...without, versions: { 1: { ...without.versions[1]!, newerBase } } })
})
folding('that a base image moved is told of a life that ends with it, too', () => {
  seq = 0
  const facts = [heard('lambda.accepted'), heard('context.packaged'), heard('image.outdated')]
  const straight = foldAll(facts)
  assert.equal([straight.versions[1]!.state, straight.seq, straight.version], ['packaged', 3, 1])
  assert.is(fold(null, facts[2]!).version, 1)
  for (const order of permutations(facts)) assert.equal(foldAll(order), straight)
})
folding('a version that is long forgotten does not come back with its base image', () => {
  const facts = Array.from({ length: 40 }, (_, i) => heard('lambda.accepted', { version: i + 1 }))
  const life = foldAll([...facts, heard('image.outdated', { version: 2 })])
  assert.equal(Object.keys(life.versions).map(Number), Array.from({ length: 20 }, (_, i) => i + 21))
})
folding('what an image is made on is learned with its context', () => {
  const { context, environment, base: known } = foldAll([heard('context.packaged')]).versions[1]!
  assert.equal([context, environment, known], ['ctx', 'env', base])
  const bare = foldAll([heard('context.packaged', { data: { ...packaged, foundation: { base: null, environment: null }, files: 1 } })]).versions[1]!
  assert.equal([bare.environment, bare.base], [null, null])
})
folding('a build waits in the order in which it was queued, not packaged', () => {
  seq = 0
  const life = foldAll([heard('context.packaged'), heard('image.queued')])
  assert.equal([life.versions[1]!.state, life.versions[1]!.queued], ['queued', 2])
  assert.is(foldAll([heard('context.packaged')]).versions[1]!.queued, 0)
})
folding('repeated facts change nothing', () => {
  const facts = [...road, 'image.outdated' as const].map((fact) => heard(fact))
  assert.equal(foldAll([...facts, ...facts, ...facts.toReversed()]), foldAll(facts))
})
folding('each fact stands once in a version, with its first and last time', () => {
  seq = 0
  const life = foldAll([heard('workload.running'), heard('workload.waiting'), heard('workload.running')])
  assert.equal(life.timeline.map((m) => [m.fact, m.seq, m.lastSeq]), [['workload.running', 1, 3], ['workload.waiting', 2, 2]])
})
folding('what the platform shows follows freely, the latest sight is right', () => {
  const life = foldAll([...road.map((fact) => heard(fact)), heard('workload.waiting'), heard('workload.terminated'), heard('workload.pending')])
  assert.is(life.versions[1]!.state, 'pending')
})
folding('of two ends the first is right', () => {
  const [failed, cancelled] = [heard('image.failed'), heard('lambda.cancelled')]
  assert.is(foldAll([failed, cancelled]).versions[1]!.state, 'failed')
  assert.is(foldAll([cancelled, failed]).versions[1]!.state, 'failed')
})
folding('a sight from before the switch says nothing about after', () => {
  const life = foldAll([heard('workload.running'), heard('lambda.disabled', { epoch: 1 })])
  assert.is(servingVersion(life), null)
  assert.is(foldAll([heard('lambda.disabled', { epoch: 1 }), heard('workload.running', { epoch: 0 })]).versions[1]!.state, 'disabled')
})
folding('it remembers what serves, however many versions failed after it', () => {
  const facts = [heard('workload.running')]
  for (let version = 2; version < 60; version++) facts.push(heard('lambda.accepted', { version }), heard('image.failed', { version }))
  const life = foldAll(facts)
  assert.is(servingVersion(life), 1)
  assert.ok(Object.keys(life.versions).length <= 21)
  assert.ok(life.timeline.length <= 60)
})
folding('a rejected command is no part of a life', () => {
  assert.is(fold(null, heard('lambda.rejected')).version, 0)
  assert.equal((['lambda.rejected', 'lambda.cleaned', 'image.outdated', 'image.queued'] as const).map(isOfALife), [false, false, true, true])
})
folding.run()

// ---
const reading = suite('what users read')

const cases: Array<[string, FactName[], Partial<LambdaRecord>, ReturnType<typeof lambdaStatus>, ReturnType<typeof imageStatus>]> = [
  ['just accepted', [], {}, 'waiting', 'in_progress'],
  ['packaged', until('context.packaged'), {}, 'waiting', 'in_progress'],
  ['waits for a builder', until('image.queued'), {}, 'waiting', 'pending'],
  ['is being built', until('image.started'), {}, 'waiting', 'in_progress'],
  ['built', until('image.built'), {}, 'waiting', 'completed'],
  ['deploying', until('workload.applied'), {}, 'waiting', 'completed'],
  ['running', road, {}, 'running', 'completed'],
  ['no place for it', [...until('workload.applied'), 'workload.pending'], {}, 'pending', 'completed'],
  ['ended', [...until('workload.applied'), 'workload.terminated'], {}, 'terminated', 'completed'],
  ['refused', ['lambda.accepted', 'context.refused'], {}, 'terminated', 'error'],
  ['could not be built', [...until('image.started'), 'image.failed'], {}, 'terminated', 'error'],
  ['cancelled', [...until('image.started'), 'lambda.cancelled'], { cancelled: [1] }, 'terminated', 'not_found'],
  ['switched off', road, { alive: false, epoch: 1 }, 'not_found', 'completed'],
  ['deleted', road, { deleted: true, alive: false }, 'not_found', 'not_found'],
]
for (const [what, facts, more, status, ofImage] of cases) {
  reading(`${what}: ${status}, image ${ofImage}`, () => {
    const life = facts.length > 0 ? foldAll(facts.map((fact) => heard(fact))) : null
    assert.is(lambdaStatus(record(more), life), status)
    assert.is(imageStatus(record(more), life), ofImage)
  })
}
reading('the base image is that of the version whose image it runs, and says what its name stands for now', () => {
  const versions = [1, 2, 3, 4].map((n) => ({ ...versionFor(n, 'a'), imageOf: n === 2 ? 1 : n === 3 ? 2 : null }))
  const of = (life: Life | null, version: number) => baseOf(record({ version: 4, versions }), life, version)
  const facts = [...until('image.built').map((fact) => heard(fact)), heard('lambda.accepted', { version: 2, data: { ...payload['lambda.accepted']!, image } }), heard('lambda.accepted', { version: 3 })]
  const life = foldAll(facts)
  assert.equal([1, 2, 3, 4].map((n) => of(life, n)), [{ ...base, newer: null }, { ...base, newer: null }, { ...base, newer: null }, null])
  assert.is(of(null, 1), null)
  const moved = fold(life, heard('image.outdated'))
  assert.equal([1, 3].map((n) => of(moved, n)!.newer), ['base@sha256:new', 'base@sha256:new'])
  const told = fold(moved, heard('image.outdated', { version: 3, data: { base: base.name, reference: base.reference, newer: 'base@sha256:newest' } }))
  assert.equal([1, 2, 3].map((n) => of(told, n)!.newer), ['base@sha256:new', 'base@sha256:new', 'base@sha256:newest'])
  assert.is(of(fold(moved, heard('image.outdated', { data: { base: base.name, reference: base.reference, newer: base.reference } })), 1)!.newer, null, 'it moved back')
  const rebased = fold(moved, heard('context.packaged', { version: 4, data: { ...packaged, foundation: { base: { ...base, reference: 'base@sha256:new' }, environment: null }, files: 1 } }))
  assert.equal(of(rebased, 4), { name: 'base:1', reference: 'base@sha256:new', newer: null })
})
reading('version 3 fails while 2 serves: running, with the failure of 3', () => {
  const life = foldAll([heard('workload.running', { version: 2 }), heard('lambda.accepted', { version: 3 }), heard('image.failed', { version: 3 })])
  assert.is(lambdaStatus(record({ version: 3 }), life), 'running')
  assert.is(stateOf(record({ version: 3 }), life), 'failed')
  assert.is(servingVersion(life), 2)
})
reading('a switch that is not folded yet shows at once', () => {
  const life = foldAll(road.map((fact) => heard(fact)))
  const change = { time: '', cause: '' }
  assert.is(stateOf(record({ alive: false, epoch: 1, change: { ...change, fact: 'lambda.disabled' } }), life), 'disabled')
  assert.is(stateOf(record({ epoch: 2, change: { ...change, fact: 'lambda.enabled' } }), life), 'enabled')
})
reading('a new version of a lambda that was switched before is accepted, not enabled', () => {
  const life = foldAll([heard('lambda.enabled', { epoch: 2 })])
  assert.is(stateOf(record({ version: 2, epoch: 2 }), life), 'accepted')
})
reading('should run: the newest that can, else the one that ran last', () => {
  const ran = [...road.map((fact) => heard(fact))]
  assert.is(desiredVersion(record(), foldAll(ran)), 1)
  const life = foldAll([...ran, heard('lambda.accepted', { version: 2 }), heard('image.built', { version: 2 })])
  assert.is(desiredVersion(record({ version: 2 }), life), 2)
  assert.is(desiredVersion(record({ version: 2, cancelled: [2] }), life), 1)
  assert.is(desiredVersion(record({ version: 2 }), fold(life, heard('workload.failed', { version: 2 }))), 1)
  assert.is(desiredVersion(record({ version: 2, alive: false }), life), null)
  assert.is(desiredVersion(record({ version: 3 }), foldAll([heard('image.built'), heard('lambda.accepted', { version: 3 })])), null)
})
reading('a deployment that failed is tried again when it is switched off and on', () => {
  const life = foldAll([heard('image.built'), heard('workload.failed'), heard('lambda.disabled', { epoch: 1 }), heard('lambda.enabled', { epoch: 2 })])
  assert.is(desiredVersion(record({ epoch: 2 }), life), 1)
})
reading.run()

// ---
const picture = suite('drawing')
picture('shared/README.md shows the table as it is', async () => {
  const readme = await readFile(new URL('../shared/README.md', import.meta.url), 'utf8')
  assert.ok(readme.includes(`\`\`\`mermaid\n${drawing()}\n\`\`\``), 'run: npm run draw')
})
picture.run()
