import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { assertClose, devices, randomValues } from '../testing.js';
import { tensor } from '../tensor/tensor.js';
import { augment, augmentColumns, encodeAugmentation, mirrorBlocks, type Augmentation } from './augment.js';

const test = suite('augment');

const reflect = (i: number, n: number): number => (i < 0 ? -i : i >= n ? 2 * (n - 1) - i : i);

/** The definition in doubles, pixel by pixel, the blur as one two-dimensional sum. */
function reference(
  pixels: Uint8Array,
  side: number,
  size: number,
  blocks: number,
  a: Augmentation,
): number[] {
  const at = (y: number, x: number, c: number) => {
    const column = a.flip ? size - 1 - x : x;
    return pixels[((a.top + y) * side + a.left + column) * 3 + c] as number;
  };
  const r = (a.blur - 1) / 2;
  const sigma = 0.3 * (r - 1) + 0.8;
  const out: number[] = [];
  for (let y = 0; y < size; y++)
    for (let x = 0; x < size; x++)
      for (let c = 0; c < 3; c++) {
        let value = at(y, x, c);
        if (a.blur < 0) {
          // Made smaller: means of cells; made larger: between the four cells around.
          const f = -a.blur;
          const cell = (row: number, column: number) => {
            let sum = 0;
            for (let v = 0; v < f; v++)
              for (let u = 0; u < f; u++)
                sum += at(reflect(row * f + v, size), reflect(column * f + u, size), c) / f ** 2;
            return sum;
          };
          const [row, column] = [(y + 0.5) / f - 0.5, (x + 0.5) / f - 0.5];
          const [i, j] = [Math.floor(row), Math.floor(column)];
          const [v, u] = [row - i, column - j];
          value =
            (1 - v) * ((1 - u) * cell(i, j) + u * cell(i, j + 1)) +
            v * ((1 - u) * cell(i + 1, j) + u * cell(i + 1, j + 1));
        }
        if (a.blur > 0) {
          let [sum, weights] = [0, 0];
          for (let dy = -r; dy <= r; dy++)
            for (let dx = -r; dx <= r; dx++) {
              const w = Math.exp(-(dy * dy + dx * dx) / (2 * sigma * sigma));
              sum += w * at(reflect(y + dy, size), reflect(x + dx, size), c);
              weights += w;
            }
          value = sum / weights;
        }
        const block = Math.floor((y * blocks) / size) * blocks + Math.floor((x * blocks) / size);
        out.push(((a.occluded.includes(block) ? 0 : value) - 127.5) / 128);
      }
  return out;
}

// The second has more values in a line than CUDA's blocks have threads.
for (const size of [20, 44])
  for (const device of devices)
    test(`crops of ${size}, mirror, blur, blocks and normalisation equal the definition on ${device.name}`, () => {
      const [side, blocks] = [size + 3, 7];
      const cases: Augmentation[] = [
        { top: 0, left: 0, flip: false, blur: 0, occluded: [] },
        { top: 3, left: 1, flip: true, blur: 3, occluded: [0, 48, 31, 32] },
        { top: 2, left: 3, flip: false, blur: 11, occluded: [24] },
        { top: 0, left: 2, flip: true, blur: -2, occluded: [12] },
        { top: 3, left: 0, flip: false, blur: -3, occluded: [] },
        { top: 1, left: 1, flip: true, blur: -8, occluded: [] },
        { top: 1, left: 2, flip: true, blur: 7, occluded: Array.from({ length: 49 }, (_, i) => i) },
      ];
      const pixels = Uint8Array.from(randomValues(cases.length * side * side * 3, 5), (v) => (v + 1) * 127.9);
      const rows = new Int32Array(cases.length * augmentColumns);
      cases.forEach((a, i) => encodeAugmentation(rows, i, a));
      const images = tensor(pixels, [cases.length, side, side, 3], { device });
      const parameters = tensor(rows, [cases.length, augmentColumns], { device });
      const expected = cases.flatMap((a, i) =>
        reference(pixels.subarray(i * side * side * 3), side, size, blocks, a),
      );
      // Values below 2 after weighted sums of 22 float32 terms: 1e-6. bfloat16 keeps 8 bits: 2^-8.
      for (const [dtype, tolerance] of [
        ['float32', 2e-6],
        ['bfloat16', 4e-3],
      ] as const)
        assertClose(
          augment(images, parameters, { size, blocks, mean: 127.5, scale: 128, dtype }).toArray(),
          expected,
          tolerance,
          dtype,
        );
    });

test('an occluded image, mirrored, is the mirror image with mirrored blocks', () => {
  const [size, blocks] = [28, 7];
  const pixels = Uint8Array.from(randomValues(size * size * 3, 9), (u) => 127 * (u + 1));
  const images = tensor(pixels, [1, size, size, 3]);
  const occluded = [0, 3, 9, 20, 41, 48];
  const values = (flip: boolean, black: number[]) => {
    const parameters = new Int32Array(augmentColumns);
    encodeAugmentation(parameters, 0, { top: 0, left: 0, flip, blur: 5, occluded: black });
    const rows = tensor(parameters, [1, augmentColumns]);
    return augment(images, rows, { size, blocks, mean: 0, scale: 1 }).toArray();
  };
  const [plain, mirrored] = [values(false, occluded), values(true, mirrorBlocks(occluded, blocks))];
  const expected = Array.from(plain, (_, i) => {
    const [row, column, channel] = [Math.floor(i / (3 * size)), Math.floor(i / 3) % size, i % 3];
    return plain[(row * size + size - 1 - column) * 3 + channel] ?? NaN;
  });
  // The blur adds in another order: some float32 roundings of values up to 255.
  assertClose(mirrored, expected, 1e-5);
});

test('images smaller than the crop are refused', () => {
  const images = tensor(new Uint8Array(8 * 8 * 3), [1, 8, 8, 3]);
  const parameters = tensor(new Int32Array(augmentColumns), [1, augmentColumns]);
  assert.throws(
    () => augment(images, parameters, { size: 9, blocks: 7, mean: 0, scale: 1 }),
    /augment: expected images of uint8 \[B, H, W, 3\], at least 9 pixels wide, got uint8 \[1, 8, 8, 3\]/,
  );
});

test.run();
