/**
 * Runs the tests of the ops that use matrix units, and of what those can do (matrix_rate), on the emulated device once more: for a GPU of
 * compute capability 8.0, since by itself it takes the kernels of 9.0 (native/cuda/warpgroup_product.h) and leaves those of 8.0
 * (mma_product.h) untested, and with what is taken when TURL_CUDA_NOT_TIMED names it.
 */
import { spawnSync } from 'node:child_process';
import path from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';

const test = suite('matrix units');

const start = (variables: Record<string, string>, ...command: string[]) =>
  spawnSync(process.execPath, command, { encoding: 'utf8', env: { ...process.env, ...variables } });
const capability = (value: string) => ({ TURL_TEST_DEVICES: 'emulated', TURL_COMPUTE_CAPABILITY: value });
const notTimed = {
  TURL_TEST_DEVICES: 'emulated',
  TURL_CUDA_NOT_TIMED: 'early,ones,phases,turned',
  TURL_TEST_CASES: 'windows',
};

const again: readonly (readonly [string, string, Record<string, string>])[] = [
  ['conv2d', 'on compute capability 8.0', { ...capability('8.0'), TURL_TEST_CASES: 'bfloat16' }],
  ['conv2d-bits', 'on compute capability 8.0', capability('8.0')],
  ['matmul', 'on compute capability 8.0', capability('8.0')],
  ['linear', 'on compute capability 8.0', capability('8.0')],
  ['margin-softmax', 'on compute capability 8.0', capability('8.0')],
  ['conv2d', 'by what has not been timed', notTimed],
  ['../../bench/cases', 'on compute capability 8.0', capability('8.0')],
];
for (const [name, how, variables] of again.filter(([file]) => file !== process.env['TURL_TEST_SKIP']))
  test(`${path.basename(name)} ${how}`, () => {
    const { status, stdout, stderr } = start(variables, path.join(import.meta.dirname, `${name}.test.js`));
    assert.is(status, 0, stdout + stderr);
    assert.match(stdout, /Passed:\s+[1-9]/);
  });

test('the device takes the compute capability that it has or a lower one, and what it knows of what is not timed', () => {
  const module = path.join(import.meta.dirname, '../../tensor/device.js');
  const script = `import { whyUnavailable } from '${module}'; console.log(String(whyUnavailable('emulated')))`;
  const answer = (variables: Record<string, string>) =>
    start(variables, '--input-type=module', '-e', script).stdout.trim();
  assert.is(answer(capability('8.0')), 'undefined');
  assert.match(answer(capability('9.5')), 'TURL_COMPUTE_CAPABILITY: expected 8.0 to 9.0, got 9.5');
  assert.is(answer(notTimed), 'undefined');
  assert.match(
    answer({ TURL_CUDA_NOT_TIMED: 'early,turnt' }),
    'TURL_CUDA_NOT_TIMED: expected some of early, ones, phases and turned, with commas between, got early,turnt',
  );
});

test.run();
