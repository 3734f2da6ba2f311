import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { checkGradients } from '../gradient-check.js';
import { assertClose, devices, leaf, randomTensor, sameBits } from '../../testing.js';
import { Tape } from '../tape.js';
import { parameter, zeros, type Tensor } from '../../tensor/tensor.js';
import { scope } from '../../tensor/scope.js';
import { conv2d } from './conv2d.js';
import { cases, images, large, naive, type Case } from './conv2d-cases.js';

const test = suite('conv2d');

/**
 * Terms are below 1 and of random sign: a float32 sum of n <= 2352 of them errs by some sqrt(n) * 6e-8 * sqrt(n / 9) < 1e-4, in
 * whatever order. So do the sums of products of bfloat16, which are exact in float32.
 */
const sumTolerance = 1e-4;
/** A bfloat16 result is such a sum, rounded once: 2^-8 of its size. The weight's gradient stays the sum. */
const roundedTolerance = 2 ** -8 + sumTolerance;

/**
 * Sums of transformed tiles err by up to 2.2e-6 of the sums' own standard deviation, root mean square, as a sum in order errs by
 * 5e-7 (docs/decisions/0007-winograd.md): with n = 6272 terms of standard deviation 1 / 3 that is 6e-5, and 5 times it must hold the largest.
 * With more terms the deviation grows as the root of n.
 */
const transformedTolerance = 3e-4;

type Numbers = Float64Array | Float32Array | Int32Array | Uint8Array;
const at = (a: Numbers, i: number) => a[i] as number;

function compare(
  name: string,
  c: Case,
  device: (typeof devices)[number],
  dtype: 'float32' | 'bfloat16',
  tolerance: number,
) {
  const { x: xShape, out, kernel, transformed, ...options } = c;
  const extra = transformed && device.name === 'cpu' ? transformedTolerance - sumTolerance : 0;
  const { shape, each } = naive(c);
  const x = parameter(randomTensor(xShape, 1, { device, dtype }));
  const weight = parameter(randomTensor([out, ...kernel, xShape[3] / (c.groups ?? 1)], 2, { device }));
  const dy = randomTensor(shape, 3, { device, dtype });
  const tape = new Tape();
  const y = tape.record(() => conv2d(x, weight, { ...options, statistics: true }));
  assert.equal(y.shape, shape, name);
  // y is written in other ways with and without them.
  const alone = conv2d(x, weight, options);
  assert.is(alone.statistics, undefined);
  assert.ok(sameBits(alone, y), `${name}: y without statistics`);
  const [xs, ws, gs] = [x.toArray(), weight.to(dtype).toArray(), dy.toArray()];
  const expected = {
    y: new Float64Array(y.size),
    dx: new Float64Array(x.size),
    dw: new Float64Array(weight.size),
  };
  each((iy, ix, iw) => {
    expected.y[iy] = at(expected.y, iy) + at(xs, ix) * at(ws, iw);
    expected.dx[ix] = at(expected.dx, ix) + at(gs, iy) * at(ws, iw);
    expected.dw[iw] = at(expected.dw, iw) + at(gs, iy) * at(xs, ix);
  });
  assertClose(y.toArray(), expected.y, tolerance + extra, `${name}: y`);
  if (y.size > 0) compareStatistics(name, y.statistics as Tensor, y.toArray());
  tape.backward(y, dy);
  assertClose(x.grad?.toArray() ?? [], expected.dx, tolerance + extra, `${name}: dx`);
  assert.is(weight.grad?.dtype, 'float32');
  const more = Math.sqrt(Math.max(1, y.size / out / 6272));
  assertClose(weight.grad?.toArray() ?? [], expected.dw, (sumTolerance + extra) * more, `${name}: dweight`);
}

/**
 * Means and variances of the channels. Float sums over some hundred rows, of values less one of them that may be an unusual one, err by 1e-6 of
 * their deviation; without that (CUDA's) by as much of their size.
 */
function compareStatistics(name: string, found: Tensor, y: Numbers) {
  const [channels, values] = [found.dim(1), found.toArray()];
  const [rows, within] = [y.length / channels, 4e-6];
  for (let c = 0; c < channels; c++) {
    const column = Float64Array.from({ length: rows }, (_, row) => at(y, row * channels + c));
    const mean = column.reduce((sum, v) => sum + v, 0) / rows;
    const variance = column.reduce((sum, v) => sum + (v - mean) ** 2, 0) / rows;
    const size = 1 + variance + mean ** 2;
    assertClose([at(values, c)], [mean], within * Math.sqrt(size), `${name}: mean of channel ${c}`);
    assertClose([at(values, channels + c)], [variance], within * size, `${name}: variance of channel ${c}`);
  }
}

/** matrix-units.test.ts and amx.test.ts want those cases alone that their variables change. */
const wanted = process.env['TURL_TEST_CASES'] ?? '';

for (const device of devices)
  for (const [dtype, tolerance] of [
    ['float32', sumTolerance],
    ['bfloat16', roundedTolerance],
  ] as const) {
    const set = { ...cases, ...images, ...(device.name === 'emulated' ? {} : large) };
    for (const [name, c] of Object.entries(set).filter(([one]) => `${dtype} ${one}`.includes(wanted)))
      test(`${dtype} on ${device.name}, ${name}: value and gradients equal the formula`, () =>
        scope(() => compare(name, c, device, dtype, tolerance)));
  }

if (wanted === '')
  test('the gradient equals finite differences', () => {
    // The function is linear in either input: only the rounding of doubles remains.
    for (const c of Object.values(cases).filter((one) => one.x[0] > 0 && one.x[3] < 9)) {
      const { x, out, kernel, ...options } = c;
      checkGradients(
        (a, w) => conv2d(a, w, options),
        [leaf(x, 1), leaf([out, ...kernel, x[3] / (c.groups ?? 1)], 2)],
      );
    }
  });

test('wrong shapes are refused', () => {
  const x = zeros([1, 4, 4, 6]);
  const refused = (f: () => unknown, message: RegExp) => assert.throws(f, message);
  refused(
    () => conv2d(zeros([4, 4, 6]), zeros([2, 3, 3, 6])),
    /conv2d: expected x as floating \[B, H, W, C\], got float32 \[4, 4, 6\]/,
  );
  refused(
    () => conv2d(x, zeros([2, 3, 3, 5])),
    /expected a weight of float32 \[out, kh, kw, 6\].*got float32 \[2, 3, 3, 5\]/,
  );
  refused(() => conv2d(x, zeros([3, 3, 3, 3]), { groups: 2 }), /a multiple of 2 groups/);
  refused(() => conv2d(x, zeros([1, 3, 3, 12]), { groups: 0.5 }), /a multiple of 0.5 groups/);
  refused(
    () => conv2d(x, zeros([2, 5, 5, 6])),
    /an image no smaller than the window of 5 x 5 after padding 0, got \[1, 4, 4, 6\]/,
  );
  refused(() => conv2d(x, zeros([2, 3, 3, 6]), { stride: 0 }), /a stride of 1 or more/);
});

test.run();
