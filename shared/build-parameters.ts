// Parameters of a build: everything a user may say of an image that is built from an archive of their own. One schema validates, documents and types.
import { z } from 'zod'
import type { Finding } from './finding.ts'
import { amounts, findingsOf, namespace, selector } from './parameters.ts'
import { priorities } from './queue.ts'

/** `kaniko`: a pod; `local_kaniko`: on this machine. */
export const buildEngines = ['kaniko', 'local_kaniko'] as const
export type BuildEngine = (typeof buildEngines)[number]

const argumentName = z.string().regex(/^[A-Za-z_][A-Za-z0-9_]{0,127}$/, 'must be a name of letters, digits and _, not beginning with a digit')

export const buildParameters = z.strictObject({
  image_name: z.string().max(200).regex(/^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:\/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*$/, 'must be a repository such as "team/app", of lower-case letters and digits with . _ - between them')
    .refine((name) => !/^lambda-/.test(name), 'must not begin with lambda-: such images are kiln\'s own').describe('repository below LUNA_BUILDER_REGISTRY'),
  tag: z.string().regex(/^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$/, 'must be a tag of up to 128 letters, digits, and . _ -').default('latest'),
  image_builder: z.enum(buildEngines).nullable().default(null).describe('null: what this kiln has'),
  namespace: namespace.nullable().default(null).describe('Kubernetes namespace of the build pod; null: the first that this kiln serves'),
  selector: selector.describe('node labels that the build pod needs'),
  build_args: z.record(argumentName, z.string().max(4_096)).default({}).describe('values of the Dockerfile\'s ARGs'),
  resources: amounts.default({}).describe('limits of the build pod; absent: the operator\'s BUILD_LIMITS'),
  timeout: z.int().min(1).max(86_400).nullable().default(null).describe('seconds; null: the operator\'s BUILD_TIMEOUT'),
  priority: z.enum(priorities).nullable().default(null).describe('null: person over HTTP, automatic over NATS'),
})

/** As a user sends them: all but the name may be left out. */
export type GivenBuildParameters = z.input<typeof buildParameters>
export type BuildParameters = z.output<typeof buildParameters>

/** Complete parameters, or all findings at once. */
export function parseBuildParameters(given: unknown): { ok: true; parameters: BuildParameters } | { ok: false; findings: Finding[] } {
  const result = buildParameters.safeParse(given)
  return result.success ? { ok: true, parameters: result.data } : { ok: false, findings: result.error.issues.flatMap(findingsOf) }
}
