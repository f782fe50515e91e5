// Limits: what this machine can hold a lambda to, and what it cannot offer one at all.
import { accessSync, constants, existsSync, readFileSync } from 'node:fs'
import { delimiter, join } from 'node:path'
import { bytesOf, type DeployParameters } from '../parameters.ts'

const openFiles = 4_096

/** null: this system has none, and lambdas run without limits. */
export function findPrlimit(path: string): string | null {
  return path.split(delimiter).filter(Boolean).map((folder) => join(folder, 'prlimit')).find(isExecutable) ?? null
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK)
    return true
  } catch {
    return false
  }
}

export const memoryLimitOf = ({ resources }: DeployParameters): string | null => resources.limits.memory ?? null

/**
 * The command that runs `command` within its limits. The memory limit holds for each process of the pod by itself.
 * CPU shares and requests mean nothing here: whoever computes gets what is free.
 */
export function limited(prlimit: string | null, deploy: DeployParameters, command: string[]): string[] {
  if (prlimit === null) return command
  const memory = memoryLimitOf(deploy)
  return [prlimit, ...(memory === null ? [] : [`--data=${bytesOf(memory)}`]), `--nofile=${Math.min(openFiles, mostOpenFiles())}`, '--', ...command]
}

/** Nobody may raise a limit above its hard one. */
function mostOpenFiles(): number {
  try {
    const hard = /^Max open files\s+\d+\s+(\d+)/m.exec(readFileSync('/proc/self/limits', 'utf8'))?.[1]
    return hard === undefined ? openFiles : Number(hard)
  } catch {
    return openFiles
  }
}

/** What keeps the lambda from running here, and how to go on; null: nothing. */
export function missing(deploy: DeployParameters, gpuDevice: string): string | null {
  const labels = Object.entries(deploy.selector).map(([key, value]) => `${key}=${value}`)
  const secrets = Object.values(deploy.secrets).map(({ name, key }) => `${name}/${key}`)
  const lacks = [
    ...(deploy.enable_gpu && !existsSync(gpuDevice) ? [`This machine has no GPU (${gpuDevice}): set deploy_parameters.enable_gpu to false, or run kiln where there is one.`] : []),
    ...(labels.length > 0 ? [`This machine has no node labels, and the lambda needs ${labels.join(', ')}: empty deploy_parameters.selector, or run kiln on Kubernetes.`] : []),
    ...(secrets.length > 0 ? [`This machine has no Kubernetes secrets, and the lambda needs ${secrets.join(', ')}: give the values in deploy_parameters.env, or run kiln on Kubernetes.`] : []),
  ]
  return lacks.length === 0 ? null : lacks.join(' ')
}
