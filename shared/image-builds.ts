// Image builds: an archive with a Dockerfile becomes an image under a name of the user's. The port; `kubernetes/image-builds.ts` makes pods,
// `local/image-builds.ts` runs kaniko on this machine.
import type { BuildEnd, BuildWatch } from './builds.ts'
import type { BuildEngine } from './build-parameters.ts'

export interface ImageBuild {
  id: string
  account: string
  /** An archive (gzipped tar) with a Dockerfile at its top. */
  context: { name: string; digest: string }
  /** Below the registry of this kiln. */
  image: { name: string; tag: string }
  args: Record<string, string>
  /** Kubernetes quantities; empty: the operator's. */
  limits: Record<string, string>
  namespace: string
  selector: Record<string, string>
  timeoutMs: number
}

export interface ImageBuilds {
  /** null: images can be built here. Otherwise why not, and what to do about it. */
  lack(): Promise<string | null>
  engine: BuildEngine
  /** Makes the image, or adopts the build of it that runs already. Resolves when all its processes have ended, as `Builds.run` does. */
  run(build: ImageBuild, watch: BuildWatch): Promise<BuildEnd>
  /** Ends what an earlier kiln may have left running: nobody wants it any more. */
  abandon(build: Pick<ImageBuild, 'id' | 'namespace'>): Promise<void>
  close(): Promise<void>
}
