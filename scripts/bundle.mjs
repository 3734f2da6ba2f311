// Makes bundle/turl-VERSION-PLATFORM.tar.xz: Node, the compiled TypeScript with its tests, the kernels of every device with the
// programs that test the devices, and the npm packages that they load, for a machine that has none of these. It needs only a C library
// as new as the one it was built on.
// usage: npm run bundle   Then, elsewhere: tar xf ARCHIVE; turl/turl info; TURL_TEST_DEVICES=cuda turl/test
import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { versions } from '../dist/train/environment.js';

const root = path.dirname(import.meta.dirname);
const limit = 60 * 2 ** 20;
const buildOnly = new Set(['cmake-js', 'node-addon-api']);
const testOnly = ['uvu'];
const readJson = (file) => JSON.parse(readFileSync(file, 'utf8'));

/** The folder of package `name` as `from` would load it, or undefined (an optional package of another platform). */
function packageFolder(name, from) {
  for (let folder = from; folder.startsWith(root); folder = path.dirname(folder)) {
    const found = path.join(folder, 'node_modules', name);
    if (existsSync(path.join(found, 'package.json'))) return found;
  }
  return undefined;
}

/** Adds to `folders` the package `name` and all that it depends on. */
function collect(name, from, optional, folders) {
  const folder = packageFolder(name, from);
  if (folder === undefined) {
    if (optional) return;
    throw new Error(`bundle: package ${name} is not installed: run npm install`);
  }
  if (folders.has(folder)) return;
  folders.add(folder);
  const { dependencies = {}, optionalDependencies = {} } = readJson(path.join(folder, 'package.json'));
  for (const needed of Object.keys({ ...dependencies, ...optionalDependencies }))
    collect(needed, folder, needed in optionalDependencies, folders);
}

function executable(file, text) {
  writeFileSync(file, `#!/bin/sh\nhere=$(dirname "$(readlink -f "$0")")\n${text}\n`);
  chmodSync(file, 0o755);
}

const manifest = readJson(path.join(root, 'package.json'));
const { version, dependencies, optionalDependencies = {} } = manifest;
if (!existsSync(path.join(root, 'dist/index.js')))
  throw new Error('bundle: nothing is built: run npm install');
for (const device of existsSync(path.join(root, 'build/Release/turl_cuda.so')) ? ['', 'cuda_'] : ['']) {
  const target = `turl_${device}device_test`;
  execFileSync('npx', ['cmake-js', 'build', '--prefer-make', '-T', target], { cwd: root, stdio: 'ignore' });
}
const work = mkdtempSync(path.join(tmpdir(), 'turl-bundle-'));
try {
  const house = path.join(work, 'turl');
  mkdirSync(path.join(house, 'build/Release'), { recursive: true });
  for (const part of ['bin', 'dist', 'experiments', 'examples', 'models', 'scripts', 'bench', 'README.md'])
    cpSync(path.join(root, part), path.join(house, part), { recursive: true });
  const gitHead = versions().commit;
  writeFileSync(path.join(house, 'package.json'), JSON.stringify({ ...manifest, gitHead }, null, 2));
  const built = readdirSync(path.join(root, 'build/Release'));
  for (const name of built.filter((one) => /\.(so|node)$|_device_test$/.test(one)))
    cpSync(path.join(root, 'build/Release', name), path.join(house, 'build/Release', name));

  const folders = new Set();
  for (const name of [...Object.keys({ ...dependencies, ...optionalDependencies }), ...testOnly])
    if (!buildOnly.has(name)) collect(name, root, name in optionalDependencies, folders);
  const unread = /\.(map|d\.[cm]?ts|md|markdown)$/i;
  for (const folder of folders)
    cpSync(folder, path.join(house, path.relative(root, folder)), {
      recursive: true,
      dereference: true,
      filter: (source) =>
        !unread.test(source) && !path.relative(folder, source).split(path.sep).includes('node_modules'),
    });

  const node = path.join(house, 'node');
  cpSync(process.execPath, node, { dereference: true });
  execFileSync('strip', ['--strip-unneeded', node]);
  const run = 'exec "$here/node"';
  executable(path.join(house, 'turl'), `${run} "$here/bin/turl.js" "$@"`);
  executable(path.join(house, 'test'), `cd "$here" && ${run} scripts/test.mjs "$@"`);

  mkdirSync(path.join(root, 'bundle'), { recursive: true });
  const archive = path.join(root, 'bundle', `turl-${version}-${process.platform}-${process.arch}.tar.xz`);
  execFileSync('tar', [
    '-C',
    work,
    '-cf',
    path.join(work, 'turl.tar'),
    '--owner=0',
    '--group=0',
    '--sort=name',
    'turl',
  ]);
  execFileSync('xz', ['-6', '--threads=0', path.join(work, 'turl.tar')]);
  cpSync(path.join(work, 'turl.tar.xz'), `${archive}.part`);
  renameSync(`${archive}.part`, archive);
  const { size } = statSync(archive);
  console.log(
    `${path.relative(process.cwd(), archive)}: ${(size / 2 ** 20).toFixed(1)} MiB, ${folders.size} packages`,
  );
  if (size > limit) {
    console.error(`bundle: expected at most ${limit / 2 ** 20} MiB`);
    process.exitCode = 1;
  }
} finally {
  rmSync(work, { recursive: true });
}
