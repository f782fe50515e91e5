// The log of one run of a container, line by line until the run ends. A connection that breaks is made again where it was.
import type { Cluster } from './client.ts'
import { Rejected } from './client.ts'
import { linesOf } from './follow.ts'
import { path } from './names.ts'

export interface LogOfPod {
  namespace: string
  pod: string
  container: string
  /** Of the run before the current one. */
  previous?: boolean
  /** Lines up to here are known already; RFC 3339. */
  after?: string
}

const mostBreaks = 5
/** The API answers so, with 200, when the container's log has been removed meanwhile. */
const noLog = /^unable to retrieve container logs for /

/**
 * Resolves when the run has ended, or there is nothing to read: the pod is gone or has not begun. Throws when the API cannot be asked, after some tries.
 * The log is bytes: what is no UTF-8 is shown as such.
 */
export async function readLog(cluster: Cluster, of: LogOfPod, line: (text: string, time: string) => void, signal: AbortSignal): Promise<void> {
  let last = of.after ?? ''
  for (let breaks = 0; !signal.aborted;) {
    try {
      // Whole seconds is all that the API knows here; what comes twice is left out below.
      const since = last ? { sinceTime: `${last.slice(0, 19)}Z` } : {}
      const stream = await cluster.stream(path.log(of.namespace, of.pod), { container: of.container, follow: true, timestamps: true, ...(of.previous && { previous: true }), ...since }, signal, 0)
      if (!stream) return
      for await (const text of linesOf(stream)) {
        const at = text.indexOf(' ')
        const time = text.slice(0, at)
        if (noLog.test(text) || time <= last) continue
        last = time
        breaks = 0
        line(text.slice(at + 1), time)
      }
      return
    } catch (error) {
      if (signal.aborted || (error instanceof Rejected && (error.status === 400 || error.status === 404))) return
      if (++breaks > mostBreaks) throw error
      await new Promise((resolve) => setTimeout(resolve, 200 * breaks))
    }
  }
}
