// @ts-check
// A Python that lambdas can run on, and uv, which installs what they require.
// Runs before any npm package is installed: node's own modules only.
import { existsSync, statSync } from 'node:fs';
import { mkdir, mkdtemp, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { allOnPath, isAtLeast, run, versionIn } from './programs.mjs';

/** What kiln gets when no uv is on PATH. */
export const PINNED_UV = '0.13.8';
/** Since 0.4.23 uv knows UV_DEFAULT_INDEX, UV_INDEX and UV_FIND_LINKS, which `uvEnvironment` speaks. */
export const OLDEST_UV = '0.4.23';
export const OLDEST_PYTHON = '3.11';

const NAMES = ['python3.13', 'python3.12', 'python3.11', 'python3', 'python'];
const WINDOWS = process.platform === 'win32';
const [A_MOMENT, AN_INSTALLATION] = [15, 5 * 60];
const WHO_ARE_YOU = 'import sys; print("%d.%d.%d" % sys.version_info[:3]); print(sys.executable)';

/**
 * @typedef {Record<string, string | undefined>} Environment
 * @typedef {(line: string) => void} Say
 * @typedef {{ python: string, uv: string, version: string }} Found
 */

/**
 * Promises a Python of at least 3.11 (its real path, behind any shim) and a uv. `KILN_PYTHON` decides alone when it is
 * set. The answer is remembered: the second time nothing is started and nothing said.
 * @param {object} wish
 * @param {string} wish.dataDir where kiln keeps what it got; relative to `root`
 * @param {string} wish.root
 * @param {Say} wish.say
 * @param {Environment} [wish.env]
 * @returns {Promise<Found>}
 */
export async function python({ dataDir, root, say, env = process.env }) {
  const folder = resolve(root, dataDir);
  const asked = JSON.stringify([env.KILN_PYTHON ?? null, env.PATH ?? env.Path ?? null, PINNED_UV]);
  const remembered = await theRememberedAnswer(folder, asked);
  if (remembered) return remembered;

  const { path, version } = await aGoodPython(env);
  const uv = (await aUvOnPath(env)) ?? (await aUvOfOurOwn({ folder, python: path, version, say, env }));
  const found = { python: path, uv, version };
  await remember(folder, asked, found);
  return found;
}

// ---- Python -----------------------------------------------------------------------------------------------------

/** @param {Environment} env @returns {Promise<{ path: string, version: string }>} */
async function aGoodPython(env) {
  const chosen = env.KILN_PYTHON;
  const candidates = chosen ? whereIs(chosen, env) : NAMES.flatMap((name) => allOnPath(name, env));
  /** @type {Error[]} */
  const errors = [];
  for (const candidate of candidates) {
    const answer = await askPython(candidate, env).catch((error) => void errors.push(error));
    if (answer) return answer;
  }
  throw noPython(chosen, errors);
}

/** @param {string} chosen a path or a name @param {Environment} env */
function whereIs(chosen, env) {
  return /[\\/]/.test(chosen) ? [chosen] : allOnPath(chosen, env);
}

/** A shim may be there and lead nowhere, so only an answer counts. @param {string} path @param {Environment} env */
async function askPython(path, env) {
  const said = await run(path, ['-c', WHO_ARE_YOU], { env, seconds: A_MOMENT });
  const [version = '', executable = ''] = said.trim().split(/\r?\n/);
  if (!/^\d+\.\d+\.\d+$/.test(version)) throw new Error(`${path} does not tell its version`);
  if (!isAtLeast(version, OLDEST_PYTHON)) throw new Error(`${path} is ${version}`);
  return { path: executable || path, version };
}

/** @param {string | undefined} chosen @param {Error[]} errors */
function noPython(chosen, errors) {
  const wrong = chosen ? `KILN_PYTHON=${chosen} is none that kiln can use` : 'none was found on PATH';
  const seen = [...new Set(errors.map(({ message }) => message))].map((message) => `\n  - ${message}`).join('');
  return new Error(
    `kiln needs Python ${OLDEST_PYTHON} or newer, and ${wrong}.${seen}\nInstall one (https://www.python.org/downloads, ` +
      'or your system\'s packages python3 and python3-venv), or set KILN_PYTHON to its path.',
    { cause: new AggregateError(errors) },
  );
}

// ---- uv ---------------------------------------------------------------------------------------------------------

/** @param {Environment} env @returns {Promise<string | null>} */
async function aUvOnPath(env) {
  for (const path of allOnPath('uv', env)) {
    const said = await run(path, ['--version'], { env, seconds: A_MOMENT }).catch(() => '');
    if (isAtLeast(versionIn(said) ?? '0', OLDEST_UV)) return path;
  }
  return null;
}

/**
 * A folder with the pinned uv, in place only when it is whole, so that two kilns may start at once.
 * @param {{ folder: string, python: string, version: string, say: Say, env: Environment }} means
 */
async function aUvOfOurOwn({ folder, python, version, say, env }) {
  const tools = join(folder, 'tools');
  const home = join(tools, `uv-${PINNED_UV}`);
  const there = uvIn(home);
  if (there) return there;

  say(`uv: none of at least ${OLDEST_UV} on PATH, installing ${PINNED_UV} with Python ${version}`);
  await mkdir(tools, { recursive: true });
  const part = await mkdtemp(join(tools, '.part-'));
  try {
    await installUv({ part: join(part, 'uv'), python, say, env });
    if (!uvIn(home)) await rm(home, { recursive: true, force: true }); // a half one would be in the way
    await rename(join(part, 'uv'), home).catch((error) => {
      if (!uvIn(home)) throw error; // else somebody was faster, and his is as good
    });
  } finally {
    await rm(part, { recursive: true, force: true });
  }
  return /** @type {string} */ (uvIn(home));
}

/** @param {{ part: string, python: string, say: Say, env: Environment }} means */
async function installUv({ part, python, say, env }) {
  const errors = [];
  for (const [name, install] of WAYS_TO_INSTALL_UV) {
    try {
      await install(part, python, env);
      if (!uvIn(part)) throw new Error('it brought no uv');
      return;
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      say(`  no: ${name}: ${reason}`);
      errors.push(new Error(`${name}: ${reason}`, { cause: error }));
      await rm(part, { recursive: true, force: true });
    }
  }
  const tried = errors.map(({ message }) => `\n  - ${message}`).join('');
  throw new Error(
    `kiln needs uv ${OLDEST_UV} or newer and could not get it. Tried:${tried}\n` +
      'Install uv so that it is on PATH (https://docs.astral.sh/uv), or Python\'s venv and pip (on Debian: python3-venv, python3-pip).',
    { cause: new AggregateError(errors) },
  );
}

// Only wheels: without one, pip would try to compile uv, which takes a Rust compiler and many minutes.
const PIP_INSTALL = ['-m', 'pip', 'install', '--quiet', '--disable-pip-version-check', '--only-binary', ':all:'];

/**
 * The second way is for a Debian without python3-venv.
 * @type {readonly [string, (folder: string, python: string, env: Environment) => Promise<unknown>][]}
 */
const WAYS_TO_INSTALL_UV = [
  ['python -m venv, pip install', async (folder, python, env) => {
    await run(python, ['-m', 'venv', folder], { env, seconds: AN_INSTALLATION, lastLines: 6 });
    const inside = WINDOWS ? join(folder, 'Scripts', 'python.exe') : join(folder, 'bin', 'python');
    await run(inside, [...PIP_INSTALL, `uv==${PINNED_UV}`], { env, seconds: AN_INSTALLATION });
  }],
  ['pip install --target', (folder, python, env) =>
    run(python, [...PIP_INSTALL, '--target', folder, `uv==${PINNED_UV}`], { env, seconds: AN_INSTALLATION })],
];

/** @param {string} home @returns {string | null} */
function uvIn(home) {
  const places = WINDOWS ? ['Scripts/uv.exe', 'bin/uv.exe'] : ['bin/uv'];
  return places.map((place) => join(home, place)).find((path) => existsSync(path)) ?? null;
}

// ---- what was found, remembered ---------------------------------------------------------------------------------

/** @param {string} folder @param {string} asked @returns {Promise<Found | null>} null also when one has changed since */
async function theRememberedAnswer(folder, asked) {
  try {
    const note = JSON.parse(await readFile(noteIn(folder), 'utf8'));
    const { python, uv, version } = note.found;
    const isUnchanged = note.asked === asked && note.times[0] === changedAt(python) && note.times[1] === changedAt(uv);
    return isUnchanged && typeof version === 'string' ? { python, uv, version } : null;
  } catch {
    return null;
  }
}

/** @param {string} folder @param {string} asked @param {Found} found */
async function remember(folder, asked, found) {
  await mkdir(folder, { recursive: true });
  const part = `${noteIn(folder)}.${process.pid}`;
  await writeFile(part, JSON.stringify({ asked, found, times: [changedAt(found.python), changedAt(found.uv)] }));
  await rename(part, noteIn(folder));
}

/** @param {string} folder */
function noteIn(folder) {
  return join(folder, 'python.json');
}

/** @param {string} path */
function changedAt(path) {
  return statSync(path).mtimeMs;
}
