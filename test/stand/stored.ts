// A registry that stands in for a real one where only the services are looked at: it holds what a test puts there. Held to the same contract as the real ones.
import type { Staying, StoredImage, StoredImages, StoredPart } from '../../shared/stored.ts'

export interface StandStored extends StoredImages {
  hold(image: StoredImage, parts: StoredPart[], digest?: string | null): void
  /** Names of what it holds, sorted. */
  names(): string[]
  /** From now on nothing goes, and this is why; null: it goes again. */
  refuse(why: Pick<Staying, 'why' | 'remedy'> | null): void
}

export const standImage = (lambda: string, context: string): StoredImage => ({ kind: 'image', name: `stand/lambda-${lambda}:${context}`, key: context, lambda, uses: null })
export const standEnvironment = (key: string): StoredImage => ({ kind: 'environment', name: `stand/lambda-environment:${key}`, key, lambda: null, uses: null })

export function standStored(): StandStored {
  const held = new Map<string, { image: StoredImage; parts: StoredPart[]; digest: string | null }>()
  let refusal: Pick<Staying, 'why' | 'remedy'> | null = null
  return {
    hold: (image, parts, digest = null) => void held.set(image.name, { image, parts, digest }),
    names: () => [...held.keys()].sort(),
    refuse(why) { refusal = why },
    list: async (lambdas) => [...held.values()].map(({ image }) => image).filter(({ lambda }) => lambda === null || lambdas.includes(lambda)),
    digest: async ({ name }) => held.get(name)?.digest ?? null,
    parts: async ({ name }) => held.get(name)?.parts ?? null,
    async remove(images) {
      const why = refusal
      if (why) return images.filter(({ name }) => held.has(name)).map(({ name }) => ({ name, ...why }))
      for (const { name } of images) held.delete(name)
      return []
    },
  }
}
