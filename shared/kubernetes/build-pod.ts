// The pod in which kaniko makes one image.
import type { KubernetesConfig, S3Config } from '../config.ts'
import type { KanikoWish } from './kaniko.ts'
import { annotation, contextLabel, label, ownLabels } from './names.ts'

export const container = 'kaniko'

export interface BuildPlace {
  config: KubernetesConfig
  s3: S3Config
  /** The bucket that contexts are kept in. */
  bucket: string
}

/** Where kaniko finds the registry's credentials; said to it as well, since not every image of it does. */
const credentials = '/kaniko/.docker'
/** How long a build that is told to end may take. */
const graceSeconds = 5

export function buildPod(place: BuildPlace, wish: KanikoWish): object {
  const { config } = place
  const { id, account, version, context, namespace, selector, timeoutMs } = wish
  const limits = limitsOf(config, wish)
  return {
    apiVersion: 'v1', kind: 'Pod',
    metadata: {
      name: wish.pod, namespace,
      labels: {
        ...ownLabels(config.installation, 'build'), [label.id]: id, [label.account]: account, [label.version]: String(version), [label.context]: contextLabel(context.digest),
      },
      annotations: { [annotation.context]: context.digest },
    },
    spec: {
      restartPolicy: 'Never', activeDeadlineSeconds: Math.ceil(timeoutMs / 1_000), terminationGracePeriodSeconds: graceSeconds,
      automountServiceAccountToken: false, enableServiceLinks: false, nodeSelector: selector,
      // kaniko unpacks the image's own files and users over its root: it must be root, and needs nothing beyond.
      securityContext: { runAsUser: 0, seccompProfile: { type: 'RuntimeDefault' } },
      ...(config.registrySecret && { imagePullSecrets: [{ name: config.registrySecret }] }),
      containers: [{
        name: container, image: config.kanikoImage, imagePullPolicy: 'IfNotPresent', args: argumentsOf(place, wish), env: environmentOf(place),
        ...(Object.keys(limits).length > 0 && { resources: { limits } }),
        securityContext: { allowPrivilegeEscalation: false, privileged: false },
        // Where it could not say the digest, the message is the end of its log.
        terminationMessagePolicy: 'FallbackToLogsOnError',
        ...(config.registrySecret && { volumeMounts: [{ name: 'registry', mountPath: credentials, readOnly: true }] }),
      }],
      ...(config.registrySecret && { volumes: [{ name: 'registry', secret: { secretName: config.registrySecret, items: [{ key: '.dockerconfigjson', path: 'config.json' }] } }] }),
    },
  }
}

/** What the pod may use. */
export const limitsOf = (config: KubernetesConfig, { limits }: Pick<KanikoWish, 'limits'>): Record<string, string> => ({ ...config.buildLimits, ...limits })

function argumentsOf({ config, bucket }: BuildPlace, { context, destination, args }: KanikoWish): string[] {
  return [
    `--context=s3://${bucket}/${context.name}`, '--dockerfile=Dockerfile', `--destination=${destination}`,
    '--digest-file=/dev/termination-log', '--push-retry=3', '--image-download-retry=3', '--log-format=text', '--log-timestamp=false',
    ...Object.entries(args).map(([name, value]) => `--build-arg=${name}=${value}`),
    ...(config.cacheRepository ? ['--cache=true', `--cache-repo=${config.cacheRepository}`] : ['--cache=false']),
    ...config.insecureRegistries.flatMap((registry) => [`--insecure-registry=${registry}`, `--skip-tls-verify-registry=${registry}`]),
  ]
}

function environmentOf({ config, s3 }: BuildPlace): object[] {
  const from = (name: string): object => ({ name, valueFrom: { secretKeyRef: { name: config.s3Secret, key: name } } })
  return [
    { name: 'AWS_REGION', value: s3.region },
    ...(config.registrySecret ? [{ name: 'DOCKER_CONFIG', value: credentials }] : []),
    ...(s3.endpoint ? [{ name: 'S3_ENDPOINT', value: s3.endpoint }, { name: 'S3_FORCE_PATH_STYLE', value: 'true' }] : []),
    ...(config.s3Secret ? [from('AWS_ACCESS_KEY_ID'), from('AWS_SECRET_ACCESS_KEY')] : []),
  ]
}
