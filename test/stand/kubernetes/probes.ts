// The probes of a container: HTTP requests at intervals, and what so many successes or failures in a row mean.
import { request } from 'node:http'
import type { Clock } from './clock.ts'

export interface Probe {
  httpGet?: { path?: string; port: number | string; host?: string; scheme?: string; httpHeaders?: Array<{ name: string; value: string }> }
  initialDelaySeconds?: number
  periodSeconds?: number
  timeoutSeconds?: number
  successThreshold?: number
  failureThreshold?: number
}

export interface Probes {
  startupProbe?: Probe
  readinessProbe?: Probe
  livenessProbe?: Probe
  ports?: Array<{ name?: string; containerPort: number }>
}

export interface ProbeListener {
  started(): void
  ready(is: boolean): void
  /** `Readiness probe failed: …`: told for each failure. */
  unhealthy(message: string): void
  /** It is to be restarted: its startup or its liveness failed as often as it may. */
  failed(which: 'startup' | 'liveness'): void
}

/** Nobody waits less between two probes. */
const shortestMs = 20
/** A container that is not ready yet is asked for its readiness at least this often, whatever its period says. */
const readinessSeconds = 1

/** Probes until the signal aborts. Readiness and liveness begin when the startup probe has succeeded; without one, at once. */
export async function probe(container: Probes, ip: string, clock: Clock, listener: ProbeListener, over: AbortSignal): Promise<void> {
  const { startupProbe, readinessProbe, livenessProbe } = container
  const begin = (probe: Probe): Promise<void> => (probe.initialDelaySeconds ? clock.pause(probe.initialDelaySeconds, over) : Promise.resolve())
  const between = (seconds = 10): Promise<void> => clock.pause(Math.max(seconds, shortestMs / clock.ms(1)), over)

  if (startupProbe) {
    const fine = await untilSettled(startupProbe, 'Startup')
    if (over.aborted) return
    if (!fine) return listener.failed('startup')
  }
  listener.started()
  if (!readinessProbe) listener.ready(true)
  await Promise.all([readinessProbe && followReadiness(readinessProbe), livenessProbe && followLiveness(livenessProbe)])

  async function untilSettled(probe: Probe, name: string): Promise<boolean> {
    const count = streaks(probe)
    await begin(probe)
    while (!over.aborted) {
      const settled = count(await look(probe, name))
      if (settled !== null) return settled
      await between(probe.periodSeconds)
    }
    return false
  }
  async function followReadiness(probe: Probe): Promise<void> {
    const count = streaks(probe)
    let ready = false
    await begin(probe)
    while (!over.aborted) {
      const settled = count(await look(probe, 'Readiness'))
      if (over.aborted) return
      if (settled !== null && settled !== ready) listener.ready(ready = settled)
      await between(ready ? probe.periodSeconds : Math.min(readinessSeconds, probe.periodSeconds ?? 10))
    }
  }
  async function followLiveness(probe: Probe): Promise<void> {
    const count = streaks({ ...probe, successThreshold: 1 })
    await begin(probe)
    while (!over.aborted) {
      await between(probe.periodSeconds)
      if (over.aborted) return
      const settled = count(await look(probe, 'Liveness'))
      if (settled === false && !over.aborted) return listener.failed('liveness')
    }
  }

  async function look(probe: Probe, name: string): Promise<boolean> {
    const why = await ask(probe, container, ip, clock, over)
    if (why !== null && !over.aborted) listener.unhealthy(`${name} probe failed: ${why}`)
    return why === null
  }
}

/** Counts successes and failures in a row: true or false when there are enough of one kind, else null. */
function streaks({ successThreshold = 1, failureThreshold = 3 }: Probe): (success: boolean) => boolean | null {
  let last: boolean | null = null
  let times = 0
  return (success) => {
    times = success === last ? times + 1 : 1
    last = success
    return times >= (success ? successThreshold : failureThreshold) ? success : null
  }
}

/** null: it is fine. Else why not, in the words of the kubelet. */
function ask({ httpGet, timeoutSeconds = 1 }: Probe, { ports = [] }: Probes, ip: string, clock: Clock, over: AbortSignal): Promise<string | null> {
  if (!httpGet) throw new Error('The stand-in knows no probes but httpGet')
  const { path = '/', port, host = ip, httpHeaders = [] } = httpGet
  const number = typeof port === 'number' ? port : ports.find(({ name }) => name === port)?.containerPort ?? Number(port)
  const url = `http://${host}:${number}${path.startsWith('/') ? '' : '/'}${path}`
  return new Promise((resolve) => {
    const end = (why: string | null): void => {
      clearTimeout(late)
      over.removeEventListener('abort', stop)
      resolve(why)
    }
    const stop = (): void => { sent.destroy(); end('it ended') }
    const headers = { 'user-agent': 'kube-probe/1.34', accept: '*/*', connection: 'close', ...Object.fromEntries(httpHeaders.map(({ name, value }) => [name, value])) }
    const sent = request(url, { agent: false, headers }, (response) => {
      response.resume()
      const { statusCode = 0 } = response
      end(statusCode >= 200 && statusCode < 400 ? null : `HTTP probe failed with statuscode: ${statusCode}`)
    })
    // A busy machine is given at least a second: its processes are slower than the cluster's time.
    const late = setTimeout(() => {
      sent.destroy()
      end(`Get "${url}": context deadline exceeded (Client.Timeout exceeded while awaiting headers)`)
    }, Math.max(clock.ms(timeoutSeconds), timeoutSeconds * 1_000))
    sent.on('error', (error: NodeJS.ErrnoException) => end(`Get "${url}": ${wordsOf(error, host, number)}`))
    over.addEventListener('abort', stop, { once: true })
    sent.end()
  })
}

function wordsOf({ code, message }: NodeJS.ErrnoException, host: string, port: number): string {
  if (code === 'ECONNREFUSED') return `dial tcp ${host}:${port}: connect: connection refused`
  return code === 'ECONNRESET' ? `read tcp ${host}:${port}: read: connection reset by peer` : message
}
