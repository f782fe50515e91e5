// A line of an htpasswd file, as a registry reads it: a name and the bcrypt hash of a password.
import { randomBytes } from 'node:crypto'

interface Cipher { p: Uint32Array; s: Uint32Array }

const rounds = 16
/** The cheapest that is allowed: these passwords guard nothing. */
const cost = 4

export function htpasswdLine(username: string, password: string): string {
  const salt = randomBytes(16)
  return `${username}:$2b$0${cost}$${encoded(salt)}${encoded(hash(Buffer.from(`${password}\0`), salt))}`
}

function hash(password: Buffer, salt: Buffer): Buffer {
  const cipher = fresh()
  const [key, seasoning] = [words(password), words(salt)]
  expand(cipher, key, seasoning)
  for (let i = 0; i < 1 << cost; i++) {
    expand(cipher, key, nothing)
    expand(cipher, seasoning, nothing)
  }
  const text = Buffer.from('OrpheanBeholderScryDoubt')
  for (let at = 0; at < text.length; at += 8) {
    let block: [number, number] = [text.readUInt32BE(at), text.readUInt32BE(at + 4)]
    for (let i = 0; i < 64; i++) block = encrypted(cipher, block)
    text.writeUInt32BE(block[0], at)
    text.writeUInt32BE(block[1], at + 4)
  }
  return text.subarray(0, 23)
}

/** Blowfish, filled anew from a key, with a salt mixed in. */
function expand(cipher: Cipher, key: Uint32Array, salt: Uint32Array): void {
  for (let i = 0; i < cipher.p.length; i++) cipher.p[i]! ^= key[i % key.length]!
  let block: [number, number] = [0, 0]
  let at = 0
  for (const table of [cipher.p, cipher.s]) {
    for (let i = 0; i < table.length; i += 2, at += 2) {
      block = encrypted(cipher, [block[0] ^ salt[at % salt.length]!, block[1] ^ salt[(at + 1) % salt.length]!])
      table.set(block, i)
    }
  }
}

function encrypted({ p, s }: Cipher, [first, second]: [number, number]): [number, number] {
  let left = first ^ p[0]!
  let right = second
  for (let round = 1; round <= rounds; round++) {
    const mixed = ((s[left >>> 24]! + s[256 + (left >>> 16 & 255)]! ^ s[512 + (left >>> 8 & 255)]!) + s[768 + (left & 255)]!) | 0
    const next = right ^ mixed ^ p[round]!
    right = left
    left = next
  }
  return [(right ^ p[rounds + 1]!) >>> 0, left >>> 0]
}

const nothing = new Uint32Array(4)

/** A key repeats itself until it fills 18 words; a salt has 4, which its repetition leaves as they are. */
function words(bytes: Buffer): Uint32Array {
  return Uint32Array.from({ length: bytes.length === 16 ? 4 : 18 }, (_, i) => [0, 1, 2, 3].reduce((word, k) => (word << 8 | bytes[(4 * i + k) % bytes.length]!) >>> 0, 0))
}

/** Its tables begin as the digits of pi behind the point. */
function fresh(): Cipher {
  const count = 18 + 4 * 256
  const guard = 64n
  const one = 1n << (BigInt(count) * 32n + guard)
  const arctan = (inverse: bigint): bigint => {
    let [power, sum, n] = [one / inverse, 0n, 1n]
    for (; power !== 0n; power /= -inverse * inverse, n += 2n) sum += power / n
    return sum
  }
  const digits = (16n * arctan(5n) - 4n * arctan(239n) - 3n * one) >> guard
  const bytes = Buffer.from(digits.toString(16).padStart(count * 8, '0'), 'hex')
  const table = Uint32Array.from({ length: count }, (_, i) => bytes.readUInt32BE(4 * i))
  return { p: table.slice(0, 18), s: table.slice(18) }
}

/** Base64 with bcrypt's own order of letters, and no padding. */
function encoded(bytes: Buffer): string {
  const usual = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/'
  const own = './ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789'
  return bytes.toString('base64').replace(/=+$/, '').replace(/./g, (letter) => own[usual.indexOf(letter)]!)
}
