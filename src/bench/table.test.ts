import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import sharp from 'sharp';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { device } from '../tensor/device.js';
import { sizes } from './case.js';
import { casesOf } from './cases/index.js';
import { writeFiles } from './files.js';
import { readResults, runBench } from './results.js';
import { csvTable, digits, markdownTable, resultRows, textTable } from './table.js';

const test = suite('results of turl bench');
const some = casesOf(sizes.tiny).filter(({ kernel }) => kernel === 'copy' || kernel === 'prelu_forward');
const told: number[] = [];
const tell = (done: number) => told.push(done);
const results = runBench(device('cpu'), some, { sizes: sizes.tiny, seconds: 0.01, tell });
const skipped = { kernel: 'copy', shape: 'huge', skipped: 'needs 3 TiB, 1 GiB are available' };

test('numbers have three digits and no power of ten', () => {
  assert.equal([1234.5, 12.345, 0.0012345, 0].map(digits), ['1235', '12.3', '0.00123', '0']);
});

test('every row has every column, also of what was skipped', async () => {
  assert.equal(
    told,
    some.map((_, i) => i),
  );
  for (const columns of ['all', 'shown'] as const) {
    const rows = resultRows({ ...results, results: [...results.results, skipped] }, columns);
    assert.is(rows.rows.length, some.length + 1);
    for (const row of rows.rows) assert.is(row.length, rows.head.length);
    assert.match(await csvTable(rows), /copy,huge,"skipped: needs 3 TiB, 1 GiB are available",/);
    assert.match(markdownTable(rows), /^\| kernel \| shape \| ms \|.*\n\| --- \|/);
    assert.match(textTable(rows), /huge.*skipped: needs 3 TiB/);
  }
});

test('--out: results that can be read back, a page without anything to fetch, pictures', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'turl-bench-'));
  try {
    const written = await writeFiles(folder, results);
    assert.equal(readdirSync(folder).sort(), [...written].sort());
    const read = readResults(join(folder, 'results.json'));
    assert.is(read.cases.length, some.length);
    assert.is(read.cases[0]?.name, `${some[0]?.kernel ?? ''} ${some[0]?.shape ?? ''}`);
    const page = readFileSync(join(folder, 'index.html'), 'utf8');
    assert.match(page, /<svg .*Roofline/s);
    assert.not.match(page, /<script|<link|src="http/);
    const { width } = await sharp(join(folder, 'roofline.png')).metadata();
    assert.ok(width > 800);
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test.run();
