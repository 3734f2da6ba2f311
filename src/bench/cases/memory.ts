// Kernels that move data: fill, copy, cast, transposition, rows by index.
import { tensor } from '../../tensor/tensor.js';
import { stridesOf } from '../../tensor/shape.js';
import { at, bytesFor, output, random, suffix, type KernelCase, type Sizes } from '../case.js';
import type { FloatType } from '../../tensor/dtype.js';

function fill(elements: number): KernelCase {
  return {
    kernel: 'fill',
    shape: `${elements}`,
    operations: 0,
    bytes: 4 * elements,
    prepare(device) {
      const y = output(device, [elements]);
      return { run: () => device.kernels.fill(y, 0.75), results: [{ output: y, expected: () => 0.75 }] };
    },
  };
}

/** y = x: the device's copy bandwidth. */
export function copy(elements: number, dtype: FloatType = 'float32'): KernelCase {
  return {
    kernel: 'copy',
    shape: `${elements}${suffix(dtype)}`,
    operations: 0,
    bytes: bytesFor(dtype, 2 * elements),
    prepare(device) {
      const x = random(device, [elements], 1, { dtype });
      const y = output(device, [elements], dtype);
      const expected = (i: number) => at(x.values, i);
      return { run: () => device.kernels.copy(y, x.t), results: [{ output: y, expected }] };
    },
  };
}

function cast(elements: number, from: FloatType, to: FloatType): KernelCase {
  return {
    kernel: 'cast',
    shape: `${elements} ${from} to ${to}`,
    operations: 0,
    bytes: bytesFor(from, elements) + bytesFor(to, elements),
    prepare(device) {
      const x = random(device, [elements], 1, { dtype: from });
      const y = output(device, [elements], to);
      const expected = (i: number) => at(x.values, i);
      return { run: () => device.kernels.cast(y, x.t), results: [{ output: y, expected }] };
    },
  };
}

/** y [side, side] = xᵀ. */
function transpose(side: number): KernelCase {
  return {
    kernel: 'strided_copy',
    shape: `${side} x ${side} transposed`,
    operations: 0,
    bytes: 8 * side * side,
    prepare(device) {
      const x = random(device, [side, side], 1);
      const y = output(device, [side, side]);
      const [shape, from, to] = [[side, side], [1, side], stridesOf([side, side])].map((list) =>
        Int32Array.from(list),
      ) as [Int32Array, Int32Array, Int32Array];
      const expected = (i: number) => at(x.values, (i % side) * side + Math.floor(i / side));
      return {
        run: () => device.kernels.strided_copy(y, x.t, shape, to, from, 0, 0),
        results: [{ output: y, expected }],
      };
    },
  };
}

/** Rows of x [rows, columns] by index, half as many as there are, each once; and the gradient, dx with zeros elsewhere. */
function gather(rows: number, columns: number, backward: boolean): KernelCase {
  const count = rows / 2;
  return {
    kernel: backward ? 'gather_rows_backward' : 'gather_rows',
    shape: `${count} of ${rows} x ${columns}`,
    operations: 0,
    bytes: 4 * columns * (backward ? count + rows : 2 * count),
    prepare(device) {
      const x = random(device, [backward ? count : rows, columns], 1);
      const chosen = Int32Array.from({ length: count }, (_, i) => (2 * i * 7919) % rows);
      const place = new Map([...chosen].map((row, i) => [row, i]));
      const index = tensor(chosen, [count], { device });
      const y = output(device, [backward ? rows : count, columns]);
      const expected = (i: number) => {
        const [row, column] = [Math.floor(i / columns), i % columns];
        const from = backward ? place.get(row) : at(chosen, row);
        return from === undefined ? 0 : at(x.values, from * columns + column);
      };
      const { gather_rows, gather_rows_backward } = device.kernels;
      const run = backward ? gather_rows_backward : gather_rows;
      return { run: () => run(y, x.t, index, rows, columns), results: [{ output: y, expected }] };
    },
  };
}

export const memoryCases = ({ elements }: Sizes): KernelCase[] => [
  fill(elements),
  copy(elements),
  copy(elements, 'bfloat16'),
  cast(elements, 'float32', 'bfloat16'),
  cast(elements, 'bfloat16', 'float32'),
  transpose(Math.sqrt(elements)),
  gather(elements / 512, 512, false),
  gather(elements / 512, 512, true),
];
