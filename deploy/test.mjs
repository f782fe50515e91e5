// npm test: gets what the tests need, then type check and every test file, two at a time. Ends with `N passed, N failed[, N skipped]`.
// `npm test -- crash gateway` runs only the files whose names contain one of the words.
import { spawn } from 'node:child_process'
import { readdir } from 'node:fs/promises'
import { availableParallelism } from 'node:os'
import { join } from 'node:path'
import { prepare, root, say } from './prepare.mjs'

/** A file that hangs is a failure. */
const patienceMs = 15 * 60_000

/** @typedef {{ name: string, passed: number, failed: number, skipped: string[], seconds: number, output: string }} Result */

/** @param {string} command @param {string[]} args @param {Record<string, string | undefined>} env @returns {Promise<{ code: number | null, output: string }>} */
function run(command, args, env) {
  return new Promise((resolve) => {
    const child = spawn(command, args, { cwd: root, env, stdio: ['ignore', 'pipe', 'pipe'] })
    let output = ''
    const timer = setTimeout(() => { output += '\nIt hangs: ended by the test runner.'; child.kill('SIGKILL') }, patienceMs)
    for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk) => { output += chunk })
    child.on('error', (error) => { output += error.message })
    child.on('close', (code) => { clearTimeout(timer); resolve({ code, output }) })
  })
}

/** @param {string} name @param {() => Promise<{ code: number | null, output: string }>} act @param {(output: string) => { passed: number, failed: number }} count @returns {Promise<Result>} */
async function timed(name, act, count) {
  const from = performance.now()
  const { code, output } = await act()
  const { passed, failed } = count(output)
  const skipped = [...output.matchAll(/^\s*SKIPPED (.+)$/gm)].map((match) => match[1] ?? '')
  // Whatever a file printed, a bad exit code is a failure; and a file that ran no test has not passed.
  const lost = failed === 0 && (code !== 0 || (passed === 0 && skipped.length === 0)) ? 1 : 0
  return { name, passed, failed: failed + lost, skipped, seconds: (performance.now() - from) / 1_000, output }
}

/** @param {string} output */
function countUvu(output) {
  const total = Number(/Total:\s+(\d+)/.exec(output)?.[1] ?? 0)
  const passed = Number(/Passed:\s+(\d+)/.exec(output)?.[1] ?? 0)
  return { passed, failed: total - passed }
}

/** @param {string} output */
function countUnittest(output) {
  const total = Number(/^Ran (\d+) tests?/m.exec(output)?.[1] ?? 0)
  const bad = Number(/failures=(\d+)/.exec(output)?.[1] ?? 0) + Number(/errors=(\d+)/.exec(output)?.[1] ?? 0)
  return { passed: total - bad, failed: bad }
}

/** @param {Result} result */
function report({ name, passed, failed, skipped, seconds, output }) {
  say(`${failed > 0 ? 'FAILED' : 'ok    '} ${name.padEnd(34)} ${String(passed).padStart(4)} passed  ${seconds.toFixed(1).padStart(6)} s`)
  for (const reason of skipped) say(`       skipped: ${reason}`)
  if (failed > 0) say(output)
}

const env = await prepare(process.env, { servers: true })
const words = process.argv.slice(2)
const files = (await readdir(join(root, 'test'))).filter((name) => name.endsWith('.test.ts')).sort()
/** The longest first, so that nothing long begins last. */
const long = ['kubernetes-builds.test.ts', 'kubernetes-crash.test.ts', 'kubernetes-workloads.test.ts', 'crash.test.ts', 'nats-restart.test.ts', 'start.test.ts', 'pipeline.test.ts']
files.sort((a, b) => Number(long.includes(b)) - Number(long.includes(a)))

const jobs = [
  ...files.map((file) => ({ name: file, act: () => timed(file, () => run(process.execPath, ['--import', 'tsx', join('test', file)], env), countUvu) })),
  { name: 'python', act: () => timed('python', () => run(env.KILN_TEST_PYTHON, ['-m', 'unittest', 'discover', '-s', 'test/python', '-t', 'test/python'], env), countUnittest) },
  { name: 'types', act: () => timed('types', () => run(process.execPath, [join('node_modules', 'typescript', 'bin', 'tsc'), '--noEmit', '-p', '.'], env), (output) => ({ passed: /error TS/.test(output) ? 0 : 1, failed: (output.match(/error TS/g) ?? []).length })) },
].filter(({ name }) => words.length === 0 || words.some((word) => name.includes(word)))

/** @type {Result[]} */
const results = []
async function worker() {
  for (let job = jobs.shift(); job; job = jobs.shift()) {
    const result = await job.act()
    results.push(result)
    report(result)
  }
}
await Promise.all(Array.from({ length: Math.min(2, availableParallelism()) }, worker))

const sum = (/** @type {(result: Result) => number} */ of) => results.reduce((all, result) => all + of(result), 0)
const skipped = sum((result) => result.skipped.length)
say(`${sum((result) => result.passed)} passed, ${sum((result) => result.failed)} failed${skipped > 0 ? `, ${skipped} skipped` : ''}`)
process.exit(sum((result) => result.failed) > 0 ? 1 : 0)
