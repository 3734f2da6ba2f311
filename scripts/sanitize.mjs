// Builds the emulated device with AddressSanitizer and UndefinedBehaviorSanitizer, and with ThreadSanitizer (as a race check of the
// CUDA kernels), and runs with each: the tests of the device itself, then the tests of the ops on that device in Node.
// usage: node scripts/sanitize.mjs [address|thread] [PATTERN of Node test files, default autograd]   Needs: npm run build.
import { execFileSync, spawn } from 'node:child_process';
import { existsSync, realpathSync } from 'node:fs';
import path from 'node:path';

const root = path.dirname(import.meta.dirname);
const [only, pattern = 'autograd'] = process.argv.slice(2);
const order = 'shuffled'; // of blocks and threads; the plain tests take them in order
const skip = 'conv2d-bits'; // the kernels of conv2d, with other numbers of threads
const kinds = {
  address: { flags: 'address,undefined', library: 'libasan.so', jobs: '1' },
  thread: { flags: 'thread', library: 'libtsan.so', jobs: '2' }, // takes twice as long
};
const options = {
  ASAN_OPTIONS: 'detect_leaks=0', // Node and abandoned CUDA threads leak by design
  UBSAN_OPTIONS: 'print_stacktrace=1',
  TSAN_OPTIONS: 'ignore_noninstrumented_modules=1 halt_on_error=1', // Node is not instrumented
};

/** Runs a command and says how it went and how long it took, and which of its test files took 10 s or more. */
async function run(label, command, args, env) {
  const start = performance.now();
  const child = spawn(command, args, { cwd: root, env: { ...process.env, ...env } });
  let output = ''; // the tests of the race check print megabytes of races
  child.stdout.on('data', (data) => (output += data));
  child.stderr.on('data', (data) => (output += data));
  const good = await new Promise((resolve) => {
    child.on('error', (error) => {
      output += error.message;
      resolve(false);
    });
    child.on('close', (code) => resolve(code === 0));
  });
  const seconds = ((performance.now() - start) / 1000).toFixed(1);
  console.log(`${good ? 'ok  ' : 'FAIL'} ${label}  ${seconds} s`);
  if (!good) console.log(output);
  else
    for (const [line, time] of output.matchAll(/^ok .* (\S+) s$/gm))
      if (Number(time) >= 10) console.log(`     ${line}`);
  return good;
}

async function sanitize(kind, { flags, library, jobs }) {
  const folder = path.join(root, `build-${kind}`);
  const runtime = execFileSync('g++', [`-print-file-name=${library}`], { encoding: 'utf8' }).trim();
  if (!existsSync(runtime)) {
    console.log(`skipped ${kind}: the compiler has no ${library}`);
    return true;
  }
  const configure = ['-S', root, '-B', folder, '-DTURL_CUDA=OFF', `-DTURL_SANITIZE=${flags}`];
  const build = ['--build', folder, '--target', 'turl_emulated', 'turl_device_test', '-j2'];
  if (
    !(await run(`${kind}: configure`, 'cmake', configure)) ||
    !(await run(`${kind}: build`, 'cmake', build))
  )
    return false;
  const env = {
    TURL_EMULATED_ORDER: order,
    TURL_TEST_DEVICES: 'emulated',
    TURL_THREADS: '2',
    TURL_TEST_SKIP: skip,
  };
  const device = { ...env, ASAN_OPTIONS: options.ASAN_OPTIONS, UBSAN_OPTIONS: options.UBSAN_OPTIONS };
  const node = {
    ...env,
    ...options,
    LD_PRELOAD: realpathSync(runtime),
    TURL_TEST_JOBS: jobs,
    TURL_BACKEND_DIR: path.join(folder, 'Release'),
  };
  const longest = pattern === 'autograd' ? ['ops/matrix-units', 'ops/conv2d', 'ops/batch-norm'] : []; // first
  const tests = ['scripts/test.mjs', ...longest, pattern];
  const good = await run(`${kind}: the device`, path.join(folder, 'Release', 'turl_device_test'), [], device);
  return (await run(`${kind}: ${pattern}`, process.execPath, tests, node)) && good;
}

// Both at once: what one builds or tests is one thread much of the time.
const wanted = Object.entries(kinds).filter(([kind]) => only === undefined || only === kind);
const results = await Promise.all(wanted.map(([kind, how]) => sanitize(kind, how)));
process.exitCode = results.every(Boolean) ? 0 : 1;
