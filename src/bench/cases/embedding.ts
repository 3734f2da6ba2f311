// Sub-embeddings: normalisation by groups, the masked ones behind the decorrelation (Eq. 11-13), scores of pairs (Eq. 16).
// B samples, D = 512 features in K = 16 groups, V variations.
import type { Device } from '../../tensor/device.js';
import { tensor, type Tensor } from '../../tensor/tensor.js';
import { at, output, random, some, sumOver, type KernelCase, type Operand, type Sizes } from '../case.js';

const [size, groups] = [512, 16];
const each = size / groups;

/** The sum of f over the elements of the group that element i of [rows, D] is in. */
const overGroup = (i: number, f: (j: number) => number) => sumOver(i - (i % each), i - (i % each) + each, f);

function normalizeForward(rows: number): KernelCase {
  return {
    kernel: 'group_normalize_forward',
    shape: `${rows} x ${size} K=${groups}`,
    operations: 3 * rows * size,
    bytes: 8 * rows * size,
    prepare(device) {
      const x = random(device, [rows, size], 1);
      const y = output(device, [rows, size]);
      const expected = (i: number) => at(x.values, i) / Math.sqrt(overGroup(i, (j) => at(x.values, j) ** 2));
      return {
        run: () => device.kernels.group_normalize_forward(y, x.t, rows, groups, each, 1e-12),
        results: [{ output: y, expected }],
      };
    },
  };
}

function normalizeBackward(rows: number): KernelCase {
  return {
    kernel: 'group_normalize_backward',
    shape: `${rows} x ${size} K=${groups}`,
    operations: 7 * rows * size,
    bytes: 12 * rows * size,
    prepare(device) {
      const [x, dy] = [random(device, [rows, size], 1), random(device, [rows, size], 2)];
      const dx = output(device, [rows, size]);
      const expected = (i: number) => {
        const square = overGroup(i, (j) => at(x.values, j) ** 2);
        const along = overGroup(i, (j) => at(x.values, j) * at(dy.values, j));
        return (at(dy.values, i) - (at(x.values, i) * along) / square) / Math.sqrt(square);
      };
      return {
        run: () => device.kernels.group_normalize_backward(dx, dy.t, x.t, rows, groups, each, 1e-12),
        results: [{ output: dx, expected }],
      };
    },
  };
}

/** What both directions of the decorrelation read: masks of half the groups each, targets of 0 and 1. */
function masked(device: Device, batch: number, variations: number) {
  const f = random(device, [batch, size], 1);
  const [weight, bias] = [random(device, [variations, size], 2), random(device, [variations], 3)];
  const kept = (t: number, k: number) => (k + t) % groups < groups / 2;
  const bits = Uint8Array.from({ length: variations * groups }, (_, i) =>
    Number(kept(Math.floor(i / groups), i % groups)),
  );
  const masks = tensor(bits, [variations, groups], { device });
  const targets = random(device, [batch, variations], 4, { map: (draw) => Number(draw > 0) });
  /** Of variation s, seen through mask t. */
  const logit = (i: number, t: number, s: number) =>
    at(bias.values, s) +
    sumOver(0, size, (e) =>
      kept(t, Math.floor(e / each)) ? at(f.values, i * size + e) * at(weight.values, s * size + e) : 0,
    );
  const miss = (i: number, t: number, s: number) =>
    1 / (1 + Math.exp(-logit(i, t, s))) - at(targets.values, i * variations + s);
  return { f, weight, bias, masks, targets, kept, logit, miss };
}
type Masked = ReturnType<typeof masked>;

const shapeOf = (batch: number, variations: number) => `B=${batch} D=${size} K=${groups} V=${variations}`;
const inputsOf = ({
  f,
  weight,
  bias,
  masks,
  targets,
}: Masked): readonly [Tensor, Tensor, Tensor, Tensor, Tensor] => [f.t, weight.t, bias.t, masks, targets.t];

function decorrelationForward(batch: number, variations: number): KernelCase {
  const sizes = [batch, size, groups, variations] as const;
  return {
    kernel: 'decorrelation_forward',
    shape: shapeOf(batch, variations),
    operations: 2 * batch * size * variations,
    bytes: 4 * (batch * size + variations * size + batch * variations ** 2),
    prepare(device) {
      const operands = masked(device, batch, variations);
      const [losses, logits] = [output(device, [batch, 3]), output(device, [batch, variations, variations])];
      const { logit, targets } = operands;
      const term = (i: number, t: number, s: number, target: number) =>
        Math.log1p(Math.exp(logit(i, t, s))) - target * logit(i, t, s);
      const expected = (index: number) => {
        const [i, which] = [Math.floor(index / 3), index % 3];
        return sumOver(0, variations, (t) =>
          sumOver(0, variations, (s) => {
            const target = at(targets.values, i * variations + s);
            if (which === 0 || (which === 1 && s === t)) return term(i, t, s, target);
            return which === 2 && s !== t ? term(i, t, s, 0.5) : 0;
          }),
        );
      };
      return {
        run: () => device.kernels.decorrelation_forward(losses, logits, ...inputsOf(operands), ...sizes),
        results: [{ output: losses, expected }],
      };
    },
  };
}

