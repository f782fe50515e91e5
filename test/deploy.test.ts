// Longer than 250 lines: the scripts of one folder, each with its roads.
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { chmodSync, cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import AdmZip from 'adm-zip';
import { pack } from 'tar-stream';
import { CHECKSUMS, PINNED_VERSION, natsServer } from '../deploy/nats-server.mjs';
import { fileInTarGz, fileInZip } from '../deploy/archives.mjs';
import { compareVersions, isAtLeast, run, versionIn } from '../deploy/programs.mjs';
import { npmPackages } from '../deploy/npm-packages.mjs';
import { fromPipConfig, uvEnvironment } from '../deploy/pip-config.mjs';
import { PINNED_UV, python } from '../deploy/python.mjs';

// Programs are small shell scripts in a folder that is the whole PATH: real processes, and nothing of this machine.
interface Bench {
  root: string;
  path: string;
  said: string[];
  say(line: string): void;
  program(name: string, script: string): string;
}

async function onABench(work: (bench: Bench) => Promise<void>) {
  const root = mkdtempSync(join(tmpdir(), 'kiln-deploy-'));
  const path = join(root, 'path');
  const said: string[] = [];
  mkdirSync(path);
  const program = (name: string, script: string) => writeProgram(join(path, name), script);
  try {
    await work({ root, path, said, program, say: (line) => void said.push(line) });
  } finally {
    rmSync(root, { recursive: true, force: true });
  }
}

function writeProgram(file: string, script: string): string {
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, `#!/bin/sh\n${script}\n`);
  chmodSync(file, 0o755);
  return file;
}

