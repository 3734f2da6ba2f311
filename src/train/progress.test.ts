import { PassThrough } from 'node:stream';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { Progress } from './progress.js';

const test = suite('progress');

test('without a terminal: one plain line for each log, with rate, losses and time left', () => {
  let now = 0;
  const stream = new PassThrough();
  const text = () => String(stream.read() ?? '');
  const progress = new Progress({ total: 300, done: 100, stream, clock: () => now });
  now = 60_000;
  progress.step(110, { rate: 90, losses: {} });
  assert.is(text(), '');
  // 20 steps in 60 s: the 180 that are left take 540 s.
  progress.log(120, { rate: 96.4, losses: { loss: 12.34567, reg: 0.00001234, bad: NaN } });
  assert.is(text(), 'step 120/300  96 images/s  loss 12.35  reg 1.23e-5  bad NaN  9m left\n');
  progress.note('checkpoint written');
  progress.log(300, { rate: 9.64, losses: { loss: 0 } });
  progress.stop();
  assert.is(text(), 'checkpoint written\nstep 300/300  9.6 images/s  loss 0\n');
});

test('on a terminal: a bar, and notes above it', () => {
  // What cli-progress asks of a terminal.
  // What cli-progress asks of a terminal.
  const stream = Object.assign(new PassThrough(), {
    isTTY: true,
    columns: 200,
    clearLine: () => true,
    cursorTo: () => true,
  });
  const progress = new Progress({ total: 10, stream });
  progress.step(5, { rate: 50, losses: { loss: 1.5 } });
  progress.note('hello');
  progress.log(10, { rate: 50, losses: { loss: 1.25 } });
  progress.stop();
  const text = String(stream.read());
  assert.match(text, /█+░* 10\/10 50 images\/s {2}loss 1\.25/);
  assert.match(text, 'hello\n');
  assert.not.match(text, 'step 10/10');
});

test.run();
