// The refusals of the Kubernetes API, with the bodies that a real one was recorded to send.
import { kindName, kinds, resourceName } from './kinds.ts'
import type { Kind } from './store.ts'

export interface Cause {
  reason?: string
  message: string
  field?: string
}

export interface Details {
  name?: string
  group?: string
  kind?: string
  causes?: Cause[]
  retryAfterSeconds?: number
}

/** Thrown anywhere below a request, it becomes the answer. `body` is a Status object, or text. */
export class ApiError extends Error {
  readonly status: number
  readonly body: unknown
  readonly headers: Record<string, string>

  constructor(status: number, body: unknown, headers: Record<string, string> = {}) {
    super(typeof body === 'string' ? body : String((body as { message?: string }).message))
    this.status = status
    this.body = body
    this.headers = headers
  }
}

export function failure(code: number, message: string, more: { reason?: string; details?: Details; metadata?: object; headers?: Record<string, string> } = {}): ApiError {
  const { reason, details, metadata = {}, headers } = more
  const body = { kind: 'Status', apiVersion: 'v1', metadata, status: 'Failure', message, ...(reason && { reason }), ...(details && { details }), code }
  return new ApiError(code, body, headers)
}

const group = (kind: Kind): { group?: string } => (kinds[kind].group === '' ? {} : { group: kinds[kind].group })
/** Most refusals name the resource: `{ name, group: 'apps', kind: 'deployments' }`. */
const resource = (kind: Kind, name: string): Details => ({ ...(name && { name }), ...group(kind), kind })
/** Some name the kind: `{ name, group: 'apps', kind: 'Deployment' }`. */
const ofKind = (kind: Kind, name: string): Details => ({ ...(name && { name }), ...group(kind), kind: kinds[kind].kind })

export const badRequest = (message: string): ApiError => failure(400, message, { reason: 'BadRequest' })

/** `Pod in version "v1" cannot be handled as a Pod: …` */
export const notDecodable = (kind: string, version: string, as: string, why: string): ApiError =>
  badRequest(`${kind} in version "${version}" cannot be handled as a ${as}: ${why}`)

export const unauthorized = (): ApiError => failure(401, 'Unauthorized', { reason: 'Unauthorized' })

/** `pods "x" is forbidden: <why>`: quota, PodSecurity, a missing ServiceAccount; without a name `pods is forbidden: <why>`. */
export function forbidden(kind: Kind, name: string, why: string, causes?: Cause[]): ApiError {
  const what = name === '' ? resourceName(kinds[kind]) : `${resourceName(kinds[kind])} "${name}"`
  return failure(403, `${what} is forbidden: ${why}`, { reason: 'Forbidden', details: { ...resource(kind, name), ...(causes && { causes }) } })
}

/** No rule gives this right. `resource` is `pods` or `pods/log`; namespace null is the cluster scope. */
export function notAllowed(user: string, verb: string, kind: Kind, subresource: string, name: string, namespace: string | null): ApiError {
  const where = namespace === null ? 'at the cluster scope' : `in the namespace "${namespace}"`
  const what = subresource === '' ? kind : `${kind}/${subresource}`
  return forbidden(kind, name, `User "${user}" cannot ${verb} resource "${what}" in API group "${kinds[kind].group}" ${where}`)
}

export const namespaceTerminating = (kind: Kind, name: string, namespace: string): ApiError =>
  forbidden(kind, name, `unable to create new content in namespace ${namespace} because it is being terminated`,
    [{ reason: 'NamespaceTerminating', message: `namespace ${namespace} is being terminated`, field: 'metadata.namespace' }])

export const notFound = (kind: Kind, name: string): ApiError =>
  failure(404, `${resourceName(kinds[kind])} "${name}" not found`, { reason: 'NotFound', details: resource(kind, name) })

/** A known group, but no such resource in it. */
export const unknownResource = (): ApiError => failure(404, 'the server could not find the requested resource', { reason: 'NotFound', details: {} })

/** A group that is not installed: the only 404 without a Status. */
export const unknownGroup = (): ApiError => new ApiError(404, '404 page not found\n')

export const methodNotAllowed = (): ApiError =>
  failure(405, 'the server does not allow this method on the requested resource', { reason: 'MethodNotAllowed', details: {} })

const representations = 'application/json, application/yaml, application/vnd.kubernetes.protobuf'
export const notAcceptable = (): ApiError => failure(406,
  `406: Not Acceptable\n\nAvailable representations: ${representations}, application/json;stream=watch, application/vnd.kubernetes.protobuf;stream=watch`,
  { reason: 'NotAcceptable', details: {} })

export const alreadyExists = (kind: Kind, name: string): ApiError =>
  failure(409, `${resourceName(kinds[kind])} "${name}" already exists`, { reason: 'AlreadyExists', details: resource(kind, name) })

/** The name is taken by an object that is on its way out: the reason is the same, only the text differs. */
export const beingDeleted = (kind: Kind, name: string): ApiError =>
  failure(409, `object is being deleted: ${resourceName(kinds[kind])} "${name}" already exists`, { reason: 'AlreadyExists', details: resource(kind, name) })

const modified = 'the object has been modified; please apply your changes to the latest version and try again'
/** A resourceVersion that is not the current one, in the body of a PUT or PATCH. */
export const conflict = (kind: Kind, name: string, why = modified): ApiError =>
  failure(409, `Operation cannot be fulfilled on ${resourceName(kinds[kind])} "${name}": ${why}`, { reason: 'Conflict', details: resource(kind, name) })

