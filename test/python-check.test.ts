import { spawnSync } from 'node:child_process'
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { pythonCheck, type PythonRequest } from '../services/ingest/python.ts'

const PYTHON = process.env.KILN_TEST_PYTHON || 'python3'
const folder = mkdtempSync(join(tmpdir(), 'kiln-python-check-'))
const python = pythonCheck({ python: PYTHON })
const good = 'async def main(request):\n    return {}\n'
const zipped = ['more.txt', 'wheels/a-1-py3-none-any.whl', 'pkg/pyproject.toml', 'old/setup.py', 'notes/a.md']

function asking(lambdaMain: string | Buffer | null, requirements: string | Buffer | null = null): PythonRequest {
  const bytes = (content: string | Buffer | null) => (content === null ? null : Buffer.from(content as string))
  return { lambdaMain: bytes(lambdaMain), requirements: bytes(requirements), names: zipped, binaries: [], wheels: [], target: null }
}

async function told(lambdaMain: string | Buffer): Promise<string[]> {
  return (await python.check(asking(lambdaMain))).map(({ code, line, column }) => [code, line, column].filter(Boolean).join(' '))
}

/** An interpreter whose checker is killed, or falls silent, at questions with these words; each of its starts is written down. */
function brittle(name: string, { dies = 'never', hangs = 'never' } = {}): { path: string; starts: () => number } {
  const [path, log] = [join(folder, name), join(folder, `${name}.log`)]
  writeFileSync(log, '')
  writeFileSync(join(folder, `${name}.py`), `
import base64, os, signal, sys, time
open(${JSON.stringify(log)}, "a").write("start\\n")
print('{"ready": true}', flush=True)
import json
for line in sys.stdin:
    request = json.loads(line)
    source = base64.b64decode(request["lambda_main"]).decode()
    if ${JSON.stringify(dies)} in source: os.kill(os.getpid(), signal.SIGKILL)
    if ${JSON.stringify(hangs)} in source: signal.pause()
    print(json.dumps({"id": request["id"], "findings": []}), flush=True)
`)
  writeFileSync(path, `#!/bin/sh\nexec ${PYTHON} ${join(folder, name)}.py\n`)
  chmodSync(path, 0o755)
  return { path, starts: () => readFileSync(log, 'utf8').split('start').length - 1 }
}

async function rejection(promise: Promise<unknown>): Promise<string> {
  return promise.then(() => 'no rejection', (error: Error) => error.message)
}

const checking = suite('pythonCheck')

const mains: [claim: string, source: string | Buffer, expected: string[]][] = [
  ['an async main with one argument is good', good, []],
  ['optional, starred and keyword arguments are good when one will do', 'async def main(request=None, *more, a=1, **others): ...', []],
  ['a main that takes anything is good', 'async def main(*anything): ...', []],
  ['a main that is imported is good', 'from app import main', []],
  ['a main that is imported under that name is good', 'from app import handler as main', []],
  ['a main that may come by a star is good', 'from app import *', []],
  ['a main that is assigned is good', 'handler = main = make()', []],
  ['a decorated main is good', '@lambda_handler\ndef main(a, b): ...', []],
  ['a main in either branch is good', 'try:\n    from fast import main\nexcept ImportError:\n    def main(): ...', []],
  ['a main that a branch may replace is good', 'async def main(request): ...\nif odd:\n    def main(): ...', []],
  ['a main inside a class in a branch is no main', 'if odd:\n    class A:\n        async def main(self): ...', ['NoMain']],
  ['the last definition counts', 'def main(): ...\nasync def main(request): ...', []],
  ['the last definition counts against it, too', 'async def main(request): ...\ndef main(request): ...', ['MainNotAsync 2 1']],
  ['Latin-1 is good when declared', Buffer.from('# coding: latin-1\nx = "é"\nasync def main(r): ...', 'latin1'), []],
  ['UTF-8 with a byte order mark is good', `\ufeff${good}`, []],
  ['a syntax error is told with line and column', 'x = 1\ndef f(:\n', ['SyntaxError 2 7']],
  ['the column counts characters, not bytes', 'x = "éé" +* 1', ['SyntaxError 1 11']],
  ['an error that only compilation finds is told', `${good}\nreturn 1`, ['SyntaxError 4 1']],
  ['bad indentation is told', 'if x:\ny', ['SyntaxError 2 1']],
  ['bytes that are not UTF-8 are told', Buffer.from('a = 1\nb = 2\nx = "é"', 'latin1'), ['BadEncoding 3 6']],
  ['bytes that are not UTF-8 in the first line are told', Buffer.from('x = "é"', 'latin1'), ['BadEncoding 1 6']],
  ['a NUL is told', 'a\nx\0', ['BadEncoding 2 2']],
  ['UTF-16 is told', Buffer.from(`\ufeff${good}`, 'utf16le'), ['BadEncoding 1 4']],
  ['an unknown encoding is told', '# coding: nope\n', ['BadEncoding 1']],
  ['an encoding that is none of text is told', '# coding: hex\n', ['BadEncoding 1']],
  ['an empty file has no main', '', ['NoMain']],
  ['a main inside a class is no main', 'class A:\n    async def main(self): ...', ['NoMain']],
  ['a main that exists only when run as a script is no main', 'if __name__ == "__main__":\n    async def main(r): ...', ['NoMain']],
  ['a main that is neither async nor takes the request is told both', 'def main(): ...', ['MainNotAsync 1 1', 'MainArguments 1 1']],
  ['a main that is not async is refused', 'x = 1\ndef main(request): ...', ['MainNotAsync 2 1']],
  ['a main without arguments is refused', 'async def main(): ...', ['MainArguments 1 1']],
  ['a main with two required arguments is refused', 'async def main(request, context): ...', ['MainArguments 1 1']],
  ['a main with a required keyword is refused', 'async def main(request, *, context): ...', ['MainArguments 1 1']],
  ['a main that takes keywords alone is refused', 'async def main(**anything): ...', ['MainArguments 1 1']],
]

