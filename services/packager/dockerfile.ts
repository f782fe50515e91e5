// The Dockerfile of a lambda's image: base image, the user's commands, packages, code. And that of its environment: the same without the code.
import { runs } from '../../shared/running.ts'

export interface Recipe {
  baseImage: string
  userDockerCommands: string[]
  /** Whether the runtime's packages must be installed: the base image does not hold them. */
  installsRuntime: boolean
  hasRequirements: boolean
}

/** In a context the code lies where it lies in the image. */
export const codeFolder = 'lambda'
export const runtimeRequirements = 'luna_lambda_tools/requirements.txt'

/** One line an instruction; each input on a line of its own, so that layers are reused for as long as what they hold is equal. */
export function dockerfile(recipe: Recipe): string {
  return lines([
    ...beginning(recipe),
    `COPY ${asRoot} ${codeFolder}/ /${codeFolder}/`,
    ...(recipe.hasRequirements ? [install('requirements.txt')] : []),
    ...Object.entries(runs.env).map(([name, value]) => `ENV ${name}=${value}`),
    ...runs.ports.map((port) => `EXPOSE ${port.replace('/tcp', '')}`),
    `ENTRYPOINT ${JSON.stringify(runs.entrypoint).replaceAll('","', '", "')}`,
    // A CMD of the user's would be the entry point's arguments.
    'CMD []',
  ])
}

/** `takesFiles`: something of the archive is installed, so all of it must be there. */
export function environmentDockerfile(recipe: Recipe & { takesFiles: boolean }): string {
  const requirements = recipe.takesFiles ? `COPY ${asRoot} ${codeFolder}/ /${codeFolder}/` : `COPY ${asRoot} ${codeFolder}/requirements.txt requirements.txt`
  return lines([...beginning(recipe), ...(recipe.hasRequirements ? [requirements, install('requirements.txt')] : [])])
}

function beginning({ baseImage, userDockerCommands, installsRuntime }: Recipe): string[] {
  return [
    `FROM ${baseImage}`, ...userDockerCommands, `WORKDIR ${runs.workingDir}`,
    ...(installsRuntime ? [`COPY ${asRoot} ${codeFolder}/${runtimeRequirements} ${runtimeRequirements}`, install(runtimeRequirements)] : []),
  ]
}

/** As in a code layer, also after a USER of the user's: kaniko would give the files to that one. */
const asRoot = '--chown=0:0'
const install = (file: string): string => `RUN python3 -m pip install --no-cache-dir -r ${file}`
const lines = (all: string[]): string => [...all, ''].join('\n')
