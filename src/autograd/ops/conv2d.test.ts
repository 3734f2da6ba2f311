import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { checkGradients } from '../gradient-check.js';
import { assertClose, devices, leaf, randomTensor } from '../../testing.js';
import { Tape } from '../tape.js';
import { parameter, zeros, type Tensor } from '../../tensor/tensor.js';
import { scope } from '../../tensor/scope.js';
import { conv2d, type ConvolutionOptions } from './conv2d.js';
import { concat, slice } from './shape.js';

const test = suite('conv2d');

interface Case extends ConvolutionOptions {
  x: [number, number, number, number];
  out: number;
  kernel: [number, number];
  /** The CPU multiplies transformed tiles (Winograd) in place of pixels. */
  transformed?: true;
}

/** Small enough for the emulated device. */
const cases: Record<string, Case> = {
  'one pixel, one channel': { x: [1, 1, 1, 1], out: 1, kernel: [1, 1] },
  'odd sizes': { x: [2, 7, 5, 5], out: 7, kernel: [3, 3], padding: 1 },
  'no padding, a wide window': { x: [1, 5, 6, 3], out: 9, kernel: [2, 3] },
  'stride 2': { x: [2, 7, 6, 4], out: 6, kernel: [3, 3], stride: 2, padding: 1 },
  'stride 3, padding 2': { x: [1, 8, 8, 2], out: 3, kernel: [3, 3], stride: 3, padding: 2 },
  '1x1': { x: [3, 3, 3, 17], out: 18, kernel: [1, 1] },
  '1x1 stride 2': { x: [2, 5, 5, 9], out: 8, kernel: [1, 1], stride: 2 },
  '1x1 stride 2, few channels': { x: [2, 5, 4, 3], out: 4, kernel: [1, 1], stride: 2 },
  'first layer': { x: [2, 9, 8, 3], out: 16, kernel: [3, 3], padding: 1 },
  'full lanes': { x: [1, 4, 5, 32], out: 32, kernel: [3, 3], padding: 1 },
  'two groups': { x: [2, 5, 4, 6], out: 10, kernel: [3, 3], padding: 1, groups: 2 },
  'grouped, one channel in': { x: [1, 4, 4, 3], out: 6, kernel: [3, 3], padding: 1, groups: 3 },
  'depthwise 3x3': { x: [2, 6, 5, 19], out: 19, kernel: [3, 3], padding: 1, groups: 19 },
  'depthwise 3x3 stride 2': { x: [2, 7, 6, 16], out: 16, kernel: [3, 3], stride: 2, padding: 1, groups: 16 },
  'depthwise 3x3, one column': { x: [2, 5, 1, 40], out: 40, kernel: [3, 3], padding: 1, groups: 40 },
  'depthwise 3x3, no padding': { x: [2, 4, 3, 17], out: 17, kernel: [3, 3], groups: 17 },
  'depthwise 3x3, padding 2': { x: [1, 3, 2, 33], out: 33, kernel: [3, 3], padding: 2, groups: 33 },
  'depthwise 3x3, padding 3': { x: [1, 3, 4, 16], out: 16, kernel: [3, 3], padding: 3, groups: 16 },
  // Several chunks of CUDA's kernels for channels in packs, and threads without channels.
  'depthwise 3x3, packs': { x: [2, 12, 13, 136], out: 136, kernel: [3, 3], padding: 1, groups: 136 },
  'depthwise 3x3, packs, no padding': { x: [1, 6, 9, 24], out: 24, kernel: [3, 3], groups: 24 },
  'depthwise 3x3, packs, stride 2': {
    x: [3, 23, 10, 136],
    out: 136,
    kernel: [3, 3],
    stride: 2,
    padding: 1,
    groups: 136,
  },
  'depthwise 3x3, packs, stride 2, padding 2': {
    x: [1, 6, 7, 24],
    out: 24,
    kernel: [3, 3],
    stride: 2,
    padding: 2,
    groups: 24,
  },
  'depthwise 3x3 stride 2, one column': {
    x: [2, 4, 1, 40],
    out: 40,
    kernel: [3, 3],
    stride: 2,
    padding: 1,
    groups: 40,
  },
  'depthwise 3x3 stride 2, no padding': { x: [1, 6, 5, 17], out: 17, kernel: [3, 3], stride: 2, groups: 17 },
  'depthwise 3x3 stride 2, padding 2': {
    x: [1, 6, 7, 19],
    out: 19,
    kernel: [3, 3],
    stride: 2,
    padding: 2,
    groups: 19,
  },
  'depthwise 3x3 stride 3': { x: [1, 7, 8, 18], out: 18, kernel: [3, 3], stride: 3, padding: 1, groups: 18 },
  'depthwise 5x5 stride 2': { x: [1, 8, 7, 17], out: 17, kernel: [5, 5], stride: 2, padding: 2, groups: 17 },
  'depthwise 7x7 global': { x: [3, 7, 7, 10], out: 10, kernel: [7, 7], groups: 10 },
  // Output channels in packs of 8: bfloat16 takes the matrix units of CUDA; input channels in packs as well, or gathered.
  'packs, odd sizes': { x: [2, 9, 8, 8], out: 24, kernel: [3, 3], padding: 1 },
  'packs, stride 2': { x: [3, 9, 7, 16], out: 8, kernel: [3, 3], stride: 2, padding: 1 },
  'packs, stride wider than the window': { x: [1, 8, 9, 8], out: 8, kernel: [2, 1], stride: 3 },
  'packs, several tiles': { x: [1, 12, 13, 72], out: 136, kernel: [1, 1] },
  'packs in groups': { x: [2, 6, 5, 32], out: 48, kernel: [3, 3], padding: 1, groups: 2 },
  'packs in groups, stride 2': {
    x: [1, 7, 6, 24],
    out: 24,
    kernel: [3, 3],
    stride: 2,
    padding: 1,
    groups: 3,
  },
  // More than one tile of 256 pixels by 128 channels, and of the inner dimension, in which the ring of four stages goes round.
  'packs, several wide tiles': { x: [2, 11, 13, 136], out: 72, kernel: [1, 1] },
  'packs, several wide tiles, stride 2': {
    x: [1, 13, 12, 40],
    out: 136,
    kernel: [3, 3],
    stride: 2,
    padding: 1,
  },
  'packs, channels in several chunks': { x: [1, 5, 6, 128], out: 136, kernel: [3, 3], padding: 1 },
  'packs, channels in several chunks, stride 2': {
    x: [1, 7, 6, 128],
    out: 192,
    kernel: [3, 3],
    stride: 2,
    padding: 1,
  },
  // With TURL_CUDA_WINDOWS (matrix-units.test.ts) forward and dx of these go by windows, in tiles of 256 or 128 positions.
  'windows, a tile across images': { x: [2, 13, 11, 64], out: 128, kernel: [3, 3], padding: 1 },
  'windows, channels beside the tiles': { x: [1, 9, 10, 192], out: 72, kernel: [3, 3], padding: 1 },
  'windows, no padding': { x: [1, 18, 17, 64], out: 64, kernel: [3, 3] },
  'packs, one pixel': { x: [1, 1, 1, 8], out: 8, kernel: [1, 1] },
  'packs, more padding than window': { x: [1, 3, 4, 8], out: 16, kernel: [2, 3], padding: 4 },
  'packs in only': { x: [1, 5, 4, 16], out: 12, kernel: [3, 3], padding: 1 },
  'packs out only, stride 2': { x: [2, 7, 6, 5], out: 8, kernel: [3, 3], stride: 2, padding: 1 },
  'packs out only, in groups': { x: [1, 6, 5, 6], out: 16, kernel: [3, 2], padding: 1, groups: 2 },
  'packs, no images': { x: [0, 4, 4, 8], out: 16, kernel: [3, 3], padding: 1 },
  'no images': { x: [0, 4, 4, 3], out: 5, kernel: [3, 3], padding: 1 },
};

