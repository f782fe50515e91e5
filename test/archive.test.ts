import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { examine } from '../services/ingest/archive.ts'
import { pythonCheck, type Target } from '../services/ingest/python.ts'
import { writeZip } from '../shared/zip.ts'

const python = pythonCheck({ python: process.env.KILN_TEST_PYTHON || 'python3' })
const linux: Target = { python: '3.11', platform: 'linux', machine: 'x86_64' }
const rules = { maxUnpackedBytes: 1_000_000, maxEntries: 1000, python }
const main = 'async def main(request):\n    return {}\n'

function examined(files: Record<string, Buffer | string>, target: Target | null = linux) {
  return examine(writeZip(new Map(Object.entries(files))), { ...rules, target })
}

async function findings(files: Record<string, Buffer | string>, target?: Target | null) {
  const result = await examined(files, target)
  return result.ok ? [] : result.findings
}

async function codes(files: Record<string, Buffer | string>, target?: Target | null): Promise<string[]> {
  return (await findings(files, target)).map(({ code, file }) => `${code} ${file}`)
}

function elf(machine: number): Buffer {
  const head = Buffer.alloc(64)
  head.write('\x7fELF\x02\x01\x01', 'latin1')
  head.writeUInt16LE(machine, 18)
  return head
}

function mach(...machines: number[]): Buffer {
  const head = Buffer.alloc(8 + 20 * machines.length)
  head.writeUInt32BE(0xcafebabe, 0)
  head.writeUInt32BE(machines.length, 4)
  machines.forEach((machine, index) => head.writeUInt32BE(machine, 8 + 20 * index))
  return head
}

function pe(machine: number): Buffer {
  const head = Buffer.alloc(256)
  head.write('MZ')
  head.writeUInt32LE(128, 0x3c)
  head.write('PE', 128)
  head.writeUInt16LE(machine, 132)
  return head
}

const examining = suite('examine')

examining('a zip with only a lambda_main.py is good', async () => {
  const result = await examined({ 'lambda_main.py': main })
  assert.ok(result.ok)
  if (!result.ok) return
  assert.equal(result.files, new Map([['lambda_main.py', Buffer.from(main)]]))
  assert.equal(result.facts, { hasRequirements: false, docs: false })
})

examining('requirements and docs are facts of a good zip', async () => {
  const result = await examined({ 'lambda_main.py': main, 'requirements.txt': 'sanic\n', 'docs/lambda.html': 'x', 'docs/lambda.yml': 'x' })
  assert.ok(result.ok && result.facts.hasRequirements && result.facts.docs)
})

examining('bytes that cannot be read safely are judged no further', async () => {
  const result = await examine(Buffer.from('hello'), rules)
  assert.ok(!result.ok && result.findings.length === 1 && result.findings[0]!.code === 'NotAZip')
})

examining('the limits of the rules hold', async () => {
  const zip = writeZip(new Map([['lambda_main.py', main], ['b', 'xx']]))
  for (const [limit, code] of [[{ maxEntries: 1 }, 'TooManyEntries'], [{ maxUnpackedBytes: main.length + 1 }, 'UnpacksTooLarge']] as const) {
    const result = await examine(zip, { ...rules, ...limit })
    assert.ok(!result.ok && result.findings[0]!.code === code)
  }
})

examining('a zip without lambda_main.py is refused', async () => {
  assert.equal(await codes({ 'main.py': main }), ['NoLambdaMain lambda_main.py'])
  assert.equal(await codes({}), ['NoLambdaMain lambda_main.py'])
})

examining('a lambda_main.py in the only folder that has one makes the fix name that folder', async () => {
  assert.match((await findings({ 'my/lambda/lambda_main.py': main, 'b/x.py': '' }))[0]!.fix, /^Zip the content, not the folder.*`my\/lambda\/`/)
  assert.not.match((await findings({ 'a/lambda_main.py': main, 'b/lambda_main.py': main }))[0]!.fix, /not the folder:/)
})

examining('a lambda_main.py in the wrong case makes the fix say rename', async () => {
  assert.match((await findings({ 'Lambda_Main.py': main }))[0]!.fix, /^Rename `Lambda_Main.py`/)
})

examining('one of the two docs without the other is refused, naming the one that is missing', async () => {
  assert.equal(await codes({ 'lambda_main.py': main, 'docs/lambda.yml': 'x' }), ['DocsIncomplete docs/lambda.html'])
  assert.equal(await codes({ 'lambda_main.py': main, 'docs/lambda.html': 'x' }), ['DocsIncomplete docs/lambda.yml'])
})

