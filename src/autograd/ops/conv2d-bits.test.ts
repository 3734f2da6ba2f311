/** Results of conv2d that must not depend, in a single bit, on how the work is cut. */
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { devices, randomTensor, sameBits } from '../../testing.js';
import { Tape } from '../tape.js';
import { parameter, type Tensor } from '../../tensor/tensor.js';
import { scope } from '../../tensor/scope.js';
import { conv2d, type ConvolutionOptions } from './conv2d.js';
import type { Case } from './conv2d-cases.js';
import { concat, slice } from './shape.js';

const test = suite('conv2d, bit for bit');

for (const on of devices)
  test(`any number of threads gives the same bits on ${on.name}`, () => {
    const emulated = on.name === 'emulated';
    const layers = {
      dense: emulated ? { shape: [2, 9, 10, 16], out: 72 } : { shape: [6, 14, 14, 40], out: 48 },
      'many tiles': { shape: [6, 80, 84, 20], out: 12 },
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
      for (const layer of ['dense', 'depthwise', ...(emulated ? [] : ['many tiles' as const])] as const)
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

// On the CPU results of 4 MiB (16, where the last-level cache is large) are written past the caches: y or dx of these two images, but not of one. Every sum has one order.
const onCpu = devices.some(({ name }) => name === 'cpu');
const cutOnCpu: [string, 'float32' | 'bfloat16', Case][] = [
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
];
for (const [name, dtype, c] of onCpu ? cutOnCpu : [])
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
for (const dtype of onCpu ? (['float32', 'bfloat16'] as const) : [])
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

test.run();
