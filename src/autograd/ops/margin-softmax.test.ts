import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { checkGradients } from '../gradient-check.js';
import { assertClose, devices, leaf, randomTensor, randomValues } from '../../testing.js';
import { Tape } from '../tape.js';
import { device as openDevice } from '../../tensor/device.js';
import { empty, parameter, tensor, zeros, type Tensor } from '../../tensor/tensor.js';
import { marginSoftmax } from './margin-softmax.js';

const test = suite('marginSoftmax');

interface Case {
  samples: number;
  classes: number;
  size: number;
  groups: number;
  margin: number;
  /** Size of the elements of g. */
  scale: number;
}

/** Loss, hits and gradients by Eq. 8 and 9 in double precision, with the full matrix of logits. */
function naive(
  g: ArrayLike<number>,
  w: ArrayLike<number>,
  labels: readonly number[],
  c: Case,
  dloss: ArrayLike<number>,
) {
  const { samples, classes, size, groups, margin } = c;
  const at = (a: ArrayLike<number>, i: number) => a[i] as number;
  const length = size / groups;
  const norms = Array.from({ length: classes * groups }, (_, r) =>
    Math.sqrt(Array.from({ length }, (_, e) => at(w, r * length + e) ** 2).reduce((a, b) => a + b, 0)),
  );
  const v = Array.from({ length: classes * size }, (_, i) => at(w, i) / at(norms, Math.floor(i / length)));
  const loss: number[] = [];
  const hit: number[] = [];
  const dg = new Float64Array(samples * size);
  const dv = new Float64Array(classes * size);
  for (let i = 0; i < samples; i++) {
    const a = Array.from({ length: classes }, (_, j) => {
      let sum = 0;
      for (let e = 0; e < size; e++) sum += at(g, i * size + e) * at(v, j * size + e);
      return sum;
    });
    const y = at(labels, i);
    hit.push(a.every((x, j) => j === y || x < at(a, y)) ? 1 : 0);
    a[y] = at(a, y) - margin;
    const top = Math.max(...a);
    const total = top + Math.log(a.reduce((sum, x) => sum + Math.exp(x - top), 0));
    loss.push(total - at(a, y));
    a.forEach((x, j) => {
      const d = at(dloss, i) * (Math.exp(x - total) - (j === y ? 1 : 0));
      for (let e = 0; e < size; e++) {
        dg[i * size + e] = at(dg, i * size + e) + d * at(v, j * size + e);
        dv[j * size + e] = at(dv, j * size + e) + d * at(g, i * size + e);
      }
    });
  }
  const dw = Float64Array.from(dv, (d, i) => {
    const r = Math.floor(i / length);
    let along = 0;
    for (let e = 0; e < length; e++) along += at(dv, r * length + e) * at(v, r * length + e);
    return (d - at(v, i) * along) / at(norms, r);
  });
  return { loss, hit, dg, dw };
}

const cases: readonly Case[] = [
  { samples: 7, classes: 131, size: 24, groups: 4, margin: 3, scale: 2 },
  { samples: 1, classes: 1, size: 5, groups: 1, margin: 30, scale: 1 },
  { samples: 2, classes: 2, size: 6, groups: 3, margin: 0, scale: 3 },
  { samples: 17, classes: 49, size: 33, groups: 1, margin: 30, scale: 4 },
  { samples: 3, classes: 96, size: 16, groups: 16, margin: 1, scale: 8 },
  // Sizes in packs of 8, as the first and the last: in bfloat16 for CUDA's matrix units; here with several tiles each way, and once with
  // groups of whole rows of the CPU's matrix units.
  { samples: 130, classes: 203, size: 72, groups: 6, margin: 2, scale: 2 },
  { samples: 40, classes: 150, size: 96, groups: 3, margin: 2, scale: 2 },
  { samples: 258, classes: 132, size: 136, groups: 17, margin: 2, scale: 1 },
  // More tiles of classes than a warp has lanes, and a slice whose splits are deeper than the 64 of a turn of CUDA's passes.
  { samples: 5, classes: 4301, size: 8, groups: 2, margin: 2, scale: 4 },
];
const large: Case = { samples: 65, classes: 1000, size: 64, groups: 16, margin: 30, scale: 16 };

const labelsOf = (c: Case) => Array.from({ length: c.samples }, (_, i) => (i * 37) % c.classes);

function operands(c: Case, options: { device?: Tensor['device']; dtype?: 'float32' | 'bfloat16' }) {
  const g = parameter(
    tensor(
      randomValues(c.samples * c.size, 1).map((x) => x * c.scale),
      [c.samples, c.size],
      { dtype: 'float32', ...options },
    ),
  );
  const w = parameter(randomTensor([c.classes, c.size], 2, { ...options, dtype: 'float32' }));
  const labels = tensor(
    Int32Array.from(labelsOf(c)),
    [c.samples],
    options.device ? { device: options.device } : {},
  );
  return { g, w, labels };
}

