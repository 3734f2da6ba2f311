import { Worker } from 'node:worker_threads';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { devices, randomTensor } from './testing.js';
import {
  ConfidenceHead,
  confidenceRegulariser,
  confidenceSoftmax,
  conv2d,
  cosFace,
  decorrelation,
  device as deviceOf,
  div,
  full,
  Initialiser,
  iresnet,
  Linear,
  linear,
  logSumExp,
  marginSoftmax,
  max,
  mean,
  ones,
  parameter,
  scaleByConfidence,
  scope,
  Sequential,
  sum,
  Tape,
  tensor,
  uncertaintyLoss,
  type MarginSoftmax,
  type Tensor,
} from './index.js';

const test = suite('library');

for (const device of devices) {
  const random = (...shape: number[]) => parameter(randomTensor(shape, shape.length, { device }));
  const low = (...shape: number[]) =>
    parameter(randomTensor(shape, shape.length, { device, dtype: 'bfloat16' }));
  const labels = () => tensor(Int32Array.of(0, 2), [2], { device });
  const lossOf = ({ loss, hit }: MarginSoftmax) => {
    hit.dispose();
    return loss;
  };
  const init = new Initialiser(1, { device });
  // What is given, and what is made of it.
  const cases: Record<string, [() => Tensor[], (...given: Tensor[]) => Tensor]> = {
    div: [() => [random(3)], (x) => div(1, x)],
    linear: [() => [random(2, 5, 4), random(3, 4), random(3)], (x, w, b) => linear(x, w, b)],
    'linear of bfloat16': [() => [low(5, 4), random(3, 4)], (x, w) => linear(x, w)],
    'conv2d of bfloat16': [
      () => [low(1, 4, 4, 3), random(2, 3, 3, 3)],
      (x, w) => conv2d(x, w, { statistics: true }),
    ],
    marginSoftmax: [
      () => [random(2, 4), random(3, 4), labels()],
      (g, w, l) => lossOf(marginSoftmax(g, w, l)),
    ],
    cosFace: [
      () => [random(2, 4), random(3, 4), labels()],
      (g, w, l) => lossOf(cosFace(g, w, l, { scale: 2, margin: 1, precision: 'bfloat16' })),
    ],
    confidenceSoftmax: [
      () => [random(2, 4), random(2, 2), random(3, 4), labels()],
      (f, s, w, l) => lossOf(confidenceSoftmax(f, s, w, l, 1)),
    ],
    decorrelation: [
      () => [
        random(2, 4),
        random(3, 4),
        random(3),
        ones([3, 2], { device, dtype: 'uint8' }),
        full([2, 3], 0.5, { device }),
      ],
      (f, w, b, masks, targets) => decorrelation(f, w, b, masks, targets),
    ],
    logSumExp: [() => [random(2, 4)], (x) => logSumExp(x)],
    'sum of axes apart': [() => [random(2, 3, 4)], (x) => sum(x, [0, 2])],
    'mean of axes apart': [() => [low(2, 3, 4)], (x) => mean(x, [0, 2])],
    'max of axes apart': [() => [random(2, 3, 4)], (x) => max(x, [0, 2])],
    scaleByConfidence: [() => [random(2, 4), random(2, 2)], (f, s) => scaleByConfidence(f, s)],
    uncertaintyLoss: [
      () => [random(3, 4), full([3, 2], 2, { device })],
      (f, s) => uncertaintyLoss(f, s, [0, 1, 0]),
    ],
    confidenceRegulariser: [() => [random(2, 4)], (s) => confidenceRegulariser(s)],
  };
  const live = () => device.statistics().live;

  for (const [name, [give, f]] of Object.entries(cases))
    test(`${name} on ${device.name} leaves its result only, outside of a scope as well`, () => {
      const before = live();
      const given = give();
      f(...given).dispose();
      const tape = new Tape();
      const y = tape.record(() => f(...given));
      const seed = ones(y.shape, { device, dtype: y.dtype });
      tape.backward(y, seed);
      for (const t of [...given.map(({ grad }) => grad), ...given, y, seed]) t?.dispose();
      assert.is(live(), before);
    });

  test(`modules on ${device.name} leave their result only, outside of a scope as well`, () => {
    const x = random(2, 4);
    const modules = [
      new Sequential(new Linear(init, 4, 4), new Linear(init, 4, 4), new Linear(init, 4, 2)),
      new ConfidenceHead(init, 4, 2, { activation: 'softplus', initial: 1 }),
    ];
    for (const module of modules) {
      const before = live();
      module.forward(x).dispose();
      assert.is(live(), before);
      module.dispose();
    }
    x.dispose();
  });
}

test('what the library returns, and host arrays, may leave a scope by their types; what would be freed inside may not', () => {
  const sizes = { inputSize: 8, embeddingSize: 4, channels: [4, 4], blocks: [1, 1] };
  const network = iresnet(new Initialiser(1), sizes);
  const { embedding, features } = scope(() => network.forward(randomTensor([2, 8, 8, 3])));
  const labels = tensor(Int32Array.of(0, 1));
  const { loss, hit } = scope(() => marginSoftmax(embedding, randomTensor([3, 4]), labels));
  assert.not(embedding.disposed || features.disposed || loss.disposed || hit.disposed);
  assert.equal(
    scope(() => labels.toArray()),
    Int32Array.of(0, 1),
  );
  class Pair {
    constructor(
      readonly one: Tensor,
      readonly other: readonly Tensor[],
    ) {}
  }
  const { one, other } = scope(() => new Pair(ones([1]), [ones([2]), labels]));
  assert.not(one.disposed || other.some(({ disposed }) => disposed));
  // @ts-expect-error: a map
  scope(() => new Map([['labels', labels]]));
  // @ts-expect-error: an object with methods
  scope(() => ({ network }));
});

test('a thread that ends gives its memory back', async () => {
  const bytes = 1 << 28;
  const resident = () => process.memoryUsage().rss;
  const code = `import(${JSON.stringify(new URL('./index.js', import.meta.url).href)}).then(({ exp, ones, device }) => {
    exp(ones([${bytes / 8}]));
    ones([${bytes / 8}]).dispose();
  });`;
  deviceOf();
  const before = resident();
  await new Promise((resolve, reject) => {
    new Worker(code, { eval: true }).on('exit', resolve).on('error', reject);
  });
  assert.ok(resident() - before < bytes / 2, `${resident() - before} bytes more than before`);
});

test.run();
