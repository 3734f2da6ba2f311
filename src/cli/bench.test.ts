import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';

const test = suite('turl bench');
const folder = mkdtempSync(join(tmpdir(), 'turl-bench-'));
test.after(() => {
  rmSync(folder, { recursive: true });
});

const script = join(import.meta.dirname, '../../bin/turl.js');
const turl = (...args: string[]) =>
  spawnSync(process.execPath, [script, 'bench', ...args], { encoding: 'utf8' });

test('a filter and a form; two files compared', () => {
  const csv = turl('clip_scale', '--quick', '--csv');
  assert.is(csv.status, 0, csv.stderr);
  assert.match(csv.stdout, /^kernel,shape,ms,95 %,.*\nclip_scale,256,.*\n$/);
  const json = turl('clip_scale', '--quick', '--json');
  const file = join(folder, 'results.json');
  writeFileSync(file, json.stdout);
  const said = JSON.parse(turl('compare', file, file, '--json').stdout) as { cases: { name: string }[] };
  assert.equal(
    said.cases.map(({ name }) => name),
    ['clip_scale 256'],
  );
  const compared = turl('compare', file, file);
  assert.is(compared.status, 0, compared.stderr);
  assert.match(compared.stdout, /clip_scale 256 .*\n(.*\n)*.*of 1 cases B is/);
  // Files hold what was measured: options of the measurement are not passed over.
  for (const [option, value] of [
    ['--filter', 'zzz'],
    ['--rounds', '6'],
  ] as const) {
    const { status, stderr } = turl('compare', file, file, option, value);
    assert.is(status, 2);
    assert.match(
      stderr,
      new RegExp(`^turl: ${option}: expected two checkouts to run, got the file .*json\n$`),
    );
  }
  const other = join(folder, 'other.json');
  writeFileSync(other, json.stdout.replaceAll('clip_scale', 'clip_other'));
  const apart = turl('compare', file, other);
  assert.is(apart.status, 2);
  assert.match(apart.stderr, /^turl: bench compare: expected cases that both files have, found none in /);
});

test('usage errors are a sentence', () => {
  for (const [args, expected] of [
    [
      ['nothing-like-this'],
      /expected a filter that names a kernel or shape, none contains "nothing-like-this"/,
    ],
    [['--device', 'gpu'], /--device: expected one of cpu, cuda, emulated, got gpu/],
    [['--json', '--csv'], /option '--csv' cannot be used with option '--json'/],
    [['compare', folder, folder], /expected a checkout that is built/],
    [['compare', 'a', 'b', '--rounds', '5'], /--rounds: expected a whole number of at least 6, got 5/],
    [['step', join(folder, 'none.yaml')], /none\.yaml/],
    [['step', '--jsn'], /unknown option '--jsn'/],
    // Found out before anything is measured, which would say something first.
    [['clip_scale', '--out', 'package.json'], /^turl: cannot make the folder package\.json/],
    [
      ['step', 'experiments/bench/small.yaml', '--trace', join(folder, 'none', 'trace.json')],
      /^turl: --trace .*: expected a folder at /,
    ],
    [
      ['step', 'experiments/bench/small.yaml', '--steps', '1e99'],
      /--steps: expected .* from 1 to 10000, got/,
    ],
    ...(existsSync('/proc/sys')
      ? ([
          [['clip_scale', '--out', '/proc/sys'], /^turl: cannot write \/proc\/sys\/results\.json/],
          [
            ['step', 'experiments/bench/small.yaml', '--trace', '/proc/sys/trace.json'],
            /^turl: cannot write \/proc\/sys\/trace\.json/,
          ],
        ] as const)
      : []),
    // Options behind the name of a command are its own, also those that turl bench has too.
    [['step', 'experiments/bench/small.yaml', '--device', 'gpu'], /--device gpu/],
  ] as const) {
    const { status, stdout, stderr } = turl(...args);
    assert.is(status, 2, stderr);
    assert.is(stdout, '');
    assert.match(stderr, expected);
    assert.not.match(stderr, /\n +at /);
  }
});

test.run();
