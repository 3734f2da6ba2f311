import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { configFrom } from '../config/index.js';
import { device } from '../tensor/device.js';
import { devices } from '../testing.js';
import { Experiment } from './experiment.js';
import { measureStepMemory } from './plan.js';
import { drawnBatch, identities, side, tinyNetwork } from './testing.js';

const test = suite('memory of training');
const batchSize = 8;

// The emulated device is about a hundred times slower: a leak of any tensor in a step shows there after two steps as well.
for (const device of devices)
  for (const precision of ['float32', 'bfloat16'])
    test(`the full method in ${precision} on ${device.name}: a late step holds what the third one did`, () => {
      const last = device.name === 'emulated' ? 5 : 300;
      const config = configFrom({
        device: device.name,
        precision,
        model: { ...tinyNetwork, dropout: 0.1 },
        data: { source: 'synthetic', identities, image_size: side },
        augment: { occlusion: { blocks: 3 } },
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
        experiment.update([drawnBatch(step, batchSize)], step, last);
        if (step === 2) third = measure();
      }
      assert.equal(measure(), third);
      experiment.dispose();
      assert.is(device.statistics().live, before);
    });

test('what is foreseen of a large batch, from smaller ones, is what its step holds', () => {
  const size = 2 * side;
  const config = configFrom({
    model: { ...tinyNetwork, input_size: size, channels: [8, 8, 16, 16] },
    data: { source: 'synthetic', identities, image_size: size },
    loss: { groups: 4, margin: 2, confidence: { initial: 4 } },
    train: { batch_size: 2000 },
  });
  const { bytes } = measureStepMemory(config, identities);
  const cpu = device();
  const before = cpu.statistics().live;
  const experiment = new Experiment(config, identities);
  cpu.configure({ resetPeak: true });
  experiment.update([drawnBatch(0, config.train.batch_size, size)], 0, 1);
  const held = cpu.statistics().peak - before;
  experiment.dispose();
  assert.ok(Math.abs(bytes / held - 1) < 0.1, `${bytes} bytes foreseen, ${held} held`);
});

test.run();