for (const [claim, source, expected] of mains) checking(claim, async () => assert.equal(await told(source), expected))

const hash = `sha256:${'a'.repeat(64)}`
const acceptable = [
  '# a comment', '', 'requests', 'requests>=2,<3  # why', 'Sanic[ext]~=23.0 ; python_version >= "3.8" and sys_platform == "linux"', 'a @ https://x.org/a.whl', 'a@git+https://x.org/a@v1',
  'https://x.org/a-1-py3-none-any.whl', 'git+ssh://git@x.org/a.git#egg=a', '--index-url https://x.org/simple', '--index-url=https://x.org/simple --pre', '-i https://x.org', '--extra-index-url https://x.org',
  '--find-links https://x.org', '-f wheels', '--no-binary :all:', '--only-binary=a', '--prefer-binary', '--trusted-host x.org', '--require-hashes', `a==1 --hash=${hash}`, `a==1 \\\n  --hash=${hash} \\\n  --hash=${hash}`,
  '-r more.txt', '-rmore.txt', '--requirement=./more.txt', '-c more.txt', '--constraint https://x.org/c.txt', './wheels/a-1-py3-none-any.whl', 'wheels/a-1-py3-none-any.whl ; python_version > "3"', './pkg[extra]', '-e ./pkg', '--editable old',
]

for (const line of acceptable) {
  checking(`a requirement may be written: ${line}`, async () => assert.equal(await python.check(asking(null, `${line}\r\n`)), []))
}

const refused: [line: string, fix: RegExp][] = [
  ['numpy=1.0', /Write `==`/], ['numpy 1.0', /Put `==`/], ['((((', /Write a name/], ['a; b ==', /Write a name/], ['a b', /Write a name/], ['-r other.txt', /Add that file/], ['-c ../more.txt', /Add that file/], ['-c /more.txt', /Add that file/],
  ['-f nowhere', /Add the folder/], ['-i', /Write `--index-url <value>`/], ['--no-binary', /<value>/], ['--bogus', /Remove it/], ['--index-url "x', /quotation/], ['-e .', /Add the project/], ['-e git+https://x.org/a', /without `-e`/],
  ['./wheels/b.whl', /Add the wheel/], ['../a', /Add the wheel/], ['/srv/a', /Add the wheel/], ['C:\\a.whl', /Add the wheel/], ['file:///srv/a.whl', /Add the wheel/], ['a @ file:///srv/a.whl', /Add the wheel/], ['git+file:///srv/a', /Add the wheel/],
  ['./notes', /Add the wheel/], ['a==1 --hash=sha256:zz', /64 hexadecimal/], ['a --bogus=1', /line of its own/],
]

for (const [line, fix] of refused) {
  checking(`a requirement may not be written: ${line}`, async () => {
    const [found, ...more] = await python.check(asking(null, `# first\n${line}\nrequests\n`))
    assert.equal([found?.code, found?.file, found?.line, more], ['BadRequirement', 'requirements.txt', 2, []])
    assert.match(found!.fix, fix)
  })
}

checking('every bad line is told, a continued one by its first', async () => {
  const found = await python.check(asking(null, 'a=1\n\nb \\\n  ==\\\n  1 2\nc\nd=1'))
  assert.equal(found.map(({ line }) => line), [1, 3, 7])
})

checking('requirements in UTF-16 are told', async () => {
  assert.equal((await python.check(asking(null, Buffer.from('\ufeffrequests\n', 'utf16le')))).map(({ code }) => code), ['BadEncoding'])
})

