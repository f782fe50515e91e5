// A finding: one thing that is wrong with what a user sent, and how to mend it.

export interface Finding {
  /** A fixed CamelCase word that a program can compare, e.g. `NoLambdaMain`. */
  code: string
  /** What is wrong, as a sentence for the person who sent it. */
  message: string
  /** What to do about it, as a sentence. */
  fix: string
  /** The file inside the archive, when it is about one. */
  file?: string
  /** 1-based. */
  line?: number
  /** 1-based. */
  column?: number
  /** The parameter as a path, e.g. `deploy_parameters.pod_count`. */
  field?: string
}
