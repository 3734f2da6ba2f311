/** Names of devices, and environment variables that choose how the CPU computes. */
import { spawnSync } from 'node:child_process';
import path from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { device, type DeviceName } from './device.js';

const test = suite('device');

/** What opening the CPU says in a process with these variables: its description, or why not. */
function opened(variables: Record<string, string>): string {
  const program = `const { device } = await import(${JSON.stringify(path.join(import.meta.dirname, 'index.js'))});
    try { console.log(device('cpu').statistics().description); } catch (error) { console.log(error.message); }`;
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

test.run();
