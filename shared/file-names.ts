// File names in archives: what no archive from a stranger may call a file, whatever kind of archive it is.
import type { Finding } from './finding.ts'

export interface FileName {
  /** As it stands in the archive. */
  text: string
  /** Without `.` segments and the slash at the end. */
  path: string
  folder: boolean
}

interface Rule { code: string; breaks(name: FileName): boolean; says: string; fix: string }

const rename = 'Rename it to letters, digits, dots, dashes and underscores, and pack it again.'
const relative = 'Pack it from inside the folder, so that every name is relative to it.'

const rules: Rule[] = [
  { code: 'NameHasNul', breaks: ({ text }) => text.includes('\0'), says: 'has a NUL in its name', fix: rename },
  { code: 'NameHasControlCharacter', breaks: ({ text }) => /[\x01-\x1f\x7f-\x9f]/.test(text), says: 'has a control character in its name', fix: rename },
  { code: 'NameHasBackslash', breaks: ({ text }) => text.includes('\\'), says: 'has a backslash in its name', fix: 'Make the archive with a tool that separates folders by `/`.' },
  { code: 'NameHasDriveLetter', breaks: ({ text }) => /^[a-z]:/i.test(text), says: 'begins with a drive letter', fix: relative },
  { code: 'NameAbsolute', breaks: ({ text }) => text.startsWith('/'), says: 'is an absolute path', fix: relative },
  { code: 'NameClimbs', breaks: ({ path }) => path.split('/').includes('..'), says: 'climbs out of the archive with `..`', fix: relative },
  { code: 'NameEmpty', breaks: hasEmptyName, says: 'is a name with nothing in it, or nothing between two slashes', fix: rename },
  { code: 'NameTooLong', breaks: hasLongName, says: 'is longer than 255 bytes between two slashes, or than 1024 in all', fix: 'Shorten the name, and pack it again.' },
]

export const fileName = (text: string): FileName =>
  ({ text, folder: text.endsWith('/'), path: text.replace(/\/$/, '').split('/').filter((segment) => segment !== '.').join('/') })

/** Everything that is wrong with a name. */
export const nameFaults = (name: FileName): Finding[] => rules.filter((rule) => rule.breaks(name)).map(({ code, says, fix }) => aboutFile(name.text, code, says, fix))

export const notUtf8 = (name: FileName): Finding => aboutFile(name.text, 'NameNotUtf8', 'has a name that is not UTF-8', rename)

/** `says`: what follows the name in a sentence. */
export function aboutFile(name: string, code: string, says: string, fix: string): Finding {
  const shown = visible(name)
  return { code, message: `${shown === '' ? 'An entry' : `\`${shown}\``} ${says}.`, fix, file: shown }
}

function hasEmptyName({ text, path, folder }: FileName): boolean {
  return text === '' || (path === '' && !folder) || /^\/*$/.test(text) || text.includes('//')
}

function hasLongName({ text, path }: FileName): boolean {
  return Buffer.byteLength(text) > 1024 || path.split('/').some((segment) => Buffer.byteLength(segment) > 255)
}

export function visible(text: string): string {
  const escaped = text.replace(/[\x00-\x1f\x7f-\x9f\u200b-\u202e\u2066-\u2069]/g, (c) => `\\x${c.charCodeAt(0).toString(16).padStart(2, '0')}`)
  return escaped.length > 300 ? `${escaped.slice(0, 300)}…` : escaped
}
