// A deployer with its observer and the projection, over real NATS and the stand-in platform: for tests of what it does.
import type { Hearing } from '../../shared/bus.ts'
import type { FactName, Heard } from '../../shared/events.ts'
import type { LambdaRecord } from '../../shared/records.ts'
import { startDeployer } from '../../services/deployer/index.ts'
import { startObserver, type Observing } from '../../services/deployer/observe.ts'
import { startProjection } from '../../services/status-api/index.ts'
import { fact } from './await.ts'
import { folded } from './caller.ts'
import { digestFor, packaged, recordFor, state, write } from './lives.ts'
import { testNats } from './nats.ts'
import { imageOf } from './platform.ts'
import { standPorts, type StandPorts } from './ports.ts'

export interface DeployerStand {
  ports: StandPorts
  hearings: Hearing[]
  observing: Observing
  /** A record whose image of this word is built. */
  built(record: LambdaRecord, word: string): Promise<void>
  /** Waits until the fact is stated and folded. */
  told(record: Pick<LambdaRecord, 'id'>, name: FactName, version?: number): Promise<Heard>
  /** A lambda that runs. */
  running(more?: Partial<LambdaRecord>, word?: string): Promise<LambdaRecord>
  /** A second observer in the place of the first, as after a restart. */
  observeAgain(): Promise<Observing>
  close(): Promise<void>
}

export const imageFor = (word: string) => imageOf(packaged(word))

export async function deployerStand(): Promise<DeployerStand> {
  const nats = await testNats()
  const ports = await standPorts(nats.url)
  const stand: DeployerStand = {
    ports, observing: await startObserver(ports), hearings: [await startProjection(ports), await startDeployer(ports)],
    built: (record, word) => state(ports, record, 'image.built', { image: imageFor(word), context: digestFor(word), reused: false, seconds: 1 }),
    async told(record, name, version) {
      const heard = await fact(ports, record.id, name, version)
      await folded(ports, record.id, heard.seq)
      return heard
    },
    async running(more = {}, word = 'image 1') {
      const record = await write(ports, recordFor(more))
      await stand.built(record, word)
      // Both facts of a start; which comes first is the platform's business.
      await stand.told(record, 'workload.applied', record.version)
      await stand.told(record, 'workload.running', record.version)
      return record
    },
    async observeAgain() {
      await stand.observing.close()
      return stand.observing = await startObserver(ports)
    },
    async close() {
      await Promise.all(stand.hearings.map((hearing) => hearing.stop()))
      await stand.observing.close()
      await ports.close()
      await nats.close()
    },
  }
  return stand
}
