// Parameters: everything a user may say of a lambda, as one schema that validates, documents (OpenAPI) and types.
import { z } from 'zod'
import { imageBuilders } from './builds.ts'
import type { Finding } from './finding.ts'

const cpu = z.string().regex(/^(\d+m|\d+(\.\d{1,3})?)$/, 'must be a Kubernetes CPU quantity such as "500m" or "2"')
const memory = z.string().regex(/^\d+(\.\d+)?(Ki|Mi|Gi|Ti|k|M|G|T)?$/, 'must be a Kubernetes memory quantity such as "256Mi" or "1G"')
export const amounts = z.strictObject({ cpu: cpu.optional(), memory: memory.optional() })

const label = /^([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?$/
const labelKey = /^([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?\/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$/
const envName = z.string().regex(/^[A-Za-z_][A-Za-z0-9_]{0,127}$/, 'must be a name of letters, digits and _, not beginning with a digit')

export const namespace = z.string()
  .min(2, 'must have at least 2 characters').max(63, 'must have at most 63 characters')
  .regex(/^[a-z0-9]([-a-z0-9]*[a-z0-9])?$/, 'must be of lower-case letters, digits and -, with a letter or digit at both ends')
  .refine((name) => !name.startsWith('kube-'), 'must not begin with kube-')

const selectorKey = z.string().regex(labelKey, 'must be a Kubernetes label key')
  .refine((key) => !/^([^/]*\.)?(kubernetes|k8s)\.io\//.test(key), 'must not lie in kubernetes.io/ or k8s.io/')

export const selector = z.record(selectorKey, z.string().regex(label, 'must be a Kubernetes label value')).default({})

export const deployParameters = z.strictObject({
  namespace: namespace.default('default').describe('Kubernetes namespace; a name only on the local platform'),
  selector: selector.describe('node labels that the lambda needs'),
  enable_gpu: z.boolean().default(false),
  pod_count: z.int().min(0).max(100).default(1),
  workers: z.int().min(1).max(64).default(1).describe('server processes in each pod'),
  resources: z.strictObject({ requests: amounts.default({}), limits: amounts.default({}) }).default({ requests: {}, limits: {} }),
  autoscaling: z.strictObject({ min: z.int().min(1).max(100), max: z.int().min(1).max(100), target_cpu: z.int().min(1).max(100).default(80) })
    .refine((a) => a.min <= a.max, 'min must not be above max').nullable().default(null),
  env: z.record(envName, z.string().max(32_768)).default({}),
  secrets: z.record(envName, z.strictObject({ name: z.string().min(1).max(253), key: z.string().min(1).max(253) })).default({})
    .describe('environment variables taken from Kubernetes Secrets'),
})

export const parameters = z.strictObject({
  lambda_id: z.uuid().optional(),
  name: z.string().min(1).max(128).default('lambda'),
  description: z.string().max(256).default(''),
  lambda_type: z.literal('standalone').default('standalone'),
  base_image: z.string().min(1).max(512).regex(/^[a-z0-9]([\w./:@-]*[A-Za-z0-9])?$/, 'must be an image reference such as "registry/name:tag"').nullable().default(null)
    .describe('null: the operator\'s LAMBDA_BASE_IMAGE'),
  image_builder: z.enum(imageBuilders).nullable().default(null).describe('null: the operator\'s IMAGE_BUILDER; another only where the operator allows it'),
  user_docker_commands: z.array(z.string().min(1).max(4_096).regex(/^[^\0\r\n]*$/, 'must be one Dockerfile line')).max(100).default([]),
  user_config: z.record(z.string(), z.unknown()).default({}),
  archive_ttl: z.int().min(0).nullable().default(null).describe('seconds that the archive is kept after it was built; null: as long as a version refers to it'),
  deploy_parameters: deployParameters.prefault({}),
})

/** As a user sends them: everything may be left out. */
export type GivenParameters = z.input<typeof parameters>
export type Parameters = Omit<z.output<typeof parameters>, 'lambda_id'>
export type DeployParameters = z.output<typeof deployParameters>

/** All parameters together; `user_config` counts most. A record holds the last versions and must fit a NATS message. */
const maxParametersBytes = 64 * 1024

/** Checks what a user sent: complete parameters, or all findings at once. `lambda_id` comes back apart, in lower case. */
export function parseParameters(given: unknown): { ok: true; id: string | null; parameters: Parameters } | { ok: false; findings: Finding[] } {
  const size = Buffer.byteLength(JSON.stringify(given) ?? '')
  if (size > maxParametersBytes) return { ok: false, findings: [tooLarge(size)] }
  const result = parameters.safeParse(given)
  if (!result.success) return { ok: false, findings: result.error.issues.flatMap(findingsOf) }
  const { lambda_id: id, ...rest } = result.data
  return { ok: true, id: id?.toLowerCase() ?? null, parameters: rest }
}

const tooLarge = (size: number): Finding => ({
  code: 'ParametersTooLarge', field: 'parameters', message: `The parameters have ${size} bytes; at most ${maxParametersBytes} are taken.`,
  fix: 'Put large configuration into a file of the archive.',
})

export function findingsOf(issue: z.core.$ZodIssue): Finding[] {
  const at = issue.path.map(String)
  if (issue.code === 'unrecognized_keys') {
    return issue.keys.map((key) => {
      const field = [...at, key].join('.')
      return { code: 'UnknownParameter', field, message: `There is no parameter ${field}.`, fix: 'Remove it, or correct its name: /docs lists them all.' }
    })
  }
  const field = at.join('.') || 'parameters'
  const message = `${field}: ${issue.message.replace(/^Invalid input: /, '')}`
  return [{ code: 'BadParameter', field, message: message.endsWith('.') ? message : `${message}.`, fix: `Correct ${field}; /docs describes each parameter.` }]
}

/** RFC 7396: objects are merged, null removes, everything else replaces. */
export function mergePatch(target: unknown, patch: unknown): unknown {
  if (!isObject(patch)) return patch
  const merged: Record<string, unknown> = isObject(target) ? { ...target } : {}
  for (const [key, value] of Object.entries(patch)) {
    if (value === null) delete merged[key]
    else Object.defineProperty(merged, key, { value: mergePatch(merged[key], value), enumerable: true, configurable: true, writable: true })
  }
  return merged
}

const isObject = (value: unknown): value is Record<string, unknown> => typeof value === 'object' && value !== null && !Array.isArray(value)

/** What the image is made of besides the archive: when none of it changes, nothing is built. */
export const imageParameters = (p: Parameters): unknown => ({ base_image: p.base_image, user_docker_commands: p.user_docker_commands })

/** `256Mi` → bytes; `1G` → 10^9. */
export function bytesOf(quantity: string): number {
  const [, number, unit] = /^([\d.]+)([A-Za-z]*)$/.exec(quantity) ?? []
  const scale = { '': 1, k: 1e3, M: 1e6, G: 1e9, T: 1e12, Ki: 2 ** 10, Mi: 2 ** 20, Gi: 2 ** 30, Ti: 2 ** 40 }[unit ?? '']
  if (number === undefined || scale === undefined) throw new Error(`${quantity} is not a quantity of bytes`)
  return Math.floor(Number(number) * scale)
}
