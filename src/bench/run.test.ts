import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { device } from '../tensor/device.js';
import { product } from './cases.js';
import { measure } from './run.js';

const test = suite('timing of kernels');
const cpu = device('cpu');
const yardsticks = { copy: 1e9, product: 1e9 };
const small = { kernel: 'matmul', ...product(5, 7, 11) } as const;

test('rates follow from time, operations and bytes', () => {
  const before = cpu.statistics().live;
  const timing = measure(cpu, small, yardsticks, 0.01);
  assert.ok('warm' in timing);
  const { warm, gflops, gbytes, ratio, error } = timing;
  assert.ok(warm.low <= warm.median && warm.median <= warm.high);
  const [flops, bytes] = [2 * 5 * 7 * 11, 4 * (5 * 11 + 7 * 11 + 5 * 7)];
  assert.ok(Math.abs(gflops / (flops / warm.median / 1e6) - 1) < 1e-9);
  assert.ok(Math.abs(gbytes / (bytes / warm.median / 1e6) - 1) < 1e-9);
  assert.is(ratio, Math.max(gflops, gbytes));
  assert.ok(error < 1e-5);
  assert.is(cpu.statistics().live, before);
});

test('a wrong result is not timed', () => {
  const wrong = {
    ...small,
    prepare: (on: typeof cpu) => ({ ...small.prepare(on), expected: () => 100 }),
  };
  assert.throws(() => measure(cpu, wrong, yardsticks, 0.01), /differs from the formula/);
});

test('what does not fit is skipped with the reason', () => {
  const found = measure(cpu, { ...small, bytes: 1e18 }, yardsticks, 0.01);
  assert.ok('skipped' in found && /needs .*are available/.test(found.skipped));
});

test.run();
