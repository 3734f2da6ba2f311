// Updates and embeddings that are replayed beside those that are not: the same numbers, bit for bit, with everything in them that changes
// from step to step: images, labels, variations, dropout, the margin, the rate, the optimiser's own count.
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { configFrom } from '../config/index.js';
import { Recording } from '../tensor/recording.js';
import { devices } from '../testing.js';
import { Experiment } from './experiment.js';
import type { Phase } from './learner.js';
import { drawnBatch, identities, side, tinyNetwork } from './testing.js';

const test = suite('replayed updates');

/** What `f` gives, and how many sections were replayed meanwhile. */
function replaysOf<T>(f: () => T): { result: T; replays: number } {
  const { replay } = Object.getOwnPropertyDescriptors(Recording.prototype);
  let replays = 0;
  Recording.prototype.replay = function (section) {
    replays++;
    (replay.value as Recording['replay']).call(this, section);
  };
  try {
    return { result: f(), replays };
  } finally {
    Object.defineProperties(Recording.prototype, { replay });
  }
}

const config = (device: string, options: object) =>
  configFrom({
    device,
    model: { ...tinyNetwork, dropout: 0.3 },
    data: { source: 'synthetic', identities, image_size: side },
    augment: { occlusion: { blocks: 3 } },
    schedule: { name: 'cosine', warmup_steps: 2 },
    train: { batch_size: 8, clip_norm: 3 },
    ...options,
  });

/** Reports and final state of some updates. */
function learn(
  device: string,
  options: object,
  { replays, steps, each }: { replays: boolean; steps: number; each?: (e: Experiment, step: number) => void },
) {
  const experiment = new Experiment(config(device, options), identities);
  experiment.rounds.replays = replays;
  const reports = Array.from({ length: steps }, (_, step) => {
    each?.(experiment, step);
    const count = experiment.config.train.accumulate;
    const batches = Array.from({ length: count }, (_, i) => drawnBatch(count * step + i));
    return experiment.update(batches, step, 10);
  });
  const state = [...experiment.state()].map(([name, t]) => [name, [...t.toBits()]]);
  experiment.dispose();
  return { reports, state };
}

const arms = {
  'the whole method, SGD': {
    precision: 'float32',
    loss: { groups: 4, margin: 2, margin_warmup_steps: 4, confidence: { initial: 4 } },
    optimizer: { lr: 0.02 },
  },
  'the whole method in bfloat16, AdamW': {
    precision: 'bfloat16',
    loss: { groups: 4, margin: 2, margin_warmup_steps: 4, confidence: { initial: 4 } },
    optimizer: { name: 'adamw', lr: 0.002 },
  },
  'three batches an update': {
    precision: 'float32',
    loss: { groups: 4, margin: 2, confidence: { initial: 4 } },
    optimizer: { lr: 0.02 },
    train: { batch_size: 8, accumulate: 3, clip_norm: 3 },
  },
  CosFace: {
    precision: 'float32',
    loss: { type: 'cosface', scale: 16, cosine_margin: 0.3, margin_warmup_steps: 4, groups: 4 },
    optimizer: { lr: 0.02 },
  },
};

for (const device of devices) {
  const steps = device.name === 'emulated' ? 4 : 7;
  for (const [arm, options] of Object.entries(arms))
    test(`${device.name}: ${arm}`, () => {
      const before = device.statistics().live;
      const plain = learn(device.name, options, { replays: false, steps });
      const { result, replays } = replaysOf(() => learn(device.name, options, { replays: true, steps }));
      assert.equal(result, plain);
      const { accumulate } = config(device.name, options).train;
      assert.is(
        replays,
        (steps - 2) * (4 * accumulate + 2),
        'all but the first two, norms and optimiser once',
      );
      assert.is(device.statistics().live, before);
    });
}

const [arm] = Object.values(arms);
const [device] = devices;

