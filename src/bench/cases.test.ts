import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { devices } from '../testing.js';
import { kernelSignatures } from '../tensor/kernels.js';
import { sizes } from './case.js';
import { casesOf } from './cases/index.js';
import { checked } from './run.js';

const test = suite('cases of turl bench');

test('every kernel of the table has a case, in --quick too', () => {
  for (const size of Object.values(sizes)) {
    const timed = new Set(casesOf(size).map(({ kernel }) => kernel));
    const missing = Object.keys(kernelSignatures).filter((kernel) => !timed.has(kernel as never));
    assert.equal(missing, [], 'add the case to a file of src/bench/cases');
  }
});

test('every case has a name of its own', () => {
  const names = casesOf(sizes.full).map(({ kernel, shape }) => `${kernel} ${shape}`);
  assert.is(new Set(names).size, names.length);
});

for (const device of devices)
  test(`on ${device.name}: every kernel's results equal the formulas of its case`, () => {
    for (const entry of casesOf(sizes.tiny)) assert.ok(checked(device, entry) >= 0);
  });

test.run();
