// `npm start` on a laptop: the whole house in this process, its log in a file, and a newcomer's first lambda.
import { join } from 'node:path'
import { readConfig } from '../shared/config.ts'
import { firstLambda } from './first-lambda.ts'
import { fileLog, run } from './main.ts'

export async function laptop({ env, root, say }: { env: Record<string, string | undefined>; root: string; say(line: string): void }): Promise<void> {
  const from = performance.now()
  const config = readConfig(env)
  say('kiln is starting …')
  const kiln = await run({ what: 'all', env, say, log: await fileLog(config.dataDir, config.logLevel) })
  const address = `http://${config.host.includes(':') ? `[${config.host}]` : config.host}:${kiln.port}`
  say(`ready in ${((performance.now() - from) / 1_000).toFixed(1)} s`)
  say('')
  say(`kiln     ${address}        (its interface: ${address}/docs)`)
  say(`NATS     ${kiln.natsUrl}`)
  say(`log      ${join(config.dataDir, 'kiln.log')}`)
  say('')
  if (config.tokens.size === 0) await firstLambda({ address, folder: join(root, 'examples/hello'), say }).catch((error: Error) => say(`the first lambda did not come up: ${error.message}`))
  say('')
  say('Ctrl-C stops everything.')
}
