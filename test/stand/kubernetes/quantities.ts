// Kubernetes quantities: `500m`, `1Gi`, `2`. Their value, and the one way in which the API writes each.

const form = /^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$/
const binary = ['', 'Ki', 'Mi', 'Gi', 'Ti', 'Pi', 'Ei']
const decimal = ['n', 'u', 'm', '', 'k', 'M', 'G', 'T', 'P', 'E']

/** The complaint about what is none. */
export const quantityComplaint = "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"

export const isQuantity = (text: string): boolean => form.test(text) && Number.isFinite(quantityOf(text))

/** The number that it stands for; NaN for what is no quantity. */
export function quantityOf(given: string | number): number {
  const [, digits, suffix] = form.exec(String(given)) ?? []
  if (digits === undefined || suffix === undefined) return NaN
  if (binary.includes(suffix)) return Number(digits) * 1024 ** binary.indexOf(suffix)
  if (decimal.includes(suffix)) return Number(digits) * 1000 ** (decimal.indexOf(suffix) - 3)
  return /^[eE][-+]?[0-9]+$/.test(suffix) ? Number(digits + suffix) : NaN
}

/** `1024Mi` is shown as `1Gi`, `0.5` as `500m`, `2000` as `2k`. */
export function shownQuantity(given: string | number): string {
  const text = String(given)
  if (text.endsWith('i')) return scaled(Math.ceil(quantityOf(text)), 1024, binary)
  return scaled(Math.ceil(quantityOf(text) * 1e9 - 1e-6), 1000, decimal)
}

function scaled(least: number, base: number, suffixes: string[]): string {
  if (least === 0) return '0'
  let value = least
  let step = 0
  while (value % base === 0 && step < suffixes.length - 1) {
    value /= base
    step += 1
  }
  return `${value}${suffixes[step]}`
}
