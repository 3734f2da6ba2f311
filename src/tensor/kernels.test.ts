import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { devices } from '../testing.js';
import { kernelSignatures } from './kernels.js';
import { native } from './native.js';
import { zeros } from './tensor.js';

const test = suite('kernel table');

test('the twin of native/kernels.h says what the addon was built with', () => {
  assert.equal(native.signatures(), { ...kernelSignatures });
});

for (const device of devices) {
  test(`every kernel exists on ${device.name}`, () => {
    assert.equal(device.missingKernels, []);
  });

  test(`wrong arguments are refused on ${device.name}`, () => {
    const y = zeros([2], { device });
    const { add, fill, copy } = device.kernels;
    const call = (kernel: (...args: never[]) => void, args: unknown[]) => () => {
      Reflect.apply(kernel, undefined, args);
    };
    assert.throws(call(add, [y, y]), /add: expected 3 arguments, got 2/);
    assert.throws(call(fill, [y, new Int32Array(1)]), /fill: expected a number/);
    assert.throws(call(copy, [y, 3]), /copy: a tensor was used after it was freed/); // 3 is no live handle
    assert.throws(
      call(fill, [zeros([2], { device, dtype: 'int32' }), NaN, 1]),
      /fill: expected 2 arguments, got 3/,
    );
    const other = devices.find((d) => d !== device);
    if (other)
      assert.throws(
        call(copy, [y, zeros([2], { device: other })]),
        new RegExp(`is on ${other.name}, the kernel runs on ${device.name}`),
      );
  });
}

test.run();
