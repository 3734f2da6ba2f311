import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { assertClose, devices, leaf, randomTensor, randomValues } from '../../testing.js';
import { Tape } from '../tape.js';
import { parameter, tensor, zeros, type Tensor } from '../../tensor/tensor.js';
import { decorrelation } from './decorrelation.js';

const test = suite('decorrelation');

const at = (a: ArrayLike<number>, i: number) => a[i] as number;

/** Eq. 11–13 written out with a masked copy of f for every variation, and their gradients. */
function naive(
  f: ArrayLike<number>,
  weight: ArrayLike<number>,
  bias: ArrayLike<number>,
  masks: ArrayLike<number>,
  targets: ArrayLike<number>,
  dlosses: ArrayLike<number>,
  [samples, size, groups, variations]: readonly [number, number, number, number],
) {
  const losses = new Float64Array(samples * 3);
  const df = new Float64Array(samples * size);
  const dweight = new Float64Array(variations * size);
  const dbias = new Float64Array(variations);
  const add = (a: Float64Array, i: number, x: number) => (a[i] = at(a, i) + x);
  for (let i = 0; i < samples; i++)
    for (let t = 0; t < variations; t++) {
      const kept = Array.from({ length: size }, (_, e) =>
        at(masks, t * groups + Math.floor((e * groups) / size)),
      );
      for (let s = 0; s < variations; s++) {
        let l = at(bias, s);
        for (let e = 0; e < size; e++) l += at(kept, e) * at(f, i * size + e) * at(weight, s * size + e);
        const one = 1 / (1 + Math.exp(-l)); // p(u = 1)
        const u = at(targets, i * variations + s);
        const label = u >= 0 ? -u * Math.log(one) - (1 - u) * Math.log(1 - one) : 0;
        const either = -0.5 * Math.log(one) - 0.5 * Math.log(1 - one);
        const missed = u >= 0 ? one - u : 0;
        add(losses, i * 3, label);
        add(losses, i * 3 + (t === s ? 1 : 2), t === s ? label : either);
        const toC = at(dlosses, i * 3) * missed;
        const toF = t === s ? at(dlosses, i * 3 + 1) * missed : at(dlosses, i * 3 + 2) * (one - 0.5);
        add(dbias, s, toC);
        for (let e = 0; e < size; e++) {
          add(dweight, s * size + e, toC * at(kept, e) * at(f, i * size + e));
          add(df, i * size + e, toF * at(kept, e) * at(weight, s * size + e));
        }
      }
    }
  return { losses, df, dweight, dbias };
}

/** Masks that keep half of the groups, another half for each variation. */
const halves = (variations: number, groups: number) =>
  Uint8Array.from({ length: variations * groups }, (_, i) => {
    const [t, k] = [Math.floor(i / groups), i % groups];
    return (k + t) % groups < groups / 2 ? 1 : 0;
  });

/** 0 and 1 for the even samples, soft for the odd ones, and two unknown. */
function someTargets(samples: number, variations: number): Float64Array {
  const u = randomValues(samples * variations, 9).map((x, i) =>
    Math.floor(i / variations) % 2 ? (x + 1) / 2 : x > 0 ? 1 : 0,
  );
  if (u.length > 4) {
    u[1] = NaN;
    u[4] = -1;
  }
  return u;
}

const shapes = [
  [5, 32, 4, 3],
  [1, 6, 2, 2],
  [3, 64, 16, 6],
  [2, 10, 2, 1],
  [0, 8, 4, 3],
  [9, 66, 6, 3],
  [2, 432, 12, 12], // more elements, pairs of variations, and groups times variations than CUDA's blocks have threads
] as const;

// float32: sums of at most 66 products of size 1 (error 66 * 6e-8), then of 9 samples. bfloat16: df is rounded once, 2^-9 of at most 4.
for (const device of devices)
  for (const dtype of ['float32', 'bfloat16'] as const)
    test(`${dtype} on ${device.name}: losses and gradients equal Eq. 11-13`, () => {
      for (const shape of shapes) {
        const [samples, size, groups, variations] = shape;
        const f = parameter(randomTensor([samples, size], 1, { device, dtype }));
        const weight = parameter(randomTensor([variations, size], 2, { device }));
        const bias = parameter(randomTensor([variations], 3, { device }));
        const masks = tensor(halves(variations, groups), [variations, groups], { device });
        const targets = tensor(someTargets(samples, variations), [samples, variations], {
          device,
          dtype: 'float32',
        });
        const dlosses = randomTensor([samples, 3], 4, { device });
        const tape = new Tape();
        const losses = tape.record(() => decorrelation(f, weight, bias, masks, targets));
        const operands = [f, weight, bias, masks, targets, dlosses].map((t) => t.toArray()) as [
          Float64Array,
          Float64Array,
          Float64Array,
          Float64Array,
          Float64Array,
          Float64Array,
        ];
        const expected = naive(...operands, shape);
        assertClose(losses.toArray(), expected.losses, 2e-5, 'losses');
        tape.backward(losses, dlosses);
        assertClose(f.grad?.toArray() ?? [], expected.df, dtype === 'float32' ? 2e-5 : 1e-2, 'df');
        assertClose(weight.grad?.toArray() ?? [], expected.dweight, 2e-5, 'dweight');
        assertClose(bias.grad?.toArray() ?? [], expected.dbias, 2e-5, 'dbias');
      }
    });

