// How code runs in its image, whoever makes that: what the Dockerfile says at its end, and what a code layer says of itself.

export const runs = {
  workingDir: '/lambda',
  env: { PYTHONUNBUFFERED: '1' },
  ports: ['8000/tcp'],
  entrypoint: ['python3', 'run.py'],
} as const
