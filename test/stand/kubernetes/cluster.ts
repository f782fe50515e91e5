// A stand-in for a Kubernetes cluster of one node: its API over HTTP, and the world behind it, in this process.
import { serveApi, type Api, type ApiOptions } from './api.ts'
import { memoryStore } from './memory.ts'
import type { Store } from './store.ts'
import { world, type WorldOptions } from './world.ts'

export interface StandCluster {
  /** Text of a kubeconfig that reaches it: http://127.0.0.1:<port>, a token. */
  kubeconfig: string
  store: Store
  /** Its HTTP side: what was asked, and how to make it fail. */
  api: Api
  /** Ends every process, removes every folder. */
  close(): Promise<void>
}

export async function standCluster(options: WorldOptions & ApiOptions = {}): Promise<StandCluster> {
  const store = memoryStore()
  const { deletePod, log, close } = await world(store, options)
  const api = await serveApi(store, { deletePod, log }, options)
  return {
    kubeconfig: kubeconfig(api.address), store, api,
    async close() {
      await api.close()
      await close()
    },
  }
}

/** The words of `token` are of no value to the stand-in, unless it was given roles. */
export const kubeconfig = (address: string, token = 'stand-in', namespace = 'default'): string => [
  'apiVersion: v1', 'kind: Config', 'current-context: stand-in',
  'clusters:', '- name: stand-in', '  cluster:', `    server: ${address}`,
  // Without this the client refuses plain http.
  '    insecure-skip-tls-verify: true',
  'users:', '- name: stand-in', '  user:', `    token: ${token}`,
  'contexts:', '- name: stand-in', '  context:', '    cluster: stand-in', '    user: stand-in', `    namespace: ${namespace}`, '',
].join('\n')
