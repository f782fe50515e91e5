// A few at once: many questions to one server, in the order of their answers' places, but not all in the same moment.

const usualMost = 8

/** The answers in the order of the items. After the first failure nothing more is begun. */
export async function fewAtOnce<T, R>(items: readonly T[], work: (item: T) => Promise<R>, most = usualMost): Promise<R[]> {
  const results = new Array<R>(items.length)
  let next = 0
  const one = async (): Promise<void> => {
    while (next < items.length) {
      const at = next++
      results[at] = await work(items[at]!).catch((error: unknown) => { next = items.length; throw error })
    }
  }
  await Promise.all(Array.from({ length: Math.min(most, items.length) }, one))
  return results
}
