import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { devices } from '../testing.js';
import { device } from '../tensor/device.js';
import { kernelSignatures } from '../tensor/kernels.js';
import { scope } from '../tensor/scope.js';
import { sizeOf } from '../tensor/shape.js';
import { Tensor } from '../tensor/tensor.js';
import { bytesFor, sizes } from './case.js';
import { casesOf } from './cases/index.js';
import { checked } from './run.js';

const test = suite('cases of turl bench');

test('every kernel of the table has a case, in --quick too', () => {
  for (const size of Object.values(sizes)) {
    const timed = new Set(casesOf(size).map(({ kernel }) => kernel));
    const missing = Object.keys(kernelSignatures).filter((kernel) => !timed.has(kernel as never));
    assert.equal(missing, [], 'add the case to a file of src/bench/cases');
  }
});

test('every case has a name of its own', () => {
  const names = casesOf(sizes.full).map(({ kernel, shape }) => `${kernel} ${shape}`);
  assert.is(new Set(names).size, names.length);
});

test('the bytes of a case are those of the tensors that its kernel is given, each read or written once', () => {
  const cpu = device('cpu');
  const { kernels } = cpu;
  let given: unknown[] = [];
  const heard = Object.entries(kernels).map(([name, kernel]) => [
    name,
    (...args: unknown[]) => {
      given = args.flat();
      (kernel as (...args: unknown[]) => void)(...args);
    },
  ]);
  Object.defineProperty(cpu, 'kernels', { value: Object.fromEntries(heard) as unknown });
  for (const entry of casesOf(sizes.tiny)) {
    const { kernel, shape, bytes } = entry;
    if (kernel === 'gather_rows') continue; // reads the chosen rows only
    scope(() => {
      entry.prepare(cpu).run();
    });
    const tensors = given.filter((one) => one instanceof Tensor);
    const moved = tensors.reduce((sum, { dtype, shape }) => sum + bytesFor(dtype, sizeOf(shape)), 0);
    // Biases, labels and statistics of channels are not counted: 2 KiB at these sizes.
    assert.ok(
      Math.abs(moved - bytes) <= Math.max(2048, 0.01 * bytes),
      `${kernel} ${shape}: ${bytes}, ${moved}`,
    );
  }
  Object.defineProperty(cpu, 'kernels', { value: kernels });
});

for (const device of devices)
  test(`on ${device.name}: every kernel's results equal the formulas of its case`, () => {
    for (const entry of casesOf(sizes.tiny)) assert.ok(checked(device, entry) >= 0);
  });

test.run();
