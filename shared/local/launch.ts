// Launch: one start of one pod: its command, its environment, its port.
import { createServer } from 'node:net'
import { rm } from 'node:fs/promises'
import { delimiter, join } from 'node:path'
import type { LogWriter, Logs } from '../logs.ts'
import type { Workload } from '../workloads.ts'
import { unseen, writeWhole } from './folders.ts'
import { localImage, type LocalImage } from './images.ts'
import { startInRoot, userConfigInside } from './lambda-root.ts'
import { limited } from './limits.ts'
import type { Process, Processes } from './processes.ts'

/** What every start needs and none decides. */
export interface LaunchParts {
  /** An absolute path, since it is named to processes that run elsewhere. */
  folder: string
  processes: Processes
  logs: Pick<Logs, 'writer'>
  /** kiln's own environment, of which lambdas get only what is harmless. */
  inherited: Record<string, string | undefined>
  prlimit: string | null
  host: string
}

export interface Launched {
  process: Process
  writer: LogWriter
  origin: string
  /** Removes what only this start needed. */
  clear(): Promise<void>
}

export class ImageMissing extends Error {}

export async function launch(parts: LaunchParts, workload: Workload, pod: string, run: number): Promise<Launched> {
  const image = await localImage(parts.folder, workload.image.digest)
  if (!image) throw new ImageMissing(`The image ${workload.image.reference} is not on this machine (any more): send the lambda again with PUT, and it is built anew.`)
  const writer = parts.logs.writer({ account: workload.account, id: workload.id, version: workload.version, kind: 'run' }, pod, run)
  const port = await freePort(parts.host)
  const started = await (image.variables ? inItsRoot : inItsEnvironment)(parts, workload, { image, pod, port, line: (text) => writer.line(text) })
  return { ...started, writer, origin: `http://${parts.host}:${port}` }
}

interface Start {
  image: LocalImage
  pod: string
  port: number
  line(text: string): void
}

async function inItsEnvironment(parts: LaunchParts, workload: Workload, { image, pod, port, line }: Start): Promise<Pick<Launched, 'process' | 'clear'>> {
  const config = await unseen(parts.folder, `config-${pod}`)
  await writeWhole(config, JSON.stringify(workload.userConfig))
  const clear = (): Promise<void> => rm(config, { force: true })
  try {
    const env = variables(parts, workload, { environment: image.environment, config, port })
    const [command, ...args] = limited(parts.prlimit, workload.deploy, [join(image.environment, 'bin', 'python'), 'run.py'])
    return { process: await parts.processes.start(command!, args, { cwd: image.code, env, kind: 'lambda', stdin: 'pipe', line }), clear }
  } catch (error) {
    await clear()
    throw error
  }
}

function inItsRoot({ folder, processes, prlimit, host }: LaunchParts, workload: Workload, { image, port, line }: Start): Promise<Pick<Launched, 'process' | 'clear'>> {
  return startInRoot({
    folder: join(folder, 'kaniko'), processes, image: image.environment, userConfig: JSON.stringify(workload.userConfig), line,
    limited: (command) => limited(prlimit, workload.deploy, command),
    env: { ...image.variables, HOME: '/tmp', TMPDIR: '/tmp', ...workload.deploy.env, ...ownVariables(host, workload, { config: userConfigInside, port }) },
  })
}

const harmless = /^(PATH|HOME|LANG|LANGUAGE|LC_\w+|TZ|TMPDIR|SSL_CERT_FILE|SSL_CERT_DIR|REQUESTS_CA_BUNDLE|CURL_CA_BUNDLE|(https?|all|no)_proxy)$/i

interface Place {
  environment: string
  config: string
  port: number
}

/** Python keeps its bytecode where it always does: a folder of its own for it would cost half a second, since the standard library's is not there. */
function variables({ inherited, host }: LaunchParts, workload: Workload, place: Place): Record<string, string> {
  const own = Object.entries(inherited).flatMap(([name, value]) => (value !== undefined && harmless.test(name) ? [[name, value]] : []))
  const base: Record<string, string> = Object.fromEntries(own)
  return {
    ...base,
    // As in an activated environment, so that a lambda which starts `python` gets its own.
    PATH: [join(place.environment, 'bin'), base['PATH']].filter(Boolean).join(delimiter),
    VIRTUAL_ENV: place.environment,
    ...workload.deploy.env,
    ...ownVariables(host, workload, place),
    LAMBDA_ENDS_WITH_PARENT: '1',
  }
}

/** kiln's own names win. */
const ownVariables = (host: string, { id, version, deploy }: Workload, { config, port }: Omit<Place, 'environment'>): Record<string, string> => ({
  LAMBDA_HOST: host, LAMBDA_PORT: String(port), LAMBDA_WORKERS: String(deploy.workers), LAMBDA_ID: id, LAMBDA_VERSION: String(version), LAMBDA_USER_CONFIG: config, PYTHONUNBUFFERED: '1',
})

/** Free now; should somebody be faster, the lambda ends and the next start takes another. */
function freePort(host: string): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer()
    server.once('error', reject)
    server.listen(0, host, () => {
      const address = server.address()
      server.close(() => (address !== null && typeof address === 'object' ? resolve(address.port) : reject(new Error(`there is no free port on ${host}`))))
    })
  })
}