async function withServer(files: Record<string, Buffer>, work: (address: string) => Promise<void>) {
  const server = createServer((request, response) => {
    const file = files[request.url?.split('/').at(-1) ?? ''];
    response.writeHead(file ? 200 : 404).end(file);
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  try {
    await work(`http://127.0.0.1:${(server.address() as AddressInfo).port}`);
  } finally {
    server.closeAllConnections();
    server.close();
  }
}

async function fail(work: Promise<unknown>): Promise<Error> {
  try {
    await work;
  } catch (error) {
    return error as Error;
  }
  throw new Error('it should have failed');
}

const nats = (version: string) => `echo "nats-server: v${version}"`;
const sha256 = (bytes: Buffer) => createHash('sha256').update(bytes).digest('hex');
const target = `${process.platform}-${process.arch === 'x64' ? 'amd64' : process.arch}`;
const archive = `nats-server-v${PINNED_VERSION}-${target}.tar.gz`;

async function tarGz(files: Record<string, string | Buffer>): Promise<Buffer> {
  const tar = pack();
  for (const [name, content] of Object.entries(files)) tar.entry({ name, mode: 0o755 }, content);
  tar.finalize();
  const parts: Buffer[] = [];
  for await (const part of tar) parts.push(part as Buffer);
  return gzipSync(Buffer.concat(parts));
}

// ---- versions ---------------------------------------------------------------------------------------------------

const versions = suite('versions');

versions('compare by number, not by letter', () => {
  assert.ok(compareVersions('2.10.4', '2.9.25') > 0);
  assert.ok(compareVersions('2.9', '2.9.1') < 0);
  assert.is(compareVersions('2.9', '2.9.0'), 0);
  assert.ok(isAtLeast('3.0', '2.14.5'));
  assert.not(isAtLeast('2.8.99', '2.9.0'));
});

versions('are found in what programs say', () => {
  assert.is(versionIn('nats-server: v2.10.4'), '2.10.4');
  assert.is(versionIn('2.9.10-1+b3'), '2.9.10');
  assert.is(versionIn('uv 0.13.8 (x86_64)'), '0.13.8');
  assert.is(versionIn('none'), null);
});

versions.run();

// ---- nats-server ------------------------------------------------------------------------------------------------

const server = suite('natsServer');

server('takes the one on PATH', () => onABench(async ({ root, path, said, say, program }) => {
  const expected = program('nats-server', nats('2.10.4'));
  assert.is(await natsServer({ dataDir: root, say, env: { PATH: path } }), expected);
  assert.equal(said, ['nats-server: looking on PATH']);
}));

server('passes over an old and a broken one to a good one further down PATH', () => onABench(async ({ root, path, say, program }) => {
  program('nats-server', nats('2.8.4'));
  writeProgram(join(root, 'second', 'nats-server'), 'exit 1');
  const good = writeProgram(join(root, 'third', 'nats-server'), nats('2.9.0'));
  const env = { PATH: [path, join(root, 'second'), join(root, 'third')].join(':') };
  assert.is(await natsServer({ dataDir: root, say, env }), good);
}));

server('says nothing when it kept one, and takes the newest', () => onABench(async ({ root, path, said, say, program }) => {
  program('nats-server', nats('2.15.0'));
  writeProgram(join(root, 'bin', 'nats-server-2.9.10'), nats('2.9.10'));
  const newest = writeProgram(join(root, 'bin', 'nats-server-2.14.5'), nats('2.14.5'));
  writeProgram(join(root, 'bin', 'nats-server-2.20.0'), 'exit 1');
  assert.is(await natsServer({ dataDir: root, say, env: { PATH: path } }), newest);
  assert.equal(said, []);
}));

server('downloads the release, checks it and keeps it', () => onABench(async ({ root, path, said, say }) => {
  const bytes = await tarGz({ 'folder/README.md': 'x'.repeat(700), 'folder/nats-server': `#!/bin/sh\n${nats(PINNED_VERSION)}\n` });
  await withServer({ [archive]: bytes }, async (releases) => {
    const wish = { dataDir: root, say, env: { PATH: path }, releases, checksums: { [target]: sha256(bytes) } };
    const kept = join(root, 'bin', `nats-server-${PINNED_VERSION}`);
    assert.equal(await Promise.all([natsServer(wish), natsServer(wish)]), [kept, kept], 'two at once do not disturb each other');
    assert.equal(readdirSync(join(root, 'bin')), [`nats-server-${PINNED_VERSION}`], 'nothing else is left');
    assert.match(said.join('\n'), `downloading ${releases}/v${PINNED_VERSION}/${archive}`);
  });
}));

server('refuses a download with another SHA-256, and goes on', () => onABench(async ({ root, path, said, say, program }) => {
  const corrupted = await tarGz({ 'folder/nats-server': `#!/bin/sh\n${nats('2.14.5')}\n` });
  program('go', `printf '#!/bin/sh\\n${nats(PINNED_VERSION)}\\n' > "$GOBIN/nats-server"; /bin/chmod +x "$GOBIN/nats-server"`);
  await withServer({ [archive]: corrupted }, async (releases) => {
    const checksums = { [target]: '0'.repeat(64) };
    const kept = await natsServer({ dataDir: root, say, env: { PATH: path }, releases, checksums });
    assert.is(kept, join(root, 'bin', `nats-server-${PINNED_VERSION}`));
    assert.match(said.join('\n'), `no: refused: its SHA-256 is ${sha256(corrupted)}`);
    assert.match(said.at(-1) ?? '', /^nats-server: building it: go install/);
  });
}));

server('names every way in its order when all fail, and what to install', () => onABench(async ({ root, path, said, say, program }) => {
  program('nats-server', nats('2.8.4'));
  program('go', 'echo "first line" >&2; echo "no route to the proxy" >&2; exit 1');
  program('brew', 'echo "brew is unwell" >&2; exit 1');
  await withServer({}, async (releases) => {
    const wish = { dataDir: root, say, env: { PATH: path }, releases, checksums: { [target]: '0'.repeat(64) } };
    const { message, cause } = await fail(natsServer(wish));
    const reasons = [/looking on PATH: .*2\.8\.4, older than/, /downloading .*: HTTP 404/, /go install .*: no route to the proxy/, /brew install .*: brew is unwell/];
    for (const reason of reasons) assert.match(message, reason);
    const places = reasons.map((reason) => message.search(reason));
    assert.equal(places, [...places].sort((a, b) => a - b));
    assert.match(message, 'https://github.com/nats-io/nats-server/releases');
    assert.is((cause as AggregateError).errors.length, 4);
    assert.is(said.filter((line) => line.startsWith('  no: ')).length, 4);
    assert.equal(readdirSync(join(root, 'bin')), [], 'no half things are left');
  });
}));

server('skips what it has no checksum for, and says so of a host that is not there', () => onABench(async ({ root, path, say }) => {
  const env = { PATH: path };
  const skipped = await fail(natsServer({ dataDir: root, say, env, checksums: {} }));
  assert.match(skipped.message, `skipped, since no trusted SHA-256 is known for ${target}`);
  assert.match(skipped.message, 'go is not on PATH');
  assert.match(skipped.message, 'none of apt-get, brew, apk, dnf is on PATH');

  let gone = '';
  await withServer({}, async (address) => void (gone = address));
  const unreachable = await fail(natsServer({ dataDir: root, say, env, releases: gone, checksums: { [target]: '0' } }));
  assert.match(unreachable.message, 'cannot be reached (ECONNREFUSED)');
}));

server('lets apt look before it installs', () => onABench(async ({ root, path, say, program }) => {
  const isRoot = process.getuid?.() === 0;
  program('apt-cache', `[ -f ${root}/updated ] && echo "  Candidate: $(/bin/cat ${root}/updated)" || echo "  Candidate: (none)"`);
  program('apt-get', `[ "$1" = update ] && echo 2.7.1-1 > ${root}/updated || echo "$@" >> ${root}/installed`);
  const wish = { dataDir: root, say, env: { PATH: path }, checksums: {} };
  const old = await fail(natsServer(wish));
  assert.match(old.message, isRoot ? 'apt offers 2.7.1, older than 2.9.0' : 'only root may do that');
  assert.not(existsSync(join(root, 'installed')), 'nothing useless was installed');
  if (!isRoot) return;

  program('apt-get', `printf '#!/bin/sh\\n${nats('2.9.10')}\\n' > ${path}/nats-server; /bin/chmod +x ${path}/nats-server`);
  writeFileSync(join(root, 'updated'), '2.9.10-1+b3');
  assert.is(await natsServer(wish), join(root, 'bin', 'nats-server-2.9.10'));
  assert.is(await natsServer({ ...wish, env: {} }), join(root, 'bin', 'nats-server-2.9.10'), 'found again without PATH');
}));

server('reads the program out of a tar and out of a zip', async () => {
  const program = Buffer.from('program '.repeat(1000));
  assert.equal(fileInTarGz(await tarGz({ 'a/LICENSE': 'l', 'a/nats-server': program }), 'nats-server'), program);
  assert.throws(() => fileInTarGz(gzipSync(Buffer.alloc(1024)), 'nats-server'), /holds no nats-server/);

  const zip = new AdmZip();
  zip.addFile('a/LICENSE', Buffer.from('l'));
  zip.addFile('a/nats-server.exe', program);
  assert.equal(fileInZip(zip.toBuffer(), 'nats-server.exe'), program);
  assert.throws(() => fileInZip(zip.toBuffer(), 'nats-server'), /holds no nats-server/);
  assert.throws(() => fileInZip(Buffer.from('no zip'), 'nats-server'), /is no zip/);
});

server('pins a SHA-256 for each system', () => {
  assert.equal(Object.keys(CHECKSUMS).sort(), ['darwin-amd64', 'darwin-arm64', 'linux-amd64', 'linux-arm64', 'windows-amd64', 'windows-arm64']);
  for (const sum of Object.values(CHECKSUMS)) assert.match(sum, /^[0-9a-f]{64}$/);
});

server('gives a program that fails its last words', () => onABench(async ({ program }) => {
  const talker = program('talker', 'echo one >&2; echo two >&2; exit 3');
  assert.is((await fail(run(talker, []))).message, 'talker: two');
  const sleeper = program('sleeper', 'exec /bin/sleep 20');
  assert.is((await fail(run(sleeper, [], { seconds: 0.05 }))).message, 'sleeper: not done within 0.05 s');
  assert.is(await run(program('reader', 'read line; echo "got $line"'), []), 'got \n', 'nothing waits for a keyboard');
}));

server.run();

// ---- Python and uv ----------------------------------------------------------------------------------------------

const snake = suite('python');

const answers = (version: string, executable: string) => `[ "$1" = -c ] && printf '${version}\\n${executable}\\n' && exit`;
const installsUv = (folder: string) => `/bin/mkdir -p ${folder}; printf '#!/bin/sh\\n' > ${folder}/uv`;

snake('looks behind shims that lead nowhere, and takes uv from PATH', () => onABench(async ({ root, path, said, say, program }) => {
  program('python3.13', 'echo "pyenv: python3.13: command not found" >&2; exit 127');
  program('python3.12', answers('3.10.2', '/usr/bin/old'));
  const real = program('python3', answers('3.11.7', join(path, 'python3')));
  const uv = program('uv', 'echo "uv 0.5.0"');
  assert.equal(await python({ dataDir: '.kiln', root, say, env: { PATH: path } }), { python: real, uv, version: '3.11.7' });
  assert.equal(said, []);
}));

snake('remembers the answer until something changes', () => onABench(async ({ root, path, say, program }) => {
  const script = (version: string) => `echo asked >> ${root}/asked; ${answers(version, join(path, 'python3'))}`;
  program('python3', script('3.11.7'));
  program('uv', 'echo "uv 0.5.0"');
  const wish = { dataDir: '.kiln', root, say, env: { PATH: path } };
  const first = await python(wish);
  assert.equal(await python(wish), first);
  assert.is(readFileSync(join(root, 'asked'), 'utf8'), 'asked\n', 'the second time nothing was started');

  rmSync(first.python);
  writeFileSync(join(path, 'python3.12'), readFileSync(program('python3', script('3.12.1'))));
  chmodSync(join(path, 'python3.12'), 0o755);
  assert.is((await python(wish)).version, '3.12.1');
}));

snake('obeys KILN_PYTHON alone, and says what is wrong with it', () => onABench(async ({ root, path, say, program }) => {
  program('python3', answers('3.11.7', join(path, 'python3')));
  const old = program('mine', answers('3.9.1', join(path, 'mine')));
  const { message } = await fail(python({ dataDir: root, root, say, env: { PATH: path, KILN_PYTHON: old } }));
  assert.match(message, `KILN_PYTHON=${old} is none that kiln can use`);
  assert.match(message, `${old} is 3.9.1`);
  assert.match(message, 'python3-venv');
}));

snake('installs uv in a virtual environment', () => onABench(async ({ root, path, said, say, program }) => {
  const file = join(path, 'python3');
  const installing = installsUv('${0%/*}');
  const venv = `[ "$2" = venv ] && /bin/mkdir -p "$3/bin" && /bin/cp "$0" "$3/bin/python" && exit`;
  program('python3', `${answers('3.11.7', file)}\n${venv}\necho "$@" > ${root}/pip\n${installing}`);
  program('uv', 'echo "uv 0.3.0"');
  const { uv } = await python({ dataDir: '.kiln', root, say, env: { PATH: path } });
  assert.is(uv, join(root, '.kiln', 'tools', `uv-${PINNED_UV}`, 'bin', 'uv'));
  assert.ok(existsSync(uv));
  assert.match(readFileSync(join(root, 'pip'), 'utf8'), `uv==${PINNED_UV}`);
  assert.is(said.length, 1);
  assert.equal(readdirSync(join(root, '.kiln', 'tools')), [`uv-${PINNED_UV}`]);
}));

snake('installs uv beside Python where venv is missing, and tells when nothing works', () => onABench(async ({ root, path, said, say, program }) => {
  const talk = `${answers('3.11.7', join(path, 'python3'))}\n[ "$2" = venv ] && echo "ensurepip is not available" >&2 && exit 1`;
  program('python3', `${talk}\nwhile [ "$1" != --target ]; do shift; done\n${installsUv('$2/bin')}`);
  const { uv } = await python({ dataDir: 'one', root, say, env: { PATH: path } });
  assert.ok(existsSync(uv));
  assert.match(said.at(-1) ?? '', 'ensurepip is not available');

  program('python3', `${talk}\necho "No module named pip" >&2; exit 1`);
  const { message } = await fail(python({ dataDir: 'two', root, say, env: { PATH: path } }));
  assert.match(message, /venv.*: .*ensurepip is not available/);
  assert.match(message, /--target: .*No module named pip/);
  assert.match(message, 'python3-venv');
}));

snake.run();

const pip = suite("pip's configuration for uv");

const listing = String.raw`:env:.default-timeout='12.5'
:env:.find-links='/wheels https://links.example/a'
global.cert='/etc/ca.pem'
global.client-cert='/etc/me.pem'
global.extra-index-url="\nhttps://b.example/simple\nhttps://c.example/it's"
global.find-links='/overridden'
global.index-url='https://overridden.example/simple'
global.proxy='http://me:secret@proxy.example:3128'
install.index-url='https://a.example/simple'
install.pre='true'
install.trusted-host='a.example\nb.example:8080'
download.index-url='https://not-for-install.example'
list.format='columns'
`;

pip('is translated, later sections over earlier ones', () => {
  assert.equal(fromPipConfig(listing), {
    env: {
      UV_DEFAULT_INDEX: 'https://a.example/simple',
      UV_INDEX: "https://b.example/simple https://c.example/it's",
      UV_FIND_LINKS: '/wheels,https://links.example/a',
      UV_INSECURE_HOST: 'a.example b.example:8080',
      UV_HTTP_TIMEOUT: '13',
      UV_PRERELEASE: 'allow',
      SSL_CERT_FILE: '/etc/ca.pem',
      SSL_CLIENT_CERT: '/etc/me.pem',
      HTTPS_PROXY: 'http://me:secret@proxy.example:3128',
      HTTP_PROXY: 'http://me:secret@proxy.example:3128',
      ALL_PROXY: 'http://me:secret@proxy.example:3128',
    },
    args: [],
  });
});

pip('becomes an argument where uv has no variable', () => {
  assert.equal(fromPipConfig(":env:.no-index='1'"), { env: {}, args: ['--no-index'] });
  assert.equal(fromPipConfig(":env:.no-index='0'\nglobal.no-index='true'"), { env: {}, args: [] });
  assert.equal(fromPipConfig(''), { env: {}, args: [] });
  assert.equal(fromPipConfig("global.pre='false'\r\nglobal.timeout='soon'\r\nglobal.proxy=''\r\n"), { env: {}, args: [] });
});

pip('yields to what the user has set for uv', () => onABench(async ({ root, program }) => {
  writeFileSync(join(root, 'listing'), `${listing}global.no-index='yes'\n`);
  const file = program('python3', `[ "$*" = "-m pip config list" ] && /bin/cat ${root}/listing`);
  const env = { UV_INDEX_URL: 'https://mine.example', https_proxy: 'http://mine.example', SSL_CERT_FILE: '/mine' };
  const given = await uvEnvironment(file, env);
  for (const taken of ['UV_DEFAULT_INDEX', 'HTTPS_PROXY', 'SSL_CERT_FILE']) assert.not.ok(taken in given.env, taken);
  assert.is(given.env.UV_FIND_LINKS, '/wheels,https://links.example/a');
  assert.equal(given.args, [], 'who names an index for uv wants it used');
  assert.equal((await uvEnvironment(file, {})).args, ['--no-index']);
  assert.equal(await uvEnvironment(program('bare', 'exit 1'), {}), { env: {}, args: [] }, 'without pip there is nothing to say');
}));

pip.run();

// ---- npm --------------------------------------------------------------------------------------------------------

const npm = suite('npmPackages');

const lock = (version: string) => JSON.stringify({
  packages: {
    '': { name: 'kiln' },
    'node_modules/a': { version, integrity: 'sha512-a' },
    'node_modules/b': { version: '1.0.0', integrity: 'sha512-b', optional: true },
  },
});

function aProject({ root, program }: Bench) {
  const project = join(root, 'project');
  mkdirSync(project);
  writeFileSync(join(project, 'package-lock.json'), lock('1.0.0'));
  program('npm', `echo "$@" >> ${root}/npm; /bin/mkdir -p node_modules; /bin/cp package-lock.json node_modules/.package-lock.json`);
  const calls = () => (existsSync(join(root, 'npm')) ? readFileSync(join(root, 'npm'), 'utf8').trim().split('\n') : []);
  return { project, calls };
}

npm('installs once, then does nothing until the lock changes', () => onABench(async (bench) => {
  const { project, calls } = aProject(bench);
  const wish = { root: project, say: bench.say, env: { PATH: bench.path } };
  await npmPackages(wish);
  await npmPackages(wish);
  assert.equal(calls(), ['ci --no-audit --no-fund --loglevel=error']);
  assert.is(bench.said.length, 1);

  writeFileSync(join(project, 'package-lock.json'), lock('1.0.1'));
  await npmPackages(wish);
  assert.is(calls().length, 2);
}));

npm('recognises what the user installed himself', () => onABench(async (bench) => {
  const { project, calls } = aProject(bench);
  mkdirSync(join(project, 'node_modules'));
  const installed = JSON.parse(lock('1.0.0'));
  delete installed.packages['node_modules/b']; // optional, and not for this system
  writeFileSync(join(project, 'node_modules', '.package-lock.json'), JSON.stringify(installed));
  await npmPackages({ root: project, say: bench.say, env: { PATH: bench.path } });
  assert.equal([calls(), bench.said], [[], []]);

  rmSync(join(project, 'node_modules', '.kiln-lock'));
  cpSync(join(project, 'package-lock.json'), join(project, 'node_modules', '.package-lock.json'));
  writeFileSync(join(project, 'package-lock.json'), lock('2.0.0'));
  await npmPackages({ root: project, say: bench.say, env: { PATH: bench.path } });
  assert.is(calls().length, 1, 'an older installation is brought up to date');
}));

npm('tells what to do when npm fails, and leaves no note', () => onABench(async (bench) => {
  const { project } = aProject(bench);
  bench.program('npm', 'echo "npm error code ENOTFOUND" >&2; echo "npm error no such host" >&2; exit 1');
  const { message, cause } = await fail(npmPackages({ root: project, say: bench.say, env: { PATH: bench.path } }));
  assert.match(message, `run \`npm ci\` in ${project}`);
  assert.match(message, /code ENOTFOUND\nnpm error no such host/);
  assert.instance(cause, Error);
  assert.not(existsSync(join(project, 'node_modules', '.kiln-lock')));
}));

npm('wants a node that is new enough', () => onABench(async (bench) => {
  const { project } = aProject(bench);
  const { message } = await fail(npmPackages({ root: project, say: bench.say, node: '18.20.0' }));
  assert.match(message, 'kiln needs Node.js 20.18.1 or newer and runs on 18.20.0');
}));

npm.run();

// ---- nats.conf --------------------------------------------------------------------------------------------------

const conf = suite('nats.conf');

conf('is understood by the nats-server that is here', async () => {
  const root = fileURLToPath(new URL('..', import.meta.url));
  const server = await natsServer({ dataDir: join(root, '.kiln'), say: () => {} });
  assert.match(await run(server, ['-t', '-c', join(root, 'nats.conf')]), 'is valid');
});

conf.run();
