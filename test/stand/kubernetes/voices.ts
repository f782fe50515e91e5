// Voices: how the parts of the stand-in cluster write Events, each in the form that the real part was recorded to use.
import { now } from './memory.ts'
import type { Store, Thing } from './store.ts'

/** `container`: the event is about one container of the pod. */
export interface Voice {
  say(about: Thing, type: 'Normal' | 'Warning', reason: string, message: string, container?: string): void
}

/** After so many different messages of one kind about one object they are told as one. */
const combinedAfter = 10

/** Of controllers and the kubelet: what is repeated is counted in the same event. */
export function countingVoice(store: Store, component: string, host?: string): Voice {
  const names = new Map<string, string>()
  const different = new Map<string, Set<string>>()

  /** The message to tell: the tenth different one and all after it are told with a mark, and counted together. */
  function combined(kind: string, message: string): { key: string; text: string; isCombined: boolean } {
    const seen = different.get(kind) ?? new Set<string>()
    different.set(kind, seen.add(message))
    if (seen.size < combinedAfter) return { key: `${kind}\n${message}`, text: message, isCombined: false }
    return { key: kind, text: `(combined from similar events): ${message}`, isCombined: true }
  }

  return {
    say(about, type, reason, message, container) {
      const { key, text, isCombined } = combined([about.metadata.uid, type, reason, container ?? ''].join('\n'), message)
      const name = names.get(key) ?? eventName(about)
      names.set(key, name)
      const before = store.get('events', about.metadata.namespace, name)
      if (before !== null) {
        store.put('events', { ...before, message: text, lastTimestamp: now(), count: Number(before['count']) + 1 })
        return
      }
      store.put('events', {
        ...envelope(about, name), involvedObject: involved(about, container), reason, message: text,
        source: { component, ...(host && { host }) }, firstTimestamp: now(), lastTimestamp: now(), count: 1, type, eventTime: null,
        reportingComponent: isCombined ? '' : component, reportingInstance: isCombined ? '' : host ?? '',
      })
    },
  }
}

/** Of the scheduler: no count and no first time, but the time of the event. */
export function schedulerVoice(store: Store): Voice {
  return {
    say(about, type, reason, message) {
      store.put('events', {
        ...envelope(about, eventName(about)), involvedObject: involved(about), reason, message,
        source: {}, firstTimestamp: null, lastTimestamp: null, type, eventTime: `${new Date().toISOString().slice(0, -1)}000Z`,
        action: type === 'Normal' ? 'Binding' : 'Scheduling', reportingComponent: 'default-scheduler', reportingInstance: 'default-scheduler-node1',
      })
    },
  }
}

let told = 0n
/** `<object>.<nanoseconds in hex>`; the counter makes those of one millisecond differ. */
const eventName = (about: Thing): string => `${about.metadata.name}.${(BigInt(Date.now()) * 1_000_000n + told++ % 1_000_000n).toString(16)}`

const envelope = (about: Thing, name: string): Pick<Thing, 'kind' | 'apiVersion' | 'metadata'> => ({
  kind: 'Event', apiVersion: 'v1', metadata: { name, namespace: about.metadata.namespace, uid: '', resourceVersion: '', creationTimestamp: '' },
})

const involved = ({ kind, apiVersion, metadata }: Thing, container?: string): object => ({
  kind, namespace: metadata.namespace, name: metadata.name, uid: metadata.uid, apiVersion, resourceVersion: metadata.resourceVersion,
  ...(container && { fieldPath: `spec.containers{${container}}` }),
})