/** One column of the losses as an op of its own: the others get no gradient. */
function column(losses: Tensor, samples: number, wanted: readonly number[]): Tensor {
  return tensor(
    Float64Array.from({ length: samples * 3 }, (_, i) => (wanted.includes(i % 3) ? 1 : 0)),
    losses.shape,
  );
}

test('Eq. 11 reaches the discriminator only, Eq. 12 and 13 the embedding only; both are the true gradients', () => {
  const [samples, size, groups, variations] = [4, 12, 4, 3];
  const masks = tensor(halves(variations, groups), [variations, groups]);
  const targets = tensor(someTargets(samples, variations), [samples, variations]);
  const f = leaf([samples, size], 1);
  const weight = leaf([variations, size], 2);
  const bias = leaf([variations], 3);
  const gradients = (wanted: readonly number[]) => {
    const tape = new Tape();
    const losses = tape.record(() => decorrelation(f, weight, bias, masks, targets));
    tape.backward(losses, column(losses, samples, wanted));
    const all = [f, weight, bias].map((t) => {
      const g = t.grad?.toArray() ?? new Float64Array();
      t.grad = undefined;
      return g;
    });
    return all as [Float64Array, Float64Array, Float64Array];
  };
  const differences = (t: Tensor, wanted: readonly number[]) => {
    const values = t.toArray() as Float64Array;
    const sum = () =>
      Array.from(decorrelation(f, weight, bias, masks, targets).toArray()).reduce(
        (total, x, i) => (wanted.includes(i % 3) ? total + x : total),
        0,
      );
    return values.map((original, i) => {
      const [above, below] = [1e-5, -1e-5].map((step) => {
        values[i] = original + step;
        t.set(values);
        return sum();
      }) as [number, number];
      values[i] = original;
      t.set(values);
      return (above - below) / 2e-5;
    });
  };
  const zero = (a: ArrayLike<number>) => new Float64Array(a.length);
  const [toF, toWeight, toBias] = gradients([0]);
  assertClose(toF, zero(toF), 0, 'f from L_C');
  assertClose(toWeight, differences(weight, [0]), 1e-7, 'weight from L_C');
  assertClose(toBias, differences(bias, [0]), 1e-7, 'bias from L_C');
  for (const wanted of [[1], [2], [1, 2]]) {
    const [df, dweight, dbias] = gradients(wanted);
    assertClose(df, differences(f, wanted), 1e-7, 'f from L_cls and L_adv');
    assertClose(dweight, zero(dweight), 0, 'weight from L_cls and L_adv');
    assertClose(dbias, zero(dbias), 0, 'bias from L_cls and L_adv');
  }
});

for (const device of devices)
  test(`${device.name}: logits of 1000 neither overflow nor lose the gradient`, () => {
    const f = parameter(tensor([1000, 0, -1000, 0], [2, 2], { device }));
    const weight = parameter(tensor([1, 0], [1, 2], { device }));
    const masks = tensor(Uint8Array.from([1, 0]), [1, 2], { device });
    const tape = new Tape();
    const losses = tape.record(() =>
      decorrelation(f, weight, zeros([1], { device }), masks, tensor([0, 0], [2, 1], { device })),
    );
    assertClose(losses.toArray(), [1000, 1000, 0, 0, 0, 0], 1e-6);
    tape.backward(losses, tensor([1, 1, 1, 1, 1, 1], [2, 3], { device }));
    assertClose(f.grad?.toArray() ?? [], [1, 0, 0, 0], 1e-6);
  });

test('wrong shapes are refused', () => {
  const masks = tensor(halves(3, 4), [3, 4]);
  const u = zeros([2, 3]);
  assert.throws(
    () => decorrelation(zeros([2, 8]), zeros([3, 7]), zeros([3]), masks, u),
    /decorrelation: expected weight of float32 \[3, 8\], got float32 \[3, 7\]/,
  );
  assert.throws(
    () => decorrelation(zeros([2, 8]), zeros([3, 8]), zeros([3]), masks, zeros([2, 2])),
    /expected targets of float32 \[2, 3\]/,
  );
  assert.throws(
    () => decorrelation(zeros([2, 8], { dtype: 'int32' }), zeros([3, 8]), zeros([3]), masks, u),
    /decorrelation: expected floating embeddings \[B, D\], got int32 \[2, 8\]/,
  );
});

test.run();
