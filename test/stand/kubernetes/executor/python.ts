// Python for the RUN lines of a build: `python3` and `pip` of a fresh virtual environment, whose packages then go into the image.
import { existsSync } from 'node:fs'
import { cp, mkdir, readdir, writeFile } from 'node:fs/promises'
import { basename, delimiter, join } from 'node:path'

export interface Python {
  /** Makes the virtual environment, once. Throws when this machine cannot. */
  prepare(): Promise<void>
  /** The environment of a RUN line: what the Dockerfile sets, and where `python3` is found. */
  env(given: Record<string, string>): Record<string, string>
  /** Copies what was installed into the root; where it is in the image, or null when nothing was. */
  packagesInto(root: string): Promise<string | null>
}

/** In the image, beside the lambda's own files. */
const packages = '/lambda/.packages'

/** Like `-m venv`, but pip is taken from the wheel that Python carries instead of being installed, which would take seconds. */
const makeVenv = `
import ensurepip, glob, os, sys, sysconfig, venv, zipfile
home = sys.argv[1]
bundled = os.path.join(os.path.dirname(ensurepip.__file__), "_bundled")
wheels = [wheel for folder in (bundled, "/usr/share/python-wheels") for wheel in glob.glob(os.path.join(folder, "pip-*.whl"))]
venv.create(home, with_pip=False, symlinks=True)
zipfile.ZipFile(wheels[0]).extractall(os.path.join(home, "pip"))
site = sysconfig.get_path("purelib", "venv", {"base": home})
# What the interpreter has, the image has: like a base image that comes with the runtime's packages.
open(os.path.join(site, "of-the-stand-in.pth"), "w").write("\\n".join([os.path.join(home, "pip"), sysconfig.get_path("purelib")]))
print(site)
`

export interface PythonParts {
  folder: string
  interpreter: string
  machine: NodeJS.ProcessEnv
  /** Runs a program, and resolves with what it printed. */
  ask(command: string[], env: Record<string, string>): Promise<string>
}

export function python({ folder, interpreter, machine, ask }: PythonParts): Python {
  const home = join(folder, 'python')
  const ofMachine = Object.fromEntries(Object.entries(machine).filter(([, value]) => value !== undefined)) as Record<string, string>
  let site: string | null = null
  let before: string[] = []

  return {
    async prepare() {
      if (site !== null) return
      site = (await ask([interpreter, '-c', makeVenv, home], ofMachine)).trim()
      before = await readdir(site)
    },
    env(given) {
      const places = [...(site !== null ? [join(home, 'bin')] : []), join(folder, 'programs'), given['PATH'], machine['PATH']].filter(Boolean)
      // Nothing that depends on the time of the build gets into the image.
      return { ...ofMachine, ...given, PATH: places.join(delimiter), PIP_NO_COMPILE: '1', PYTHONDONTWRITEBYTECODE: '1' }
    },
    async packagesInto(root) {
      const made = site === null ? [] : (await readdir(site)).filter((name) => !before.includes(name))
      if (made.length === 0) return null
      await mkdir(join(root, packages), { recursive: true })
      for (const name of made) await cp(join(site!, name), join(root, packages, name), { recursive: true, filter: isKept })
      return packages
    },
  }
}

/** These name the folder of this one build. */
const isKept = (path: string): boolean => !/\.dist-info\/(RECORD|direct_url\.json)$/.test(path) && basename(path) !== '__pycache__'

/** The path of a program, so that a shim of the same name does not find itself. */
export function pathOf(name: string, path: string): string {
  if (name.includes('/')) return name
  return path.split(delimiter).map((place) => join(place, name)).find((file) => existsSync(file)) ?? name
}

/** `python3` and `pip` under the names that images have for them: the interpreter of the tests, or that of the virtual environment. */
export async function makeShims(folder: string, interpreter: string): Promise<void> {
  await mkdir(join(folder, 'programs'), { recursive: true })
  const shim = (name: string, command: string): Promise<void> => writeFile(join(folder, 'programs', name), `#!/bin/sh\nexec ${command} "$@"\n`, { mode: 0o755 })
  for (const name of ['python3', 'python']) await shim(name, `"${interpreter}"`)
  for (const name of ['pip3', 'pip']) await shim(name, 'python3 -m pip')
}
