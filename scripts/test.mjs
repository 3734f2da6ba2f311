// Runs the test files (dist/**/*.test.js), each in a process of its own, so that a crash of native code costs one file only;
// TURL_TEST_JOBS of them at a time, default 2: a test is one thread much of the time.
// usage: node scripts/test.mjs [PATTERN...]   Those of the first pattern come first, TURL_TEST_SKIP names one to leave out.
// The last line is "N passed, N failed".
import { spawn } from 'node:child_process';
import { readdirSync } from 'node:fs';
import path from 'node:path';

const root = path.dirname(import.meta.dirname);
const patterns = process.argv.length > 2 ? process.argv.slice(2) : [''];
const all = readdirSync(path.join(root, 'dist'), { recursive: true })
  .filter(
    (file) => file.endsWith('.test.js') && path.basename(file, '.test.js') !== process.env.TURL_TEST_SKIP,
  )
  .sort();
const files = [...new Set(patterns.flatMap((pattern) => all.filter((file) => file.includes(pattern))))];
const jobs = Math.max(1, Number(process.env.TURL_TEST_JOBS) || 2);
// Milliseconds for one file, against hanging: jobs share the processor, and under both sanitizers the longest takes 160 s on a quiet one.
const limit = 600_000 * jobs;

function run(file) {
  return new Promise((resolve) => {
    const child = spawn(process.execPath, [path.join(root, 'dist', file)], {
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let output = '';
    child.stdout.on('data', (data) => (output += data));
    child.stderr.on('data', (data) => (output += data));
    const timer = setTimeout(() => child.kill('SIGKILL'), limit);
    child.on('close', (code, signal) => {
      clearTimeout(timer);
      resolve({ output, code, signal });
    });
  });
}

let passed = 0;
let failed = 0;
async function runAndCount(file) {
  const start = performance.now();
  const { output, code, signal } = await run(file);
  const total = Number(/Total:\s+(\d+)/.exec(output)?.[1] ?? 0);
  const good = Number(/Passed:\s+(\d+)/.exec(output)?.[1] ?? 0);
  const skipped = Number(/Skipped:\s+(\d+)/.exec(output)?.[1] ?? 0);
  const broken = code !== 0 || total === 0;
  passed += good;
  failed += Math.max(total - good - skipped, broken ? 1 : 0);
  const seconds = ((performance.now() - start) / 1000).toFixed(1);
  console.log(
    `${broken ? 'FAIL' : 'ok  '} ${file.replace(/\.test\.js$/, '')}  ${good}/${total}  ${seconds} s`,
  );
  if (broken)
    console.log(total === 0 && code === 0 ? 'no test ran: does the file end in .run()?' : output.trimEnd());
  if (signal) console.log(`ended by ${signal}`);
}
const waiting = files.values(); // shared by the jobs
await Promise.all(
  Array.from({ length: jobs }, async () => {
    for (const file of waiting) await runAndCount(file);
  }),
);
if (files.length === 0) {
  console.log(`no test file matches "${patterns.join('" or "')}"; build first with: npm run build`);
  failed++;
}
console.log(`${passed} passed, ${failed} failed`);
process.exitCode = failed > 0 ? 1 : 0;
