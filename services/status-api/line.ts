// The line of those that wait for a builder: who stands where, and when its turn may come. Lambdas and builds of their own stand in one.
import type { Life } from '../../shared/lifecycle.ts'
import { expectedStart, placeOf, type Waiting } from '../../shared/turns.ts'

export interface InLine {
  /** 1: the next, if accounts go on taking turns as they do now. */
  place: number
  /** When it may begin, as an estimate from how long builds took of late; ISO 8601. null: none has ended yet. */
  expectedStart: string | null
}

export interface Line {
  /** null: it does not wait. */
  stand(id: string, place: Omit<Waiting, 'id'> | null): void
  /** Whose turn it was last, what is in the works, and how long it took. */
  learn(life: Life): void
  find(id: string): InLine | null
}

/** So many of the last builds tell how long one takes. */
const remembered = 20

/** `limit`: builds at once. */
export function line(limit: number): Line {
  const waiting = new Map<string, Omit<Waiting, 'id'>>()
  /** When a build of each account was begun last: whose turn it is. */
  const served = new Map<string, number>()
  const running = new Set<string>()
  const seconds: number[] = []
  /** The end of a build that was counted last, by whose it was. */
  const counted = new Map<string, number>()

  return {
    stand(id, place) {
      if (place) waiting.set(id, place)
      else waiting.delete(id)
    },
    learn(life) {
      const begun = life.timeline.findLast(({ fact }) => fact === 'image.started')
      const version = begun && life.versions[begun.version]
      // What is quick does not wait, and says nothing of those who do.
      if (!version || version.queued === 0) return
      if (begun.lastSeq > (served.get(life.account) ?? 0)) served.set(life.account, begun.lastSeq)
      if (version.state === 'building' || version.state === 'unscheduled') return void running.add(life.id)
      running.delete(life.id)
      const ended = life.timeline.findLast(({ fact, version }) => version === begun.version && (fact === 'image.built' || fact === 'image.failed'))
      if (!ended || ended.lastSeq <= (counted.get(life.id) ?? 0)) return
      counted.set(life.id, ended.lastSeq)
      if (seconds.push((Date.parse(ended.last) - Date.parse(begun.last)) / 1_000) > remembered) seconds.shift()
    },
    find(id) {
      const place = waiting.has(id) ? placeOf(id, [...waiting].map(([one, of]) => ({ id: one, ...of })), served) : null
      if (place === null) return null
      if (seconds.length === 0) return { place, expectedStart: null }
      const secondsEach = seconds.reduce((sum, one) => sum + one, 0) / seconds.length
      const inSeconds = expectedStart(place, { limit, running: running.size, secondsEach })
      return { place, expectedStart: new Date(Date.now() + inSeconds * 1_000).toISOString() }
    },
  }
}