/** Larger than the tiles and blocks of the fast kernels. */
const large: Record<string, Case> = {
  '28x28x40 -> 50': { x: [3, 28, 28, 40], out: 50, kernel: [3, 3], padding: 1, transformed: true },
  '28x28x40 -> 50, 3x2': { x: [3, 28, 28, 40], out: 50, kernel: [3, 2], padding: 1 },
  '29x27x33 -> 35 stride 2': { x: [3, 29, 27, 33], out: 35, kernel: [3, 3], stride: 2, padding: 1 },
  '30x30x64 -> 136': { x: [2, 30, 30, 64], out: 136, kernel: [3, 3], padding: 1, transformed: true },
  '7x7x130 -> 70': { x: [9, 7, 7, 130], out: 70, kernel: [3, 3], padding: 1, transformed: true },
  '7x7x130 -> 70, one image': { x: [1, 7, 7, 130], out: 70, kernel: [3, 3], padding: 1 },
  '14x14x64 -> 40, 1x1': { x: [3, 14, 14, 64], out: 40, kernel: [1, 1] },
  '30x30x3 -> 24': { x: [4, 30, 30, 3], out: 24, kernel: [3, 3], padding: 1 },
  '20x20x48 depthwise': { x: [4, 20, 20, 48], out: 48, kernel: [3, 3], padding: 1, groups: 48 },
  // Large results, written past the caches.
  '64x65x512 depthwise': { x: [1, 64, 65, 512], out: 512, kernel: [3, 3], padding: 1, groups: 512 },
  '64x65x512 depthwise, stride 2': {
    x: [1, 64, 65, 512],
    out: 512,
    kernel: [3, 3],
    stride: 2,
    padding: 1,
    groups: 512,
  },
  // 3x3 with stride 1 and enough pixels goes through Winograd's transforms on the CPU: tiles of 4x4, the last ones not filled.
  'tiles, 56x56x20 -> 12': { x: [2, 56, 56, 20], out: 12, kernel: [3, 3], padding: 1, transformed: true },
  'tiles, odd height, one image': {
    x: [1, 23, 30, 24],
    out: 36,
    kernel: [3, 3],
    padding: 1,
    transformed: true,
  },
  'tiles, channels beside the lanes': {
    x: [5, 11, 12, 37],
    out: 43,
    kernel: [3, 3],
    padding: 1,
    transformed: true,
  },
  'tiles, whole tiles without padding': { x: [2, 18, 22, 32], out: 33, kernel: [3, 3], transformed: true },
  'tiles, wide padding': { x: [3, 20, 17, 33], out: 32, kernel: [3, 3], padding: 3, transformed: true },
  'tiles, one row of tiles': { x: [2, 3, 61, 48], out: 40, kernel: [3, 3], padding: 1, transformed: true },
  '12x12x48 -> 72 in 3 groups': { x: [2, 12, 12, 48], out: 72, kernel: [3, 3], padding: 1, groups: 3 },
};

