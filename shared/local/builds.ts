// Builds, on this machine: an image is unpacked code beside a virtual environment, and the Dockerfile of a context is not used. Where a lambda has
// commands of its own for that, kaniko makes a root of it.
import { join, resolve } from 'node:path'
import type { Build, BuildEnd, Builds, Found } from '../builds.ts'
import type { Log } from '../log.ts'
import type { Objects } from '../objects.ts'
import { Unavailable } from '../trouble.ts'
import { BadContext, codeOf, dockerfileIn } from './code.ts'
import type { Environments, Inputs } from './environments.ts'
import { sweep, vanish } from './folders.ts'
import { codesIn, imagesIn, isDigest, localImage, notesIn, removeImage, rootsIn, writeImage } from './images.ts'
import { inUse, type InUse } from './in-use.ts'
import type { LocalKaniko, Watching } from './kaniko.ts'
import { failureOfSystem, infrastructure, type Failed } from './uv.ts'

export { localImage } from './images.ts'

export interface LocalBuildsOptions {
  /** Where code and images are kept; the environments must lie in its `environments`. */
  folder: string
  objects: Pick<Objects, 'get'>
  environments: Environments
  kaniko: Pick<LocalKaniko, 'bake'>
  log: Log
}

const timedOut = Symbol('the build took too long')
const closed = Symbol('kiln ends')

export interface LocalBuilds extends Builds {
  /** Contexts and environment keys that are being built now. */
  inUse: InUse
}

export function localBuilds({ objects, environments, kaniko, log, ...options }: LocalBuildsOptions): LocalBuilds {
  const folder = resolve(options.folder)
  const closing = new AbortController()
  const running = new Set<Promise<unknown>>()
  const used = inUse()
  used.removing(() => Promise.all([...[codesIn, rootsIn, imagesIn].map((where) => sweep(where(folder))), environments.sweep()]))
    .catch((error: unknown) => log.warn('what an earlier kiln left half done could not be removed', { error }))

  async function inputsOf({ context }: Build, signal: AbortSignal): Promise<Inputs> {
    const code = await codeOf(codesIn(folder), context.digest, () => archiveOf(objects, context.name), signal)
    return { codeFolder: code.folder, codeDigest: context.digest, runtimeRequirements: code.runtimeRequirements, requirements: code.requirements }
  }

  /** What cannot be told is left to the build itself, which says why. */
  async function find(build: Build): Promise<Found> {
    const made = await localImage(folder, build.context.digest)
    if (made) return { image: made.image }
    if (build.commands.length > 0) return { image: null, quick: false }
    const quick = inputsOf(build, closing.signal).then((inputs) => environments.key(inputs)).then((key) => environments.has(key))
    return { image: null, quick: await quick.catch(() => false) }
  }

  async function make(build: Build, watch: Watching, use: (name: string) => void): Promise<BuildEnd> {
    const { context } = build
    if (build.commands.length > 0) return makeRoot(build, watch)
    const inputs = await inputsOf(build, watch.signal)
    const key = await environments.key(inputs)
    use(key)
    const failed = await environments.make(key, inputs, watch)
    if (failed) return failed
    return { built: true, image: await writeImage(folder, { environment: key, context: context.digest, variables: null }) }
  }

  async function makeRoot({ context: { name, digest }, timeoutMs }: Build, watch: Watching): Promise<BuildEnd> {
    const archive = await archiveOf(objects, name)
    const to = join(rootsIn(folder), digest)
    // One that a crash left without its note.
    await vanish(to)
    const made = await kaniko.bake({ context: archive, dockerfile: await dockerfileIn(archive), timeoutMs, to }, watch)
    return made.built ? { built: true, image: await writeImage(folder, { environment: digest, context: digest, variables: made.env }) } : made
  }

  async function run(build: Build, watch: Watching): Promise<BuildEnd> {
    const limit = new AbortController()
    const timer = setTimeout(() => limit.abort(timedOut), build.timeoutMs)
    const signal = AbortSignal.any([watch.signal, closing.signal, limit.signal])
    const last: string[] = []
    const line = (text: string): void => {
      if (last.push(text) > linesKept) last.shift()
      watch.line(text)
    }
    const mark = used.begin(build.context.digest)
    try {
      signal.throwIfAborted()
      return await make(build, { ...watch, line, signal }, mark.use)
    } catch (error) {
      return signal.aborted ? interrupted(signal.reason, build.timeoutMs, last) : failureOf(error, log.with({ id: build.id, version: build.version }))
    } finally {
      clearTimeout(timer)
      mark.end()
    }
  }

  async function remove(contexts: string[]): Promise<void> {
    const notes = await notesIn(folder)
    const isRemoved = (digest: string): boolean => contexts.includes(digest) && !used.has(digest)
    const needed = new Set(notes.filter(({ context }) => !isRemoved(context)).map(({ environment }) => environment))
    for (const { environment } of notes.filter(({ context, variables }) => isRemoved(context) && !variables)) {
      if (!needed.has(environment) && !used.has(environment)) await environments.remove(environment)
    }
    for (const digest of contexts.filter(isDigest)) await removeImage(folder, digest, () => used.has(digest))
  }

  return {
    inUse: used, find,
    run(build, watch) {
      const building = run(build, watch)
      running.add(building)
      return building.finally(() => running.delete(building))
    },
    // A build of this machine ends with the kiln that began it.
    async abandon() {},
    remove(_lambda, contexts, elsewhere) {
      return used.removing(() => remove([...contexts].filter((digest) => !elsewhere.has(digest)))).then(() => [])
    },
    async close() {
      closing.abort(closed)
      await Promise.allSettled([...running, used.removed()])
      await environments.close()
    },
  }
}

const linesKept = 40

async function archiveOf(objects: Pick<Objects, 'get'>, name: string): Promise<Buffer> {
  const archive = await objects.get(name)
  if (archive === null) throw new BadContext(`${name} is not there any more`)
  return archive
}

function interrupted(why: unknown, timeoutMs: number, log: string[]): BuildEnd {
  if (why === closed) return infrastructure('BuilderStopped', 'kiln was stopped during the build; it is built again when kiln is back.', log)
  if (why !== timedOut) return ended('cancelled', 'BuildCancelled', 'The build was cancelled.', log)
  return ended('timeout', 'BuildTimeout', `The build took longer than ${inWords(timeoutMs)}. Make requirements.txt smaller, or raise BUILD_TIMEOUT, and send it again with PUT.`, log)
}

const ended = (cause: 'cancelled' | 'timeout', reason: string, message: string, log: string[]): BuildEnd =>
  ({ built: false, again: false, failure: { cause, reason, message, log } })

function inWords(ms: number): string {
  const [amount, unit] = ms >= 60_000 ? [ms / 60_000, 'minute'] : [ms / 1_000, 'second']
  const rounded = Math.round(amount * 10) / 10
  return `${rounded} ${unit}${rounded === 1 ? '' : 's'}`
}

function failureOf(error: unknown, log: Log): Failed {
  if (error instanceof BadContext) return { built: false, again: false, failure: { cause: 'infrastructure', reason: 'ContextUnusable', message: `The context of this version cannot be used: ${error.message}. Send the archive again with PUT.` } }
  if (error instanceof Unavailable) return infrastructure('BuilderCannotWork', `${error.message}. It is tried again; the operator must make it possible.`)
  const system = failureOfSystem(error, 'unpacking the code')
  if (system) return system
  log.error('a build broke in an unforeseen way', { error })
  throw error
}