test('an evaluation in between and a batch of another size', () => {
  if (!arm || !device) throw new Error('no device');
  const each = (e: Experiment, step: number) => {
    const { pixels, augmentation } = drawnBatch(90, 2);
    if (step === 4) e.embed(pixels, augmentation);
    if (step === 6) e.update([drawnBatch(91, 3)], 6, 10);
  };
  const plain = learn(device.name, arm, { replays: false, steps: 9, each });
  assert.equal(learn(device.name, arm, { replays: true, steps: 9, each }), plain);
});

for (const { name } of devices)
  test(`${name}: embeddings of batches, an odd one among them`, () => {
    if (!arm) throw new Error('no arm');
    const embed = (experiment: Experiment, count: number, step: number) => {
      const { pixels, augmentation } = drawnBatch(step, count);
      return experiment.embed(pixels, augmentation);
    };
    const experiment = new Experiment(config(name, arm), identities);
    const sizes = [4, 4, 4, 2, 4, 4];
    const { result, replays } = replaysOf(() => sizes.map((count, i) => embed(experiment, count, i)));
    assert.is(replays, 3, 'all of 4 but the first two');
    const single = sizes.map((count, i) => {
      const other = new Experiment(config(name, arm), identities);
      const embeddings = embed(other, count, i);
      other.dispose();
      return embeddings;
    });
    assert.equal(result, single);
    experiment.dispose();
  });

test('a replayed update tells its phases, launches what a plain one does, and allocates nothing', () => {
  if (!arm || !device) throw new Error('no device');
  const experiment = new Experiment(config(device.name, arm), identities);
  const count = (step: number) => {
    const heard: Phase[] = [];
    experiment.onPhase = (phase) => heard.push(phase);
    const { kernelCalls, launches, systemAllocations } = device.statistics();
    experiment.update([drawnBatch(step)], step, 10);
    const after = device.statistics();
    return {
      heard: [...new Set(heard)],
      kernelCalls: after.kernelCalls - kernelCalls,
      launches: after.launches - launches,
      blocks: after.systemAllocations - systemAllocations,
    };
  };
  const [first] = [0, 1, 2].map(count); // plain, recorded, and the replay that takes the memory for all
  const fourth = count(3);
  assert.equal(fourth, { ...first, blocks: 0 });
  assert.equal(fourth.heard, ['input', 'forward', 'loss', 'backward', 'optimiser']);
  experiment.dispose();
});

test('where there is no memory for replays, updates stay plain', () => {
  if (!arm || !device) throw new Error('no device');
  const replayed = learn(device.name, arm, { replays: true, steps: 5 });
  const { plan, replay } = Object.getOwnPropertyDescriptors(Recording.prototype);
  let [asked, replays] = [0, 0];
  Recording.prototype.plan = () => ++asked < 0;
  Recording.prototype.replay = () => void replays++;
  try {
    assert.equal(learn(device.name, arm, { replays: true, steps: 5 }), replayed);
  } finally {
    Object.defineProperties(Recording.prototype, { plan, replay });
  }
  assert.equal([asked, replays], [1, 0]);
});

test('gradients that are not finite stop a replayed update before it changes a parameter', () => {
  if (!arm || !device) throw new Error('no device');
  const experiment = new Experiment(config(device.name, { ...arm, model: { ...config(device.name, arm).model, dropout: 0 } }), identities); // prettier-ignore
  for (let step = 0; step < 3; step++) experiment.update([drawnBatch(step)], step, 10);
  const parameters = () => [...experiment.optimizer.parameters].map(([name, t]) => [name, [...t.toBits()]]);
  const before = parameters();
  const labels = Int32Array.from({ length: 8 }, () => identities); // none of them: NaN
  assert.throws(
    () => experiment.update([{ ...drawnBatch(3), labels }], 3, 10),
    /the identification loss is NaN/,
  );
  assert.equal(parameters(), before);
  experiment.update([drawnBatch(3)], 3, 10);
  assert.not.equal(parameters(), before);
  experiment.dispose();
});

test.run();
