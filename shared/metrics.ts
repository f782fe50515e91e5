// Metrics: what each stage handled, what failed and why, how long it took. Prometheus text by `prom-client`, whose room this is.
import { Counter, Gauge, Histogram, Registry, collectDefaultMetrics } from 'prom-client'
import type { Cause } from './trouble.ts'

export interface Metrics {
  /** Begins a piece of work of a stage; call the answer when it ended. */
  begin(stage: string): (end: { fact: string; verdict: string; cause?: Cause }) => void
  /** Counts one message that could not be read. */
  refused(stage: string): void
  /** A number that is asked for at each scrape; a question that fails leaves the number out. */
  measure(name: string, help: string, labels: Record<string, string>, ask: () => number | Promise<number>): void
  text(): Promise<string>
  contentType: string
}

const secondsBuckets = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1_800]

export function metrics(options: { processFigures: boolean }): Metrics {
  const registry = new Registry()
  if (options.processFigures) collectDefaultMetrics({ register: registry })
  const registers = [registry]
  const handled = new Counter({ name: 'kiln_handled_total', help: 'Messages that a stage handled', labelNames: ['stage', 'fact', 'verdict'], registers })
  const failed = new Counter({ name: 'kiln_failed_total', help: 'Failures that a stage stated, by cause', labelNames: ['stage', 'cause'], registers })
  const refused = new Counter({ name: 'kiln_refused_total', help: 'Messages that could not be read', labelNames: ['stage'], registers })
  const seconds = new Histogram({ name: 'kiln_stage_seconds', help: 'Seconds that a message spent in a stage', labelNames: ['stage'], buckets: secondsBuckets, registers })
  const inFlight = new Gauge({ name: 'kiln_in_flight', help: 'Messages in the works of a stage', labelNames: ['stage'], registers })
  const measured = new Map<string, { gauge: Gauge; asks: Array<{ labels: Record<string, string>; ask: () => number | Promise<number> }> }>()

  return {
    begin(stage) {
      const from = process.hrtime.bigint()
      inFlight.inc({ stage })
      return ({ fact, verdict, cause }) => {
        inFlight.dec({ stage })
        handled.inc({ stage, fact, verdict })
        if (cause) failed.inc({ stage, cause })
        seconds.observe({ stage }, Number(process.hrtime.bigint() - from) / 1e9)
      }
    },
    refused: (stage) => refused.inc({ stage }),
    measure(name, help, labels, ask) {
      const known = measured.get(name) ?? { gauge: new Gauge({ name, help, labelNames: Object.keys(labels), registers }), asks: [] }
      known.asks.push({ labels, ask })
      measured.set(name, known)
    },
    async text() {
      await Promise.all([...measured.values()].flatMap(({ gauge, asks }) => asks.map(async ({ labels, ask }) => {
        const value = await Promise.resolve().then(ask).catch(() => null)
        if (value === null) gauge.remove(labels)
        else gauge.set(labels, value)
      })))
      return registry.metrics()
    },
    contentType: registry.contentType,
  }
}
