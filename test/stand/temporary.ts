// A folder of a test's own for whatever this process puts into the temporary one, so that what is left there can be seen.
import { mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

export interface OwnTemporary {
  folder: string
  left(): Promise<string[]>
  /** Whatever is asked for now goes where it usually goes. */
  close(): Promise<void>
}

export async function ownTemporary(): Promise<OwnTemporary> {
  const usual = process.env['TMPDIR']
  const folder = process.env['TMPDIR'] = await mkdtemp(join(tmpdir(), 'kiln-test-temporary-'))
  return {
    folder,
    left: () => readdir(folder),
    async close() {
      if (usual === undefined) delete process.env['TMPDIR']
      else process.env['TMPDIR'] = usual
      await rm(folder, { recursive: true, force: true })
    },
  }
}
