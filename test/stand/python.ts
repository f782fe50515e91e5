// An interpreter with the runtime's packages, made as kiln makes it and kept for the next run.
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { environments } from '../../shared/local/environments.ts'
import { environmentsIn } from '../../shared/local/images.ts'
import { processes } from '../../shared/local/processes.ts'

export interface TestPython {
  dataDir: string
  root: string
  python: string
  uv: string
  uvEnvironment: { env: Record<string, string>; args: string[] }
  env: Record<string, string | undefined>
  say(line: string): void
}

export async function testPython({ dataDir, root, python, uv, uvEnvironment, env, say }: TestPython): Promise<string> {
  const folder = environmentsIn(join(dataDir, 'local'))
  const whole = { ...env, ...uvEnvironment.env } as Record<string, string>
  const made = environments({ folder, python, uv, uvEnvironment: { args: uvEnvironment.args, env: whole }, processes: processes(join(dataDir, 'processes')) })
  const runtimeRequirements = await readFile(join(root, 'services/packager/runtime/requirements.txt'), 'utf8')
  const inputs = { codeFolder: folder, codeDigest: '', runtimeRequirements, requirements: null }
  const key = await made.key(inputs)
  const failed = await made.make(key, inputs, { line: say, signal: new AbortController().signal })
  await made.close()
  if (failed) throw new Error([failed.failure.message, ...(failed.failure.log ?? [])].join('\n'))
  return join(folder, key, 'bin', 'python')
}
