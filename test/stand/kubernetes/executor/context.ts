// The build context: fetched from S3 and unpacked, or a folder that is there already.
import { mkdir, writeFile } from 'node:fs/promises'
import { dirname, join, normalize } from 'node:path'
import { entriesOf, plainTar } from '../tar-entries.ts'

/** It cannot be had, in these words. */
export class ContextTrouble extends Error {
  readonly what: string

  constructor(message: string, options?: ErrorOptions, what = 'source context') {
    super(message, options)
    this.what = what
  }
}

/** The folder in which the context is. */
export async function contextFolder(context: string, folder: string, env: NodeJS.ProcessEnv): Promise<string> {
  const [, scheme = 'dir', rest = context] = /^(\w+):\/\/(.*)$/s.exec(context) ?? []
  if (scheme === 'dir') return rest
  if (scheme !== 's3') throw new ContextTrouble('unknown build context prefix provided, please use one of the following: gs://, dir://, tar://, s3://, git://, https://')
  const slash = rest.indexOf('/')
  const archive = await fetched(rest.slice(0, slash), rest.slice(slash + 1), env)
  await unpack(archive, folder)
  return folder
}

async function fetched(bucket: string, key: string, env: NodeJS.ProcessEnv): Promise<Buffer> {
  // What the client says of its makers' plans has no place in the log of a build.
  process.env['AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED'] = 'true'
  const { GetObjectCommand, S3Client } = await import('@aws-sdk/client-s3')
  const { S3_ENDPOINT: endpoint, S3_FORCE_PATH_STYLE: pathStyle, AWS_REGION: region = 'us-east-1' } = env
  const client = new S3Client({ ...(endpoint && { endpoint }), forcePathStyle: pathStyle === 'true', region })
  try {
    const { Body } = await client.send(new GetObjectCommand({ Bucket: bucket, Key: key }))
    return Buffer.from(await Body!.transformToByteArray())
  } catch (error) {
    throw new ContextTrouble(wordsOf(error as Error), { cause: error })
  } finally {
    client.destroy()
  }
}

function wordsOf(error: Error & { $metadata?: { httpStatusCode?: number; requestId?: string; extendedRequestId?: string } }): string {
  const { httpStatusCode, requestId = '', extendedRequestId = '' } = error.$metadata ?? {}
  const operation = 'operation error S3: GetObject'
  if (httpStatusCode === undefined) {
    return `${operation}, exceeded maximum number of attempts, 3, https response error StatusCode: 0, RequestID: , HostID: , request send failed, ${error.message}`
  }
  return `${operation}, https response error StatusCode: ${httpStatusCode}, RequestID: ${requestId}, HostID: ${extendedRequestId}, ${error.name}: ${error.message}`
}

async function unpack(archive: Buffer, folder: string): Promise<void> {
  try {
    for await (const { header: { name, type, mode }, content } of entriesOf(plainTar(archive))) {
      const path = join(folder, normalize(join('/', name)))
      if (type === 'directory') await mkdir(path, { recursive: true, mode })
      if (type !== 'file') continue
      await mkdir(dirname(path), { recursive: true })
      await writeFile(path, content, { mode })
    }
  } catch (error) {
    throw new ContextTrouble(`unpacking the build context: ${(error as Error).message}`, { cause: error })
  }
}
