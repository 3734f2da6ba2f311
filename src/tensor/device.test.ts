/** Names of devices, and environment variables that choose how the CPU computes. */
import { spawnSync } from 'node:child_process';
import path from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { device, type DeviceName } from './device.js';
import { Recording } from './recording.js';
import { full, zeros } from './tensor.js';

const test = suite('device');

/** What opening a device says in a process with these variables: its description, or why not. */
function opened(variables: Record<string, string>, name: DeviceName = 'cpu'): string {
  const program = `const { device } = await import(${JSON.stringify(path.join(import.meta.dirname, 'index.js'))});
    try { console.log(device('${name}').statistics().description); } catch (error) { console.log(error.message); }`;
  const { stdout } = spawnSync(process.execPath, ['--input-type=module', '-e', program], {
    encoding: 'utf8',
    env: { ...process.env, ...variables },
  });
  return stdout.trim();
}

test('TURL_ISA and TURL_THREADS are followed; without a value they are as if not there', () => {
  assert.match(opened({ TURL_ISA: 'baseline', TURL_THREADS: '3' }), /baseline.*, 3 threads$/);
  assert.match(opened({ TURL_ISA: '', TURL_THREADS: '' }), /, \d+ threads$/);
});

test('TURL_COMPUTE_CAPABILITY without a value is as if not there', () =>
  assert.match(
    opened({ TURL_COMPUTE_CAPABILITY: '' }, 'emulated'),
    /^the CUDA kernels on the CPU, \d+ threads$/,
  ));

test('what they cannot be is refused in a sentence', () => {
  const refused = (name: string, value: string) => opened({ [name]: value });
  assert.match(
    refused('TURL_ISA', 'sse'),
    /^device cpu cannot be used here: TURL_ISA: expected what this processor has, baseline.*, got sse$/,
  );
  for (const value of ['0', '-3', 'two', '2.5', '100000'])
    assert.is(
      refused('TURL_THREADS', value),
      `device cpu cannot be used here: TURL_THREADS: expected 1 to 1024 threads, got ${value}`,
    );
});

test('a name that no device has is refused in a sentence', () =>
  assert.throws(() => device('gpu' as DeviceName), /^device: expected one of cpu, cuda, emulated, got gpu$/));

test('a device that fails is an error of every call, and the way out of the first one ends the recording', () => {
  const emulated = device('emulated');
  const recording = new Recording(emulated);
  const [x, y] = [1, 2].map((value) => full([300_000], value, { device: emulated }));
  if (!x || !y) throw new Error('no tensors');
  recording.begin('one');
  emulated.kernels.cast(y, x);
  recording.end();
  assert.ok(recording.plan());
  process.env['TURL_EMULATED_FAULT'] = '1';
  try {
    const calls = [
      () => emulated.synchronize(),
      () => emulated.statistics(),
      () => emulated.configure({ trim: true }),
      () => zeros([30_000_000], { device: emulated }),
      () => y.toArray(),
      () => y.set(new Float32Array(300_000)),
    ];
    for (const call of calls)
      assert.throws(call, (error: Error) => error.message.includes('TURL_EMULATED_FAULT'));
    recording.dispose();
  } finally {
    delete process.env['TURL_EMULATED_FAULT'];
  }
  emulated.synchronize();
  assert.is(y.toArray()[0], 1);
  for (const tensor of [x, y]) tensor.dispose();
});

test.run();
