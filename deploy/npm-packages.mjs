// @ts-check
// The npm packages of kiln, as package-lock.json names them.
// Runs before any of them is installed: node's own modules only.
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { isAtLeast, run } from './programs.mjs';

const OLDEST_NODE = '20.18.1';
const A_QUARTER_OF_AN_HOUR = 15 * 60;

/**
 * Promises that `node_modules` is what `package-lock.json` says. When it is already, that takes a few milliseconds and
 * no words. Throws an error that tells what to do.
 * @param {object} wish
 * @param {string} wish.root the folder of package.json
 * @param {(line: string) => void} wish.say
 * @param {Record<string, string | undefined>} [wish.env]
 * @param {string} [wish.node] the version of node that runs this
 */
export async function npmPackages({ root, say, env = process.env, node = process.versions.node }) {
  if (!isAtLeast(node, OLDEST_NODE)) {
    throw new Error(`kiln needs Node.js ${OLDEST_NODE} or newer and runs on ${node}. Get one from https://nodejs.org`);
  }
  const lock = await readFile(join(root, 'package-lock.json'), 'utf8');
  const hash = createHash('sha256').update(lock).digest('hex');
  if (!isInstalled(root, lock, hash)) {
    say('npm: installing the packages of package-lock.json (npm ci)');
    await install(root, env);
  }
  await remember(root, hash);
}

/** @param {string} root @param {string} lock @param {string} hash */
function isInstalled(root, lock, hash) {
  const hidden = read(join(root, 'node_modules', '.package-lock.json'));
  if (hidden === null) return false;
  const remembered = read(noteIn(root));
  return remembered === null ? holdsAllOf(lock, hidden) : remembered === hash;
}

/**
 * Without a note of ours the user may have run npm himself: then npm's own record of what it installed tells.
 * @param {string} lock @param {string} hidden
 */
function holdsAllOf(lock, hidden) {
  try {
    const [wanted, present] = [lock, hidden].map((text) => JSON.parse(text).packages ?? {});
    return Object.entries(wanted)
      .filter(([path, { optional, devOptional }]) => path !== '' && (present[path] || !(optional || devOptional)))
      .every(([path, { version, integrity }]) => present[path]?.version === version && present[path]?.integrity === integrity);
  } catch {
    return false;
  }
}

/** @param {string} root @param {Record<string, string | undefined>} env */
async function install(root, env) {
  try {
    // On Windows npm is a script, which only a shell starts; the words are fixed, so there is nothing to quote.
    const shell = process.platform === 'win32';
    const args = ['ci', '--no-audit', '--no-fund', '--loglevel=error'];
    await run('npm', args, { cwd: root, env, shell, seconds: A_QUARTER_OF_AN_HOUR, lastLines: 12 });
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    const remedy = `See that npm is on PATH and reaches its registry, then run \`npm ci\` in ${root}.`;
    throw new Error(`The npm packages could not be installed. ${remedy}\n${reason}`, { cause: error });
  }
}

/** @param {string} root @param {string} hash */
async function remember(root, hash) {
  if (read(noteIn(root)) !== hash) await writeFile(noteIn(root), hash);
}

/** @param {string} root inside node_modules, so that whoever deletes the packages deletes the note */
function noteIn(root) {
  return join(root, 'node_modules', '.kiln-lock');
}

/** @param {string} path */
function read(path) {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return null;
  }
}
