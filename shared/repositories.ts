// Repositories: where in LAMBDA_REGISTRY images lie, under the same names whoever makes, runs or removes them.

/** Of one lambda; a tag is the digest of a context. */
export const repositoryOf = (registry: string, id: string): string => `${registry}/lambda-${id}`
/** Environments are shared by all lambdas; a tag is a key. */
export const environmentRepository = (registry: string): string => `${registry}/lambda-environment`
export const environmentOf = (registry: string, key: string): string => `${environmentRepository(registry)}:${key}`
