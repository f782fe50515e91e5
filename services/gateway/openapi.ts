// The HTTP interface as OpenAPI 3.1. Parameters come from the schema that validates them.
import { z } from 'zod'
import { buildParameters } from '../../shared/build-parameters.ts'
import { parameters } from '../../shared/parameters.ts'

const ref = (name: string) => ({ $ref: `#/components/schemas/${name}` })
const json = (schema: unknown, description: string) => ({ description, content: { 'application/json': { schema } } })
const problemAnswer = (description: string) => ({ description, content: { 'application/problem+json': { schema: ref('Problem') } } })
const query = (name: string, schema: unknown, description: string) => ({ name, in: 'query', schema, description })
const idInPath = { name: 'id', in: 'path', required: true, schema: { type: 'string', format: 'uuid' } }

const accepted = { 202: json(ref('Accepted'), 'it is written down; follow it by /status or /events'), 404: problemAnswer('42001: no such lambda') }
const read = (schema: unknown, description: string) => ({ 200: json(schema, description), 404: problemAnswer('42001: no such lambda') })
const streamed = (schema: unknown, description: string) => ({
  200: { description, content: { 'application/json': { schema }, 'text/event-stream': { schema: { type: 'string' } } } }, 404: problemAnswer('42001: no such lambda'),
})
/** `inJson`: fields that are taken in a JSON body only. */
const wish = (parametersSchema: unknown, inJson: object = {}) => ({
  content: {
    'multipart/form-data': { schema: { type: 'object', properties: { archive: { type: 'string', format: 'binary' }, parameters: parametersSchema } }, encoding: { parameters: { contentType: 'application/json' } } },
    'application/json': { schema: { type: 'object', properties: { archive: { type: 'string', description: 'nats://<bucket>/<name>, or sha256:<hex> of one that is stored' }, parameters: parametersSchema, ...inJson } } },
  },
})
const rebase = { type: 'boolean', default: false, description: 'true: a new version on the base image as it is now, even when nothing else changes' }
const logQueries = [
  query('follow', { type: 'boolean' }, 'as Server-Sent Events'), query('tail', { type: 'integer' }, 'only the last lines of each pod'),
  query('version', { type: 'integer' }, 'of another version'),
]

const op = (operationId: string, summary: string, responses: unknown, more: object = {}) => ({ operationId, summary, responses, ...more })
const text = { type: 'string' }
const dateTime = { type: 'string', format: 'date-time' }
const nullable = (type: string) => ({ type: [type, 'null'] })

const lambdaSummary = {
  type: 'object',
  properties: {
    lambda_id: { type: 'string', format: 'uuid' }, account: text, name: text, version: { type: 'integer' }, serving_version: nullable('integer'), alive: { type: 'boolean' },
    status: { enum: ['running', 'waiting', 'terminated', 'not_found', 'pending'] }, state: text, reason: nullable('string'), message: nullable('string'),
  },
}

const schemas = {
  Accepted: { type: 'object', required: ['lambda_id', 'version'], properties: { lambda_id: { type: 'string', format: 'uuid' }, version: { type: 'integer' } } },
  Problem: {
    type: 'object', required: ['title', 'status', 'detail', 'request_id'],
    properties: { title: text, status: { type: 'integer' }, detail: text, request_id: text, error_code: { type: 'integer' }, reason: text, errors: { type: 'array', items: ref('Finding') } },
  },
  Finding: {
    type: 'object', required: ['code', 'message', 'fix'],
    properties: { code: text, message: text, fix: text, file: text, line: { type: 'integer' }, column: { type: 'integer' }, field: text },
  },
  Summary: lambdaSummary,
  Lambda: { allOf: [ref('Summary'), { type: 'object', properties: { image: { type: 'object', properties: { base: ref('BaseImage') } }, failure: nullable('object'), parameters: ref('Parameters'), versions: { type: 'array', items: { type: 'object' } }, timeline: { type: 'array', items: { type: 'object' } } } }] },
  BaseImage: {
    type: ['object', 'null'], description: 'what the image is made on; null where nothing is, or not yet',
    properties: { name: text, reference: { type: 'string', description: 'with the digest that it had' }, newer: { type: ['string', 'null'], description: 'what the name stands for now, when that is another; PUT {"rebase": true} goes there' } },
  },
  Garbage: {
    type: 'object', required: ['unneeded', 'bytes', 'grace_seconds'],
    properties: {
      unneeded: { type: 'array', items: { allOf: [ref('Piece'), { type: 'object', properties: { since: dateTime, removed_after: dateTime, kept: { ...text, description: 'why it could not be removed so far' } } }] } },
      bytes: { type: 'integer', description: 'what is free without all of it' }, grace_seconds: { type: 'number' },
    },
  },
  Collected: {
    type: 'object', required: ['removed', 'kept', 'bytes'],
    properties: { removed: { type: 'array', items: ref('Piece') }, kept: { type: 'array', items: { type: 'object', properties: { name: text, why: text } } }, bytes: { type: 'integer' } },
  },
  Piece: { type: 'object', required: ['kind', 'name', 'bytes'], properties: { kind: { enum: ['archive', 'context', 'image', 'environment'] }, name: text, bytes: { type: 'integer', description: 'of what nothing that stays is made of' } } },
  Build: {
    type: 'object',
    properties: {
      build_id: { type: 'string', format: 'uuid' }, account: text, image_name: text, tag: text, status: { enum: ['in_progress', 'pending', 'error', 'completed', 'not_found'] }, state: text, reason: nullable('string'), message: nullable('string'),
      queue_position: { type: 'integer' }, expected_start: { type: ['string', 'null'], format: 'date-time', description: 'an estimate, from how long builds took of late' }, reference: nullable('string'), digest: nullable('string'), failure: nullable('object'),
      created: dateTime, updated: dateTime, parameters: ref('BuildParameters'), timeline: { type: 'array', items: { type: 'object' } },
    },
  },
  ImageStatus: { type: 'object', properties: { base: ref('BaseImage'), status: { enum: ['in_progress', 'pending', 'error', 'completed', 'not_found'] }, reason: nullable('string'), message: nullable('string'), queue_position: { type: 'integer' }, expected_start: { type: ['string', 'null'], format: 'date-time' }, failure: nullable('object') } },
}

