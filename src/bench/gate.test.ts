// Fails when a training step launches more kernels or takes more memory than bench/gate.json says.
// TURL_UPDATE_GATE=1 node dist/bench/gate.test.js   writes what is counted now.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import * as z from 'zod';
import { writeAtomic } from '../train/atomic.js';
import { countStep, grown } from './gate.js';

const test = suite('what a step costs');
const file = join(import.meta.dirname, '../../bench/gate.json');

test('counts of a tiny training step do not grow', () => {
  const counts = countStep();
  if (process.env['TURL_UPDATE_GATE']) writeAtomic(file, `${JSON.stringify(counts, null, 2)}\n`);
  const limits = z.record(z.string(), z.number()).parse(JSON.parse(readFileSync(file, 'utf8')));
  const complaints = grown(counts, limits);
  const advice = 'meant so? TURL_UPDATE_GATE=1 node dist/bench/gate.test.js writes the new counts';
  assert.is(complaints.length, 0, `${complaints.join('; ')}; ${advice}`);
});

test('counting twice gives the same', () => {
  assert.equal(countStep(), countStep());
});

test('what grew is named, what fell is not', () => {
  const said = grown({ launches: 5, bytes: 7, calls: 1 }, { launches: 4, bytes: 8 });
  assert.equal(said, ['launches: 5, bench/gate.json allows 4', 'calls: 1, bench/gate.json has no limit']);
});

test.run();
