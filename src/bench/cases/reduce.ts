// Sums and maxima of x [outer, n, inner] over n.
import { tensor } from '../../tensor/tensor.js';
import { at, output, random, sumOver, type KernelCase, type Sizes } from '../case.js';

type Lengths = readonly [outer: number, n: number, inner: number];
const nameOf = ([outer, n, inner]: Lengths) => `${outer} x ${n} x ${inner} over ${n}`;

function sum(lengths: Lengths): KernelCase {
  const [outer, n, inner] = lengths;
  return {
    kernel: 'sum',
    shape: nameOf(lengths),
    operations: outer * n * inner,
    bytes: 4 * outer * inner * (n + 1),
    prepare(device) {
      const x = random(device, lengths, 1);
      const y = output(device, [outer, inner]);
      const expected = (i: number) => {
        const first = Math.floor(i / inner) * n * inner + (i % inner);
        return 0.5 * sumOver(0, n, (j) => at(x.values, first + j * inner));
      };
      return {
        run: () => device.kernels.sum(y, x.t, outer, n, inner, 0.5),
        results: [{ output: y, expected }],
      };
    },
  };
}

function maxForward(lengths: Lengths): KernelCase {
  const [outer, n, inner] = lengths;
  return {
    kernel: 'max_forward',
    shape: nameOf(lengths),
    operations: outer * n * inner,
    bytes: 4 * outer * inner * (n + 2),
    prepare(device) {
      const x = random(device, lengths, 1);
      const y = output(device, [outer, inner]);
      const index = output(device, [outer, inner], 'int32');
      const place = (i: number) => {
        const first = Math.floor(i / inner) * n * inner + (i % inner);
        let best = 0;
        for (let j = 1; j < n; j++)
          if (at(x.values, first + j * inner) > at(x.values, first + best * inner)) best = j;
        return { best, value: at(x.values, first + best * inner) };
      };
      return {
        run: () => device.kernels.max_forward(y, index, x.t, outer, n, inner),
        results: [
          { output: y, expected: (i) => place(i).value },
          { output: index, expected: (i) => place(i).best },
        ],
      };
    },
  };
}

function maxBackward(lengths: Lengths): KernelCase {
  const [outer, n, inner] = lengths;
  return {
    kernel: 'max_backward',
    shape: nameOf(lengths),
    operations: 0,
    bytes: 4 * outer * inner * (n + 2),
    prepare(device) {
      const dy = random(device, [outer, inner], 1);
      const places = Int32Array.from({ length: outer * inner }, (_, i) => (7919 * i) % n);
      const index = tensor(places, [outer, inner], { device });
      const dx = output(device, lengths);
      const expected = (i: number) => {
        const from = Math.floor(i / inner / n) * inner + (i % inner);
        return at(places, from) === Math.floor(i / inner) % n ? at(dy.values, from) : 0;
      };
      return {
        run: () => device.kernels.max_backward(dx, dy.t, index, outer, n, inner),
        results: [{ output: dx, expected }],
      };
    },
  };
}

export function reduceCases({ elements }: Sizes): KernelCase[] {
  const along: Lengths = [elements / 512, 512, 1];
  const across: Lengths = [1, elements / 64, 64];
  return [
    sum(along),
    sum(across),
    sum([1, elements, 1]),
    maxForward(along),
    maxForward(across),
    maxBackward(along),
    maxBackward(across),
  ];
}
