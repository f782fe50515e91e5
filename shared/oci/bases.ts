// Bases, in registries: what a name stands for now, and whether lambdas can be made on it.
import { runtimeLabel, type Bases } from '../bases.ts'
import type { pulling } from './pull.ts'

export function ociBases(pull: ReturnType<typeof pulling>, platform: string): Bases {
  return {
    async resolve(name) {
      const pulled = await pull(name)
      if ('refused' in pulled) return pulled
      const { reference, config } = pulled.image
      const { Labels, OnBuild } = config.config ?? {}
      return { base: { reference, platform, runtime: Labels?.[runtimeLabel] ?? null, triggers: (OnBuild ?? []).length > 0 } }
    },
  }
}
