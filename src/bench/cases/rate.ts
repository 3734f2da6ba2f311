// The kernels whose rates are ceilings: multiply-adds in registers, and products of matrix instructions.
import { at, output, random, sumOver, type KernelCase, type Sizes } from '../case.js';

/** y <- y (1 - 2^-10) + 2^-10, again and again. */
export function multiplyAdds(elements: number, steps: number): KernelCase {
  return {
    kernel: 'multiply_add_rate',
    shape: `${elements} x ${steps}`,
    operations: 2 * elements * steps,
    bytes: 8 * elements,
    prepare(device) {
      const x = random(device, [elements], 1);
      const y = output(device, [elements]);
      const kept = (1 - 2 ** -10) ** steps;
      return {
        run: () => device.kernels.multiply_add_rate(y, x.t, steps),
        results: [{ output: y, expected: (i) => 1 + kept * (at(x.values, i) - 1) }],
      };
    },
  };
}

/** Tiles of 16 x 8, each `steps` times the same product of 16 x 16 by 16 x 8. */
export function matrixProducts(tiles: number, steps: number): KernelCase {
  return {
    kernel: 'matrix_rate',
    shape: `${tiles} x ${steps}`,
    operations: 2 * tiles * 16 * 8 * 16 * steps,
    bytes: 4 * tiles * 16 * 8,
    matrix: true,
    prepare(device) {
      // Sixteenths, so that sums of thousands are exact.
      const map = (draw: number) => Math.round(16 * draw) / 16;
      const a = random(device, [16, 16], 1, { dtype: 'bfloat16', map });
      const b = random(device, [16, 8], 2, { dtype: 'bfloat16', map });
      const y = output(device, [tiles, 16, 8]);
      const expected = (i: number) => {
        const [row, column] = [Math.floor(i / 8) % 16, i % 8];
        return steps * sumOver(0, 16, (k) => at(a.values, row * 16 + k) * at(b.values, k * 8 + column));
      };
      return {
        run: () => device.kernels.matrix_rate(y, a.t, b.t, steps),
        results: [{ output: y, expected }],
      };
    },
  };
}

export const rateCases = ({ elements }: Sizes): KernelCase[] => [
  multiplyAdds(elements / 16, 1024),
  matrixProducts(elements / 4096, 64),
];
