/**
 * Runs the tests of the ops that use matrix units on the emulated device once more, for a GPU of compute capability 8.0: by itself it
 * takes the kernels of 9.0 (native/cuda/warpgroup_product.h), which leaves those of 8.0 (matrix_product.h) untested.
 */
import { spawnSync } from 'node:child_process';
import path from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';

const test = suite('matrix units');

const start = (capability: string, ...command: string[]) =>
  spawnSync(process.execPath, command, {
    encoding: 'utf8',
    env: { ...process.env, TURL_TEST_DEVICES: 'emulated', TURL_COMPUTE_CAPABILITY: capability },
  });

for (const name of ['conv2d', 'matmul', 'margin-softmax'])
  test(`${name} on compute capability 8.0`, () => {
    const { status, stdout, stderr } = start('8.0', path.join(import.meta.dirname, `${name}.test.js`));
    assert.is(status, 0, stdout + stderr);
    assert.match(stdout, /Passed:\s+[1-9]/);
  });

test('the device takes the compute capability that it has or a lower one', () => {
  const module = path.join(import.meta.dirname, '../../tensor/device.js');
  const script = `import { whyUnavailable } from '${module}'; console.log(String(whyUnavailable('emulated')))`;
  const answer = (capability: string) => start(capability, '--input-type=module', '-e', script).stdout.trim();
  assert.is(answer('8.0'), 'undefined');
  assert.match(answer('9.5'), 'TURL_COMPUTE_CAPABILITY: expected 8.0 to 9.0, got 9.5');
});

test.run();
