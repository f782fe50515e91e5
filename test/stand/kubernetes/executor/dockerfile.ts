// Reads a Dockerfile of the kind that kiln writes, with the lines that its users may add.

export interface Instruction {
  /** In capitals. */
  name: string
  /** All that follows it, in one line. */
  text: string
  line: number
}

export class DockerfileTrouble extends Error {}

const known = ['ADD', 'ARG', 'CMD', 'COPY', 'ENTRYPOINT', 'ENV', 'EXPOSE', 'FROM', 'HEALTHCHECK', 'LABEL', 'MAINTAINER', 'ONBUILD', 'RUN', 'SHELL', 'STOPSIGNAL', 'USER', 'VOLUME', 'WORKDIR']

export function readDockerfile(text: string): Instruction[] {
  const instructions: Instruction[] = []
  const lines = text.split('\n').map((line) => line.replace(/\r$/, ''))
  for (let index = 0; index < lines.length; index++) {
    if (/^\s*(#|$)/.test(lines[index]!)) continue
    const begins = index + 1
    let whole = lines[index]!
    while (/\\\s*$/.test(whole) && index + 1 < lines.length) {
      const next = lines[++index]!
      whole = /^\s*#/.test(next) ? whole : whole.replace(/\\\s*$/, '') + next
    }
    const [, word = '', rest = ''] = /^\s*(\S+)\s*(.*?)\s*$/s.exec(whole) ?? []
    const name = word.toUpperCase()
    if (!known.includes(name)) throw new DockerfileTrouble(`dockerfile parse error on line ${begins}: unknown instruction: ${name}${suggestion(name)}`)
    if (rest === '') throw new DockerfileTrouble(`dockerfile parse error on line ${begins}: ${name} requires at least one argument`)
    instructions.push({ name, text: rest, line: begins })
  }
  if (instructions.length === 0) throw new DockerfileTrouble('file with no instructions')
  if (!['FROM', 'ARG'].includes(instructions[0]!.name)) throw new DockerfileTrouble('no build stage in current context')
  return instructions
}

/** A known one with the same letters, or all but one of them. */
function suggestion(name: string): string {
  const letters = (word: string): string[] => [...word].sort()
  const meant = known.find((one) => Math.abs(one.length - name.length) <= 1 && letters(one).filter((letter) => !name.includes(letter)).length <= 1)
  return meant ? ` (did you mean ${meant}?)` : ''
}

/** `["a", "b"]`, or null when it is no such list. */
export function listOf(text: string): string[] | null {
  try {
    const list: unknown = JSON.parse(text)
    return Array.isArray(list) && list.every((word) => typeof word === 'string') ? list : null
  } catch {
    return null
  }
}

/** Words as a shell would split them, without quotes. */
export function words(text: string): string[] {
  const quoted = /"((?:\\.|[^"])*)"|'([^']*)'/g
  const bare = (_: string, double?: string, single?: string): string => double?.replace(/\\(.)/g, '$1') ?? single ?? ''
  return (text.match(/(?:[^\s"']|"(?:\\.|[^"])*"|'[^']*')+/g) ?? []).map((word) => word.replace(quoted, bare))
}

/** `NAME=value …`, or the older `NAME value`. */
export function pairs(text: string): Array<[string, string]> {
  const all = words(text)
  if (!all[0]?.includes('=')) return [[all[0] ?? '', text.slice(text.indexOf(' ') + 1).trim()]]
  return all.map((word) => [word.slice(0, word.indexOf('=')), word.slice(word.indexOf('=') + 1)])
}

/** `$NAME`, `${NAME}` and `${NAME:-else}`. */
export const substitute = (text: string, env: ReadonlyMap<string, string>): string =>
  text.replace(/\$(?:(\w+)|\{(\w+)(?::-([^}]*))?\})/g, (_, plain?: string, braced?: string, otherwise = '') => env.get(plain ?? braced!) ?? otherwise)