/** The formula in double precision: y, dx, dweight. */
function naive({ x: [batch, height, width, channels], out, kernel: [kh, kw], ...options }: Case) {
  const { stride = 1, padding = 0, groups = 1 } = options;
  const [ho, wo] = [
    Math.floor((height + 2 * padding - kh) / stride) + 1,
    Math.floor((width + 2 * padding - kw) / stride) + 1,
  ];
  const [cg, og] = [channels / groups, out / groups];
  /** Calls visit(index in y, index in x, index in weight) for every product of the sum. */
  const each = (visit: (y: number, x: number, w: number) => void) => {
    for (let b = 0; b < batch; b++)
      for (let i = 0; i < ho; i++)
        for (let j = 0; j < wo; j++)
          for (let u = 0; u < kh; u++)
            for (let v = 0; v < kw; v++) {
              const [iy, ix] = [i * stride + u - padding, j * stride + v - padding];
              if (iy < 0 || iy >= height || ix < 0 || ix >= width) continue;
              const xAt = ((b * height + iy) * width + ix) * channels;
              const yAt = ((b * ho + i) * wo + j) * out;
              for (let o = 0; o < out; o++)
                for (let c = 0; c < cg; c++)
                  visit(yAt + o, xAt + Math.floor(o / og) * cg + c, ((o * kh + u) * kw + v) * cg + c);
            }
  };
  return { shape: [batch, ho, wo, out], each };
}

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
 */
