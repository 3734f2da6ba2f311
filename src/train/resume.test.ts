// Runs of `turl train` in processes of their own, killed, interrupted and damaged.
import { spawn, spawnSync } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import sharp from 'sharp';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { runTraining } from '../cli/train.js';
import { loadConfig } from '../config/index.js';
import { fails } from '../data/testing.js';
import { UserError } from '../tensor/errors.js';
import { describePlan } from './plan.js';
import { checkpoints } from './run-directory.js';
import { stepsOf, train } from './trainer.js';

const steps = 24;
const test = suite<{ folder: string; file: string }>('resume');
test.before.each((context) => {
  context.folder = mkdtempSync(join(tmpdir(), 'turl-resume-'));
  context.file = join(context.folder, 'trial.yaml');
  writeFileSync(
    context.file,
    `name: trial
model: { name: iresnet-small, input_size: 32, embedding_size: 16, channels: [4, 4, 8, 8], blocks: [1, 1, 1, 1], dropout: 0.2 }
data: { source: synthetic, identities: 6, images_per_identity: 5, held_out_identities: 6, image_size: 34, workers: 1 }
loss: { groups: 4, margin: 2, confidence: { initial: 4 } }
train: { batch_size: 6, steps: ${steps}, accumulate: 2, checkpoint_every: 2, log_every: 1, keep: 50 }
evaluate: { pair_count: 20, folds: 2, degrade: [{ blur: 5 }] }
`,
  );
});
test.after.each(({ folder }) => rmSync(folder, { recursive: true }));

const turl = join(import.meta.dirname, '../../bin/turl.js');
const run = (...args: string[]) => {
  const { status, stdout, stderr } = spawnSync(process.execPath, [turl, ...args], { encoding: 'utf8' });
  return { status, stdout, stderr };
};
const weights = (path: string) => {
  const last = checkpoints(path).at(-1);
  return { step: last?.step, bytes: last && readFileSync(last.file) };
};

/** Starts training, and sends `signal` once a checkpoint of `step` or later is there. Resolves to the exit code, null if killed. */
function stopAfter(step: number, signal: NodeJS.Signals, file: string, path: string): Promise<number | null> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [turl, 'train', file, '--work-dir', path], { stdio: 'ignore' });
    const timer = setInterval(() => {
      if (existsSync(join(path, 'checkpoints')) && (checkpoints(path).at(-1)?.step ?? 0) >= step) {
        clearInterval(timer);
        child.kill(signal);
      }
    }, 2);
    child.on('error', reject).on('close', (code) => {
      clearInterval(timer);
      resolve(code);
    });
  });
}

test('killed, interrupted, or left alone: the same weights, bit for bit', async ({ folder, file }) => {
  const whole = join(folder, 'whole');
  const first = run('train', file, '--work-dir', whole);
  assert.is(first.status, 0, first.stderr);
  const expected = weights(whole);
  assert.is(expected.step, steps);
  for (const [signal, code] of [
    ['SIGKILL', null],
    ['SIGINT', 0],
  ] as const) {
    const path = join(folder, signal);
    assert.is(await stopAfter(4, signal, file, path), code);
    const stopped = weights(path);
    assert.ok((stopped.step ?? steps) < steps, `stopped at step ${stopped.step}`);
    const resumed = run('train', file, '--resume', path);
    assert.is(resumed.status, 0, resumed.stderr);
    const { step, bytes } = weights(path);
    assert.is(step, steps);
    assert.ok(bytes && expected.bytes?.equals(bytes), `weights after ${signal} differ`);
    // Each step is logged once, though some were taken twice.
    const logged = readFileSync(join(path, 'metrics.jsonl'), 'utf8').trimEnd().split('\n');
    const losses = logged.map((line) => JSON.parse(line) as Record<string, number>);
    assert.equal(
      losses.filter((l) => 'train/identification' in l).map((l) => l['step']),
      Array.from({ length: steps }, (_, i) => i + 1),
    );
  }
});

