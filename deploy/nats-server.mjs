// @ts-check
// A real nats-server for kiln: the one that is here already, or one got for it.
// Longer than 250 lines: one road with its four ways, each of which must be seen beside the others.
// Runs before any npm package is installed: node's own modules only.
import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, rename, rm, symlink, writeFile } from 'node:fs/promises';
import { delimiter, dirname, join, resolve } from 'node:path';
import { fileInTarGz, fileInZip } from './archives.mjs';
import { allOnPath, compareVersions, isAtLeast, run, versionIn } from './programs.mjs';

/** What kiln gets when it must get one. */
export const PINNED_VERSION = '2.14.5';
/** What kiln takes when one is here: since 2.9 JetStream has everything that kiln uses. */
export const OLDEST_VERSION = '2.9.0';

const RELEASE_PAGE = 'https://github.com/nats-io/nats-server/releases';
const DOWNLOADS = `${RELEASE_PAGE}/download`;
const WINDOWS = process.platform === 'win32';
const EXECUTABLE = WINDOWS ? 'nats-server.exe' : 'nats-server';
const [A_MOMENT, A_DOWNLOAD, A_BUILD] = [10, 5 * 60, 10 * 60];

/**
 * SHA-256 of the archives of release 2.14.5. The Linux numbers and Windows on amd64 stand in the publisher's own
 * Dockerfiles (github.com/nats-io/nats-docker, folder 2.14.x, commit aa0caa5). macOS stands in
 * github.com/cashapp/hermit-packages, nats-server.hcl, Windows in github.com/ScoopInstaller/Main,
 * bucket/nats-server.json; both take them from the release's SHA256SUMS, and agree with the Dockerfiles where they overlap.
 * @type {Readonly<Record<string, string>>}
 */
export const CHECKSUMS = Object.freeze({
  'linux-amd64': '5e3b603d47c447bda1f77f9ac16dbf91c90aac4ff3681f8fbbc7201e4ed99355',
  'linux-arm64': '673a98d3faa79dde3f9ebf16d6dfac36a5f694e7ad2015e4954dd7939c85cd4c',
  'darwin-amd64': 'f95c98d6b6ed2b63c5681b46b092c9585c99767d547cf495730c329234625e96',
  'darwin-arm64': 'ddd907854d9a2de834af133fa396915fe6442fe6d8909ae31390d1ea7a0fea50',
  'windows-amd64': 'f66f840a211ab665083b88e9b7edbcf6296cda143be47e53e6f6bb8520692bbb',
  'windows-arm64': '5e1d5a5df7dc5bd9189daf25b1eb286eafc62f5659cc44996bef9294e2f4c938',
});

/**
 * @typedef {Record<string, string | undefined>} Environment
 * @typedef {(line: string) => void} Say
 * @typedef {{ name: string, get: () => Promise<string> }} Attempt throws, with a short reason, when it leads nowhere
 * @typedef {{ bin: string, env: Environment, releases: string, checksums: Readonly<Record<string, string>> }} Means
 */

/**
 * Promises the path of a nats-server that runs and is new enough. Says nothing when kiln has one already; otherwise
 * names each way as it is tried, and why it failed. When all fail, one error says what was tried and what to install.
 * @param {object} wish
 * @param {string} wish.dataDir where kiln keeps what it got
 * @param {Say} wish.say
 * @param {Environment} [wish.env]
 * @param {string} [wish.releases] where release archives are: `<releases>/v<version>/<archive>`
 * @param {Readonly<Record<string, string>>} [wish.checksums] by OS and CPU
 * @returns {Promise<string>}
 */
export async function natsServer({ dataDir, say, env = process.env, releases = DOWNLOADS, checksums = CHECKSUMS }) {
  const bin = join(resolve(dataDir), 'bin');
  const kept = await theNewestOneKeptIn(bin);
  if (kept) return kept;

  await mkdir(bin, { recursive: true });
  /** @type {{ name: string, error: Error }[]} */
  const failures = [];
  for (const { name, get } of waysToGetOne({ bin, env, releases, checksums })) {
    say(`nats-server: ${name}`);
    try {
      return await get();
    } catch (thrown) {
      const error = asError(thrown);
      say(`  no: ${error.message}`);
      failures.push({ name, error });
    }
  }
  throw nothingWorked(failures);
}

/** @param {Means} means @returns {Attempt[]} cheapest and least intrusive first */
function waysToGetOne({ bin, env, releases, checksums }) {
  const url = `${releases}/v${PINNED_VERSION}/${theArchive()}`;
  const source = `github.com/nats-io/nats-server/v2@v${PINNED_VERSION}`;
  return [
    { name: 'looking on PATH', get: () => theOneOnPath(env) },
    { name: `downloading ${url}`, get: () => theReleased(url, checksums[target()], bin) },
    { name: `building it: go install ${source} (takes a minute or two)`, get: () => theBuilt(source, bin, env) },
    ...systemPackages(bin, env),
  ];
}