const transformedTolerance = 3e-4;

const sameBits = (a: Tensor, b: Tensor) => {
  const [left, right] = [a.toBits(), b.toBits()];
  return left.length === right.length && left.every((bits, i) => bits === right[i]);
};

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
  // On the CPU y is written in other ways with and without them; on CUDA in one.
  if (device.name === 'cpu') {
    const alone = conv2d(x, weight, options);
    assert.is(alone.statistics, undefined);
    assert.ok(sameBits(alone, y), `${name}: y without statistics`);
  }
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
  assertClose(weight.grad?.toArray() ?? [], expected.dw, sumTolerance + extra, `${name}: dweight`);
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

for (const device of devices)
  for (const [dtype, tolerance] of [
    ['float32', sumTolerance],
    ['bfloat16', roundedTolerance],
  ] as const) {
    const set = device.name === 'emulated' ? cases : { ...cases, ...large };
    // matrix-units.test.ts and amx.test.ts want those alone that their variables change.
    const wanted = process.env['TURL_TEST_CASES'] ?? '';
    for (const [name, c] of Object.entries(set).filter(([one]) => `${dtype} ${one}`.includes(wanted)))
      test(`${dtype} on ${device.name}, ${name}: value and gradients equal the formula`, () =>
        scope(() => compare(name, c, device, dtype, tolerance)));
  }

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

for (const on of devices)
  test(`any number of threads gives the same bits on ${on.name}`, () => {
    const emulated = on.name === 'emulated';
    const layers = {
      dense: emulated ? { shape: [2, 9, 10, 16], out: 72 } : { shape: [6, 14, 14, 40], out: 48 },
      depthwise: { shape: emulated ? [2, 9, 10, 16] : [6, 40, 39, 40], out: emulated ? 16 : 40 },
    };
    const run = (
      threads: number,
      dtype: 'float32' | 'bfloat16',
      stride: number,
      layer: keyof typeof layers,
    ) =>
      scope(() => {
        const { shape, out } = layers[layer];
        const groups = layer === 'depthwise' ? out : 1;
        on.configure({ threads });
        const x = parameter(randomTensor(shape, 1, { device: on, dtype }));
        const weight = parameter(randomTensor([out, 3, 3, (shape[3] as number) / groups], 2, { device: on }));
        const tape = new Tape();
        const y = tape.record(() => conv2d(x, weight, { padding: 1, stride, groups, statistics: true }));
        tape.backward(y, randomTensor(y.shape, 3, { device: on, dtype }));
        return [y, y.statistics, x.grad, weight.grad].map((t) => Array.from(t?.toBits() ?? []));
      });
    const before = on.statistics().threads;
    for (const dtype of ['float32', 'bfloat16'] as const)
      for (const layer of ['dense', 'depthwise'] as const)
        for (const stride of [1, 2]) {
          const one = run(1, dtype, stride, layer);
          for (const threads of [2, 3])
            assert.equal(
              run(threads, dtype, stride, layer),
              one,
              `${layer}, ${dtype}, stride ${stride}, ${threads} threads`,
            );
        }
    on.configure({ threads: before });
  });

/** y and dx of a convolution. */
function both(x: Tensor, weight: Tensor, dy: Tensor, options: ConvolutionOptions): [Tensor, Tensor] {
  const [input, tape] = [parameter(x), new Tape()];
  const y = tape.record(() => conv2d(input, weight, options));
  tape.backward(y, dy);
  return [y, input.grad as Tensor];
}

