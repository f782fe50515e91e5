// Runs the benchmarks one after the other and prints one table.
import { benchBuilds } from './builds.ts'
import { benchFacts, benchThroughput } from './facts.ts'
import { benchImages } from './images.ts'
import { benchKubernetes } from './kubernetes.ts'
import { benchProxy } from './proxy.ts'
import { benchPython, benchUpdate } from './python.ts'
import { benchQueue } from './queue.ts'
import { benchStatus } from './status.ts'
import type { Line } from './line.ts'

const parts: Record<string, () => Promise<Line[]>> = {
  facts: benchFacts, throughput: benchThroughput, update: benchUpdate, proxy: benchProxy, python: benchPython, status: benchStatus, kubernetes: benchKubernetes, images: benchImages, queue: benchQueue, builds: benchBuilds,
}
const words = process.argv.slice(2)
const lines: Line[] = []
for (const [name, bench] of Object.entries(parts)) {
  if (words.length > 0 && !words.some((word) => name.includes(word))) continue
  process.stdout.write(`${name} …\n`)
  lines.push(...(await bench()))
}
process.stdout.write('\n| what | seen | reach | |\n|---|---|---|---|\n')
for (const { what, value, reach, met } of lines) process.stdout.write(`| ${what} | ${value} | ${reach} | ${reach === '–' ? '' : met ? 'met' : 'NOT MET'} |\n`)
process.exit(0)