/** A precondition of a DELETE that does not hold. */
export const preconditionFailed = (kind: Kind, name: string, why: string): ApiError =>
  failure(409, `Operation cannot be fulfilled on ${kindName(kinds[kind])} "${name}": ${why}`, { reason: 'Conflict', details: ofKind(kind, name) })

/** Fields of a server-side apply that others own: who, and the path of the field. */
export function fieldConflicts(conflicts: Array<{ owner: string; field: string }>): ApiError {
  const causes = conflicts.map(({ owner, field }) => ({ reason: 'FieldManagerConflict', message: `conflict with ${owner}`, field }))
  return failure(409, fieldConflictText(conflicts), { reason: 'Conflict', details: { causes } })
}

function fieldConflictText(conflicts: Array<{ owner: string; field: string }>): string {
  const [only, ...others] = conflicts
  if (others.length === 0) return `Apply failed with 1 conflict: conflict with ${only!.owner}: ${only!.field}`
  const owners = [...new Set(conflicts.map(({ owner }) => owner))]
  const lines = owners.flatMap((owner) => [`conflicts with ${owner}:`, ...conflicts.filter((one) => one.owner === owner).map(({ field }) => `- ${field}`)])
  return `Apply failed with ${conflicts.length} conflicts: ${lines.join('\n')}`
}

export const expired = (message: string, metadata: object = {}): ApiError => failure(410, message, { reason: 'Expired', metadata })

/** A watch from a version whose changes are forgotten. It is told in an ERROR event, not by an HTTP status. */
export const tooOld = (asked: string, oldest: number): ApiError => expired(`too old resource version: ${asked} (${oldest})`)

export const listTooOld = (): ApiError => expired('The resourceVersion for the provided list is too old.')

/** `token` goes on from the same place, in the present state. */
export const continueTooOld = (token: string): ApiError => expired('The provided continue parameter is too old to display a consistent list result. '
  + 'You can start a new list without the continue parameter, or use the continue token in this response to retrieve the remainder of the results. '
  + 'Continuing with the provided token results in an inconsistent list - objects that were created, modified, or deleted between the time the first chunk '
  + 'was returned and now may show up in the list.', { continue: token })

export const entityTooLarge = (limit: number): ApiError => failure(413, `Request entity too large: limit is ${limit}`, { reason: 'RequestEntityTooLarge' })

export const unsupportedBody = (): ApiError => failure(415,
  `the body of the request was in an unknown format - accepted media types include: ${representations}`, { reason: 'UnsupportedMediaType' })

export const unsupportedPatch = (): ApiError => failure(415, '415: Unsupported Media Type', { reason: 'UnsupportedMediaType', details: {} })

/** What a body means is not allowed: one cause for each field. */
export const invalid = (kind: Kind, name: string, causes: Cause[]): ApiError => unprocessable(kindName(kinds[kind]), name, ofKind(kind, name), causes)

/** The same for what is no object of its own: `PatchOptions.meta.k8s.io ""`, `PodLogOptions "x"`, `Scale.autoscaling "x"`. */
export const invalidOptions = (kind: string, of: string, name: string, causes: Cause[]): ApiError =>
  unprocessable(of === '' ? kind : `${kind}.${of}`, name, { ...(name && { name }), ...(of && { group: of }), kind }, causes)

function unprocessable(what: string, name: string, details: Details, causes: Cause[]): ApiError {
  const lines = causes.map(({ field, message }) => `${field}: ${message}`)
  const text = lines.length === 1 ? lines[0]! : `[${lines.join(', ')}]`
  return failure(422, `${what} "${name}" is invalid: ${text}`, { reason: 'Invalid', details: { ...details, causes } })
}

export const patchRejected = (): ApiError =>
  failure(422, 'the server rejected our request due to an error in our request', { reason: 'Invalid', details: {} })

/** 429 of priority and fairness is text. */
export const tooManyRequests = (): ApiError => new ApiError(429, 'Too many requests, please try again later.\n', { 'Retry-After': '1' })

/** 500 without a reason: what the server did not expect, such as a wrong type in an apply. */
export const unexpected = (message: string): ApiError => failure(500, message)

export const internalError = (message: string): ApiError =>
  failure(500, `Internal error occurred: ${message}`, { reason: 'InternalError', details: { causes: [{ message }] } })

export const versionTooLarge = (asked: string, current: number): ApiError => failure(504, `Timeout: Too large resource version: ${asked}, current: ${current}`, {
  reason: 'Timeout', headers: { 'Retry-After': '1' },
  details: { causes: [{ reason: 'ResourceVersionTooLarge', message: 'Too large resource version' }], retryAfterSeconds: 1 },
})

/** The forms that causes of a 422 have. */
export const invalidValue = (field: string, value: unknown, why: string): Cause =>
  ({ reason: 'FieldValueInvalid', message: `Invalid value: ${JSON.stringify(value)}: ${why}`, field })
export const required = (field: string, why = ''): Cause => ({ reason: 'FieldValueRequired', message: why === '' ? 'Required value' : `Required value: ${why}`, field })
export const unsupportedValue = (field: string, value: unknown, supported: string[]): Cause =>
  ({ reason: 'FieldValueNotSupported', message: `Unsupported value: ${JSON.stringify(value)}: supported values: ${supported.map((one) => `"${one}"`).join(', ')}`, field })
export const forbiddenValue = (field: string, why: string): Cause => ({ reason: 'FieldValueForbidden', message: `Forbidden: ${why}`, field })
export const tooLong = (field: string, limit: number, unit: string): Cause =>
  ({ reason: 'FieldValueTooLong', message: `Too long: may not be more than ${limit} ${unit}`, field })
