// Packages that call this process while they are installed, and go on when it says so: no index, no sleeping.
import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { createServer, type Socket } from 'node:net'
import type { BuildEnd } from '../../shared/builds.ts'

export interface Caller {
  /** Files of a package that is installed by the requirement `./caller`. */
  files: Record<string, string>
  /** The next call of an installation. Rejects when this build ends without one. */
  called(build: Promise<BuildEnd>): Promise<Socket>
  calls(): number
  close(): Promise<void>
}

export async function caller(host: string): Promise<Caller> {
  const calls: Socket[] = []
  let taken = 0
  const server = createServer((socket) => {
    socket.on('error', () => undefined).resume()
    calls.push(socket)
    server.emit('called')
  })
  await once(server.listen(0, host), 'listening')
  const { port } = server.address() as { port: number }
  return {
    files: packageThatCalls(host, port),
    calls: () => calls.length,
    async called(build) {
      const ended = build.then((end) => { throw new Error(`the build ended without a call: ${JSON.stringify(end)}`) })
      while (calls.length <= taken) await Promise.race([once(server, 'called'), ended])
      ended.catch(() => undefined)
      return calls[taken++]!
    },
    async close() {
      for (const socket of calls) socket.destroy()
      await new Promise((resolve) => server.close(resolve))
    },
  }
}

/** It waits for one byte, then makes itself; a closed connection fails it. */
const packageThatCalls = (host: string, port: number): Record<string, string> => ({
  'requirements.txt': `# ${randomUUID()}\n./caller\n`,
  'caller/pyproject.toml': '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n[project]\nname = "caller"\nversion = "1.0"\n',
  'caller/backend.py': `import os, socket, zipfile
def build_wheel(folder, config_settings=None, metadata_directory=None):
    with socket.create_connection(("${host}", ${port})) as call:
        if not call.recv(1): raise SystemExit("hung up")
    name = "caller-1.0-py3-none-any.whl"
    with zipfile.ZipFile(os.path.join(folder, name), "w") as wheel:
        wheel.writestr("caller.py", "answer = 42\\n")
        wheel.writestr("caller-1.0.dist-info/METADATA", "Metadata-Version: 2.1\\nName: caller\\nVersion: 1.0\\n")
        wheel.writestr("caller-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\\nGenerator: test\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        wheel.writestr("caller-1.0.dist-info/RECORD", "caller.py,,\\ncaller-1.0.dist-info/METADATA,,\\ncaller-1.0.dist-info/WHEEL,,\\ncaller-1.0.dist-info/RECORD,,\\n")
    return name
`,
})
