// @ts-check
// Programs of this machine: where they are, which version they are, what they print.
// Runs before any npm package is installed: node's own modules only.
import { execFile } from 'node:child_process';
import { accessSync, constants, statSync } from 'node:fs';
import { basename, delimiter, resolve } from 'node:path';

/** @typedef {Record<string, string | undefined>} Environment */

const WINDOWS = process.platform === 'win32';
/** Seconds that a program may take when nobody says otherwise. */
const A_LONG_RUN = 10 * 60;

/**
 * Runs a program to its end, with nothing to read. Promises what it printed; when it fails, throws its last words.
 * @param {string} program @param {string[]} args
 * @param {{ env?: Environment, cwd?: string, seconds?: number, shell?: boolean, lastLines?: number }} [options]
 * @returns {Promise<string>}
 */
export function run(program, args, { seconds = A_LONG_RUN, lastLines = 1, ...options } = {}) {
  return new Promise((resolve, reject) => {
    const limits = { timeout: seconds * 1000, maxBuffer: 1 << 28, windowsHide: true };
    const child = execFile(program, args, { ...options, ...limits }, (error, stdout, stderr) => {
      if (!error) return resolve(stdout + stderr);
      const said = lastOf(stderr, lastLines) || lastOf(stdout, lastLines);
      const reason = error.killed ? `not done within ${seconds} s` : said || error.message;
      reject(new Error(`${basename(program)}: ${reason}`, { cause: error }));
    });
    child.stdin?.on('error', () => {}).end();
  });
}

/** @param {string} text @param {number} count */
function lastOf(text, count) {
  return text.trimEnd().split('\n').slice(-count).join('\n').trim();
}

/** All programs of that name that PATH shows, first come first. @param {string} name @param {Environment} env */
export function allOnPath(name, env) {
  const path = Object.entries(env).find(([key]) => key.toUpperCase() === 'PATH')?.[1] ?? '';
  const file = WINDOWS ? `${name}.exe` : name;
  const candidates = path.split(delimiter).filter(Boolean).map((folder) => resolve(folder, file));
  return [...new Set(candidates)].filter(isProgram);
}

/** @param {string} path */
function isProgram(path) {
  try {
    accessSync(path, constants.X_OK);
    return statSync(path).isFile();
  } catch {
    return false;
  }
}

/** @param {string} text @returns {string | null} the first thing in it that looks like a version */
export function versionIn(text) {
  return /\d+(\.\d+)+/.exec(text)?.[0] ?? null;
}

/** Below, at or above zero; a missing part counts as 0: 2.9 is 2.9.0. @param {string} a @param {string} b */
export function compareVersions(a, b) {
  const [left, right] = [a, b].map((version) => version.split('.').map(Number));
  for (let i = 0; i < Math.max(left?.length ?? 0, right?.length ?? 0); i++) {
    const difference = (left?.[i] ?? 0) - (right?.[i] ?? 0);
    if (difference !== 0) return difference;
  }
  return 0;
}

/** @param {string} version @param {string} oldest */
export function isAtLeast(version, oldest) {
  return compareVersions(version, oldest) >= 0;
}
