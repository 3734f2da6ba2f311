// Builds the emulated device with AddressSanitizer and UndefinedBehaviorSanitizer, and with ThreadSanitizer (as a race check of the
// CUDA kernels), and runs with each: the tests of the device itself, then the tests of the ops on that device in Node.
// usage: node scripts/sanitize.mjs [address|thread] [PATTERN of Node test files, default autograd]   Needs: npm run build.
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, realpathSync } from 'node:fs';
import path from 'node:path';

const root = path.dirname(import.meta.dirname);
const [only, pattern = 'autograd'] = process.argv.slice(2);
const order = 'shuffled'; // of blocks and threads; the plain tests take them in order
const kinds = {
  address: { flags: 'address,undefined', library: 'libasan.so' },
  thread: { flags: 'thread', library: 'libtsan.so' },
};
const options = {
  ASAN_OPTIONS: 'detect_leaks=0', // Node and abandoned CUDA threads leak by design
  UBSAN_OPTIONS: 'print_stacktrace=1',
  TSAN_OPTIONS: 'ignore_noninstrumented_modules=1 halt_on_error=1', // Node is not instrumented
};

function run(label, command, args, env) {
  const start = performance.now();
  const result = spawnSync(command, args, {
    cwd: root,
    env: { ...process.env, ...env },
    encoding: 'utf8',
    maxBuffer: 256 * 2 ** 20, // the tests of the race check print megabytes of races
  });
  const seconds = ((performance.now() - start) / 1000).toFixed(1);
  console.log(`${result.status === 0 ? 'ok  ' : 'FAIL'} ${label}  ${seconds} s`);
  if (result.status !== 0) {
    console.log(result.error ? result.error.message : result.stdout + result.stderr);
    return false;
  }
  for (const [line, time] of result.stdout.matchAll(/^ok .* (\S+) s$/gm))
    if (Number(time) >= 10) console.log(`     ${line}`);
  return true;
}

let good = true;
for (const [kind, { flags, library }] of Object.entries(kinds)) {
  if (only !== undefined && only !== kind) continue;
  const folder = path.join(root, `build-${kind}`);
  const runtime = execFileSync('g++', [`-print-file-name=${library}`], { encoding: 'utf8' }).trim();
  if (!existsSync(runtime)) {
    console.log(`skipped ${kind}: the compiler has no ${library}`);
    continue;
  }
  const built =
    run(`${kind}: configure`, 'cmake', [
      '-S',
      root,
      '-B',
      folder,
      '-DTURL_CUDA=OFF',
      `-DTURL_SANITIZE=${flags}`,
    ]) &&
    run(`${kind}: build`, 'cmake', [
      '--build',
      folder,
      '--target',
      'turl_emulated',
      'turl_device_test',
      '-j2',
    ]);
  good &&= built;
  if (!built) continue;
  const env = { TURL_EMULATED_ORDER: order, TURL_TEST_DEVICES: 'emulated', TURL_THREADS: '2' };
  const device = { ...env, ASAN_OPTIONS: options.ASAN_OPTIONS, UBSAN_OPTIONS: options.UBSAN_OPTIONS };
  good = run(`${kind}: the device`, path.join(folder, 'Release', 'turl_device_test'), [], device) && good;
  const node = {
    ...env,
    ...options,
    LD_PRELOAD: realpathSync(runtime),
    TURL_BACKEND_DIR: path.join(folder, 'Release'),
  };
  const longest = pattern === 'autograd' ? ['ops/matrix-units', 'ops/conv2d', 'ops/batch-norm'] : []; // first: two files run at a time
  good =
    run(`${kind}: ${pattern}`, process.execPath, ['scripts/test.mjs', ...longest, pattern], node) && good;
}
process.exitCode = good ? 0 : 1;