const monsters = {
  parentheses: '('.repeat(100_000), minuses: `x = ${'-'.repeat(500_000)}1`, sums: `x = ${'1+'.repeat(300_000)}1`, attributes: `x${'.a'.repeat(400_000)}`, lambdas: `x = ${'lambda: '.repeat(100_000)}1`, elifs: `if x: pass\n${'elif x: pass\n'.repeat(20_000)}`,
}

for (const [name, source] of Object.entries(monsters)) {
  checking(`too many ${name} make one finding, and the next file is checked`, async () => {
    const found = await python.check(asking(source))
    assert.equal(found.length, 1)
    assert.ok(['TooDeeplyNested', 'PythonCheckFailed', 'SyntaxError'].includes(found[0]!.code) && found[0]!.file === 'lambda_main.py')
    assert.equal(await told(good), [])
  })
}

checking('a file over 1 MiB is refused unread, and the rest is checked', async () => {
  const found = await python.check(asking(Buffer.alloc(1024 ** 2 + 1, '#'), 'a=1'))
  assert.equal(found.map(({ code, file }) => `${code} ${file}`), ['FileTooLarge lambda_main.py', 'BadRequirement requirements.txt'])
})

checking('what is checked is never run', async () => {
  const trace = join(folder, 'trace')
  assert.equal(await told(`open(${JSON.stringify(trace)}, "w")\nimport os\nos._exit(1)\n${good}`), [])
  assert.throws(() => readFileSync(trace))
})

checking('each of many questions at once gets its own answer', async () => {
  const found = await Promise.all(Array.from({ length: 50 }, (_, i) => told(`${'\n'.repeat(i)}def main(request): ...`)))
  assert.equal(found, Array.from({ length: 50 }, (_, i) => [`MainNotAsync ${i + 1} 1`]))
})

checking('one process answers one question after the other', async () => {
  const { path, starts } = brittle('steady')
  const check = pythonCheck({ python: path })
  assert.is(starts(), 0)
  for (let i = 0; i < 3; i++) assert.equal(await check.check(asking(good)), [])
  await check.close()
  assert.is(starts(), 1)
})

checking('a question that the checker dies of twice is a finding; its neighbours are answered', async () => {
  const { path, starts } = brittle('mortal', { dies: 'poison' })
  const check = pythonCheck({ python: path })
  const answers = await Promise.all(['a', 'poison', 'b', 'c'].map((source) => check.check(asking(source))))
  assert.equal(answers.map((found) => found.map(({ code }) => code)), [[], ['PythonCheckFailed'], [], []])
  assert.match(answers[1]![0]!.message, /too deeply nested or too large/)
  assert.is(starts(), 3)
  assert.equal(await check.check(asking('after')), [])
  await check.close()
})

checking('a question that takes longer than its time is a finding; its neighbours are answered', async () => {
  const { path } = brittle('slow', { hangs: 'tar' })
  const check = pythonCheck({ python: path, timeoutMs: 500 })
  const answers = await Promise.all(['a', 'tar', 'b', 'tar', 'c'].map((source) => check.check(asking(source))))
  assert.equal(answers.map((found) => found.map(({ code }) => code)), [[], ['PythonCheckFailed'], [], ['PythonCheckFailed'], []])
  await check.close()
})

checking('a Python that cannot run the checker is an error, not a finding', async () => {
  const missing = pythonCheck({ python: join(folder, 'nowhere') })
  assert.match(await rejection(missing.check(asking(good))), /cannot run the checker.*ENOENT/)
  await missing.close()
  writeFileSync(join(folder, 'bare'), '#!/bin/sh\necho "No module named packaging" >&2\nexit 1\n', { mode: 0o755 })
  const bare = pythonCheck({ python: join(folder, 'bare') })
  assert.match(await rejection(bare.check(asking(good))), /No module named packaging/)
  await bare.close()
})

checking('closing lets questions be answered, ends the process, and refuses more', async () => {
  const check = pythonCheck({ python: PYTHON })
  const asked = [check.check(asking(good)), check.check(asking('x ='))]
  await check.close()
  assert.equal((await Promise.all(asked)).map((found) => found.map(({ code }) => code)), [[], ['SyntaxError']])
  assert.match(await rejection(check.check(asking(good))), /closed/)
  await check.close()
})

checking('the checker ends when its input closes, however its owner ended', () => {
  const checker = new URL('../services/ingest/check.py', import.meta.url).pathname
  const ended = spawnSync(PYTHON, ['-B', checker], { input: '' })
  assert.is(ended.status, 0)
  assert.equal(JSON.parse(ended.stdout.toString()), { ready: true })
})

checking.after(async () => {
  await python.close()
  rmSync(folder, { recursive: true })
})
checking.run()
