// What a container needs before it can be started: its image on this machine, and a value for everything in its environment.
// The kubelet tries again and again, and shows in each round what the round before has found.
import { backOff as backOffOf } from './back-off.ts'
import type { Clock } from './clock.ts'
import { ConfigTrouble, environment } from './environment.ts'
import { type Images, type PulledImage, PullTrouble } from './pull.ts'
import { referenceOf } from './registry-talk.ts'
import type { Store, Thing } from './store.ts'

export interface Trouble {
  reason: string
  message: string
}

export interface Ready {
  image: PulledImage
  env: Record<string, string>
}

export interface NeedsParts {
  store: Store
  clock: Clock
  images: Images
  say(type: 'Normal' | 'Warning', reason: string, message: string): void
}

/** One look. The back-off of the image lives as long as the pod does. */
export function needs({ store, clock, images, say }: NeedsParts, container: any): (pod: Thing, podIP: string) => Promise<Ready | Trouble> {
  const image: string = container.image
  const backOff = backOffOf(clock.ms(1))
  let failedAt: number | null = null
  let pausedUntil = 0
  let lastPull = ''

  async function pulled(): Promise<PulledImage | Trouble> {
    if (referenceOf(image, 'none') === null) return unnamed()
    const policy: string = container.imagePullPolicy ?? 'IfNotPresent'
    const present = images.present(image)
    if (policy === 'Never' && !present) return neverPulled()
    if (present && policy !== 'Always') {
      say('Normal', 'Pulled', `Container image "${image}" already present on machine`)
      return present
    }
    if (Date.now() < pausedUntil) return pausing()
    return pull()
  }

  async function pull(): Promise<PulledImage | Trouble> {
    const from = Date.now()
    say('Normal', 'Pulling', `Pulling image "${image}"`)
    try {
      const found = await images.pull(image)
      const took = Date.now() - from
      say('Normal', 'Pulled', `Successfully pulled image "${image}" in ${took}ms (${took}ms including waiting). Image size: ${found.bytes} bytes.`)
      return found
    } catch (error) {
      if (!(error instanceof PullTrouble)) throw error
      return unpulled(error.message)
    }
  }

  function unpulled(message: string): Trouble {
    lastPull = message
    // The first failure starts the back-off, which then counts from each failure on.
    if (failedAt === null) backOff.next(Date.now())
    failedAt = Date.now()
    pausedUntil = failedAt + backOff.next(failedAt).wait * clock.ms(1)
    say('Warning', 'Failed', `Failed to pull image "${image}": ${message}`)
    say('Warning', 'Failed', 'Error: ErrImagePull')
    return { reason: 'ErrImagePull', message }
  }

  function pausing(): Trouble {
    say('Normal', 'BackOff', `Back-off pulling image "${image}"`)
    say('Warning', 'Failed', 'Error: ImagePullBackOff')
    return { reason: 'ImagePullBackOff', message: `Back-off pulling image "${image}": ErrImagePull: ${lastPull}` }
  }

  function unnamed(): Trouble {
    const repository = image.replace(/^[^/]*[.:][^/]*\//, '')
    const why = /[A-Z]/.test(repository) ? `invalid reference format: repository name (${repository}) must be lowercase` : 'invalid reference format'
    const message = `Failed to apply default image tag "${image}": couldn't parse image name "${image}": ${why}`
    say('Warning', 'InspectFailed', message)
    say('Warning', 'Failed', 'Error: InvalidImageName')
    return { reason: 'InvalidImageName', message }
  }

  function neverPulled(): Trouble {
    const message = `Container image "${image}" is not present with pull policy of Never`
    say('Warning', 'ErrImageNeverPull', message)
    say('Warning', 'Failed', 'Error: ErrImageNeverPull')
    return { reason: 'ErrImageNeverPull', message }
  }

  return async (pod, podIP) => {
    const found = await pulled()
    if ('reason' in found) return found
    try {
      return { image: found, env: environment({ store, pod, podIP, imageEnv: found.config.Env ?? [] }, container) }
    } catch (error) {
      if (!(error instanceof ConfigTrouble)) throw error
      say('Warning', 'Failed', `Error: ${error.message}`)
      return { reason: 'CreateContainerConfigError', message: error.message }
    }
  }
}
