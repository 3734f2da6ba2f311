import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { configFrom, configToYaml } from '../config/index.js';
import { openPeer, peerArguments, torchPeer, turlPeer } from './peer.js';
import { measureStep, type StepOptions } from './step.js';
import { historyRow, stepText } from './step-text.js';
import { phases, traceJson, Watch } from './watch.js';

const test = suite('bench step');
const watch = new Watch(); // before the device is opened
const folder = mkdtempSync(join(tmpdir(), 'turl-step-'));
test.after(() => {
  rmSync(folder, { recursive: true });
});

const config = configFrom({
  name: 'tiny',
  model: {
    name: 'iresnet-small',
    input_size: 16,
    channels: [4, 4, 8, 8],
    blocks: [1, 1, 1, 1],
    embedding_size: 16,
  },
  data: { source: 'synthetic', identities: 20, images_per_identity: 2, image_size: 16, workers: 0 },
  loss: { groups: 4, margin: 2, confidence: { initial: 4 } },
  optimizer: { lr: 0.01 },
  train: { batch_size: 8 },
});
const options: StepOptions = {
  ...{ rounds: 6, steps: 1, peers: [], against: [], loader: false, sizes: false, threads: 1 },
  tell: () => undefined,
};

/** A program that is started in Python's place. */
function program(name: string, body: string): string {
  const file = join(folder, name);
  writeFileSync(file, `#!${process.execPath}\n${body}`);
  chmodSync(file, 0o755);
  return file;
}
const asPython = async <T>(file: string, f: () => Promise<T>): Promise<T> => {
  process.env['TURL_PYTHON'] = file;
  try {
    return await f();
  } finally {
    delete process.env['TURL_PYTHON'];
  }
};
// Says that a step takes 1,000 seconds.
const slow = program(
  'slow',
  `console.log(JSON.stringify({ peer: 'slow peer', threads: 1 }));
require('node:readline').createInterface({ input: process.stdin }).on('line', (line) =>
  console.log(JSON.stringify(Array.from({ length: Number(line.split(' ')[1]) }, () => 1000))));`,
);

test('a step by phase and operation, beside a peer, and a trace of it', async () => {
  const report = await asPython(slow, () => measureStep(config, watch, { ...options, peers: ['prelu'] }));
  const [peer] = report.peers;
  assert.ok(peer && 'rate' in peer && peer.name === 'slow peer');
  assert.is(peer.rate.median, 8 / 1000);
  assert.ok(
    peer.ratio.low > 1000 && peer.ratio.low <= peer.ratio.high,
    'a step here takes less than a second',
  );
  const near = Math.abs(report.ours.rate.median * (report.milliseconds.median / 1000) - 8);
  assert.ok(near < 1e-9, 'images a second times seconds are the images');
  assert.equal(
    report.phases.map(({ name }) => name),
    [...phases],
  );
  for (const { name, milliseconds, outsideNative } of report.phases)
    assert.ok(milliseconds > 0 && outsideNative >= 0 && outsideNative <= milliseconds, name);
  const phaseOf = (kernel: string) => [
    ...new Set(watch.calls.filter(({ name }) => name === kernel).map(({ phase }) => phase)),
  ];
  assert.equal(phaseOf('augment'), ['input']);
  assert.equal(phaseOf('conv2d_forward'), ['forward']);
  assert.equal(phaseOf('margin_softmax_forward'), ['loss']);
  assert.equal(phaseOf('conv2d_backward_weight'), ['backward']);
  assert.equal(phaseOf('sgd_step'), ['optimiser']);
  const forward = report.operations.find(({ name }) => name === 'conv2d_forward');
  assert.is(forward?.calls, 13, 'the first convolution, two in each of four blocks and a shortcut');
  assert.ok(report.perStep.kernelCalls > 100);
  assert.is(report.perStep.launches, 0, 'on the CPU');
  assert.ok(report.perStep.nativeCalls < 20, 'the step is replayed');
  assert.ok(report.perStep.typescriptShare > 0 && report.perStep.typescriptShare < 1);
  assert.ok(report.holders.some(({ label, bytes }) => label === 'conv2d' && bytes > 0));

  const { traceEvents } = JSON.parse(traceJson(watch)) as {
    traceEvents: { ph: string; tid: number; dur: number; name: string; args?: object }[];
  };
  const spans = traceEvents.filter(({ ph, tid }) => ph === 'X' && tid === 1);
  assert.is(spans.length, watch.spans.length);
  assert.ok(spans.every(({ dur }) => dur >= 0));
  const [first] = traceEvents.filter(({ name }) => name === 'conv2d_forward');
  assert.equal(first?.args, {
    ...{ batch: 8, height: 16, width: 16, channels: 3, out_channels: 4, kernel_h: 3, kernel_w: 3 },
    ...{ stride: 1, padding: 1, groups: 1 },
  });

  const [head] = readFileSync(join(import.meta.dirname, '../../bench/history.csv'), 'utf8').split('\n');
  assert.is(historyRow(report).split(',').length, head?.split(',').length);
  assert.match(stepText(report), /slow peer 0.008 images\/s/);
});

