// What only Python can tell about Python files: questions to a checker process that is kept alive.

import type { Finding } from '../../shared/finding.ts'
import { startChecker, type Answer, type Checker } from './checker.ts'

/** Where a lambda will run: `{ python: '3.12', platform: 'linux', machine: 'x86_64' }`. */
export interface Target { python: string; platform: 'linux' | 'darwin' | 'win32'; machine: string }

export interface PythonRequest {
  lambdaMain: Buffer | null
  requirements: Buffer | null
  /** Every path in the zip: requirements.txt may name them. */
  names: string[]
  /** Compiled files by path, with their first bytes (1024 are enough). */
  binaries: { name: string; head: Buffer }[]
  /** Paths of bundled wheels. */
  wheels: string[]
  /** Null: the interpreter that runs the checker. */
  target: Target | null
}

export interface PythonCheck {
  /** What is wrong with these files. Rejects when the checker cannot work at all: no such Python, no `packaging`, closed. */
  check(request: PythonRequest): Promise<Finding[]>
  /** Lets the questions already asked be answered, then ends the process. */
  close(): Promise<void>
}

interface Question {
  id: number
  line: string
  file: string
  /** A checker died while this was asked; if it was this one's doing, the next asking will tell. */
  suspect: boolean
  answer(findings: Finding[]): void
  fail(error: Error): void
}

const MOST_BYTES = 1024 ** 2

/**
 * Starts `python` on the first question, and again when it has died. The checker answers in order; a question in flight when
 * it died is asked once more with no other beside it. `timeoutMs` (5000) counts from a question's turn, not from its asking.
 */
export function pythonCheck(options: { python: string; timeoutMs?: number }): PythonCheck {
  const line = new QuestionLine(options.python, options.timeoutMs ?? 5000)
  return {
    async check(request) {
      const files = { 'lambda_main.py': request.lambdaMain, 'requirements.txt': request.requirements }
      const oversized = Object.entries(files).filter(([, content]) => (content?.length ?? 0) > MOST_BYTES).map(([file]) => file)
      const spared = (file: string, content: Buffer | null) => (oversized.includes(file) ? null : content)
      const lambdaMain = spared('lambda_main.py', request.lambdaMain)
      const requirements = spared('requirements.txt', request.requirements)
      return [...oversized.map(tooLarge), ...await line.ask({ ...request, lambdaMain, requirements })]
    },
    close: () => line.close(),
  }
}

class QuestionLine {
  private readonly waiting: Question[] = []
  /** In the order of asking, which is the order of answering: the first is the one the checker works on. */
  private readonly asked = new Map<number, Question>()
  private checker: Checker | null = null
  private closing: Promise<void> | null = null
  private closed = () => {}
  private timed: Question | undefined
  private timer: NodeJS.Timeout | undefined
  private ids = 0

  constructor(private readonly python: string, private readonly timeoutMs: number) {}

  ask(request: PythonRequest): Promise<Finding[]> {
    if (this.closing) return Promise.reject(new Error('The Python checker is closed.'))
    return new Promise((answer, fail) => {
      const id = ++this.ids
      const file = request.lambdaMain === null ? 'requirements.txt' : 'lambda_main.py'
      this.waiting.push({ id, file, line: toLine(id, request), suspect: false, answer, fail })
      this.advance()
    })
  }

  close(): Promise<void> {
    this.closing ??= new Promise((resolve) => { this.closed = resolve })
    this.advance()
    return this.closing
  }

  private advance(): void {
    if (this.checker === null && this.waiting.length > 0) this.start()
    while (this.checker?.ready && this.waiting.length > 0 && this.mayAsk(this.waiting[0]!)) {
      const question = this.waiting.shift()!
      this.asked.set(question.id, question)
      this.checker.write(question.line)
    }
    this.time()
    if (!this.closing || this.waiting.length > 0) return
    if (this.checker === null) this.closed()
    else this.checker.finish()
  }

  private start(): void {
    const listener = { ready: () => this.advance(), heard: (answer: Answer) => this.heard(answer), ended: () => this.ended() }
    this.checker = startChecker(this.python, listener)
  }

  private working(): Question | undefined {
    return this.asked.values().next().value
  }

  private mayAsk(next: Question): boolean {
    const current = this.working()
    return current === undefined || (!next.suspect && !current.suspect)
  }

  private time(): void {
    const current = this.working()
    if (current === this.timed) return
    clearTimeout(this.timer)
    this.timed = current
    if (current) this.timer = setTimeout(() => this.giveUp(current), this.timeoutMs)
  }

  private giveUp(question: Question): void {
    this.asked.delete(question.id)
    question.answer([cannotCheck(question.file)])
    this.checker?.kill()
  }

  private heard({ id, findings, error }: Answer): void {
    const question = this.asked.get(id)
    this.asked.delete(id)
    if (findings) question?.answer(findings)
    else question?.fail(new Error(`The Python checker failed: ${error}`))
    this.advance()
  }

  private ended(): void {
    const gone = this.checker!
    this.checker = null
    const interrupted = [...this.asked.values()]
    this.asked.clear()
    for (const question of interrupted) {
      if (question.suspect) question.answer([cannotCheck(question.file)])
    }
    this.waiting.unshift(...interrupted.filter(({ suspect }) => !suspect).map((question) => ({ ...question, suspect: true })))
    if (!gone.ready) this.failAll(`${this.python} cannot run the checker: ${gone.complaint()}`)
    this.advance()
  }

  private failAll(reason: string): void {
    for (const question of this.waiting.splice(0)) question.fail(new Error(reason))
  }
}

function toLine(id: number, request: PythonRequest): string {
  return `${JSON.stringify({
    id,
    lambda_main: request.lambdaMain?.toString('base64') ?? null,
    requirements: request.requirements?.toString('base64') ?? null,
    names: request.requirements === null ? [] : request.names,
    binaries: request.binaries.map(({ name, head }) => ({ name, head_base64: head.toString('base64') })),
    wheels: request.wheels,
    target: request.target,
  })}\n`
}

function tooLarge(file: string): Finding {
  return { code: 'FileTooLarge', file, message: `\`${file}\` is larger than ${MOST_BYTES} bytes.`, fix: 'Move data and code into files of their own.' }
}

function cannotCheck(file: string): Finding {
  return {
    code: 'PythonCheckFailed', file, message: `\`${file}\` cannot be checked: it is too deeply nested or too large.`,
    fix: 'Split long expressions and deeply nested brackets, and keep data in a file of its own.',
  }
}