examining('what is wrong with the zip, its Python and its requirements is told at once', async () => {
  const found = await codes({ 'lambda_main.py': 'def f(:', 'requirements.txt': 'a=1', 'docs/lambda.yml': 'x', 'x-1-cp39-cp39-win_amd64.whl': '' })
  assert.equal(found, ['DocsIncomplete docs/lambda.html', 'SyntaxError lambda_main.py', 'BadRequirement requirements.txt', 'WrongPlatform x-1-cp39-cp39-win_amd64.whl'])
})

examining('requirements are judged although lambda_main.py is missing', async () => {
  assert.equal(await codes({ 'requirements.txt': 'a=1' }), ['NoLambdaMain lambda_main.py', 'BadRequirement requirements.txt'])
})

examining('requirements may name files of the zip, and only those', async () => {
  const files = { 'lambda_main.py': main, 'more.txt': '', 'wheels/a-1-py3-none-any.whl': '', 'requirements.txt': '-r more.txt\n./wheels/a-1-py3-none-any.whl\n' }
  assert.equal(await codes(files), [])
  assert.equal(await codes({ ...files, 'requirements.txt': '-r other.txt\n' }), ['BadRequirement requirements.txt'])
})

const foreign: [claim: string, name: string, content: Buffer][] = [
  ['a library for another machine', 'lib/a.so', elf(183)],
  ['a versioned library for another machine', 'lib/liba.so.1.2', elf(183)],
  ['a library for macOS', 'lib/a.dylib', mach(0x01000007, 0x0100000c)],
  ['a module for macOS under the name of a Linux one', 'a.so', Buffer.from('cffaedfe07000001', 'hex')],
  ['a module for Windows', 'a.pyd', pe(0x8664)],
  ['a module for another Python', 'a.cpython-39-x86_64-linux-gnu.so', elf(62)],
  ['a module for PyPy', 'a.pypy39-pp73-x86_64-linux-gnu.so', elf(62)],
  ['a wheel for another machine', 'a-1-cp311-cp311-manylinux_2_17_aarch64.whl', Buffer.alloc(0)],
  ['a wheel for another Python', 'a-1-cp39-cp39-manylinux_2_17_x86_64.whl', Buffer.alloc(0)],
  ['a wheel for Windows', 'a-1-cp311-cp311-win_amd64.whl', Buffer.alloc(0)],
]

for (const [claim, name, content] of foreign) {
  examining(`${claim} is refused`, async () => assert.equal(await codes({ 'lambda_main.py': main, [name]: content }), [`WrongPlatform ${name}`]))
}

const fitting: [name: string, content: Buffer][] = [
  ['a.cpython-311-x86_64-linux-gnu.so', elf(62)], ['a.abi3.so', elf(62)], ['lib/liba.so.1', elf(62)], ['text.so', Buffer.from('INPUT(a.so)')], ['short.so', elf(62).subarray(0, 10)],
  ['a-1-py3-none-any.whl', Buffer.alloc(0)], ['a-1-py2.py3-none-any.whl', Buffer.alloc(0)], ['a-1-cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64.whl', Buffer.alloc(0)],
  ['a-1-cp38-abi3-manylinux2014_x86_64.whl', Buffer.alloc(0)],
]

examining('compiled files and wheels that fit the target are good', async () => {
  assert.equal(await codes({ 'lambda_main.py': main, ...Object.fromEntries(fitting) }), [])
})

examining('the target decides: what fits one does not fit another', async () => {
  const mac: Target = { python: '3.12', platform: 'darwin', machine: 'arm64' }
  const files = { 'lambda_main.py': main, 'a.cpython-312-darwin.so': mach(0x01000007, 0x0100000c), 'a-1-cp312-cp312-macosx_11_0_arm64.whl': '' }
  assert.equal(await codes(files, mac), [])
  assert.equal((await codes(files)).length, 2)
  const windows: Target = { python: '3.12', platform: 'win32', machine: 'AMD64' }
  assert.equal(await codes({ 'lambda_main.py': main, 'a.cp312-win_amd64.pyd': pe(0x8664), 'a-1-cp312-cp312-win_amd64.whl': '' }, windows), [])
})

examining('without a target, what fits the interpreter that checks is good', async () => {
  const other: Record<string, number> = { x64: 183, arm64: 62 }
  assert.equal(await codes({ 'lambda_main.py': main, 'a-1-py3-none-any.whl': '' }, null), [])
  assert.equal(await codes({ 'lambda_main.py': main, 'a.so': elf(other[process.arch] ?? 62) }, null), ['WrongPlatform a.so'])
})

examining('a wheel without the name of a wheel is refused', async () => {
  assert.equal(await codes({ 'lambda_main.py': main, 'a.whl': '' }), ['BadWheelName a.whl'])
})

examining.after(() => python.close())
examining.run()
