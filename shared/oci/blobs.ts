// Blobs of a registry: configurations and layers, by their digests.
import { Unavailable } from '../trouble.ts'
import { nothing, trouble, type Host } from './answers.ts'
import { isDigest } from './image-name.ts'
import { repositoryPath } from './manifests.ts'
import { beyond } from './reading.ts'
import { uploads, type Upload } from './uploads.ts'

export interface Blobs {
  /** The blob as it comes, beginning at byte `from`; null: there is none. It is read to its end or left, which closes the connection; it breaks off with Unavailable. */
  blob(repository: string, digest: string, from?: number): Promise<AsyncIterable<Buffer> | null>
  hasBlob(repository: string, digest: string): Promise<boolean>
  /** Makes a blob of the repository `from` one of this repository too, without moving it. False: the registry does not do that. */
  mount(repository: string, digest: string, from: string): Promise<boolean>
  /** Sees to it that the registry has it. Rejects with the signal's reason when that aborts. */
  upload: Upload
}

export function blobs(host: Host): Blobs {
  const { name, send } = host

  async function hasBlob(repository: string, digest: string, actions: 'pull' | 'pull,push' = 'pull', signal?: AbortSignal): Promise<boolean> {
    const answer = await send(pathOf(repository, digest), { repository, actions }, { method: 'HEAD', headers: {}, signal })
    // To its storage a registry sends whoever asks for what it has; not every storage answers to a question that asks for no bytes.
    const isStored = !answer.isOfHost && answer.status < 500 && answer.status !== 404
    if (!isStored && answer.status !== 200 && answer.status !== 404) throw await trouble(host, answer, repository, `tell of the blob ${digest}`)
    await answer.drop()
    return answer.status !== 404
  }

  const { mount, upload } = uploads(host, hasBlob)
  return {
    mount, upload,
    hasBlob: (repository, digest) => hasBlob(repository, digest),
    async blob(repository, digest, from = 0) {
      const headers: Record<string, string> = from > 0 ? { range: `bytes=${from}-` } : {}
      const answer = await send(pathOf(repository, digest), { repository, actions: 'pull' }, { method: 'GET', headers, isLong: true })
      if (answer.status === 404) return nothing(answer)
      if (answer.status === 200) return beyond(from, answer.stream())
      if (answer.status !== 206 || from === 0) throw await trouble(host, answer, repository, `show the blob ${digest}`)
      const [, begin] = /^bytes (\d+)-/.exec(answer.header('content-range') ?? '') ?? []
      if (Number(begin) === from) return answer.stream()
      await answer.drop()
      throw new Unavailable(`The registry ${name} was asked for ${digest} of ${repository} from byte ${from}, and answers from byte ${begin ?? 'nobody knows which'}.`)
    },
  }
}

/** Throws for what no registry can have: that is kiln's own mistake. */
function pathOf(repository: string, digest: string): string {
  if (!isDigest(digest)) throw new Error(`${digest} is no digest`)
  return `${repositoryPath(repository)}/blobs/${digest}`
}
