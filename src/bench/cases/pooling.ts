// Pooling of [batch, side, side, channels] over square windows, maxima and means, both directions.
import type { FloatType } from '../../tensor/dtype.js';
import { tensor } from '../../tensor/tensor.js';
import { at, bytesFor, output, random, some, suffix, type KernelCase, type Sizes } from '../case.js';

interface Window {
  side: number;
  channels: number;
  window: number;
  stride: number;
  padding: number;
}

const windows: readonly Window[] = [
  { side: 56, channels: 64, window: 3, stride: 2, padding: 1 },
  { side: 56, channels: 64, window: 2, stride: 2, padding: 0 },
  { side: 7, channels: 512, window: 7, stride: 1, padding: 0 },
];

/** One window's arithmetic: which pixels of the input belong to which element of the output. */
function geometry({ side, channels, window, stride, padding }: Window) {
  const out = Math.floor((side + 2 * padding - window) / stride) + 1;
  const inside = (n: number) => n >= 0 && n < side;
  /** Places in x, in order, of the pixels under element i of y. */
  const under = (i: number): number[] => {
    const c = i % channels;
    const [v, u] = [Math.floor(i / channels) % out, Math.floor(i / channels / out) % out];
    const image = Math.floor(i / channels / out / out) * side * side;
    const places: number[] = [];
    for (let h = u * stride - padding; h < u * stride - padding + window; h++)
      for (let w = v * stride - padding; w < v * stride - padding + window; w++)
        if (inside(h) && inside(w)) places.push((image + h * side + w) * channels + c);
    return places;
  };
  /** Elements of y whose window holds place i of x. */
  const over = (i: number): number[] => {
    const c = i % channels;
    const image = Math.floor(i / channels / side / side) * out * out;
    const near = Math.floor(i / channels) % (side * side);
    const found: number[] = [];
    const first = (n: number) => Math.max(0, Math.floor((n + padding - window) / stride));
    const last = (n: number) => Math.min(out - 1, Math.floor((n + padding) / stride));
    const [row, column] = [Math.floor(near / side), near % side];
    for (let u = first(row); u <= last(row); u++)
      for (let v = first(column); v <= last(column); v++) {
        const element = (image + u * out + v) * channels + c;
        if (under(element).includes(i)) found.push(element);
      }
    return found;
  };
  /** The pixel of place i of x, as the maximum's index counts them. */
  const pixel = (i: number) => Math.floor(i / channels) % (side * side);
  return { out, under, over, pixel };
}

type Kind = 'max_pool' | 'average_pool';

function forward(kind: Kind, batch: number, window: Window, dtype: FloatType): KernelCase {
  const { side, channels } = window;
  const { out, under, pixel } = geometry(window);
  const [inputs, outputs] = [batch * side * side * channels, batch * out * out * channels];
  const max = kind === 'max_pool';
  return {
    kernel: `${kind}_forward`,
    shape: nameOf(batch, window, dtype),
    operations: outputs * window.window ** 2,
    bytes: bytesFor(dtype, inputs + outputs) + (max ? 4 * outputs : 0),
    prepare(device) {
      const x = random(device, [batch, side, side, channels], 1, { dtype });
      const y = output(device, [batch, out, out, channels], dtype);
      const index = output(device, [batch, out, out, channels], 'int32');
      const best = (i: number) => under(i).reduce((a, b) => (at(x.values, b) > at(x.values, a) ? b : a));
      const mean = (i: number) =>
        under(i).reduce((total, place) => total + at(x.values, place), 0) / under(i).length;
      const args = argsOf(batch, window, out);
      const { max_pool_forward, average_pool_forward } = device.kernels;
      return max
        ? {
            run: () => max_pool_forward(y, index, x.t, ...args),
            results: [
              { output: y, expected: (i) => at(x.values, best(i)) },
              { output: index, expected: (i) => pixel(best(i)) },
            ],
          }
        : { run: () => average_pool_forward(y, x.t, ...args), results: [{ output: y, expected: mean }] };
    },
  };
}

function backward(kind: Kind, batch: number, window: Window, dtype: FloatType): KernelCase {
  const { side, channels } = window;
  const { out, under, over, pixel } = geometry(window);
  const [inputs, outputs] = [batch * side * side * channels, batch * out * out * channels];
  const max = kind === 'max_pool';
  return {
    kernel: `${kind}_backward`,
    shape: nameOf(batch, window, dtype),
    operations: outputs * (max ? 1 : window.window ** 2),
    bytes: bytesFor(dtype, inputs + outputs) + (max ? 4 * outputs : 0),
    prepare(device) {
      const dy = random(device, [batch, out, out, channels], 1, { dtype });
      const dx = output(device, [batch, side, side, channels], dtype);
      // The maximum of every window is its middle pixel here.
      const chosen = (i: number) => under(i)[under(i).length >> 1] ?? NaN;
      const places = max
        ? Int32Array.from({ length: outputs }, (_, i) => pixel(chosen(i)))
        : new Int32Array();
      const index = tensor(places, [places.length], { device });
      const args = argsOf(batch, window, out);
      const gradient = (i: number) =>
        over(i)
          .filter((element) => !max || chosen(element) === i)
          .reduce((total, e) => total + at(dy.values, e) / (max ? 1 : under(e).length), 0);
      const { max_pool_backward, average_pool_backward } = device.kernels;
      return {
        run: () =>
          max ? max_pool_backward(dx, dy.t, index, ...args) : average_pool_backward(dx, dy.t, ...args),
        results: [{ output: dx, expected: gradient }],
      };
    },
  };
}

const nameOf = (batch: number, { side, channels, window, stride }: Window, dtype: FloatType) =>
  `B=${batch} ${side}x${side} ${channels} ${window}x${window}/${stride}${suffix(dtype)}`;

const argsOf = (batch: number, { side, channels, window, stride, padding }: Window, out: number) =>
  [batch, side, side, channels, out, out, window, stride, padding] as const;

export const poolingCases = (sizes: Sizes): KernelCase[] =>
  some(sizes, windows).flatMap((window) =>
    (['max_pool', 'average_pool'] as const).flatMap((kind) =>
      some(sizes, ['float32', 'bfloat16'] as const).flatMap((dtype) => [
        forward(kind, sizes.batch, window, dtype),
        backward(kind, sizes.batch, window, dtype),
      ]),
    ),
  );