const tooMany = problemAnswer('too many builds of this account wait; Retry-After says when to try again')
const buildStatuses = ['in_progress', 'pending', 'error', 'completed', 'not_found']
const buildAccepted = { 202: json({ type: 'object', required: ['build_id'], properties: { build_id: { type: 'string', format: 'uuid' } } }, 'it is written down; follow it by /status or /events'), 404: problemAnswer('no such build') }
const ofBuild = (schema: unknown, description: string) => ({ 200: json(schema, description), 404: problemAnswer('no such build') })

const notForTokens = problemAnswer('callers need tokens here: ask builder-watcher itself')

const paths = {
  '/lambdas': {
    post: op('createLambda', 'Make a lambda from a zip', { ...accepted, 200: json(ref('Accepted'), 'it exists already, the same'), 400: problemAnswer('42005: everything that is wrong, at once'), 409: problemAnswer('the id is taken by another lambda'), 413: problemAnswer('too large'), 429: tooMany },
      { requestBody: wish(ref('Parameters')), parameters: [{ name: 'Idempotency-Key', in: 'header', schema: text, description: 'the first answer is repeated for 24 hours' }] }),
    get: op('getLambdas', 'List lambdas', { 200: json({ type: 'object', properties: { lambdas: { type: 'array', items: ref('Summary') }, cursor: nullable('string') } }, 'a page') },
      { parameters: [query('status', lambdaSummary.properties.status, ''), query('name', text, 'exactly'), query('limit', { type: 'integer', minimum: 1, maximum: 1_000, default: 100 }, ''), query('cursor', text, 'of the page before')] }),
  },
  '/lambdas/{id}': {
    parameters: [idInPath],
    get: op('getLambda', 'One lambda, with versions and timeline', read(ref('Lambda'), 'the lambda')),
    put: op('putLambda', 'A new version: another archive, other parameters (merged), the base image as it is now, or all of it', { ...accepted, 200: json(ref('Accepted'), 'nothing changed'), 400: problemAnswer('42005'), 410: problemAnswer('42012: the archive is gone'), 429: tooMany }, { requestBody: wish({ type: 'object', description: 'merged into the present ones (RFC 7396)' }, { rebase }) }),
    delete: op('deleteLambda', 'Remove it and everything of it', accepted),
  },
  '/lambdas/{id}/disable': { parameters: [idInPath], post: op('disableLambda', 'Switch it off; the record stays', accepted) },
  '/lambdas/{id}/enable': { parameters: [idInPath], post: op('enableLambda', 'Switch it on again', accepted) },
  '/lambdas/{id}/cancel': { parameters: [idInPath], post: op('cancelLambda', 'Cancel the creation in flight', { ...accepted, 409: problemAnswer('nothing is in flight') }) },
  '/lambdas/{id}/rollback': { parameters: [idInPath], post: op('rollbackLambda', 'A new version with the content of an old one', accepted, { parameters: [query('version', { type: 'integer' }, 'the old one')] }) },
  '/lambdas/{id}/status': { parameters: [idInPath], get: op('getLambdaStatus', 'Lambda status, per pod', read({ allOf: [ref('Summary'), { type: 'object', properties: { pods: { type: 'array', items: { type: 'object' } } } }] }, 'the status')) },
  '/lambdas/{id}/logs': { parameters: [idInPath], get: op('getLambdaLogs', 'What it printed, per pod', streamed({ type: 'object' }, 'lines by pod'), { parameters: [...logQueries, query('previous', { type: 'boolean' }, 'of the run before the last restart')] }) },
  '/lambdas/{id}/image/status': { parameters: [idInPath], get: op('getLambdaImageStatus', 'Image creation status', read(ref('ImageStatus'), 'the status')) },
  '/lambdas/{id}/image/logs': { parameters: [idInPath], get: op('getLambdaImageCreationLogs', 'What the build printed', streamed({ type: 'object' }, 'lines'), { parameters: logQueries }) },
  '/lambdas/{id}/events': { parameters: [idInPath], get: op('getLambdaEvents', 'Its facts; as a stream they follow, and Last-Event-ID resumes', streamed({ type: 'object', properties: { events: { type: 'array', items: { type: 'object' } }, cursor: text } }, 'facts')) },
  '/lambdas/{id}/docs': { parameters: [idInPath], get: op('getLambdaSpec', 'The docs that its zip brought', { 200: { description: 'html or yml, by Accept' }, 404: problemAnswer('it brought none') }) },
  '/lambdas/{id}/proxy/{path}': {
    parameters: [idInPath, { name: 'path', in: 'path', required: true, schema: text, description: '`main` runs main(request)' }],
    ...Object.fromEntries(['get', 'post', 'put', 'patch', 'delete'].map((method) => [method, op(`${method}LambdaProxy`, 'Invoke it', {
      200: { description: 'what the lambda answers' }, 409: problemAnswer('it is disabled'), 502: problemAnswer('it broke off'), 503: problemAnswer('it is not running; the reason says why'), 504: problemAnswer('it took too long'),
    })])),
  },
  '/builds': {
    post: op('createImageBuild', 'Make an image from a zip, tar or tar.gz with a Dockerfile at its top', { ...buildAccepted, 400: problemAnswer('everything that is wrong, at once'), 403: problemAnswer('namespace or selector, where there are none'), 413: problemAnswer('too large'), 429: tooMany },
      { requestBody: wish(ref('BuildParameters')), parameters: [{ name: 'Idempotency-Key', in: 'header', schema: text, description: 'the same request again is the same build' }] }),
    get: op('getImageBuilds', 'List builds', { 200: json({ type: 'object', properties: { builds: { type: 'array', items: ref('Build') }, cursor: nullable('string') } }, 'a page') },
      { parameters: [query('status', { enum: buildStatuses }, ''), query('image_name', text, 'exactly'), query('limit', { type: 'integer', minimum: 1, maximum: 1_000, default: 100 }, ''), query('cursor', text, 'of the page before')] }),
  },
  '/builds/{id}': {
    parameters: [idInPath],
    get: op('getImageBuild', 'One build, with its parameters and timeline', ofBuild(ref('Build'), 'the build')),
    delete: op('deleteImageBuild', 'End it, and forget it and its log; the image stays in the registry', buildAccepted),
  },
  '/builds/{id}/status': { parameters: [idInPath], get: op('getImageBuildStatus', 'Where it stands, and while it waits its place and when its turn may come', ofBuild(ref('Build'), 'the status')) },
  '/builds/{id}/logs': { parameters: [idInPath], get: op('getImageBuildLogs', 'What it printed', streamed({ type: 'object' }, 'lines'), { parameters: logQueries.slice(0, 2) }) },
  '/builds/{id}/events': { parameters: [idInPath], get: op('getImageBuildEvents', 'Its facts; as a stream they follow, with its place in the queue', streamed({ type: 'object', properties: { events: { type: 'array', items: { type: 'object' } }, cursor: text } }, 'facts')) },
  '/builds/{id}/cancel': { parameters: [idInPath], post: op('cancelImageBuild', 'End it', { ...buildAccepted, 409: problemAnswer('nothing is in flight') }) },
  '/garbage': {
    get: op('getGarbage', 'For operators: what no version refers to, and when it goes; changes nothing', { 200: json(ref('Garbage'), 'what would go'), 403: notForTokens, 404: problemAnswer('this gateway has no BUILDER_URL') }),
    post: op('collectGarbage', 'For operators: remove what is due now', { 200: json(ref('Collected'), 'what went, and what stays'), 403: notForTokens, 404: problemAnswer('this gateway has no BUILDER_URL') }),
  },
  '/healthz': { get: op('getHealth', 'The process lives', { 200: { description: 'ok' } }) },
  '/readyz': { get: op('getReadiness', 'It can work; names the NATS address', { 200: { description: 'ready' }, 503: { description: 'not yet' } }) },
  '/metrics': { get: op('getMetrics', 'Prometheus text', { 200: { description: 'figures of each stage' } }) },
  '/openapi.json': { get: op('getOpenapi', 'This description', { 200: { description: 'OpenAPI 3.1' } }) },
  '/docs': { get: op('getDocs', 'This description as a page', { 200: { description: 'html' } }) },
}

export function openapi() {
  const parametersSchema = z.toJSONSchema(parameters, { io: 'input', target: 'draft-2020-12' })
  return {
    openapi: '3.1.0',
    info: { title: 'kiln', version: '0.1.0', description: 'Fires a zip into a running lambda. Every answer carries Luna-Request-Id; errors are application/problem+json.' },
    paths, components: { schemas: { ...schemas, Parameters: parametersSchema, BuildParameters: z.toJSONSchema(buildParameters, { io: 'input', target: 'draft-2020-12' }) } },
  }
}
