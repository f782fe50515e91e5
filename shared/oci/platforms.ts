// Platforms: for which machines an image is, and which of an index fits the one that is wished for.

export interface Platform {
  os: string
  architecture: string
  variant?: string | undefined
}

/** `linux/amd64`, `linux/arm64/v8` */
export function platformOf(text: string): Platform {
  const [os, architecture, variant, ...more] = text.split('/')
  if (!os || !architecture || variant === '' || more.length > 0) throw new Error(`"${text}" is no platform such as linux/amd64 or linux/arm64/v8`)
  return { os, architecture, ...(variant !== undefined && { variant }) }
}

export const platformText = ({ os, architecture, variant }: Platform): string => [os, architecture, variant].filter(Boolean).join('/')

/** What an architecture without a variant means. */
const usualVariants: Record<string, number> = { amd64: 1, arm64: 8, arm: 7 }

/** A later variant runs what was made for an earlier one. null: it is no number. */
function rankOf({ architecture, variant }: Platform): number | null {
  if (!variant) return usualVariants[architecture] ?? 0
  const [, number] = /^v(\d+)$/.exec(variant) ?? []
  return number === undefined ? null : Number(number)
}

/** Whether what is made for `given` runs on `wished`. */
export function runsOn(given: Platform, wished: Platform): boolean {
  if (given.os !== wished.os || given.architecture !== wished.architecture) return false
  const [has, may] = [rankOf(given), rankOf(wished)]
  return has === null || may === null ? given.variant === wished.variant : has <= may
}

/** Those that run on the platform, the best first: of several variants the latest one. */
export function fitting<T extends { platform?: Platform | undefined }>(given: T[], wished: Platform): T[] {
  const rank = ({ platform }: T): number => (platform && rankOf(platform)) ?? 0
  return given.filter(({ platform }) => platform && runsOn(platform, wished)).sort((a, b) => rank(b) - rank(a))
}
