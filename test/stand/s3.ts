// A real S3 server for a test: versitygw over a folder of its own, or the one that S3_ENDPOINT names.
import { execFile } from 'node:child_process'
import { mkdir, mkdtemp } from 'node:fs/promises'
import { get } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { freePort } from '../../shared/nats/server.ts'
import { builtByGo, program, type Program } from './program.ts'

export interface S3Server {
  endpoint: string
  accessKeyId: string
  secretAccessKey: string
  region: string
  close(): Promise<void>
}

export interface OwnS3Server extends S3Server {
  /** Makes a user who owns nothing yet. */
  user(accessKeyId: string, secretAccessKey: string): Promise<void>
}

const binary = builtByGo('versitygw')

/** When S3_ENDPOINT is set, that one, with the AWS variables: its buckets are its owner's, so tests name theirs so that they are unique. */
export async function s3Server(): Promise<S3Server> {
  const { S3_ENDPOINT: endpoint, AWS_ACCESS_KEY_ID: accessKeyId, AWS_SECRET_ACCESS_KEY: secretAccessKey, AWS_REGION: region = 'us-east-1' } = process.env
  if (!endpoint) return ownS3Server()
  if (!accessKeyId || !secretAccessKey) throw new Error('S3_ENDPOINT is set: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY must be, too')
  return { endpoint, accessKeyId, secretAccessKey, region, close: async () => undefined }
}

/** One that may be ended in the middle. `parent`: where its folder is made. */
export async function ownS3Server(parent = tmpdir()): Promise<OwnS3Server> {
  const root = { access: 'kiln-test', secret: 'kiln-test-secret', region: 'us-east-1' }
  const { server, endpoint } = await started(parent, root, false).catch((error: Error) => {
    if (!/xattr/.test(error.message)) throw error
    return started(parent, root, true)
  })
  const admin = ['admin', '--access', root.access, '--secret', root.secret, '--endpoint-url', endpoint]
  return {
    endpoint, accessKeyId: root.access, secretAccessKey: root.secret, region: root.region,
    async user(accessKeyId, secretAccessKey) {
      await promisify(execFile)(binary, [...admin, 'create-user', '--access', accessKeyId, '--secret', secretAccessKey, '--role', 'user'])
    },
    close: () => server.close(),
  }
}

interface Root { access: string; secret: string; region: string }

/** `sidecar`: what a file's extended attributes would hold is held in files beside. */
async function started(parent: string, { access, secret, region }: Root, sidecar: boolean): Promise<{ server: Program; endpoint: string }> {
  const folder = await mkdtemp(join(parent, 'kiln-test-s3-'))
  const inside = (name: string): string => join(folder, name)
  await Promise.all(['objects', 'users', 'beside'].map((name) => mkdir(inside(name))))
  const address = `127.0.0.1:${await freePort(0)}`
  const how = ['--port', address, '--region', region, '--health', '/healthz', '--keep-alive', '--iam-dir', inside('users')]
  const where = ['posix', ...(sidecar ? ['--sidecar', inside('beside')] : []), inside('objects')]
  const server = program(folder, binary, [...how, ...where], { ROOT_ACCESS_KEY: access, ROOT_SECRET_KEY: secret })
  if (await answers(`http://${address}/healthz`, server)) return { server, endpoint: `http://${address}` }
  await server.close()
  throw new Error(`${binary} did not start:\n${server.printed()}`)
}

/** It does not say when it listens, so it is asked until it answers. False: it ended before. */
async function answers(url: string, server: Program): Promise<boolean> {
  let alive = true
  void server.ended.then(() => { alive = false })
  const once = (): Promise<boolean> => new Promise((resolve) => {
    get(url, { agent: false }, (response) => { response.resume(); resolve(response.statusCode === 200) }).on('error', () => resolve(false))
  })
  while (alive) if (await once()) return true
  return false
}
