// Who may do what: bearer tokens, and rules as in RBAC.
import type { IncomingMessage } from 'node:http'
import { notAllowed, unauthorized } from './errors.ts'
import { kinds } from './kinds.ts'
import type { Kind } from './store.ts'

export interface Rule {
  verbs: string[]
  /** `pods`, `pods/log`. */
  resources: string[]
  apiGroups: string[]
  /** Absent: in every namespace, and at the cluster scope. */
  namespaces?: string[]
  resourceNames?: string[]
}

export interface Caller {
  /** Throws 403 when no rule gives the right. */
  allow(verb: string, kind: Kind, subresource: string, name: string, namespace: string | null): void
}

/** Without roles every token may do everything; with them, only the tokens that they name are known. Throws 401. */
export function callerOf(request: IncomingMessage, roles: ReadonlyMap<string, Rule[]> | undefined): Caller {
  const token = /^Bearer (.+)$/.exec(request.headers.authorization ?? '')?.[1]
  if (token === undefined) return asking('system:anonymous', [])
  if (roles === undefined) return { allow() {} }
  const rules = roles.get(token)
  if (rules === undefined) throw unauthorized()
  return asking(userOf(token), rules)
}

/** The name of a token's user: the token is the name of a ServiceAccount, or already the whole of it. */
const userOf = (token: string): string => (token.includes(':') ? token : `system:serviceaccount:default:${token}`)

function asking(user: string, rules: Rule[]): Caller {
  return {
    allow(verb, kind, subresource, name, namespace) {
      const resource = subresource === '' ? kind : `${kind}/${subresource}`
      const has = (list: string[] | undefined, value: string): boolean => list === undefined || list.includes('*') || list.includes(value)
      const given = rules.some((rule) => has(rule.verbs, verb) && has(rule.resources, resource) && has(rule.apiGroups, kinds[kind].group)
        && (rule.namespaces === undefined || (namespace !== null && has(rule.namespaces, namespace)))
        && (rule.resourceNames === undefined || rule.resourceNames.includes(name)))
      if (!given) throw notAllowed(user, verb, kind, subresource, name, namespace)
    },
  }
}
