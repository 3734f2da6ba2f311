import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { configFrom } from '../config/index.js';
import { device, type Device } from '../tensor/device.js';
import { OutOfMemoryError } from '../tensor/errors.js';
import { sizeOf } from '../tensor/shape.js';
import { scope } from '../tensor/scope.js';
import { Tape } from '../autograd/tape.js';
import { mean } from '../autograd/ops/reduce.js';
import { square } from '../autograd/ops/unary.js';
import { assertClose, devices, leaf, randomTensor } from '../testing.js';
import { checkGradients } from '../autograd/gradient-check.js';
import { Backbone } from './backbone.js';
import { Initialiser } from './initialise.js';
import { iresnet, iresnetBlocks } from './iresnet.js';
import { BatchNormPReLU, Convolution, Dropout, Linear, Sequential } from './layers.js';
import { buildBackbone } from './models.js';

const test = suite('models');

const count = (tensors: ReadonlyMap<string, { size: number }>) =>
  [...tensors.values()].reduce((sum, { size }) => sum + size, 0);

/** Parameters of IResNet with bottleneck-free blocks, counted by hand from its description. */
function iresnetParameters(
  channels: readonly number[],
  blocks: readonly number[],
  side: number,
  embedding: number,
): number {
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

function build(model: Record<string, unknown>, seed = 1, on: Device = device('cpu')): Backbone {
  const config = configFrom({ model, data: { image_size: model['input_size'], path: '.' } });
  return buildBackbone(new Initialiser(seed, { device: on }), config.model);
}
const tiny = {
  name: 'iresnet-small',
  input_size: 32,
  embedding_size: 16,
  channels: [8, 8, 16, 16],
  blocks: [1, 2, 1, 1],
};

test('the number of parameters and their first variance are those of the architecture', () => {
  // The numbers are those of the same networks written in PyTorch.
  for (const [name, known] of [
    ['iresnet18', 24_025_600],
    ['iresnet34', 34_139_328],
    ['iresnet50', 43_590_848],
    ['iresnet100', 65_156_160],
  ] as const)
    assert.is(iresnetParameters([64, 128, 256, 512], iresnetBlocks[name], 112, 512), known, name);
  const [channels, blocks] = [
    [32, 64, 128, 256],
    [2, 2, 2, 2],
  ];
  const small = build({ name: 'iresnet-small', input_size: 56, embedding_size: 512, channels, blocks });
  assert.is(count(small.parameters()), 4_897_792);
  assert.is(iresnetParameters(channels, blocks, 56, 512), 4_897_792);
  const large = build({ name: 'iresnet18', input_size: 16, embedding_size: 512 });
  assert.is(
    count(large.parameters()),
    iresnetParameters([64, 128, 256, 512], iresnetBlocks.iresnet18, 16, 512),
  );
  const mobile = build({ name: 'mobilefacenet', input_size: 112, embedding_size: 512 });
  assert.is(count(mobile.parameters()), 1_200_512);
  // At first a filter's variance is 2 / fan-in, the embedding's 1 / fan-in.
  for (const [name, t] of small.parameters()) {
    if (t.rank < 2) continue;
    const variance = [...t.toArray()].reduce((sum, w) => sum + w * w, 0) / t.size;
    const scaled = variance * sizeOf(t.shape.slice(1));
    // Of n normal values it is off by a share of sqrt(2 / n) in one standard deviation.
    assert.ok(
      Math.abs(scaled / (t.rank === 4 ? 2 : 1) - 1) < 5 * Math.sqrt(2 / t.size),
      `${name}: ${scaled}`,
    );
  }
  for (const model of [small, large, mobile]) model.dispose();
});

for (const on of devices)
  for (const name of ['iresnet-small', 'mobilefacenet'] as const)
    for (const dtype of ['float32', 'bfloat16'] as const) {
      if (name === 'mobilefacenet' && on.name === 'emulated') continue; // the same kernels, for seconds more
      test(`${name} in ${dtype} on ${on.name}: every parameter gets a finite gradient, and nothing leaks`, () => {
        const before = on.statistics().live;
        const backbone = build({ ...tiny, name }, 1, on);
        scope(() => {
          const images = randomTensor([4, 32, 32, 3], 1, { dtype, device: on });
          const tape = new Tape();
          const loss = tape.record(() => {
            const { embedding, features } = backbone.forward(images);
            assert.equal([embedding.shape, embedding.dtype, features.dtype], [[4, 16], 'float32', dtype]);
            // The fourth power: mean and mean square of a normalised batch do not depend on the network.
            return mean(square(square(embedding)));
          });
          tape.backward(loss);
        });
        for (const [parameter, { grad, shape }] of backbone.parameters()) {
          assert.equal(grad?.shape, shape, parameter);
          assert.ok(grad?.toArray().every(Number.isFinite), parameter);
          // A bias before batch normalisation has no effect: its gradient is rounding.
          if (parameter !== 'embed.bias')
            assert.ok(
              grad?.toArray().some((v) => v !== 0),
              `${parameter} gets nothing`,
            );
          grad?.dispose();
        }
        backbone.dispose();
        assert.is(on.statistics().live, before);
      });
    }

test('evaluation does not depend on the rest of the batch or on chance, and frees activations block by block', () => {
  const cpu = device('cpu');
  const backbone = build({ ...tiny, dropout: 0.5 });
  scope(() => {
    const images = randomTensor([64, 32, 32, 3], 1);
    for (let i = 0; i < 3; i++) backbone.forward(images); // moves the running statistics
    backbone.evaluate();
    const all = Array.from(backbone.forward(images).embedding.toArray());
    backbone.dropout.step.value++; // another draw, if there were one
    const alone = backbone.forward(randomTensor([1, 32, 32, 3], 1)).embedding.toArray();
    // Convolutions may add in another order for another batch: some 1e-6 of values of size 1, through 11 layers.
    assertClose(alone, all.slice(0, 16), 1e-4);
    const before = cpu.statistics().live;
    cpu.configure({ resetPeak: true });
    scope(() => void backbone.forward(images));
    const { live, peak } = cpu.statistics();
    assert.is(live, before);
    // The first block reads the stem's 8 channels at 32 x 32 and makes three more such activations and four of a quarter; kept
    // to the end, all blocks together would make 8.5. Convolutions may use scratch of the size of two.
    const activation = 64 * 32 * 32 * 8 * 4;
    assert.ok(peak - before < 7 * activation, `${((peak - before) / activation).toFixed(1)} activations`);
  });
  backbone.dispose();
});

test('a block may give back what it got', () => {
  const init = new Initialiser(1);
  const body = [new Convolution(init, 3, 4, { size: 3 }), new Dropout(0.5, 1)];
  const backbone = new Backbone(init, body, 4, 64, 2, 0, true).evaluate();
  scope(() => assert.equal(backbone.forward(randomTensor([2, 4, 4, 3])).embedding.shape, [2, 2]));
  backbone.dispose();
});

test('networks compute in double precision where their parameters are in it', () => {
  const init = new Initialiser(1, { dtype: 'float64' });
  const network = new Sequential(new Linear(init, 3, 4), new BatchNormPReLU(init, 4));
  // No value before the PReLU is within the step of 0; third derivatives of 5 normalised values are of order 1.
  checkGradients((x) => network.forward(x), [leaf([5, 3], 1), ...network.parameters().values()]);
  network.dispose();
});

test('networks of one seed are equal, of two seeds are not', () => {
  const models = [3, 3, 4].map((seed) => build(tiny, seed));
  const [a, b, c] = models.map((model) => [...model.state()].map(([name, t]) => [name, t.toBits()]));
  assert.equal(a, b);
  assert.not.equal(a, c);
  for (const model of models) model.dispose();
});

test('images of another size are refused', () => {
  const backbone = build(tiny);
  scope(() =>
    assert.throws(
      () => backbone.forward(randomTensor([1, 16, 16, 3])),
      /backbone: expected images \[B, 32, 32, 3\], got float32 \[1, 16, 16, 3\]/,
    ),
  );
  backbone.dispose();
});

test('parameters of more bytes than there is memory are refused', () => {
  assert.throws(
    () => new Initialiser(1).normal([2 ** 30, 2 ** 20], 1),
    (error: unknown) =>
      error instanceof OutOfMemoryError &&
      error.message === 'expected memory for parameters [1073741824, 1048576], found less',
  );
});

test('stages with channels but without a number of blocks are refused', () => {
  const sizes = { inputSize: 8, embeddingSize: 4, channels: [4, 4], blocks: [1] };
  assert.throws(
    () => iresnet(new Initialiser(1), sizes),
    /iresnet: expected channels and blocks of each stage, got channels \[4, 4\] and blocks \[1\]/,
  );
});

test.run();