// On the CPU results of 4 MiB are written past the caches: y or dx of these two images, but not of one. Every sum has one order.
for (const [name, dtype, c] of [
  ['1x1', 'float32', { x: [2, 64, 128, 16], out: 64, kernel: [1, 1] }],
  ['1x1', 'bfloat16', { x: [2, 64, 128, 16], out: 128, kernel: [1, 1] }],
  ['1x1, dx', 'float32', { x: [2, 64, 128, 64], out: 16, kernel: [1, 1] }],
  ['1x1, dx', 'bfloat16', { x: [2, 64, 128, 128], out: 16, kernel: [1, 1] }],
  ['groups beside the cache lines', 'float32', { x: [2, 64, 128, 8], out: 80, kernel: [1, 1], groups: 2 }],
  ['first layer', 'float32', { x: [2, 64, 128, 3], out: 64, kernel: [3, 3], padding: 1 }],
  ['stride 2, dx', 'float32', { x: [2, 64, 128, 64], out: 32, kernel: [3, 3], padding: 1, stride: 2 }],
  ['tiles', 'float32', { x: [2, 64, 128, 32], out: 64, kernel: [3, 3], padding: 1 }],
  ['depthwise', 'float32', { x: [2, 64, 128, 64], out: 64, kernel: [3, 3], padding: 1, groups: 64 }],
  ['depthwise', 'bfloat16', { x: [2, 64, 128, 128], out: 128, kernel: [3, 3], padding: 1, groups: 128 }],
  [
    'depthwise stride 2, dx',
    'bfloat16',
    { x: [2, 64, 128, 128], out: 128, kernel: [3, 3], padding: 1, stride: 2, groups: 128 },
  ],
  ['tiles, dx', 'float32', { x: [2, 64, 128, 64], out: 32, kernel: [3, 3], padding: 1 }],
] as [string, 'float32' | 'bfloat16', Case][])
  test(`${dtype}, ${name}: large results are those of single images, bit for bit`, () =>
    scope(() => {
      const { x: shape, out, kernel, ...options } = c;
      const [x, weight] = [
        randomTensor(shape, 1, { dtype }),
        randomTensor([out, ...kernel, shape[3] / (c.groups ?? 1)], 2),
      ];
      const dy = randomTensor(conv2d(x, weight, options).shape, 3, { dtype });
      const whole = both(x, weight, dy, options);
      const images = [0, 1].map((i) => both(slice(x, 0, i, i + 1), weight, slice(dy, 0, i, i + 1), options));
      assert.ok(sameBits(whole[0], concat(images.map(([y]) => y))), 'y');
      assert.ok(sameBits(whole[1], concat(images.map(([, dx]) => dx))), 'dx');
    }));

// 36 x 384 x 384 transformed weights are beyond the caches of the CPU: tiles go step by step. With half of the channels they do not.
for (const dtype of ['float32', 'bfloat16'] as const)
  test(`${dtype}: many weights give the results of half of the channels, bit for bit`, () =>
    scope(() => {
      const [x, dy] = [1, 2].map((seed) => randomTensor([64, 7, 7, 384], seed, { dtype })) as [
        Tensor,
        Tensor,
      ];
      const weight = randomTensor([384, 3, 3, 384], 3);
      const halves = (t: Tensor, axis: number) => [slice(t, axis, 0, 192), slice(t, axis, 192, 384)];
      const [y, dx] = both(x, weight, dy, { padding: 1 });
      const outs = halves(weight, 0).map((w) => conv2d(x, w, { padding: 1 }));
      assert.ok(sameBits(y, concat(outs, 3)), 'y');
      const [first, second] = halves(x, 3).map(
        (part, i) => both(part, halves(weight, 3)[i] as Tensor, dy, { padding: 1 })[1],
      );
      assert.ok(sameBits(dx, concat([first as Tensor, second as Tensor], 3)), 'dx');
    }));

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
  refused(
    () => conv2d(x, zeros([2, 5, 5, 6])),
    /an image no smaller than the window of 5 x 5 after padding 0, got \[1, 4, 4, 6\]/,
  );
  refused(() => conv2d(x, zeros([2, 3, 3, 6]), { stride: 0 }), /a stride of 1 or more/);
});

test.run();
