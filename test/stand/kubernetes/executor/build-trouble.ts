// How a build fails that is nobody's bug.

/** The build fails, in these words, and with this exit code. */
export class BuildTrouble extends Error {
  readonly exitCode: number

  constructor(message: string, exitCode = 1) {
    super(message)
    this.exitCode = exitCode
  }
}
