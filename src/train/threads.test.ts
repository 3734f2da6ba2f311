// The same seed gives the same weights on the CPU, bit for bit, with any number of threads.
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { configFrom } from '../config/index.js';
import { device } from '../tensor/device.js';
import { Experiment } from './experiment.js';
import { drawnBatch, side, tinyNetwork } from './testing.js';

const test = suite('threads');
const cpu = device('cpu');
const identities = 3000; // classes in several chunks

/**
 * Losses and weights after some updates. Pixels, channels and classes are enough for several chunks of convolutions, batch normalisations,
 * products, losses and the optimiser; what is smaller than a chunk here runs on one thread anyway.
 */
function learn(precision: string, threads: number) {
  cpu.configure({ threads });
  const config = configFrom({
    precision,
    model: { ...tinyNetwork, channels: [32, 64, 64, 128], embedding_size: 64 },
    data: { source: 'synthetic', identities, image_size: side },
    loss: { groups: 4, margin: 2, confidence: { initial: 4 } },
    optimizer: { lr: 0.02 },
    train: { batch_size: 40, clip_norm: 3 },
  });
  const experiment = new Experiment(config, identities);
  const reports = [0, 1, 2, 3].map((step) => experiment.update([drawnBatch(step, 40)], step, 10));
  const state = new Map([...experiment.state()].map(([name, tensor]) => [name, tensor.toBits()]));
  experiment.dispose();
  return { reports, state };
}

for (const precision of ['float32', 'bfloat16'])
  test(`${precision}: one, two, three and five threads`, () => {
    const { threads } = cpu.statistics();
    const one = learn(precision, 1);
    for (const more of [2, 3, 5]) {
      const { reports, state } = learn(precision, more);
      assert.equal(reports, one.reports, `losses with ${more} threads`);
      for (const [name, bits] of state) assert.equal(bits, one.state.get(name), name);
    }
    cpu.configure({ threads });
  });

test.run();
