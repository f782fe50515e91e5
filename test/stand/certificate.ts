// A certificate for 127.0.0.1 that nobody has signed but its owner, valid for a day: what a server of https in a test shows.
import { generateKeyPairSync, sign } from 'node:crypto'

const dayMs = 86_400_000

export function selfSigned(): { certificate: string; key: string } {
  const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const ecdsaWithSha256 = sequence(oid('2a8648ce3d040302'))
  const name = sequence(of(0x31, sequence(oid('550403'), of(0x0c, Buffer.from('kiln test')))))
  const validity = sequence(time(Date.now() - dayMs), time(Date.now() + dayMs))
  const address = sequence(oid('551d11'), of(0x04, sequence(of(0x87, Buffer.from([127, 0, 0, 1])))))
  const content = sequence(
    of(0xa0, number(2)), number(1), ecdsaWithSha256, name, validity, name, publicKey.export({ type: 'spki', format: 'der' }), of(0xa3, sequence(address)),
  )
  const signature = of(0x03, Buffer.from([0]), sign('sha256', content, privateKey))
  return { certificate: pem(sequence(content, ecdsaWithSha256, signature)), key: privateKey.export({ type: 'pkcs8', format: 'pem' }) as string }
}

/** DER: a tag, the length, the content. */
function of(tag: number, ...content: Buffer[]): Buffer {
  const { length } = Buffer.concat(content)
  const head = length < 0x80 ? [tag, length] : length < 0x100 ? [tag, 0x81, length] : [tag, 0x82, length >> 8, length & 0xff]
  return Buffer.concat([Buffer.from(head), ...content])
}
const sequence = (...content: Buffer[]): Buffer => of(0x30, ...content)
const oid = (hex: string): Buffer => of(0x06, Buffer.from(hex, 'hex'))
const number = (value: number): Buffer => of(0x02, Buffer.from([value]))
const time = (ms: number): Buffer => of(0x17, Buffer.from(`${new Date(ms).toISOString().replace(/\D/g, '').slice(2, 14)}Z`))
const pem = (der: Buffer): string => `-----BEGIN CERTIFICATE-----\n${der.toString('base64').replace(/.{1,64}/g, '$&\n')}-----END CERTIFICATE-----\n`
