// What a user asks for and the platform cannot do, found before anything starts.
import type { Capabilities } from '../../shared/config.ts'
import type { Finding } from '../../shared/finding.ts'
import type { Parameters } from '../../shared/parameters.ts'

export function checkCapabilities(p: Parameters, can: Capabilities): Finding[] {
  const findings: Finding[] = []
  if (p.user_docker_commands.length > 0 && !can.runDockerCommands) {
    findings.push({
      code: 'DockerCommandsNotPossible', field: 'user_docker_commands', message: 'This kiln runs lambdas as processes and cannot run Dockerfile commands.',
      fix: 'Remove user_docker_commands and install system packages on the machine; or have the operator set KANIKO_EXECUTOR; or use a kiln with PLATFORM=kubernetes.',
    })
  }
  if (Object.keys(p.deploy_parameters.secrets).length > 0 && !can.readSecrets) {
    findings.push({
      code: 'SecretsNotPossible', field: 'deploy_parameters.secrets', message: 'This kiln has no Kubernetes Secrets to read.',
      fix: 'Put the values into deploy_parameters.env, or use a kiln with PLATFORM=kubernetes.',
    })
  }
  if (p.image_builder !== null && !can.imageBuilders.includes(p.image_builder)) {
    findings.push({
      code: 'ImageBuilderNotAllowed', field: 'image_builder', message: `This kiln does not make images by ${p.image_builder} on request; it does by ${can.imageBuilders.join(', ')}.`,
      fix: 'Leave image_builder out, or have the operator add it to IMAGE_BUILDERS.',
    })
  }
  const { namespace } = p.deploy_parameters
  if (can.namespaces && !can.namespaces.includes(namespace)) {
    findings.push({
      code: 'NamespaceNotServed', field: 'deploy_parameters.namespace', message: `This kiln runs no lambdas in namespace ${namespace}; it does in ${can.namespaces.join(', ')}.`,
      fix: 'Name one of those, or have the operator add the namespace to LAMBDA_NAMESPACES.',
    })
  }
  return findings
}