// float32: a logit of size |a| <= 100 is a sum of 64 products, error about 64 * 6e-8 * 20; it enters the softmax by e^, so the relative
// error of a gradient is that of the logit, 1e-4 at most. bfloat16 rounds dg once (2^-8 of its size, which is taken off);
// g itself is exact in the formula, and matrix units take v and p with 16 bits: 2^-17 of each product, of random sign.
for (const device of devices)
  for (const dtype of ['float32', 'bfloat16'] as const)
    test(`${dtype} on ${device.name}: loss, hits and gradients equal the formulas`, () => {
      for (const c of device.name === 'emulated' ? cases : [...cases, large]) {
        const { g, w, labels } = operands(c, { device, dtype });
        const dloss = randomTensor([c.samples], 3, { device });
        const tape = new Tape();
        const { loss, hit } = tape.record(() => marginSoftmax(g, w, labels, c));
        const expected = naive(g.toArray(), w.toArray(), labelsOf(c), c, dloss.toArray());
        assertClose(loss.toArray(), expected.loss, 1e-5, 'loss');
        assertClose(hit.toArray(), expected.hit, 0, 'hit');
        tape.backward(loss, dloss);
        const rounding = dtype === 'float32' ? 0 : 2 ** -8;
        const dg = (g.grad as Tensor).toArray().map((found, i) => {
          const [e, error] = [expected.dg[i] as number, found - (expected.dg[i] as number)];
          return e + Math.sign(error) * Math.max(0, Math.abs(error) - rounding * Math.abs(e));
        });
        assertClose(dg, expected.dg, 1e-4, 'dg, but for its rounding');
        assertClose(w.grad?.toArray() ?? [], expected.dw, 2e-4, 'dw');
      }
    });

test('gradients equal finite differences', () => {
  for (const c of cases.slice(0, 3)) {
    const labels = tensor(Int32Array.from(labelsOf(c)));
    checkGradients(
      (g, w) => marginSoftmax(g, w, labels, c).loss,
      [leaf([c.samples, c.size], 1), leaf([c.classes, c.size], 2)],
      { tolerance: 1e-5 }, // norms of groups of one or two elements are small, so third derivatives are large
    );
  }
});

for (const device of devices)
  test(`${device.name}: huge logits, ties, one class, no sample, wrong labels`, () => {
    const int32 = (values: number[]) => tensor(Int32Array.from(values), [values.length], { device });
    // Two classes along the axes. Logits (1000, 0) with label 1 lose 1000 + margin, with label 0 nothing at all.
    const axes = tensor([1, 0, 0, 1], [2, 2], { device });
    const huge = tensor([1000, 0, 1000, 0], [2, 2], { device });
    const far = marginSoftmax(huge, axes, int32([1, 0]), { margin: 30 });
    assertClose(far.loss.toArray(), [1030, 0], 1e-6);
    assertClose(far.hit.toArray(), [0, 1], 0);
    // Equal logits: log 2, and a tie is no hit.
    const tie = marginSoftmax(tensor([3, 3], [1, 2], { device }), axes, int32([0]));
    assertClose(tie.loss.toArray(), [Math.LN2], 1e-6);
    assertClose(tie.hit.toArray(), [0], 0);
    const none = marginSoftmax(zeros([0, 2], { device }), axes, int32([]));
    assert.is(none.loss.size, 0);
    // A loss far below the resolution of 1 keeps its digits: log(1 + e^-40).
    const small = marginSoftmax(tensor([40, 0], [1, 2], { device }), axes, int32([0]));
    assertClose([small.loss.item() / Math.exp(-40)], [1], 1e-5);
    const wrong = marginSoftmax(huge, axes, int32([2, -1]));
    assertClose(wrong.loss.toArray(), [NaN, NaN], 0);
    const nan = marginSoftmax(tensor([NaN, 0], [1, 2], { device }), axes, int32([0]));
    assertClose(nan.loss.toArray(), [NaN], 0);
  });

test('the same bits with any number of threads', () => {
  const cpu = openDevice('cpu');
  const bits = [1, 2, 5].map((threads) => {
    cpu.configure({ threads });
    const { g, w, labels } = operands(large, {});
    const tape = new Tape();
    const { loss } = tape.record(() => marginSoftmax(g, w, labels, large));
    tape.backward(loss, randomTensor([large.samples], 3));
    return [loss, g.grad as Tensor, w.grad as Tensor].map((t) => t.toBits());
  });
  cpu.configure({ threads: 0 });
  assert.equal(bits[1], bits[0]);
  assert.equal(bits[2], bits[0]);
});

test('wrong shapes are refused', () => {
  const labels = tensor(Int32Array.from([0, 1]));
  assert.throws(
    () => marginSoftmax(zeros([2, 4]), zeros([3, 5]), labels),
    /marginSoftmax: expected prototypes of float32 \[N, 4\], N 1 or more, got float32 \[3, 5\]/,
  );
  assert.throws(
    () => marginSoftmax(zeros([2, 4]), zeros([3, 4]), zeros([2])),
    /expected labels of int32 \[2\], got float32 \[2\]/,
  );
  for (const groups of [3, 1.6])
    assert.throws(
      () => marginSoftmax(zeros([2, 4]), zeros([3, 4]), labels, { groups }),
      /marginSoftmax: expected [\d.]+ equal groups/,
    );
  assert.throws(
    () => marginSoftmax(zeros([2, 4], { dtype: 'int32' }), zeros([3, 4]), labels),
    /marginSoftmax: expected floating embeddings \[B, D\], got int32 \[2, 4\]/,
  );
});

test('memory beside prototypes and their gradient does not grow with the classes', () => {
  // 100,000 classes of 64: 25.6 MB of prototypes and as much of gradient; the logits alone would be 25.6 MB.
  const cpu = openDevice('cpu');
  const c = { samples: 64, classes: 100_000, size: 64, groups: 16, margin: 30, scale: 16 };
  const { g, w, labels } = operands(c, {});
  cpu.configure({ resetPeak: true });
  const before = cpu.statistics().live;
  const tape = new Tape();
  const { loss } = tape.record(() => marginSoftmax(g, w, labels, c));
  const seed = empty([c.samples]);
  cpu.kernels.fill(seed, 1 / c.samples);
  tape.backward(loss, seed);
  const { peak, scratchPeak } = cpu.statistics();
  const beside = peak + scratchPeak - before - w.size * 4;
  assert.ok(beside < 8 * 2 ** 20, `${beside} bytes beside the gradient`);
});

test.run();
