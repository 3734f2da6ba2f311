import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { device } from '../tensor/device.js';
import { sizes, type KernelCase } from './case.js';
import { product } from './cases/matmul.js';
import { copy } from './cases/memory.js';
import { checked, measure, measureCeilings } from './run.js';

const test = suite('timing of kernels');
const cpu = device('cpu');
const ceilings = { copy: 1e9, multiplyAdd: 1e9, matrix: 1e12 };
const small = product({ m: 5, n: 7, k: 11, transposeB: true });

test('rates and the share of the roofline follow from time, operations and bytes', () => {
  const before = cpu.statistics().live;
  const timing = measure(cpu, small, ceilings, 0.01);
  assert.ok('warm' in timing);
  const { warm, gflops, gbytes, share, bound, intensity, error, quantiles, times } = timing;
  assert.ok(warm.low <= warm.median && warm.median <= warm.high);
  assert.ok(quantiles[0] <= warm.median && warm.median <= quantiles[1] && times.length >= 6);
  const [flops, bytes] = [2 * 5 * 7 * 11, 4 * (5 * 11 + 7 * 11 + 5 * 7)];
  const near = (actual: number, expected: number) => {
    assert.ok(Math.abs(actual / expected - 1) < 1e-9, `${actual} and ${expected}`);
  };
  near(gflops, flops / warm.median / 1e6);
  near(gbytes, bytes / warm.median / 1e6);
  near(intensity, flops / bytes);
  // 770 operations and 668 bytes at 1e9 a second each: arithmetic takes longer.
  assert.is(bound, 'multiply-add');
  near(share, gflops);
  assert.ok(error < 1e-6);
  assert.is(cpu.statistics().live, before);
});

test('what computes nothing is bound by memory, bfloat16 products by matrix instructions where there are any', () => {
  const boundOf = (entry: KernelCase, matrix: number | null) => {
    const timing = measure(cpu, entry, { ...ceilings, matrix }, 0.01);
    return 'bound' in timing ? timing.bound : timing.skipped;
  };
  assert.is(boundOf(copy(64), null), 'memory');
  const half = product({ m: 64, n: 64, k: 64 }, 'bfloat16');
  assert.is(boundOf(half, 2e9), 'matrix');
  assert.is(boundOf(half, 1e12), 'memory');
  assert.is(boundOf(half, null), 'multiply-add');
});

test('a wrong result is not timed', () => {
  const wrong: KernelCase = {
    ...small,
    prepare: (on) => {
      const { run, results } = small.prepare(on);
      return { run, results: results.map((result) => ({ ...result, expected: () => 100 })) };
    },
  };
  assert.throws(
    () => measure(cpu, wrong, ceilings, 0.01),
    /matmul 5x7x11 bᵀ: results differ from the formula/,
  );
  const nothing: KernelCase = { ...small, prepare: (on) => ({ ...small.prepare(on), run: () => undefined }) };
  assert.throws(() => checked(cpu, nothing), /differ from the formula/);
});

test('what does not fit is skipped with the reason', () => {
  const found = measure(cpu, { ...small, bytes: 1e18 }, ceilings, 0.01);
  assert.ok('skipped' in found && /needs .*are available/.test(found.skipped));
});

test('the ceiling of memory comes from a copy larger than caches, in a quick run too', () => {
  assert.is(sizes.quick.copied, sizes.full.copied);
  const copied: number[] = [];
  const { copy: copies } = cpu.kernels;
  const spied = new Proxy(cpu, {
    get: (target, key) =>
      key === 'kernels'
        ? {
            ...cpu.kernels,
            copy: (...args: Parameters<typeof copies>) => (copied.push(args[0].size), copies(...args)),
          }
        : (Reflect.get(target, key) as unknown),
  });
  measureCeilings(spied, { ...sizes.tiny, copied: 1 << 14 }, 0);
  assert.equal([...new Set(copied)], [1 << 14]);
});

test.run();
