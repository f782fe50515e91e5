// The Dockerfile of a lambda's image: base image, the user's commands, packages, code.

export interface Recipe {
  baseImage: string
  userDockerCommands: string[]
  hasRequirements: boolean
}

/** One line an instruction; each input on a line of its own, so that layers are reused for as long as what they hold is equal. */
export function dockerfile({ baseImage, userDockerCommands, hasRequirements }: Recipe): string {
  return [
    `FROM ${baseImage}`,
    ...userDockerCommands,
    'WORKDIR /lambda',
    'COPY runtime-requirements.txt /tmp/runtime-requirements.txt',
    'RUN python3 -m pip install --no-cache-dir -r /tmp/runtime-requirements.txt',
    'COPY code/ /lambda/',
    ...(hasRequirements ? ['RUN python3 -m pip install --no-cache-dir -r requirements.txt'] : []),
    'ENV PYTHONUNBUFFERED=1',
    'EXPOSE 8000',
    'ENTRYPOINT ["python3", "run.py"]',
    '',
  ].join('\n')
}
