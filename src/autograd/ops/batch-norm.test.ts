import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { checkGradients } from '../gradient-check.js';
import { assertClose, devices, leaf, randomTensor, sameBits } from '../../testing.js';
import { Tape } from '../tape.js';
import { full, ones, parameter, zeros, type Tensor } from '../../tensor/tensor.js';
import { scope } from '../../tensor/scope.js';
import type { Device } from '../../tensor/device.js';
import type { DType } from '../../tensor/dtype.js';
import { batchNorm, batchNormAdd, batchNormPrelu } from './batch-norm.js';
import { add } from './binary.js';
import { concat, slice } from './shape.js';
import { affine } from './unary.js';

const test = suite('batch-norm');

const epsilon = 1e-5;
const numbers = (n: number, f: (i: number) => number) => Float64Array.from({ length: n }, (_, i) => f(i));

interface Case {
  x: ArrayLike<number>;
  dy: ArrayLike<number>;
  channels: number;
  gamma: ArrayLike<number>;
  beta: ArrayLike<number>;
  /** 1 everywhere for no PReLU. */
  slope: ArrayLike<number>;
  /** The running statistics, for evaluation. */
  fixed?: { mean: ArrayLike<number>; variance: ArrayLike<number> };
}

/** The definition in doubles, two passes for the variance. */
function naive({ x, dy, channels, gamma, beta, slope, fixed }: Case) {
  const rows = x.length / channels;
  const each = (f: (c: number) => number) => numbers(channels, f);
  const overRows = (f: (i: number, c: number) => number) =>
    each((c) => {
      let total = 0;
      for (let r = 0; r < rows; r++) total += f(r * channels + c, c);
      return total;
    });
  const v = (a: ArrayLike<number>, i: number) => a[i] as number;
  const mean = fixed ? each((c) => v(fixed.mean, c)) : overRows((i) => v(x, i) / rows);
  const variance = fixed
    ? each((c) => v(fixed.variance, c))
    : overRows((i, c) => (v(x, i) - v(mean, c)) ** 2 / rows);
  const h = numbers(x.length, (i) => {
    const c = i % channels;
    return (v(x, i) - v(mean, c)) / Math.sqrt(v(variance, c) + epsilon);
  });
  const z = numbers(x.length, (i) => v(gamma, i % channels) * v(h, i) + v(beta, i % channels));
  const y = z.map((t, i) => (t > 0 ? t : v(slope, i % channels) * t));
  const g = numbers(x.length, (i) => (v(z, i) > 0 ? 1 : v(slope, i % channels)) * v(dy, i));
  const dbeta = overRows((i) => v(g, i));
  const dgamma = overRows((i) => v(g, i) * v(h, i));
  const dslope = overRows((i) => (v(z, i) > 0 ? 0 : v(z, i) * v(dy, i)));
  const dx = numbers(x.length, (i) => {
    const c = i % channels;
    const inner = fixed ? v(g, i) : v(g, i) - v(dbeta, c) / rows - (v(h, i) * v(dgamma, c)) / rows;
    return (v(gamma, c) / Math.sqrt(v(variance, c) + epsilon)) * inner;
  });
  return { mean, variance, y, dx, dgamma, dbeta, dslope };
}

