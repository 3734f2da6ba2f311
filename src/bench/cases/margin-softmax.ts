// The margin softmax of Eq. 8 over B samples and N identities, D = 512 and K = 16; native/cpu/margin_softmax.cpp has the formulas.
import type { Device } from '../../tensor/device.js';
import type { FloatType } from '../../tensor/dtype.js';
import { tensor } from '../../tensor/tensor.js';
import { at, bytesFor, output, random, suffix, sumOver, type KernelCase, type Sizes } from '../case.js';

const [size, groups, margin, epsilon] = [512, 16, 30, 1e-12];
const each = size / groups;

interface Problem {
  samples: number;
  classes: number;
  dtype: FloatType;
}

const shapeOf = ({ samples, classes, dtype }: Problem) =>
  `B=${samples} N=${classes} D=${size} K=${groups}${suffix(dtype)}`;

/** Embeddings g, prototypes w, labels, and the outputs of forward. */
function operands(device: Device, { samples, classes, dtype }: Problem) {
  const g = random(device, [samples, size], 1, { dtype });
  const w = random(device, [classes, size], 2);
  const labels = Int32Array.from({ length: samples }, (_, i) => (7919 * i) % classes);
  const label = tensor(labels, [samples], { device });
  const perSample = () => output(device, [samples]);
  const [loss, logsumexp, hit] = [perSample(), perSample(), perSample()];
  const squares = (j: number, k: number) =>
    sumOver(k * each, (k + 1) * each, (d) => at(w.values, j * size + d) ** 2);
  /** With the margin taken from the label's. Indexed as it is, since there are a thousand million elements to visit. */
  const [gs, ws] = [g.values, w.values];
  const logit = (i: number, j: number) => {
    let total = j === labels[i] ? -margin : 0;
    for (let k = 0; k < groups; k++) {
      let [dot, square] = [0, 0];
      for (let d = k * each; d < (k + 1) * each; d++) {
        const p = ws[j * size + d] as number;
        dot += (gs[i * size + d] as number) * p;
        square += p * p;
      }
      total += dot / Math.sqrt(square);
    }
    return total;
  };
  const sizes = [samples, classes, size, groups] as const;
  const forward = () =>
    device.kernels.margin_softmax_forward(loss, logsumexp, hit, g.t, w.t, label, ...sizes, margin, epsilon);
  return { g, w, labels, label, loss, logsumexp, logit, squares, sizes, forward };
}

function forward(problem: Problem): KernelCase {
  const { samples, classes, dtype } = problem;
  return {
    kernel: 'margin_softmax_forward',
    shape: shapeOf(problem),
    operations: 2 * samples * classes * size,
    bytes: 4 * classes * size + bytesFor(dtype, samples * size),
    matrix: dtype === 'bfloat16',
    prepare(device) {
      const { labels, loss, logit, forward: run } = operands(device, problem);
      const expected = (i: number) => {
        let [largest, sum] = [-Infinity, 0];
        for (let j = 0; j < classes; j++) {
          const a = logit(i, j);
          sum = a > largest ? sum * Math.exp(largest - a) + 1 : sum + Math.exp(a - largest);
          largest = Math.max(largest, a);
        }
        return largest + Math.log(sum) - logit(i, at(labels, i));
      };
      return { run, results: [{ output: loss, expected, samples: 2 }] };
    },
  };
}

function backward(problem: Problem): KernelCase {
  const { samples, classes, dtype } = problem;
  return {
    kernel: 'margin_softmax_backward',
    shape: shapeOf(problem),
    operations: 6 * samples * classes * size,
    bytes: 8 * classes * size + bytesFor(dtype, 2 * samples * size),
    matrix: dtype === 'bfloat16',
    prepare(device) {
      const { g, w, labels, label, loss, logsumexp, logit, squares, sizes, ...o } = operands(device, problem);
      o.forward();
      const sums = logsumexp.toArray();
      const dloss = random(device, [samples], 3, { map: (draw) => (draw + 2) / samples });
      const [dg, dw] = [output(device, [samples, size], dtype), output(device, [classes, size])];
      const p = (i: number, j: number) =>
        at(dloss.values, i) * (Math.exp(logit(i, j) - at(sums, i)) - Number(j === labels[i]));
      const toEmbedding = (index: number) => {
        const [i, d] = [Math.floor(index / size), index % size];
        return sumOver(0, classes, (j) => {
          const norm = Math.sqrt(squares(j, Math.floor(d / each)));
          return (p(i, j) * at(w.values, j * size + d)) / norm;
        });
      };
      const toPrototype = (index: number) => {
        const [j, d] = [Math.floor(index / size), index % size];
        const k = Math.floor(d / each);
        const square = squares(j, k);
        const shares = Array.from({ length: samples }, (_, i) => p(i, j));
        const dv = (e: number) => sumOver(0, samples, (i) => at(shares, i) * at(g.values, i * size + e));
        const along = sumOver(k * each, (k + 1) * each, (e) => at(w.values, j * size + e) * dv(e)) / square;
        return (dv(d) - along * at(w.values, index)) / Math.sqrt(square);
      };
      const inputs = [dloss.t, loss, logsumexp, g.t, w.t, label] as const;
      return {
        run: () => device.kernels.margin_softmax_backward(dg, dw, ...inputs, ...sizes, epsilon),
        results: [
          { output: dg, expected: toEmbedding, samples: 2 },
          { output: dw, expected: toPrototype },
        ],
      };
    },
  };
}

export const marginSoftmaxCases = ({ batch, identities }: Sizes): KernelCase[] =>
  identities.flatMap((classes) =>
    (['float32', 'bfloat16'] as const).flatMap((dtype) => {
      const problem = { samples: batch, classes, dtype };
      return [forward(problem), backward(problem)];
    }),
  );
