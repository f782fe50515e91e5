// What a good zip is: everything a user can learn about a bad one before anything is built.

import type { Finding } from '../../shared/finding.ts'
import { readZip } from '../../shared/zip.ts'
import type { PythonCheck, PythonRequest, Target } from './python.ts'

/** `target` null or absent: the lambda runs on the Python and the machine of the checker. */
export interface ArchiveRules { maxUnpackedBytes: number; maxEntries: number; python: PythonCheck; target?: Target | null }

export type Examination =
  | { ok: true; files: Map<string, Buffer>; facts: { hasRequirements: boolean; docs: boolean } }
  | { ok: false; findings: Finding[] }

const MAIN = 'lambda_main.py'
const REQUIREMENTS = 'requirements.txt'
const DOCS = ['docs/lambda.html', 'docs/lambda.yml'] as const
const HEAD_BYTES = 1024

/**
 * Path -> content and what kiln must know of it, or all findings at once. A zip that cannot be read safely is judged no
 * further. Rejects only when the checker itself cannot work (see `PythonCheck.check`).
 */
export async function examine(bytes: Buffer, rules: ArchiveRules): Promise<Examination> {
  const reading = await readZip(bytes, rules)
  if (!reading.ok) return reading
  const { files } = reading
  const ofPython = await rules.python.check(pythonRequest(files, rules.target ?? null))
  const findings = [...noLambdaMain(files), ...halfDocs(files), ...ofPython]
  if (findings.length > 0) return { ok: false, findings }
  return { ok: true, files, facts: { hasRequirements: files.has(REQUIREMENTS), docs: DOCS.every((path) => files.has(path)) } }
}

function noLambdaMain(files: Map<string, Buffer>): Finding[] {
  if (files.has(MAIN)) return []
  return [{ code: 'NoLambdaMain', file: MAIN, message: `There is no \`${MAIN}\` at the top of the zip.`, fix: wayToMain([...files.keys()]) }]
}

function wayToMain(paths: string[]): string {
  const misspelt = paths.find((path) => path.toLowerCase() === MAIN)
  if (misspelt) return `Rename \`${misspelt}\` to \`${MAIN}\`.`
  const inside = paths.filter((path) => path.endsWith(`/${MAIN}`)).map((path) => path.slice(0, -MAIN.length - 1))
  if (inside.length === 1) return `Zip the content, not the folder: \`${MAIN}\` is in \`${inside[0]}/\`, so make the zip from inside that folder.`
  return `Add a \`${MAIN}\` with \`async def main(request):\` beside the other files, not in a folder.`
}

function halfDocs(files: Map<string, Buffer>): Finding[] {
  const missing = DOCS.filter((path) => !files.has(path))
  const [file] = missing
  if (missing.length !== 1 || !file) return []
  const other = DOCS.find((path) => path !== file)
  return [{ code: 'DocsIncomplete', file, message: `The zip has \`${other}\` but no \`${file}\`.`, fix: `Add \`${file}\`, or leave out both.` }]
}

function pythonRequest(files: Map<string, Buffer>, target: Target | null): PythonRequest {
  const names = [...files.keys()]
  return {
    lambdaMain: files.get(MAIN) ?? null,
    requirements: files.get(REQUIREMENTS) ?? null,
    names,
    binaries: names.filter(isCompiled).map((name) => ({ name, head: files.get(name)!.subarray(0, HEAD_BYTES) })),
    wheels: names.filter((name) => name.toLowerCase().endsWith('.whl')),
    target,
  }
}

function isCompiled(name: string): boolean {
  return /\.(so(\.\d+)*|pyd|dylib)$/i.test(name)
}