/** Everything of one call on a device, compared with the definition. */
function compare(device: Device, dtype: DType, shape: number[], training: boolean, offset = 0): void {
  const channels = shape.at(-1) as number;
  const options = { device, dtype: 'float32' as const };
  // In bfloat16 the values themselves are taken after rounding; results of size below 8 are rounded to 2^-9 of them. In float32 h
  // errs by a few 6e-8, and by the rounding of the mean, 6e-8 of it; sums of n terms are formed in double after 128 of them.
  const tolerance = dtype === 'bfloat16' ? 1.6e-2 : 1e-5 + offset * 2e-7;
  const x = parameter(affine(randomTensor(shape, 1, { device, dtype }), 1.7, offset));
  const dy = randomTensor(shape, 2, { device, dtype });
  const residual = parameter(randomTensor(shape, 3, { device, dtype }));
  const gamma = parameter(affine(randomTensor([channels], 4, options), 0.5, 1));
  const beta = parameter(randomTensor([channels], 5, options));
  const slope = parameter(randomTensor([channels], 6, options));
  const arrays = { x: x.toArray(), dy: dy.toArray(), channels, gamma: gamma.toArray(), beta: beta.toArray() };
  for (const kind of ['plain', 'prelu', 'add'] as const) {
    const running = {
      mean: full([channels], 0.25 + offset, options),
      variance: full([channels], 2, options),
    };
    const tape = new Tape();
    const settings = { training, epsilon, momentum: 0.2 };
    const y = tape.record((): Tensor => {
      if (kind === 'prelu') return batchNormPrelu(x, gamma, beta, slope, running, settings);
      if (kind === 'add') return batchNormAdd(x, gamma, beta, residual, running, settings);
      return batchNorm(x, gamma, beta, running, settings);
    });
    const expected = naive({
      ...arrays,
      slope: kind === 'prelu' ? slope.toArray() : numbers(channels, () => 1),
      ...(training
        ? {}
        : { fixed: { mean: numbers(channels, () => 0.25 + offset), variance: numbers(channels, () => 2) } }),
    });
    const rest = residual.toArray();
    const what = `${kind} ${shape.join()}`;
    assertClose(
      y.toArray(),
      expected.y.map((v, i) => v + (kind === 'add' ? (rest[i] as number) : 0)),
      tolerance,
      `${what} y`,
    );
    tape.backward(y, dy);
    // Gradients of [C] are sums over the rows: their terms' errors add up.
    const rows = x.size / channels;
    const wide = tolerance * Math.max(1, Math.sqrt(rows));
    assertClose(x.grad?.toArray() ?? [], expected.dx, 4 * tolerance, `${what} dx`);
    assertClose(gamma.grad?.toArray() ?? [], expected.dgamma, wide, `${what} dgamma`);
    assertClose(beta.grad?.toArray() ?? [], expected.dbeta, wide, `${what} dbeta`);
    if (kind === 'prelu') assertClose(slope.grad?.toArray() ?? [], expected.dslope, wide, `${what} dslope`);
    if (kind === 'add') assertClose(residual.grad?.toArray() ?? [], arrays.dy, 0, `${what} dresidual`);
    const share = training ? 0.2 : 0;
    assertClose(
      running.mean.toArray(),
      expected.mean.map((m) => (1 - share) * (0.25 + offset) + share * m),
      2e-6,
      `${what} running mean`,
    );
    const unbiased = rows / (rows - 1);
    assertClose(
      running.variance.toArray(),
      training ? expected.variance.map((v) => 0.8 * 2 + 0.2 * v * unbiased) : numbers(channels, () => 2),
      2e-6,
      `${what} running variance`,
    );
    for (const t of [x, gamma, beta, slope, residual]) {
      t.grad?.dispose();
      t.grad = undefined;
    }
  }
}

const shapes = [
  [2, 1],
  [7, 139], // more channels than threads of a block on CUDA
  [2, 5, 3, 17],
  [3, 9, 9, 64],
  [4224, 33], // more chunks than CUDA's finishing blocks have lines
  [1500, 64], // several chunks of CUDA's, in packs
  [2100, 24], // and with threads that have no channels
  [300, 83], // blocks of several vectors of channels, single vectors and single channels; more rows than are added in float
];

for (const device of devices)
  for (const dtype of ['float32', 'bfloat16'] as const)
    test(`${dtype} on ${device.name}: values, gradients and running statistics equal the definition`, () => {
      // On the emulated device, which is slow, not the last one, made for the CPU, and with fixed statistics one of the large ones.
      const fewer = { true: shapes.slice(0, -1), false: [...shapes.slice(0, 4), shapes[6] as number[]] };
      for (const training of [true, false])
        for (const shape of device.name === 'emulated' ? fewer[`${training}`] : shapes)
          scope(() => compare(device, dtype, shape, training));
    });

for (const device of devices)
  test(`on ${device.name}: a mean of 1000 with a deviation of 1 costs no accuracy`, () => {
    scope(() => compare(device, 'float32', [4, 11, 11, 40], true, 1000));
  });

