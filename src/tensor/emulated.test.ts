/**
 * Runs build/Release/turl_device_test: barriers, shuffles, atomics, matrix instructions and asynchronous copies of the emulated
 * device against plain loops, and kernels that are wrong on purpose (native/tests). Built by `npm test`.
 */
import { spawnSync } from 'node:child_process';
import path from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';

const test = suite('emulated device');
const program = path.join(import.meta.dirname, '../../build/Release/turl_device_test');

for (const order of ['forward', 'reverse', 'shuffled'])
  test(`threads go on in ${order} order`, () => {
    const { status, stdout, error } = spawnSync(program, {
      encoding: 'utf8',
      env: { ...process.env, TURL_EMULATED_ORDER: order },
    });
    assert.is(status, 0, error?.message ?? stdout);
    assert.match(stdout, /[1-9]\d* passed, 0 failed/);
  });

test.run();
