// What a lambda says that stood still and ended itself: faulthandler's first line, which the stacks of its threads follow.

const firstLine = /^Timeout \((\d+:\d\d:\d\d)(?:\.\d+)?\)!$/

/** In words for its author; null: it ended in some other way. `lines`: the last it printed. */
export function standstill(lines: string[]): string | null {
  const told = lines.map((line) => firstLine.exec(line)).findLast((match) => match !== null)
  return told ? `Its event loop stood still for ${told[1]}, and it ended itself; the stacks in its log say where. Longer work belongs in a thread or a process.` : null
}