for (const device of devices)
  for (const dtype of ['float32', 'bfloat16'] as const)
    test(`${dtype} on ${device.name}: a gradient that has arrived at x is added on the way, without a kernel of its own`, () => {
      // As in compare; the sum with dy, of size 1, is rounded once more.
      const tolerance = dtype === 'bfloat16' ? 8e-2 : 5e-5;
      for (const [channels, activated] of [
        [17, true],
        [64, true],
        [17, false],
        [64, false],
      ] as const)
        scope(() => {
          const x = parameter(randomTensor([90, channels], 1, { device, dtype }));
          const dy = randomTensor(x.shape, 2, { device, dtype });
          const slope = activated ? randomTensor([channels], 3, { device }) : ones([channels], { device });
          const running = { mean: zeros([channels], { device }), variance: ones([channels], { device }) };
          const tape = new Tape();
          const y = tape.record(() => {
            const t = affine(x, 1);
            const normal = activated
              ? batchNormPrelu(t, undefined, undefined, slope, running, { training: true })
              : batchNorm(t, undefined, undefined, running, { training: true });
            return add(normal, t);
          });
          const before = device.statistics().kernelCalls;
          tape.backward(y, dy);
          // The seed's copy, batch normalisation, affine.
          assert.is(device.statistics().kernelCalls - before, 3);
          const vector = (value: number) => numbers(channels, () => value);
          const arrays = { x: x.toArray(), dy: dy.toArray(), slope: slope.toArray(), channels };
          const { dx } = naive({ ...arrays, gamma: vector(1), beta: vector(0) });
          const sum = dx.map((v, i) => v + (arrays.dy[i] as number));
          assertClose(
            x.grad?.toArray() ?? [],
            sum,
            tolerance,
            `${channels} channels, ${activated ? 'PReLU' : 'plain'}`,
          );
          x.grad?.dispose();
        });
    });

for (const device of devices)
  for (const dtype of ['float32', 'bfloat16'] as const)
    test(`${dtype} on ${device.name}: the statistics left for the next batch norm are those of the result, and it uses them`, () => {
      // On the emulated device, which is slow, values one by one, in packs, and threads without channels; the last past the caches.
      const chosen =
        device.name === 'emulated' ? [2, 5, 6].map((i) => shapes[i] as number[]) : [...shapes, [66000, 64]];
      for (const shape of chosen)
        for (const kind of ['plain', 'prelu', 'add'] as const)
          scope(() => {
            const channels = shape.at(-1) as number;
            const x = randomTensor(shape, 1, { device, dtype });
            const rest = affine(randomTensor(shape, 2, { device, dtype }), 0.5, 3);
            const [gamma, beta, slope] = [4, 5, 6].map((seed) => randomTensor([channels], seed, { device }));
            const running = () => ({
              mean: zeros([channels], { device }),
              variance: ones([channels], { device }),
            });
            const make = (statistics: boolean) => {
              const options = { training: true, statistics };
              if (kind === 'prelu')
                return batchNormPrelu(x, gamma, beta, slope as Tensor, running(), options);
              if (kind === 'add') return batchNormAdd(x, gamma, beta, rest, running(), options);
              return batchNorm(x, gamma, beta, running(), options);
            };
            const [y, alone] = [make(true), make(false)];
            assert.is(alone.statistics, undefined);
            assert.equal(y.toBits(), alone.toBits());
            const left = (y.statistics as Tensor).toArray();
            const one = { dy: y.toArray(), gamma: [], beta: [], slope: [], channels };
            const { mean, variance } = naive({ ...one, x: y.toArray() });
            // Float sums over some hundred rows, of values less those of the first row: these are 3 deviations off at most, which makes
            // the squares 10 times as large.
            assertClose(left, [...mean, ...variance], 2e-5, `${kind} ${shape.join()}`);
            // Statistics that are not those of y show in what is made with them.
            const [shifted, fresh] = [full([2, channels], 7, { device }), running()];
            y.statistics?.dispose();
            y.statistics = shifted;
            batchNorm(y, undefined, undefined, fresh, { training: true });
            assertClose(
              fresh.mean.toArray(),
              numbers(channels, () => 0.7),
              1e-6,
              'uses them',
            );
          });
    });

test('statistics live as long as the result, and as its contents', () => {
  const x = randomTensor([8, 4], 1);
  const before = x.device.statistics().live;
  const y = scope(() =>
    batchNorm(
      x,
      undefined,
      undefined,
      { mean: zeros([4]), variance: ones([4]) },
      { training: true, statistics: true },
    ),
  );
  const { statistics } = y;
  assert.is(statistics?.disposed, false);
  y.set(new Float32Array(32));
  assert.ok(statistics?.disposed);
  assert.is(y.statistics, undefined);
  y.dispose();
  assert.is(x.device.statistics().live, before);
});

test('the gradients equal finite differences', () => {
  // No value of z is within the step of 0; third derivatives of h are of order 1 for 8 rows.
  const running = () => ({
    mean: zeros([3], { dtype: 'float64' }),
    variance: ones([3], { dtype: 'float64' }),
  });
  const [x, gamma, beta, slope] = [leaf([2, 4, 3], 1), leaf([3], 2), leaf([3], 3), leaf([3], 4)];
  for (const training of [true, false]) {
    checkGradients(
      (...t) => batchNorm(t[0] as Tensor, t[1], t[2], running(), { training }),
      [x, gamma, beta],
    );
    checkGradients(
      (...t) => batchNormPrelu(t[0] as Tensor, t[1], t[2], t[3] as Tensor, running(), { training }),
      [x, gamma, beta, slope],
    );
    checkGradients(
      (...t) => batchNormAdd(t[0] as Tensor, undefined, t[1], t[2] as Tensor, running(), { training }),
      [x, beta, leaf([2, 4, 3], 5)],
    );
    checkGradients(
      (...t) => {
        const shared = affine(t[0] as Tensor, 1.5);
        return add(batchNormPrelu(shared, t[1], t[2], t[3] as Tensor, running(), { training }), shared);
      },
      [x, gamma, beta, slope],
    );
  }
});

