import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { configFrom } from '../config/index.js';
import { augmentColumns } from '../data/augment.js';
import { variationNames } from '../data/variations.js';
import { devices, randomValues } from '../testing.js';
import { Experiment } from './experiment.js';
import type { TrainingBatch } from './learner.js';

const test = suite('memory of training');
const [batchSize, size, identities] = [8, 16, 20];

function batch(step: number): TrainingBatch {
  const draw = (n: number, values: number, salt: number) =>
    randomValues(n, 10 * step + salt).map((v) => Math.floor(((v + 1) / 2) * values));
  return {
    pixels: Uint8Array.from(draw(batchSize * size * size * 3, 256, 1)),
    labels: Int32Array.from(draw(batchSize, identities, 2)),
    augmentation: new Int32Array(batchSize * augmentColumns),
    variations: Float32Array.from(draw(batchSize * variationNames.length, 2, 3)),
  };
}

// The emulated device is about a hundred times slower: a leak of any tensor in a step shows there after two steps as well.
for (const device of devices)
  for (const precision of ['float32', 'bfloat16'])
    test(`the full method in ${precision} on ${device.name}: a late step holds what the third one did`, () => {
      const last = device.name === 'emulated' ? 5 : 300;
      const config = configFrom({
        device: device.name,
        precision,
        model: {
          name: 'iresnet-small',
          input_size: size,
          channels: [4, 4, 8, 8],
          blocks: [1, 1, 1, 1],
          embedding_size: 16,
          dropout: 0.1,
        },
        data: { source: 'synthetic', identities, image_size: size },
        loss: { groups: 4, margin: 2, confidence: { initial: 4 } },
        optimizer: { lr: 0.01 },
        train: { batch_size: batchSize, clip_norm: 10 },
      });
      const before = device.statistics().live;
      const experiment = new Experiment(config, identities);
      const measure = () => {
        const { live, peak, systemAllocations, cached } = device.statistics();
        return { live, peak, systemAllocations, cached };
      };
      device.configure({ resetPeak: true });
      let third: ReturnType<typeof measure> | undefined;
      for (let step = 0; step < last; step++) {
        experiment.update([batch(step)], step, last);
        if (step === 2) third = measure();
      }
      assert.equal(measure(), third);
      experiment.dispose();
      assert.is(device.statistics().live, before);
    });

test.run();