test('with the loader, the batches come from the experiment’s images; operations by their sizes', async () => {
  const report = await measureStep(config, watch, {
    ...options,
    ...{ rounds: 1, loader: true, sizes: true },
  });
  assert.is(report.experiment.loader, true);
  const sizes = report.operations.filter(({ name }) => name === 'conv2d_forward').map((one) => one.sizes);
  assert.ok(sizes.includes('8 16 16 3 4 3 3 1 1 1'));
  assert.is(new Set(sizes).size, sizes.length, 'a row for each size');
  assert.match(stepText(report), /conv2d_forward 8 16 16 3 4 3 3 1 1 1 /);
  assert.ok(Number.isNaN(report.milliseconds.low), 'one run has no interval');
});

test('a peer that is not there is said to be absent', async () => {
  const nowhere = await asPython('/nowhere/python', () => openPeer(torchPeer('PyTorch', [])));
  assert.ok('absent' in nowhere && /ENOENT/.test(nowhere.absent));
  const without = program('without', `console.error("No module named 'torch'"); process.exit(1);`);
  assert.equal(await asPython(without, () => openPeer(torchPeer('PyTorch', []))), {
    name: 'PyTorch',
    absent: "No module named 'torch'",
  });
});

test('a peer that ends halfway is named with its last words', async () => {
  const dying = program(
    'dying',
    `console.log(JSON.stringify({ peer: 'dying peer' }));
require('node:readline').createInterface({ input: process.stdin }).on('line', (line) => {
  if (line === 'run 2') return console.log('[1, 1]');
  console.error('out of memory');
  process.exit(1);
});`,
  );
  const peer = await asPython(dying, () => openPeer(torchPeer('PyTorch', [])));
  assert.ok('run' in peer && peer.name === 'dying peer');
  let message = '';
  await peer.run(1).catch((error: unknown) => (message = String(error)));
  assert.match(message, /PyTorch ended before its steps did: out of memory/);
});

test('another turl runs the same step, here this one with other variables', async () => {
  const file = join(folder, 'tiny.yaml');
  writeFileSync(file, configToYaml(config));
  const step = (against: string) => turlPeer(against, [file, '--threads', '1']);
  const against = [step('TURL_ISA=baseline'), step('TURL_ISA=none')];
  const { peers } = await measureStep(config, watch, { ...options, against });
  const [baseline, none] = peers;
  assert.ok(baseline && 'ratio' in baseline && baseline.name === 'turl with TURL_ISA=baseline');
  assert.ok(baseline.ratio.low > 0 && baseline.ratio.high < Infinity);
  assert.ok(none && 'absent' in none);
  assert.match(none.absent, /^device cpu cannot be used here: TURL_ISA: expected /);
  assert.throws(
    () => step('/nowhere'),
    /--against \/nowhere: expected a checkout that is built .* found neither/,
  );
});

test('the peer is told what the experiment is', () => {
  const args = peerArguments(config, 20, 2).join(' ');
  assert.match(
    args,
    /--channels 4,4,8,8 --blocks 1,1,1,1 --batch 8 --size 16 --embedding 16 --groups 4 --variations 3/,
  );
  assert.match(args, /--identities 20 --threads 2 --loss full --precision float32 --device cpu$/);
});

test('what cannot be measured is refused in a sentence', async () => {
  const refused = async (changes: object) => {
    let message = '';
    await measureStep({ ...config, ...changes }, watch, options).catch(
      (error: unknown) => (message = String(error)),
    );
    return message;
  };
  assert.match(await refused({ stage: 'uncertainty' }), /expected an experiment of stage identification/);
  assert.match(await refused({ data: { ...config.data, identities: null } }), /--set data.identities=N/);
});

test.run();