/** @param {{ name: string, error: Error }[]} failures */
function nothingWorked(failures) {
  const tried = failures.map(({ name, error }) => `  - ${name}: ${error.message}`).join('\n');
  const remedy =
    `Install nats-server ${OLDEST_VERSION.replace(/\.0$/, '')} or newer so that it is on PATH (${RELEASE_PAGE}), ` +
    'or set NATS_URL to one that runs already.';
  const cause = new AggregateError(failures.map(({ error }) => error));
  return new Error(`kiln needs a nats-server and could not get one. Tried:\n${tried}\n${remedy}`, { cause });
}

// ---- one that is here -------------------------------------------------------------------------------------------

/** @param {string} bin @returns {Promise<string | null>} of several the newest: an older one might not read its store */
async function theNewestOneKeptIn(bin) {
  const names = await readdir(bin).catch(() => []);
  const kept = names.filter((name) => /^nats-server-\d+\.\d+\.\d+(\.exe)?$/.test(name));
  kept.sort((a, b) => compareVersions(versionIn(b) ?? '0', versionIn(a) ?? '0'));
  for (const name of kept) {
    const path = join(bin, name);
    const runs = await aGoodVersionOf(path).catch(() => null);
    if (runs) return path;
  }
  return null;
}

/** @param {Environment} env */
async function theOneOnPath(env) {
  const found = allOnPath('nats-server', env);
  if (found.length === 0) throw new Error('there is none');

  /** @type {Error[]} */
  const errors = [];
  for (const path of found) {
    const version = await aGoodVersionOf(path).catch((error) => void errors.push(error));
    if (version) return path;
  }
  throw new Error(errors.map(({ message }) => message).join('; '), { cause: new AggregateError(errors) });
}

/** @param {string} path @returns {Promise<string>} its version; throws when it does not run or is too old */
async function aGoodVersionOf(path) {
  const said = await run(path, ['-v'], { seconds: A_MOMENT });
  const version = /nats-server: v?(\d+\.\d+\.\d+)/.exec(said)?.[1];
  if (!version) throw new Error(`${path} does not tell its version`);
  if (!isAtLeast(version, OLDEST_VERSION)) throw new Error(`${path} is ${version}, older than ${OLDEST_VERSION}`);
  return version;
}

// ---- the official release ---------------------------------------------------------------------------------------

/** @param {string} url @param {string | undefined} sha256 @param {string} bin */
async function theReleased(url, sha256, bin) {
  if (!sha256) throw new Error(`skipped, since no trusted SHA-256 is known for ${target()}`);
  const archive = await download(url);
  const actual = createHash('sha256').update(archive).digest('hex');
  if (actual !== sha256) throw new Error(`refused: its SHA-256 is ${actual} instead of the pinned ${sha256}`);

  const unpack = url.endsWith('.zip') ? fileInZip : fileInTarGz;
  return keep(bin, (path) => writeFile(path, unpack(archive, EXECUTABLE), { mode: 0o755 }));
}

/** Gives up soon when nobody answers, and late when bytes do come. @param {string} url @returns {Promise<Buffer>} */
async function download(url) {
  const limit = new AbortController();
  const answer = setTimeout(() => limit.abort(new Error(`no answer within ${A_MOMENT} s`)), A_MOMENT * 1000);
  const end = setTimeout(() => limit.abort(new Error(`not here within ${A_DOWNLOAD} s`)), A_DOWNLOAD * 1000);
  try {
    const response = await fetch(url, { signal: limit.signal });
    clearTimeout(answer);
    if (!response.ok) throw new Error(`HTTP ${response.status}`);
    return Buffer.from(await response.arrayBuffer());
  } catch (error) {
    throw new Error(whyNoDownload(error, url), { cause: error });
  } finally {
    clearTimeout(answer);
    clearTimeout(end);
  }
}

/** @param {unknown} thrown fetch hides the reason in its cause @param {string} url */
function whyNoDownload(thrown, url) {
  const error = asError(thrown);
  const cause = /** @type {{ code?: string, message?: string } | undefined} */ (error.cause);
  if (!cause) return error.message;
  return `${new URL(url).host} cannot be reached (${cause.code ?? cause.message})`;
}

function target() {
  const os = WINDOWS ? 'windows' : process.platform;
  const cpu = process.arch === 'x64' ? 'amd64' : process.arch;
  return `${os}-${cpu}`;
}

function theArchive() {
  return `nats-server-v${PINNED_VERSION}-${target()}.${WINDOWS ? 'zip' : 'tar.gz'}`;
}

