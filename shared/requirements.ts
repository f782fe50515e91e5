// Requirements: what a requirements.txt says, as far as it decides which environment it gives.

/** The lines that count: without comments and blank ones, whatever ends them, continued ones joined. */
export function requirementLines(text: string): string[] {
  return text
    .replace(/^\uFEFF/, '')
    .replace(/\\\r?\n/g, ' ')
    .split(/\r\n|\r|\n/)
    .map((line) => line.replace(/(^|\s)#.*$/, '').trim())
    .filter((line) => line !== '')
}

const plainName = /^[A-Za-z0-9][\w.-]*\s*(\[[^\]]*\])?\s*([<>=!~;(].*)?$/
const byUrl = /^[A-Za-z0-9][\w.-]*\s*(\[[^\]]*\])?\s*@\s*(git\+)?https?:\/\//
const plainOption = /^(-i|--index-url|--extra-index-url|--pre|--prefer-binary|--require-hashes|--no-index|--only-binary|--no-binary)\b/
const archive = /\.(whl|zip|tar|tgz|tar\.\w+)$/

/** True: a file of the archive may decide what gets installed. Whatever is not plainly free of files counts. */
export const refersToFiles = (lines: string[]): boolean =>
  lines.some((line) => !byUrl.test(line) && !plainOption.test(line) && (!plainName.test(line) || archive.test(line)))
