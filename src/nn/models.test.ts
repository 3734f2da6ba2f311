import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { configFrom } from '../config/index.js';
import { device } from '../tensor/device.js';
import { scope } from '../tensor/scope.js';
import { Tape } from '../autograd/tape.js';
import { mean } from '../autograd/ops/reduce.js';
import { randomTensor } from '../testing.js';
import { Initialiser } from './initialise.js';
import { buildBackbone } from './models.js';

const test = suite('models');

const count = (tensors: ReadonlyMap<string, { size: number }>) =>
  [...tensors.values()].reduce((sum, { size }) => sum + size, 0);

/** Parameters of IResNet with bottleneck-free blocks, counted by hand from its description. */
function iresnetParameters(channels: number[], blocks: number[], side: number, embedding: number): number {
  const norm = (c: number) => 2 * c;
  let total = 3 * 9 * (channels[0] as number) + norm(channels[0] as number) + (channels[0] as number);
  let inputs = channels[0] as number;
  channels.forEach((outputs, stage) => {
    for (let i = 0; i < (blocks[stage] as number); i++) {
      total +=
        norm(inputs) + 9 * inputs * outputs + norm(outputs) + outputs + 9 * outputs ** 2 + norm(outputs);
      if (i === 0) total += inputs * outputs + norm(outputs);
      inputs = outputs;
    }
    side = Math.ceil(side / 2);
  });
  return total + norm(inputs) + (side * side * inputs + 1) * embedding + norm(embedding);
}

test('the number of parameters is that of the architecture', () => {
  for (const [name, blocks, known] of [
    ['iresnet18', [2, 2, 2, 2], 24_025_600],
    ['iresnet50', [3, 4, 14, 3], 43_590_976],
  ] as const)
    scope(() => {
      const { model } = configFrom({
        model: { name, input_size: 112 },
        data: { image_size: 112, path: '.' },
      });
      const backbone = buildBackbone(new Initialiser(1), model);
      assert.is(count(backbone.parameters()), iresnetParameters([64, 128, 256, 512], [...blocks], 112, 512));
      assert.is(count(backbone.parameters()), known);
    });
});

test('a small network trains forward and backward in both precisions and leaks nothing', () => {
  const before = device('cpu').statistics().live;
  for (const name of ['iresnet-small', 'mobilefacenet'] as const)
    for (const dtype of ['float32', 'bfloat16'] as const) {
      const { model } = configFrom({
        model: { name, input_size: 32, embedding_size: 16, channels: [8, 8, 16, 16], blocks: [1, 1, 1, 1] },
        data: { image_size: 32, path: '.' },
      });
      const backbone = buildBackbone(new Initialiser(1), model);
      scope(() => {
        const images = randomTensor([4, 32, 32, 3], 1, { dtype });
        const tape = new Tape();
        const loss = tape.record(() => mean(backbone.forward(images).embedding));
        tape.backward(loss);
        assert.equal(backbone.evaluate().forward(images).embedding.shape, [4, 16]);
      });
      for (const [parameter, { grad, shape }] of backbone.parameters()) {
        assert.equal(grad?.shape, shape, parameter);
        assert.ok(grad?.toArray().every(Number.isFinite), parameter);
        grad?.dispose();
      }
      backbone.dispose();
    }
  assert.is(device('cpu').statistics().live, before);
});

test.run();
