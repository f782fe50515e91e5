// Names seen a moment ago: S3 tells nobody what others do, so what was seen is worth something for a moment only.

export interface RecentNames {
  saw(name: string): void
  missed(name: string): void
  knows(name: string): boolean
}

const mostNames = 10_000
const momentMs = 10_000

export function recentNames(most = mostNames, moment = momentMs, now: () => number = () => performance.now()): RecentNames {
  /** When each was seen, the oldest first. */
  const seen = new Map<string, number>()
  return {
    saw(name) {
      seen.delete(name)
      seen.set(name, now())
      if (seen.size > most) seen.delete(seen.keys().next().value!)
    },
    missed: (name) => void seen.delete(name),
    knows(name) {
      const at = seen.get(name)
      return at !== undefined && now() - at < moment
    },
  }
}
