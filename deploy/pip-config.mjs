// @ts-check
// pip's configuration, for uv.
// Runs before any npm package is installed: node's own modules only.
import { run } from './programs.mjs';

/**
 * @typedef {Record<string, string | undefined>} Environment
 * @typedef {{ env: Record<string, string>, args: string[] }} ForUv what to add to uv's environment and command line
 */

/** Seconds that pip has to tell. */
const A_MOMENT = 15;

/**
 * uv does not read pip's configuration, yet a company's index, proxy or certificate often stands only there. Promises
 * what to add to uv's environment and command line. What the user has set for uv itself stays as it is.
 * @param {string} python @param {Environment} [env] @returns {Promise<ForUv>}
 */
export async function uvEnvironment(python, env = process.env) {
  // Without pip there is nothing that its configuration could have been made for.
  const listing = await run(python, ['-m', 'pip', 'config', 'list'], { env, seconds: A_MOMENT }).catch(() => '');
  const wanted = fromPipConfig(listing);
  const isFree = (/** @type {string} */ name) => !namesFor(name).some((alias) => env[alias]);
  const choosesAnIndex = !isFree('UV_DEFAULT_INDEX') || !isFree('UV_INDEX');
  return {
    env: Object.fromEntries(Object.entries(wanted.env).filter(([name]) => isFree(name))),
    args: choosesAnIndex ? [] : wanted.args,
  };
}

/** Older or lower-case names under which uv takes the same thing. @param {string} name */
function namesFor(name) {
  /** @type {Record<string, string[]>} */
  const aliases = {
    UV_DEFAULT_INDEX: ['UV_INDEX_URL'],
    UV_INDEX: ['UV_EXTRA_INDEX_URL'],
    UV_HTTP_TIMEOUT: ['UV_REQUEST_TIMEOUT', 'HTTP_TIMEOUT'],
    HTTPS_PROXY: ['https_proxy'],
    HTTP_PROXY: ['http_proxy'],
    ALL_PROXY: ['all_proxy'],
  };
  return [name, ...(aliases[name] ?? [])];
}

/**
 * uv's lists: indexes and hosts are parted by spaces, find-links by commas. uv asks the extra indexes first and takes a
 * package from the first that has it, where pip mixes all of them; that is kept, as it is the safer order.
 * @type {Readonly<Record<string, (value: string) => Record<string, string>>>}
 */
const TRANSLATIONS = {
  'index-url': (value) => ({ UV_DEFAULT_INDEX: value }),
  'extra-index-url': (value) => ({ UV_INDEX: words(value).join(' ') }),
  'find-links': (value) => ({ UV_FIND_LINKS: words(value).join(',') }),
  'trusted-host': (value) => ({ UV_INSECURE_HOST: words(value).join(' ') }),
  cert: (value) => ({ SSL_CERT_FILE: value }),
  'client-cert': (value) => ({ SSL_CLIENT_CERT: value }),
  proxy: (value) => ({ HTTPS_PROXY: value, HTTP_PROXY: value, ALL_PROXY: value }),
  timeout: inWholeSeconds,
  'default-timeout': inWholeSeconds,
  pre: (value) => when(isYes(value), { UV_PRERELEASE: 'allow' }),
};

/**
 * Says with uv's variables what `pip config list` says with pip's. There is none for `no-index`: that is an argument.
 * @param {string} listing @returns {ForUv}
 */
export function fromPipConfig(listing) {
  const settings = pipSettings(listing);
  const env = {};
  for (const [key, value] of settings) Object.assign(env, value === '' ? {} : TRANSLATIONS[key]?.(value));
  return { env, args: isYes(settings.get('no-index') ?? '') ? ['--no-index'] : [] };
}

/**
 * The settings for `pip install`. The listing is sorted by name; what counts is that [install] overrides [global],
 * and the environment both.
 * @param {string} listing
 */
function pipSettings(listing) {
  /** @type {Map<string, string>} */
  const settings = new Map();
  for (const section of ['global', 'install', ':env:']) {
    for (const line of listing.split(/\r?\n/)) {
      if (!line.startsWith(`${section}.`)) continue;
      const [, key, quoted] = /^([\w-]+)=(.*)$/.exec(line.slice(section.length + 1)) ?? [];
      if (key && quoted) settings.set(key, unquoted(quoted));
    }
  }
  return settings;
}

/** @param {string} text as Python's repr shows it: a list over several lines has \n in it */
function unquoted(text) {
  /** @type {Record<string, string>} */
  const escapes = { n: '\n', r: '\r', t: '\t' };
  const inside = /^(['"])(.*)\1$/.exec(text)?.[2] ?? text;
  return inside.replace(/\\(.)/g, (_, letter) => escapes[letter] ?? letter).trim();
}

/** pip takes fractions of a second, uv none. @param {string} value */
function inWholeSeconds(value) {
  return when(Number(value) > 0, { UV_HTTP_TIMEOUT: String(Math.ceil(Number(value))) });
}

/** @param {boolean} holds @param {Record<string, string>} env @returns {Record<string, string>} */
function when(holds, env) {
  return holds ? env : {};
}

/** @param {string} value */
function words(value) {
  return value.split(/\s+/).filter(Boolean);
}

/** @param {string} value as pip reads a switch */
function isYes(value) {
  return /^(y|yes|t|true|on|1)$/i.test(value);
}
