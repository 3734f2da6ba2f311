import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import {
  bootstrapRatio,
  compare,
  compareMeasurements,
  compareRounds,
  comparisonSummary,
  verdictOf,
} from './compare.js';
import { parseResults, type Measurements } from './results.js';

const test = suite('bench compare');

const ratio = (low: number, high: number) => ({ median: (low + high) / 2, low, high });
const around = (middle: number) => Array.from({ length: 21 }, (_, i) => middle * (1 + (i - 10) / 500));
const measured = (cases: Record<string, number>): Measurements => ({
  commit: 'c',
  description: 'd',
  cases: Object.entries(cases).map(([name, median]) => ({ name, median, times: around(median) })),
});

test('a verdict follows from the interval', () => {
  assert.is(verdictOf(ratio(0.8, 0.9)), 'faster');
  assert.is(verdictOf(ratio(1.1, 1.2)), 'slower');
  assert.is(verdictOf(ratio(0.98, 1.02)), 'same');
  // Clear of 1, but by less than anybody would act on.
  assert.is(verdictOf(ratio(0.98, 0.99)), 'same');
  assert.is(verdictOf(ratio(0.8, 1.1)), 'undecided');
  assert.is(verdictOf(ratio(0.95, 1.01)), 'undecided');
});

test('the interval of a ratio holds it, and is the same each time', () => {
  const found = bootstrapRatio(around(10), around(5));
  assert.ok(found.low <= 0.5 && 0.5 <= found.high && found.high - found.low < 0.02);
  assert.equal(found, bootstrapRatio(around(10), around(5)));
});

test('two measurements: cases by name, those without a partner are named', () => {
  const { cases, alone } = compareMeasurements(
    measured({ x: 10, y: 10, z: 10, old: 1 }),
    measured({ x: 5, y: 20, z: 10, fresh: 1 }),
  );
  assert.equal(
    cases.map(({ name, verdict }) => [name, verdict]),
    [
      ['x', 'faster'],
      ['y', 'slower'],
      ['z', 'same'],
    ],
  );
  assert.equal(alone, ['old', 'fresh']);
});

test('two measurements of fewer runs than give an interval are undecided, however far apart', () => {
  const few = (median: number, runs: number): Measurements => ({
    ...measured({}),
    cases: [{ name: 'x', median, times: around(median).slice(0, runs) }],
  });
  assert.is(compareMeasurements(few(10, 5), few(1, 21)).cases[0]?.verdict, 'undecided');
  assert.is(compareMeasurements(few(10, 21), few(1, 1)).cases[0]?.verdict, 'undecided');
  assert.is(compareMeasurements(few(10, 6), few(1, 6)).cases[0]?.verdict, 'faster');
});

test('rounds: neighbours are compared, so that a slow round of both does not matter', () => {
  const rounds = [1, 3, 1, 2, 1, 5].map(
    (load) => [measured({ x: 10 * load }), measured({ x: 8 * load })] as const,
  );
  const [only] = compareRounds(rounds).cases;
  assert.is(only?.verdict, 'faster');
  assert.ok(Math.abs((only?.ratio.median ?? 0) - 0.8) < 1e-12);
  // Five rounds give no 95 % interval of a median.
  assert.is(compareRounds(rounds.slice(1)).cases[0]?.verdict, 'undecided');
});

test('two checkouts run in turns, each in a process of its own', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'turl-compare-'));
  const checkout = (name: string, median: number) => {
    const root = join(folder, name);
    mkdirSync(join(root, 'bin'), { recursive: true });
    mkdirSync(join(root, 'dist'));
    const results = [
      { kernel: 'k', shape: 's', warm: { median, low: median, high: median } },
      { skipped: 'why' },
    ];
    const said = JSON.stringify({ commit: name, device: { description: 'd' }, results });
    const log = JSON.stringify(join(folder, 'log'));
    writeFileSync(
      join(root, 'bin/turl.js'),
      `require('node:fs').appendFileSync(${log}, '${name} ' + process.argv.slice(2).join(' ') + ';');\nconsole.log(${JSON.stringify(said)});`,
    );
    return root;
  };
  try {
    const rounds: number[] = [];
    const [a, b] = [checkout('a', 10), checkout('b', 20)];
    const options = { rounds: 6, args: ['--quick'], tell: (round: number) => rounds.push(round) };
    const found = await compare(a, b, options);
    assert.is(
      readFileSync(join(folder, 'log'), 'utf8'),
      'a bench --quick --json;b bench --quick --json;'.repeat(6),
    );
    assert.equal(rounds, [0, 1, 2, 3, 4, 5]);
    assert.equal(found.cases, [{ name: 'k s', ratio: { median: 2, low: 2, high: 2 }, verdict: 'slower' }]);
    assert.match(
      comparisonSummary(found),
      /A a, B b, d: of 1 cases B is 0 faster, 1 slower, 0 same, 0 undecided$/,
    );
    writeFileSync(join(b, 'bin/turl.js'), `console.error('turl: no such device'); process.exit(2)`);
    let message = '';
    await compare(a, b, options).catch((error: unknown) => (message = String(error)));
    assert.match(message, /b: turl bench failed: turl: no such device/);
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test('what is no result is refused in a sentence', async () => {
  assert.throws(() => parseResults('f', '{"a": 1}'), /f: expected the JSON of turl bench/);
  const options = { rounds: 6, args: [], tell: () => undefined };
  let message = '';
  await compare('/nowhere', '/nowhere', options).catch((error: unknown) => (message = String(error)));
  assert.match(message, /\/nowhere: expected a file of results or a checkout, found nothing/);
});

test.run();