// ---- from source, and from the system's packages -----------------------------------------------------------------

/** @param {string} source @param {string} bin @param {Environment} env GOPROXY, GOFLAGS and the like stay the machine's */
async function theBuilt(source, bin, env) {
  const [go] = allOnPath('go', env);
  if (!go) throw new Error('go is not on PATH');
  return keep(bin, async (path) => {
    const folder = dirname(path);
    await run(go, ['install', source], { env: { ...env, GOBIN: folder }, cwd: folder, seconds: A_BUILD });
  });
}

/** @type {readonly { command: string, args: string[], asRoot: boolean }[]} */
const PACKAGE_MANAGERS = [
  { command: 'apt-get', args: ['install', '-y', 'nats-server'], asRoot: true },
  { command: 'brew', args: ['install', 'nats-server'], asRoot: false },
  { command: 'apk', args: ['add', 'nats-server'], asRoot: true },
  { command: 'dnf', args: ['install', '-y', 'nats-server'], asRoot: true },
];

/** @param {string} bin @param {Environment} env @returns {Attempt[]} one for each package manager that is here */
function systemPackages(bin, env) {
  const here = PACKAGE_MANAGERS.filter(({ command }) => allOnPath(command, env).length > 0);
  if (here.length > 0) {
    return here.map((manager) => ({
      name: `installing the system's package: ${[manager.command, ...manager.args].join(' ')}`,
      get: () => theInstalled(manager, bin, env),
    }));
  }
  const known = PACKAGE_MANAGERS.map(({ command }) => command).join(', ');
  return [{ name: "installing the system's package", get: () => Promise.reject(new Error(`none of ${known} is on PATH`)) }];
}

/** @param {typeof PACKAGE_MANAGERS[number]} manager @param {string} bin @param {Environment} env */
async function theInstalled({ command, args, asRoot }, bin, env) {
  if (asRoot && process.getuid?.() !== 0) throw new Error('only root may do that');
  const [path = command] = allOnPath(command, env);
  /** @param {string[]} words */
  const manage = (...words) => run(path, words, { env: { ...env, DEBIAN_FRONTEND: 'noninteractive' }, seconds: A_BUILD });

  if (command === 'apt-get') await aptHasAGoodOne(manage, env);
  await manage(...args);
  const installed = await theOneOnPath(withSystemFolders(env));
  // A link, so that kiln finds it again where it is not on PATH.
  return keep(bin, (link) => symlink(installed, link));
}

/**
 * Looks before it installs: on a young container the package lists are empty, and an old distribution offers a
 * version that would be of no use.
 * @param {(...words: string[]) => Promise<string>} manage @param {Environment} env
 */
async function aptHasAGoodOne(manage, env) {
  const offered = (await whatAptOffers(env)) ?? (await manage('update'), await whatAptOffers(env));
  if (!offered) throw new Error('apt knows no package nats-server');
  if (!isAtLeast(offered, OLDEST_VERSION)) throw new Error(`apt offers ${offered}, older than ${OLDEST_VERSION}`);
}

/** @param {Environment} env @returns {Promise<string | null>} */
async function whatAptOffers(env) {
  const [cache] = allOnPath('apt-cache', env);
  const policy = cache ? await run(cache, ['policy', 'nats-server'], { env, seconds: 60 }) : '';
  return versionIn(/Candidate: (\S+)/.exec(policy)?.[1] ?? '');
}

/** Packages put programs where a user's PATH may not look. @param {Environment} env */
function withSystemFolders(env) {
  const folders = ['/usr/sbin', '/usr/local/bin', '/opt/homebrew/bin', '/home/linuxbrew/.linuxbrew/bin'];
  return { ...env, PATH: [env.PATH, ...folders].join(delimiter) };
}

// ---- keeping what was got ---------------------------------------------------------------------------------------

/**
 * Lets `make` put the program into a folder of its own, tries it, and only then gives it its name: another kiln that
 * does the same at the same time sees a whole program or none.
 * @param {string} bin @param {(path: string) => Promise<unknown>} make
 */
async function keep(bin, make) {
  const folder = await mkdtemp(join(bin, '.part-'));
  try {
    const path = join(folder, EXECUTABLE);
    await make(path);
    const version = await aGoodVersionOf(path);
    return await giveItItsName(path, join(bin, `nats-server-${version}${WINDOWS ? '.exe' : ''}`));
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** @param {string} path @param {string} name */
async function giveItItsName(path, name) {
  await rename(path, name).catch((error) => {
    // Windows does not replace a program that runs: then somebody was faster, and his is as good.
    if (!existsSync(name)) throw error;
  });
  return name;
}

/** @param {unknown} thrown @returns {Error} */
function asError(thrown) {
  return thrown instanceof Error ? thrown : new Error(String(thrown));
}