function decorrelationBackward(batch: number, variations: number): KernelCase {
  const sizes = [batch, size, groups, variations] as const;
  return {
    kernel: 'decorrelation_backward',
    shape: shapeOf(batch, variations),
    operations: 4 * batch * size * variations,
    bytes: 4 * (2 * batch * size + 2 * variations * size + batch * variations ** 2),
    prepare(device) {
      const operands = masked(device, batch, variations);
      const { f, weight, masks, targets, kept, logit, miss } = operands;
      const dlosses = random(device, [batch, 3], 5);
      const all = Float32Array.from({ length: batch * variations ** 2 }, (_, n) => {
        const [i, pair] = [Math.floor(n / variations ** 2), n % variations ** 2];
        return logit(i, Math.floor(pair / variations), pair % variations);
      });
      const logits = tensor(all, [batch, variations, variations], { device });
      const df = output(device, [batch, size]);
      const [dweight, dbias] = [output(device, [variations, size]), output(device, [variations])];
      const upstream = (i: number, which: number) => at(dlosses.values, 3 * i + which);
      const overMasks = (e: number | undefined, f: (t: number) => number) =>
        sumOver(0, variations, (t) => (e === undefined || kept(t, Math.floor(e / each)) ? f(t) : 0));
      const toEmbedding = (index: number) => {
        const [i, e] = [Math.floor(index / size), index % size];
        return sumOver(0, variations, (s) => {
          const gradient = overMasks(e, (t) => {
            if (s === t) return upstream(i, 1) * miss(i, t, s);
            return upstream(i, 2) * (miss(i, t, s) + at(targets.values, i * variations + s) - 0.5);
          });
          return gradient * at(weight.values, s * size + e);
        });
      };
      const toWeight = (s: number, e?: number) =>
        sumOver(0, batch, (i) => {
          const by = e === undefined ? 1 : at(f.values, i * size + e);
          return by * overMasks(e, (t) => upstream(i, 0) * miss(i, t, s));
        });
      const inputs = [dlosses.t, logits, f.t, weight.t, masks, targets.t] as const;
      return {
        run: () => device.kernels.decorrelation_backward(df, dweight, dbias, ...inputs, ...sizes),
        results: [
          { output: df, expected: toEmbedding },
          { output: dweight, expected: (i) => toWeight(Math.floor(i / size), i % size) },
          { output: dbias, expected: (s) => toWeight(s), samples: 1 },
        ],
      };
    },
  };
}

/** Rows whose groups have length 1. */
function unit(device: Device, rows: number, offset: number): Operand {
  const { t, values } = random(device, [rows, size], offset);
  const scaled = Float32Array.from(values);
  for (let i = 0; i < scaled.length; i++)
    if (i % each === 0) {
      const norm = Math.sqrt(overGroup(i, (j) => at(values, j) ** 2));
      for (let j = i; j < i + each; j++) scaled[j] = at(values, j) / norm;
    }
  t.set(scaled);
  return { t, values: scaled };
}

function pairScores(side: number): KernelCase {
  return {
    kernel: 'pair_scores',
    shape: `${side} x ${side} D=${size} K=${groups}`,
    operations: side * side * (2 * size + 6 * groups),
    bytes: 4 * (side * side + 2 * side * (size + groups)),
    prepare(device) {
      const [a, b] = [unit(device, side, 1), unit(device, side, 2)];
      const map = (draw: number) => 0.75 + draw / 2;
      const [va, vb] = [
        random(device, [side, groups], 3, { map }),
        random(device, [side, groups], 4, { map }),
      ];
      const y = output(device, [side, side]);
      const expected = (index: number) => {
        const [i, j] = [Math.floor(index / side), index % side];
        return sumOver(0, groups, (k) => {
          const v = at(va.values, i * groups + k) + at(vb.values, j * groups + k);
          const square = sumOver(
            k * each,
            (k + 1) * each,
            (e) => (at(a.values, i * size + e) - at(b.values, j * size + e)) ** 2,
          );
          return -0.5 * (square / v + each * Math.log(v));
        });
      };
      return {
        run: () => device.kernels.pair_scores(y, a.t, b.t, va.t, vb.t, side, side, groups, each),
        results: [{ output: y, expected }],
      };
    },
  };
}

export const embeddingCases = (sizes: Sizes): KernelCase[] => [
  normalizeForward(sizes.elements / size),
  normalizeBackward(sizes.elements / size),
  ...some(sizes, [3, 6]).flatMap((variations) => [
    decorrelationForward(sizes.batch, variations),
    decorrelationBackward(sizes.batch, variations),
  ]),
  pairScores(Math.sqrt(sizes.elements) / 2),
];
