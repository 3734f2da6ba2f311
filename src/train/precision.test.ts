// Training in bfloat16 beside training in float32: the same start, the same batches, the same schedule.
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { configFrom } from '../config/index.js';
import { augmentColumns } from '../data/augment.js';
import { variationNames } from '../data/variations.js';
import { devices, randomValues } from '../testing.js';
import { Experiment } from './experiment.js';
import type { TrainingBatch } from './learner.js';

const test = suite('precision');
const [batchSize, size, identities, scheduled] = [12, 16, 4, 40];

/** Images that can be learnt: each identity has a pattern of its own, half hidden by noise. */
function batch(step: number): TrainingBatch {
  const pixels = size * size * 3;
  const labels = Int32Array.from({ length: batchSize }, (_, i) => i % identities);
  const patterns = Array.from({ length: identities }, (_, id) => randomValues(pixels, 1000 + id));
  const noise = randomValues(batchSize * pixels, step + 1);
  const value = (i: number) =>
    (patterns[Math.floor(i / pixels) % identities]?.[i % pixels] ?? 0) + (noise[i] as number);
  return {
    pixels: Uint8Array.from({ length: batchSize * pixels }, (_, i) => 127.5 + 63 * value(i)),
    labels,
    augmentation: new Int32Array(batchSize * augmentColumns),
    variations: Float32Array.from(
      randomValues(batchSize * variationNames.length, step + 50),
      (v) => +(v > 0),
    ),
  };
}

function losses(device: string, precision: string, steps: number): number[] {
  const config = configFrom({
    device,
    precision,
    model: {
      name: 'iresnet-small',
      input_size: size,
      channels: [8, 8, 16, 16], // packs of 8: all but the first layer are for CUDA's matrix units
      blocks: [1, 1, 1, 1],
      embedding_size: 16,
    },
    data: { source: 'synthetic', identities, image_size: size },
    loss: { groups: 4, margin: 2, confidence: { initial: 8 } },
    optimizer: { lr: 0.05 },
    train: { batch_size: batchSize, clip_norm: 5 },
  });
  const experiment = new Experiment(config, identities);
  const curve = Array.from(
    { length: steps },
    (_, step) => experiment.update([batch(step)], step, scheduled).losses.identification ?? NaN,
  );
  experiment.dispose();
  return curve;
}

// An activation in bfloat16 is rounded to 2^-8 of its size. Some 15 such roundings of random sign lie between an image and its
// logits: sqrt(15) 2^-8 = 1.5 % of a logit, and the losses are differences of logits no larger than the first loss. Updates then
// carry differences on, yet no further while both descend the same slope: 2 % of the first loss, at every step.
for (const { name } of devices)
  test(`on ${name}: the loss in bfloat16 falls as in float32`, () => {
    const steps = name === 'emulated' ? 6 : scheduled;
    const exact = losses(name, 'float32', steps);
    const rounded = losses(name, 'bfloat16', steps);
    assert.not.equal(rounded, exact);
    const first = exact[0] as number;
    exact.forEach((loss, step) => {
      const other = rounded[step] as number;
      assert.ok(Math.abs(other - loss) < 0.02 * first, `step ${step}: ${other}, in float32 ${loss}`);
    });
    for (const curve of [exact, rounded]) assert.ok((curve.at(-1) as number) < first / 10, String(curve));
  });

test.run();
