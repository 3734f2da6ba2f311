// Stage uncertainty from a run: everything but the confidence branch keeps its bits.
import { existsSync, mkdtempSync, renameSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { configFrom } from '../config/index.js';
import { UserError } from '../tensor/errors.js';
import { findCheckpoint } from './run-directory.js';
import { readSafetensors } from './safetensors.js';
import { train } from './trainer.js';

const test = suite<{ folder: string }>('stage uncertainty');
test.before((context) => {
  context.folder = mkdtempSync(join(tmpdir(), 'turl-uncertainty-'));
});
test.after(({ folder }) => rmSync(folder, { recursive: true }));

const base = {
  model: {
    name: 'iresnet-small',
    input_size: 32,
    embedding_size: 16,
    channels: [4, 4, 8, 8],
    blocks: [1, 1, 1, 1],
  },
  data: {
    source: 'synthetic',
    identities: 6,
    images_per_identity: 6,
    held_out_identities: 6,
    image_size: 34,
    workers: 0,
  },
  loss: { groups: 4, margin: 2, confidence: { initial: 4 } },
  train: { batch_size: 8, steps: 12, log_every: 4 },
  evaluate: { pair_count: 20, folds: 2, degrade: [] },
};

test('the loss falls, all else keeps its bits, and the score is Eq. 16', async ({ folder }) => {
  const first = join(folder, 'first');
  await train(configFrom({ ...base, work_dir: first }));
  const changed = {
    ...base,
    work_dir: join(folder, 'second'),
    stage: 'uncertainty',
    from: first,
    data: { ...base.data, identities: 5, sampling: { identities: 2, images: 4 } }, // other identities than the start's
    optimizer: { lr: 0.01, weight_decay: 0 },
    train: { ...base.train, steps: 30 },
    evaluate: { ...base.evaluate, score: 'uncertainty' },
  };
  const { evaluation } = await train(configFrom(changed));
  assert.match(evaluation?.protocol.score ?? '', 'Eq. 16');
  const [before, after] = [first, changed.work_dir].map(
    (run) => readSafetensors(findCheckpoint(run).checkpoint.file).tensors,
  );
  let same = 0;
  for (const [name, stored] of before ?? []) {
    if (!/^(network|loss)\./.test(name)) continue;
    const bits = Buffer.from(after?.get(name)?.data ?? []);
    if (name.startsWith('loss.confidence.')) assert.not.ok(bits.equals(stored.data), name);
    else {
      assert.ok(bits.equals(stored.data), name);
      same++;
    }
  }
  assert.ok(same > 20);
  // Continued from the middle it ends the same.
  const half = {
    ...changed,
    work_dir: join(folder, 'half'),
    train: { ...changed.train, checkpoint_every: 10 },
  };
  const stop = new AbortController();
  const latest = join(half.work_dir, 'checkpoints/latest');
  const timer = setInterval(() => existsSync(latest) && stop.abort(), 1);
  const { interrupted } = await train(configFrom(half), { signal: stop.signal });
  clearInterval(timer);
  assert.ok(interrupted);
  // The run that it started from is not needed any more.
  renameSync(first, `${first}-gone`);
  await train(configFrom(half), { resume: half.work_dir });
  const resumed = readSafetensors(findCheckpoint(half.work_dir).checkpoint.file).tensors;
  for (const [name, stored] of after ?? [])
    assert.ok(Buffer.from(resumed.get(name)?.data ?? []).equals(stored.data), name);
});

test('what it needs is said', () => {
  const wrong = (values: Record<string, unknown>, pattern: RegExp) => {
    try {
      configFrom({ ...base, stage: 'uncertainty', ...values });
    } catch (error) {
      assert.instance(error, UserError);
      assert.match((error as Error).message, pattern);
      return;
    }
    assert.unreachable(String(pattern));
  };
  wrong({}, /from: expected the run to start from/);
  wrong({ from: 'x' }, /data\.sampling: expected batches with genuine pairs, such as \{ identities: 16/);
  wrong({ from: 'x', loss: { ...base.loss, type: 'cosface' } }, /loss\.type: expected confidence-softmax/);
});

test.run();
