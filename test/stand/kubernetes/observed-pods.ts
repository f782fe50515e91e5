// Pods without a controller in an observed cluster: made, waited for, read and removed in one word each.
import * as assert from 'uvu/assert'
import { pods, type Observed } from './observed.ts'
import type { Thing } from './store.ts'

export const named = (name: string) => ({ metadata }: Thing): boolean => metadata.name === name
/** Of its first container. */
export const statusOf = (pod: Thing): any => pod.status.containerStatuses?.[0] ?? {}
export const stateOf = (pod: Thing): any => statusOf(pod).state ?? {}

export interface ObservedPods {
  /** Runs the image `lambda-rec:v1` once, unless it says otherwise. */
  create(name: string, container: object, spec?: object): Promise<void>
  seen(name: string, fits: (pod: Thing) => boolean): Promise<Thing>
  running(name: string): Promise<Thing>
  ended(name: string): Promise<Thing>
  log(name: string, query?: string): Promise<any>
  /** Resolves with what was told last of it. */
  remove(name: string, options?: object): Promise<Thing>
}

export function observedPods(on: Observed): ObservedPods {
  const seen: ObservedPods['seen'] = (name, fits) => on.until('pods', (pod) => named(name)(pod) && fits(pod))
  return {
    seen,
    async create(name, container, spec = {}) {
      const { status, body } = await on.send('POST', pods, {
        apiVersion: 'v1', kind: 'Pod', metadata: { name, labels: { app: name, 'kiln.example/part': 'one' } },
        spec: { restartPolicy: 'Never', containers: [{ name: 'main', image: `${on.registry}/lambda-rec:v1`, ...container }], ...spec },
      })
      assert.is(status, 201, JSON.stringify(body))
    },
    running: (name) => seen(name, (pod) => 'running' in stateOf(pod)),
    ended: (name) => seen(name, ({ status }) => ['Succeeded', 'Failed'].includes(status.phase)),
    log: async (name, query = '') => (await on.send('GET', `${pods}/${name}/log${query}`)).body,
    async remove(name, options = {}) {
      const gone = on.until('pods', (pod, type) => named(name)(pod) && type === 'DELETED')
      await on.send('DELETE', `${pods}/${name}`, options)
      return gone
    },
  }
}