test('a missing or frozen gamma is 1 and gets no gradient; NaN stays in its channel; evaluation takes one row and none', () => {
  const x = parameter(randomTensor([5, 2], 1));
  const running = { mean: zeros([2]), variance: ones([2]) };
  const [frozen, beta] = [ones([2]), parameter(zeros([2]))];
  const tape = new Tape();
  const y = tape.record(() => batchNorm(x, frozen, beta, running, { training: true }));
  tape.backward(y, ones([5, 2]));
  assert.is(frozen.grad, undefined);
  assertClose(beta.grad?.toArray() ?? [], [5, 5], 0);
  assertClose(batchNorm(x, undefined, undefined, running, { training: true }).toArray(), y.toArray(), 0);
  const values = Float32Array.from(x.toArray());
  values[4] = NaN;
  x.set(values);
  batchNorm(x, undefined, undefined, running, { training: true })
    .toArray()
    .forEach((v, i) => assert.is(Number.isNaN(v), i % 2 === 0));
  const fresh = { mean: zeros([2]), variance: ones([2]) };
  assertClose(
    batchNorm(ones([1, 2]), undefined, undefined, fresh, { training: false }).toArray(),
    [1, 1],
    1e-5,
  );
  assert.is(batchNorm(ones([0, 2]), undefined, undefined, fresh, { training: false }).size, 0);
});

test('the bits do not depend on the number of threads', () => {
  const cpu = devices.find((d) => d.name === 'cpu');
  if (!cpu) return;
  const { threads } = cpu.statistics();
  const x = randomTensor([5000, 24], 1);
  const results = [1, 2, 3].map((n) => {
    cpu.configure({ threads: n });
    return batchNorm(
      x,
      undefined,
      undefined,
      { mean: zeros([24]), variance: ones([24]) },
      { training: true },
    ).toBits();
  });
  cpu.configure({ threads });
  assert.equal(results[0], results[1]);
  assert.equal(results[0], results[2]);
});

test('wrong shapes are refused', () => {
  const running = { mean: zeros([3]), variance: ones([3]) };
  assert.throws(
    () => batchNorm(zeros([4, 3]), ones([2]), undefined, running, { training: true }),
    /batchNorm: expected gamma as float32 \[3\], got float32 \[2\]/,
  );
  assert.throws(
    () => batchNorm(zeros([1, 3]), undefined, undefined, running, { training: true }),
    /batchNorm: expected two or more values of each channel in training, got float32 \[1, 3\]/,
  );
  assert.throws(
    () => batchNormAdd(zeros([4, 3]), undefined, undefined, zeros([3]), running, { training: true }),
    /batchNormAdd: expected a residual like float32 \[4, 3\]/,
  );
});

// On the CPU results of 4 MiB are written past the caches.
for (const dtype of ['float32', 'bfloat16'] as const)
  test(`${dtype}: large results are those of their halves, bit for bit`, () =>
    scope(() => {
      const rows = dtype === 'float32' ? 16384 : 32768;
      const [mean, variance, slope] = [full([64], 0.1), full([64], 0.4), full([64], 0.25)];
      const run = (x: Tensor, dy: Tensor) => {
        const [input, tape] = [parameter(x), new Tape()];
        const y = tape.record(() =>
          batchNormPrelu(input, undefined, undefined, slope, { mean, variance }, { training: false }),
        );
        tape.backward(y, dy);
        return [y, input.grad as Tensor];
      };
      const [x, dy] = [1, 2].map((seed) => randomTensor([rows, 64], seed, { dtype })) as [Tensor, Tensor];
      const halves = [0, rows / 2].map((at) =>
        run(slice(x, 0, at, at + rows / 2), slice(dy, 0, at, at + rows / 2)),
      );
      run(x, dy).forEach((whole, k) => {
        assert.ok(sameBits(whole, concat(halves.map((half) => half[k] as Tensor))), k === 0 ? 'y' : 'dx');
      });
    }));

test.run();
