/**
 * Runs the tests of the ops that use matrix units on the emulated device once more, for a GPU of compute capability 8.0: by itself it
 * takes the kernels of 9.0 (native/cuda/warpgroup_product.h), which leaves those of 8.0 (matrix_product.h) untested.
 */
import { spawnSync } from 'node:child_process';
import path from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';

const test = suite('matrix units');

function run(file: string, capability: string) {
  return spawnSync(process.execPath, [path.join(import.meta.dirname, file)], {
    encoding: 'utf8',
    env: { ...process.env, TURL_TEST_DEVICES: 'emulated', TURL_COMPUTE_CAPABILITY: capability },
  });
}

for (const name of ['conv2d', 'matmul', 'margin-softmax'])
  test(`${name} on compute capability 8.0`, () => {
    const { status, stdout, stderr } = run(`${name}.test.js`, '8.0');
    assert.is(status, 0, stdout + stderr);
    assert.match(stdout, /Passed:\s+[1-9]/);
  });

test('a compute capability that the device does not have is refused', () => {
  const { status, stdout, stderr } = run('matmul.test.js', '9.5');
  assert.is.not(status, 0);
  assert.match(stdout + stderr, 'TURL_COMPUTE_CAPABILITY: expected 8.0 to 9.0, got 9.5');
});

test.run();
