// Environments, on Kubernetes: images under the digest of everything that determines them, each made by one pod for all who need it.
import { kilnStops, type Build, type BuildWatch, type EnvironmentWish } from '../builds.ts'
import type { Claims } from '../claims.ts'
import { environmentSays } from '../environment.ts'
import { sharing, type Together } from '../sharing.ts'
import type { Objects } from '../objects.ts'
import { environmentOf } from '../repositories.ts'
import { contextUnusable, type Failed } from './build-end.ts'
import type { Kaniko, KanikoWish, Made } from './kaniko.ts'
import { buildName } from './names.ts'

export interface KubernetesEnvironments {
  has(key: string): Promise<boolean>
  /** Finds it, makes it, or waits for whoever makes it. Throws the signal's reason. */
  make(build: Build, wish: EnvironmentWish, watch: BuildWatch): Promise<Made>
  /** Lambdas whose pods make an environment at this moment, for this process. */
  makers(): string[]
  /** Lets go of everything under way. */
  close(reason: unknown): Promise<void>
}

export interface EnvironmentsOptions {
  /** Registry, and path in it. */
  registry: string
  images: { digest(reference: string): Promise<string | null> }
  kaniko: Kaniko
  claims: Claims
  objects: Pick<Objects, 'has'>
}

/** Who wishes for an environment, and how its pod would be made. */
interface Member extends BuildWatch { wish: KanikoWish }

/** A pod that was ended because its own lambda changed its mind is made again in another's name, so often. */
const mostTries = 4

export function kubernetesEnvironments({ registry, images, kaniko, claims, objects }: EnvironmentsOptions): KubernetesEnvironments {
  const makers = new Map<string, string>()
  const shared = sharing<Made, Member>((place) => environmentSays.waits(keyIn(place), whose(makers.get(keyIn(place)))))

  /** The pod is that of whoever was first, in this process or another: everyone makes or adopts the same. */
  async function makeOnce(key: string, { line, signal, members }: Together<Member>): Promise<Made> {
    const all: BuildWatch = {
      line, signal,
      waits: (why) => members().forEach((one) => one.waits(why)),
      kept: async () => { await Promise.all(members().map((one) => one.kept())) },
    }
    for (let tries = 1; ; tries++) {
      const found = await images.digest(environmentOf(registry, key))
      if (found) return { built: true, digest: found }
      signal.throwIfAborted()
      const claim = await claims.claim(nameOf(key), members()[0]!.wish)
      makers.set(key, claim.value.id)
      line(claim.isMine ? environmentSays.making(key, `in pod ${buildName(claim.value.id)}`) : environmentSays.waits(key, whose(claim.value.id)))
      const made = await kaniko.run(claim.value, all).catch(async (error: unknown) => {
        // The pod of a kiln that stops goes on.
        if (signal.reason !== kilnStops) await claims.release(nameOf(key), claim)
        throw error
      })
      await claims.release(nameOf(key), claim)
      if (made.built || tries === mostTries || !isAnothers(made, claim.isMine)) return made
      line(`Environment: the pod of lambda ${claim.value.id} did not make it (${made.failure.reason}); it is made anew.`)
    }
  }

  return {
    has: async (key) => (await images.digest(environmentOf(registry, key))) !== null,
    async make({ id, account, version, namespace, selector, timeoutMs }, { key, context }, watch) {
      const destination = environmentOf(registry, key)
      const found = await images.digest(destination)
      if (found) {
        watch.line(environmentSays.reused(key))
        return { built: true, digest: found }
      }
      if (!(await objects.has(context.name))) return contextUnusable(context.name)
      const wish: KanikoWish = { pod: buildName(id), id, account, version, namespace, selector, timeoutMs, context, destination, args: {}, limits: {} }
      const made = await shared.join(placeOf(key, namespace, selector), { ...watch, wish }, async (together) => {
        makers.set(key, id)
        return makeOnce(key, together).finally(() => makers.delete(key))
      })
      if (made.built) watch.line(environmentSays.made(key))
      return made
    },
    makers: () => [...makers.values()],
    close: (reason) => shared.end(reason),
  }
}

/** Whoever may be built elsewhere makes it elsewhere, if that place will not have it. */
const placeOf = (key: string, namespace: string, selector: Record<string, string>): string => `${key} ${namespace} ${JSON.stringify(selector)}`
const keyIn = (place: string): string => place.split(' ', 1)[0]!
const nameOf = (key: string): string => `environment.${key}`

const placeTrouble = new Set(['NamespaceMissing', 'BuildPodRefused', 'QuotaExceeded', 'Unschedulable'])

/** It failed for a reason that lies with whoever's pod it was, and not with the environment. */
function isAnothers({ failure: { reason } }: Failed, wasMine: boolean): boolean {
  return reason === 'BuildPodDeleted' || (!wasMine && placeTrouble.has(reason))
}

const whose = (id: string | undefined): string => (id ? `lambda ${id}, pod ${buildName(id)}` : 'another lambda')
