// Augmentation of a batch of uint8 images [B, 112, 112, 3] in one kernel; native/augment.h has the formulas.
import { augmentColumns, encodeAugmentation } from '../../data/augment.js';
import { tensor } from '../../tensor/tensor.js';
import { at, output, some, sumOver, type KernelCase, type Sizes } from '../case.js';

const [side, blocks, mean, scale] = [112, 7, 127.5, 127.5];

/** Without repeating the edge. */
const reflect = (i: number): number => (i < 0 ? reflect(-i) : i >= side ? reflect(2 * (side - 1) - i) : i);

/** The share of pixel k in pixel j along one axis. */
type Weight = (j: number, k: number) => number;

const blur = (size: number): { radius: number; weight: Weight } => {
  const radius = size >> 1;
  const sigma = 0.3 * (radius - 1) + 0.8;
  const bell = (d: number) => Math.exp((-d * d) / (2 * sigma * sigma));
  const total = sumOver(-radius, radius + 1, bell);
  return { radius, weight: (j, k) => bell(k - j) / total };
};

/** Means over cells of `factor` pixels, interpolated between the cells' centres. */
const smaller = (factor: number): { radius: number; weight: Weight } => ({
  radius: (3 * factor - 2) >> 1,
  weight: (j, k) => {
    const centre = Math.floor(k / factor) * factor + (factor - 1) / 2;
    return Math.max(0, 1 - Math.abs(centre - j) / factor) / factor;
  },
});

const none = { radius: 0, weight: () => 1 };

const kinds = [
  { name: 'blur 7 and occlusion', value: 7, occluded: 15, ...blur(7) },
  { name: 'as it is', value: 0, occluded: 0, ...none },
  { name: 'four times smaller', value: -4, occluded: 0, ...smaller(4) },
];

function augment(batch: number, kind: (typeof kinds)[number]): KernelCase {
  const { name, value, occluded, radius, weight } = kind;
  const pixels = batch * side * side;
  return {
    kernel: 'augment',
    shape: `B=${batch} ${side}x${side} ${name}`,
    operations: 2 * 3 * pixels * 2 * (2 * radius + 1),
    bytes: 3 * pixels * (1 + 4),
    prepare(device) {
      const bytes = Uint8Array.from({ length: 3 * pixels }, (_, i) => (i * 7919 + (i >> 5) * 31) % 251);
      const rows = new Int32Array(batch * augmentColumns);
      const black = Array.from({ length: occluded }, (_, i) => (i * 10) % blocks ** 2);
      const flipped = (b: number) => b % 2 === 0;
      for (let b = 0; b < batch; b++)
        encodeAugmentation(rows, b, { top: 0, left: 0, flip: flipped(b), blur: value, occluded: black });
      const [images, parameters] = [
        tensor(bytes, [batch, side, side, 3], { device }),
        tensor(rows, [batch, augmentColumns], { device }),
      ];
      const y = output(device, [batch, side, side, 3]);
      const sizes = Int32Array.of(batch, side, side, side, side, blocks);
      const expected = (i: number) => {
        const [c, column, row] = [i % 3, Math.floor(i / 3) % side, Math.floor(i / 3 / side) % side];
        const b = Math.floor(i / 3 / side / side);
        const block = Math.floor((row * blocks) / side) * blocks + Math.floor((column * blocks) / side);
        if (black.includes(block)) return -mean / scale;
        const pixel = (u: number, v: number) =>
          at(bytes, ((b * side + u) * side + (flipped(b) ? side - 1 - v : v)) * 3 + c);
        const around = (n: number, f: (k: number) => number) => sumOver(n - radius, n + radius + 1, f);
        const value = around(row, (u) =>
          around(column, (v) => weight(row, u) * weight(column, v) * pixel(reflect(u), reflect(v))),
        );
        return (value - mean) / scale;
      };
      return {
        run: () => device.kernels.augment(y, images, parameters, sizes, mean, scale),
        results: [{ output: y, expected }],
      };
    },
  };
}

export const augmentCases = (sizes: Sizes): KernelCase[] =>
  some(sizes, kinds).map((kind) => augment(sizes.batch, kind));
