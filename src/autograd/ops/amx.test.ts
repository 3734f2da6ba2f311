/**
 * Runs the tests of convolutions and the margin softmax on the CPU with plain loops in the place of AMX, and without matrix units (native/cpu/matrix_units.h),
 * so that both are tested whatever the processor has.
 */
import { spawnSync } from 'node:child_process';
import path from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { devices } from '../../testing.js';

const test = suite('matrix units of the CPU');

const start = (units: string, ...command: string[]) =>
  spawnSync(process.execPath, command, {
    encoding: 'utf8',
    env: { ...process.env, TURL_TEST_DEVICES: 'cpu', TURL_MATRIX_UNITS: units, TURL_TEST_CASES: 'bfloat16' },
  });

const cpu = devices.find(({ name }) => name === 'cpu'); // not where only the emulated device is asked for, as by sanitizers
const ways = cpu?.statistics().matrixUnits ? ['plain', 'none'] : ['plain']; // without matrix units the other tests are those of none
for (const units of cpu ? ways : [])
  for (const op of ['conv2d', 'conv2d-bits', 'margin-softmax'])
    test(`${op} with TURL_MATRIX_UNITS=${units}`, () => {
      const { status, stdout, stderr } = start(units, path.join(import.meta.dirname, `${op}.test.js`));
      assert.is(status, 0, stdout + stderr);
      assert.match(stdout, /Passed:\s+[1-9]/);
    });

test('another value is named', () => {
  const module = path.join(import.meta.dirname, '../../tensor/device.js');
  const script = `import { whyUnavailable } from '${module}'; console.log(String(whyUnavailable('cpu')))`;
  const { stdout } = start('two', '--input-type=module', '-e', script);
  assert.match(stdout, 'TURL_MATRIX_UNITS: expected plain or none, got two');
});

test.run();