test('killed before an evaluation: it is made up for; no evaluation counts in the speed', async ({
  folder,
  file,
}) => {
  const path = join(folder, 'run');
  const sets = ['train.steps=6', 'train.checkpoint_every=2', 'train.evaluate_every=2', `work_dir=${path}`];
  const config = loadConfig(file, sets);
  await train(config);
  const metrics = () =>
    readFileSync(join(path, 'metrics.jsonl'), 'utf8')
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line) as Record<string, number>);
  const whole = metrics();
  const accuracy = (line: Record<string, number>) => line['test/accuracy/clean'];
  const evaluated = whole.filter((line) => accuracy(line) !== undefined);
  assert.equal(
    evaluated.map((line) => line['step']),
    [0, 2, 4, 6],
  );
  const time = (step: number, key: string) =>
    whole.find((line) => line['step'] === step && key in line)?.['time'] ?? NaN;
  const [rate, loss] = ['speed/images_per_second', 'train/identification'];
  const [before, after, next] = [time(2, loss), time(2, 'test/accuracy/clean'), time(3, loss)];
  const seconds = 12 / (whole.find((line) => line['step'] === 3 && rate in line)?.[rate] ?? NaN);
  assert.ok(seconds < next - before - (after - before) / 2, `${seconds} s of ${next - before}`);

  writeFileSync(join(path, 'checkpoints/latest'), 'step-000004.safetensors\n');
  const kept = whole.filter((line) => line['step']! <= 4 && !(line['step'] === 4 && accuracy(line)));
  writeFileSync(join(path, 'metrics.jsonl'), kept.map((line) => `${JSON.stringify(line)}\n`).join(''));
  const result = join(path, 'evaluation-000004.json');
  const expected = readFileSync(result, 'utf8');
  rmSync(result);
  await train(config, { resume: path });
  assert.is(readFileSync(result, 'utf8'), expected);
  const shown = ({ step, ...line }: Record<string, number>) => [step, line[loss], accuracy(line)];
  assert.equal(metrics().map(shown), whole.map(shown));

  // The last good checkpoint is the one resumed from, not a later one.
  writeFileSync(join(path, 'checkpoints/latest'), 'step-000002.safetensors\n');
  const wild = { ...config, optimizer: { ...config.optimizer, lr: 1e30 } };
  const error = await train(wild, { resume: path }).catch((thrown: unknown) => thrown);
  assert.match(String(error), /stopped at step 4: .* last good checkpoint: .*step-000002\.safetensors$/);
});

test('damaged checkpoints and unfit inputs: one sentence, exit code 2', ({ folder, file }) => {
  const path = join(folder, 'run');
  assert.is(run('train', file, '--work-dir', path, '--set', 'train.steps=2').status, 0);
  const again = run('train', file, '--work-dir', path);
  const checkpoint = checkpoints(path).at(-1)?.file ?? '';
  truncateSync(checkpoint, 2000);
  const empty = join(folder, 'empty');
  mkdirSync(empty);
  const upright = ['--set', 'augment.pose.probability=0'];
  const sentences: [ReturnType<typeof run>, RegExp][] = [
    [again, /already holds a run/],
    [run('eval', checkpoint), /step-000002\.safetensors/],

    [run('train', file, '--data', join(folder, 'nothing'), ...upright), /found none at .*nothing/],
    [run('train', file, '--data', empty, ...upright), /expected images .* in .*empty/],
    [run('train', file, '--set', 'train.batch_size=none'), /batch_size/],
    [run('train', file, '--resume', empty), /is not a run directory/],
  ];
  for (const [{ status, stderr }, pattern] of sentences) {
    assert.is(status, 2, stderr);
    assert.match(stderr, pattern);
    assert.is(stderr.trimEnd().split('\n').length, 1, stderr);
  }
});

test('--resume: a run of another experiment, or without its checkpoints, is refused', ({ folder, file }) => {
  const path = join(folder, 'run');
  assert.is(run('train', file, '--work-dir', path, '--set', 'train.steps=2').status, 0);
  const other = join(folder, 'other.yaml');
  writeFileSync(other, readFileSync(file, 'utf8').replace('name: trial', 'name: other'));
  const refused = (config: string, pattern: RegExp) => {
    for (const more of [[], ['--dry-run']]) {
      const { status, stderr } = run('train', config, '--resume', path, ...more);
      assert.is(status, 2, stderr);
      assert.match(stderr, pattern);
      assert.is(stderr.trimEnd().split('\n').length, 1, stderr);
    }
  };
  refused(other, /expected a run of other, found one of trial: continue it with turl train --resume .*run$/m);
  const edited = join(folder, 'edited.yaml');
  writeFileSync(edited, readFileSync(file, 'utf8').replace('margin: 2', 'margin: 4'));
  const note =
    /^--resume keeps the run's own configuration: expected loss\.margin to be 2, as in .*config\.yaml, found 4$/m;
  const noted = run('train', edited, '--resume', path, '--dry-run');
  assert.is(noted.status, 0, noted.stderr);
  assert.match(noted.stderr, note);
  const own = run('train', '--resume', path);
  assert.is(own.status, 0, own.stderr);
  assert.not.match(own.stderr, /configuration/);
  assert.match(run('train', '--resume', file).stderr, /there is no run of trial in runs to resume/);
  rmSync(join(path, 'checkpoints'), { recursive: true });
  refused(file, /expected a folder checkpoints in it, found none/);
});

test('--resume: other training images than those that the run began with are refused', async ({
  folder,
  file,
}) => {
  const faces = join(folder, 'faces');
  const png = await sharp({ create: { width: 34, height: 34, channels: 3, background: '#a87' } })
    .png()
    .toBuffer();
  for (const name of ['Anna', 'Bert', 'Cora']) {
    mkdirSync(join(faces, name), { recursive: true });
    for (const image of ['1.png', '2.png']) writeFileSync(join(faces, name, image), png);
  }
  const path = join(folder, 'run');
  const data = ['--set', 'data.held_out_identities=0', '--set', 'augment.pose.probability=0'];
  const own = ['--data', faces, ...data, '--set', 'train.steps=2', '--work-dir', path];
  const began = run('train', file, ...own);
  assert.is(began.status, 0, began.stderr);
  const resumed = () => run('train', join(path, 'config.yaml'), '--resume', path);
  assert.is(resumed().status, 0);
  renameSync(join(faces, 'Anna'), join(faces, 'Dora'));
  for (const { status, stderr } of [
    resumed(),
    run('train', join(path, 'config.yaml'), '--resume', path, '--dry-run'),
  ]) {
    assert.is(status, 2, stderr);
    assert.match(
      stderr,
      /expected the training images that it began with, found others \(6 of 3 identities\); start .* --set from=/,
    );
  }
});

test('--dry-run refuses what training would, and says what does not fit into memory', async ({ file }) => {
  const refusals: [string, RegExp][] = [
    ['work_dir=/proc/run', /cannot make the run directory \/proc\/run: /],
    [
      'data.images_per_identity=1',
      /pairs: expected \d+ genuine and as many impostor pairs .*; lower evaluate\.pair_count/,
    ],
    [
      'data.held_out_identities=2',
      /evaluate\.folds: expected at least 4 held-out identities \(data\.held_out_identities\) for 2 folds, found 2/,
    ],
    ['data.sampling={identities: 12, images: 1}', /data\.sampling: expected at most the 6 identities/],
  ];
  for (const [set, pattern] of refusals) {
    const size = set.startsWith('data.sampling') ? ['train.batch_size=12'] : [];
    await describePlan(loadConfig(file, [set, ...size])).then(
      () => assert.unreachable(set),
      (error: unknown) => assert.ok(error instanceof UserError && pattern.test(error.message), String(error)),
    );
  }
  const { status, stdout, stderr } = run('train', file, '--dry-run', '--set', 'from=nope');
  assert.equal([status, stdout], [2, ''], stderr);
  assert.match(stderr, /^turl: no such run directory or checkpoint: nope\n$/);
  // Whole batches of 2 x 6 images in 5 epochs, and one where there are fewer.
  const epochs = loadConfig(file, ['train.steps=null', 'train.epochs=5']);
  assert.equal(
    [30, 2].map((images) => stepsOf(epochs, images)),
    [12, 1],
  );
  const large = run('train', file, '--dry-run', '--set', 'train.batch_size=1000000000');
  assert.match(large.stdout, /are available, NOT ENOUGH: lower train\.batch_size/);
});

test('an interrupt before there is a run ends at once', async ({ folder, file }) => {
  const path = join(folder, 'run');
  const exit = process.exit.bind(process);
  const codes: [unknown, boolean][] = [];
  process.exit = ((code?: number) => codes.push([code, existsSync(path)])) as unknown as typeof exit;
  try {
    const running = runTraining(file, { workDir: path, set: ['train.steps=1'] });
    while (process.listenerCount('SIGINT') === 0) await setImmediate();
    process.emit('SIGINT');
    await running;
  } finally {
    process.exit = exit;
  }
  assert.equal(codes, [[130, false]]);
});

test('batches that there is no memory for leave no run directory', async ({ folder, file }) => {
  const path = join(folder, 'run');
  const config = loadConfig(file, ['data.prefetch=1099511627776', `work_dir=${path}`]);
  await fails(() => train(config), /^expected memory for 1099511627777 batches of 6 images/);
  assert.not(existsSync(path));
});

test('options that are wrong: what was written is shown', ({ file }) => {
  for (const [args, expected] of [
    [['--seed', 'x'], 'turl: --seed: expected a whole number of at least 0, got x\n'],
    [['--workers', 'x'], 'turl: --workers: expected a whole number from 0 to 1024, got x\n'],
    [['--data', ''], 'turl: --data : data.path: expected some text, got ""\n'],
  ] as const) {
    const { status, stderr } = run('train', file, '--dry-run', ...args);
    assert.equal([status, stderr], [2, expected]);
  }
});

test.run();
