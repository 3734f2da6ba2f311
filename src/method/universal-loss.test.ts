import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { Tape } from '../autograd/tape.js';
import { checkGradients } from '../autograd/gradient-check.js';
import { configFrom } from '../config/index.js';
import { Initialiser } from '../nn/initialise.js';
import { assertClose, devices, leaf, randomTensor } from '../testing.js';
import { scope } from '../tensor/scope.js';
import { parameter, tensor, type Tensor } from '../tensor/tensor.js';
import { sum } from '../autograd/ops/reduce.js';
import { square } from '../autograd/ops/unary.js';
import { ConfidenceHead, slowed } from './confidence.js';
import { scaleByConfidence } from './identification.js';
import { UniversalLoss, lossParts, readLossParts, type LossBatch } from './universal-loss.js';

const test = suite('universal loss');
type Options = UniversalLoss['options'];
type Row = readonly number[];

const samples = 5;
const sizes = { identities: 7, embeddingSize: 12, featureSize: 6, variations: 3 };
const labels = [0, 3, 6, 2, 3];
const targets = [1, 0, 0, 0, 1, 0, 1, 0, 1, 0, 0, 0, 0, 1, 1];

const base = configFrom({ name: 'test', data: { source: 'synthetic', identities: 7 } }).loss;
const full: Options = {
  ...base,
  groups: 4,
  margin: 2,
  lambda_reg: 0.01,
  lambda_cls: 0.3,
  lambda_adv: 0.4,
  confidence: { activation: 'softplus', initial: 5, gradient_scale: 1 },
};
const arms: Readonly<Record<string, Options>> = {
  'C-Softmax, K = 4, decorrelated': full,
  'C-Softmax, K = 1': { ...full, groups: 1, lambda_cls: 0, lambda_adv: 0 },
  'exp instead of softplus': { ...full, confidence: { activation: 'exp', initial: 5, gradient_scale: 1 } },
  'CosFace, K = 4': { ...full, type: 'cosface', lambda_cls: 0, lambda_adv: 0, scale: 8 },
  softmax: { ...full, type: 'softmax', groups: 1, lambda_cls: 0, lambda_adv: 0, scale: 8 },
};

const dot = (a: Row, b: Row) => a.reduce((sum, x, i) => sum + x * (b[i] as number), 0);
const average = (values: Row) => values.reduce((sum, x) => sum + x, 0) / values.length;
const part = (row: Row, k: number, groups: number) =>
  row.slice((k * row.length) / groups, ((k + 1) * row.length) / groups);
const unit = (row: Row, groups: number): number[] =>
  Array.from({ length: groups }, (_, k) => part(row, k, groups)).flatMap((g) =>
    g.map((x) => x / Math.sqrt(dot(g, g))),
  );
function rowsOf(t: Tensor): number[][] {
  const values = Array.from(t.toArray());
  const width = t.dim(-1);
  return Array.from({ length: t.size / width }, (_, i) => values.slice(i * width, (i + 1) * width));
}

/** The formulas of §3.1 to §3.3, one image, class, group and mask at a time. */
function naive(loss: UniversalLoss, embedding: Tensor, features: Tensor): Record<string, number> {
  const { type, groups, margin, scale, cosine_margin, confidence } = loss.options;
  const f = rowsOf(embedding).map((row) => unit(row, groups));
  const w = rowsOf(loss.prototypes).map((row) => unit(row, groups));
  const bias = loss.confidence ? Array.from(loss.confidence.bias.toArray()) : [];
  const weight = loss.confidence ? rowsOf(loss.confidence.weight) : [];
  const s = rowsOf(features).map((x) =>
    Array.from({ length: groups }, (_, k) => {
      if (type !== 'confidence-softmax') return scale;
      const z = dot(weight[k] as Row, x) + (bias[k] as number);
      return (confidence.activation === 'exp' ? Math.exp(z) : Math.log(1 + Math.exp(z))) + 1e-4;
    }),
  );
  const m = type === 'confidence-softmax' ? margin : type === 'cosface' ? scale * cosine_margin : 0;
  const logit = (i: number, j: number) =>
    Array.from(
      { length: groups },
      (_, k) => (s[i]?.[k] ?? 0) * dot(part(w[j] as Row, k, groups), part(f[i] as Row, k, groups)),
    ).reduce((a, b) => a + b, 0) / groups;
  const all = w.map((_, j) => j);
  const identification = labels.map((y, i) => {
    const own = Math.exp(logit(i, y) - m);
    const others = all.filter((j) => j !== y).map((j) => Math.exp(logit(i, j)));
    return -Math.log(own / (own + others.reduce((a, b) => a + b, 0)));
  });
  const hits = labels.map((y, i) => (all.every((j) => j === y || logit(i, j) < logit(i, y)) ? 1 : 0));
  const sums = { discriminator: 0, classification: 0, adversarial: 0 };
  const c = loss.discriminator;
  if (c) {
    const [rows, offset, masks] = [rowsOf(c.weight), c.bias.toArray(), rowsOf(c.masks)];
    f.forEach((row, i) =>
      masks.forEach((mask, t) =>
        rows.forEach((classifier, v) => {
          const masked = row.map((x, e) => x * (mask[Math.floor((e * groups) / row.length)] as number));
          const one = 1 / (1 + Math.exp(-dot(classifier, masked) - (offset[v] as number)));
          const log = -Math.log(targets[i * 3 + v] === 1 ? one : 1 - one);
          sums.discriminator += log / samples;
          if (t === v) sums.classification += log / samples;
          else sums.adversarial -= (0.5 * Math.log(one) + 0.5 * Math.log(1 - one)) / samples;
        }),
      ),
    );
  }
  const learned = type === 'confidence-softmax';
  return {
    identification: average(identification),
    regulariser: learned ? average(s.map((row) => average(row.map((x) => x * x)))) : 0,
    ...sums,
    confidence: learned ? average(s.flat()) : NaN,
    accuracy: average(hits),
  };
}

function setUp(options: Options, init: Initialiser, dtype: 'float32' | 'float64') {
  const { device = 'cpu' } = init.options;
  const loss = new UniversalLoss(init, sizes, options);
  // The branch starts at a constant; other weights make the confidences differ.
  if (loss.confidence)
    loss.confidence.weight.set(randomTensor(loss.confidence.weight.shape, 5, { dtype, device }).toArray());
  const embedding = randomTensor([samples, sizes.embeddingSize], 1, { dtype, device });
  const features = randomTensor([samples, sizes.featureSize], 2, { dtype, device });
  embedding.requiresGrad = features.requiresGrad = true;
  const batch: LossBatch = {
    embedding,
    features,
    labels: tensor(Int32Array.from(labels), [samples], { device }),
    targets: tensor(targets, [samples, 3], { dtype, device }),
  };
  return { loss, batch };
}

// The confidence branch is a matrix product.
const complete = devices.filter(({ missingKernels }) => !missingKernels.includes('matmul'));

for (const device of complete)
  for (const [name, options] of Object.entries(arms))
    test(`${name} on ${device.name}: every part equals its equation, and the total is Eq. 14`, () => {
      // Double precision on the CPU; float32 on the others, sums of some ten terms of size 10.
      const dtype = device.name === 'cpu' ? 'float64' : 'float32';
      const tolerance = dtype === 'float64' ? 1e-12 : 1e-5;
      const { loss, batch } = setUp(options, new Initialiser(3, { dtype, device }), dtype);
      const before = device.statistics().live;
      const { total, parts } = loss.forward(batch);
      const expected = naive(loss, batch.embedding, batch.features);
      const found = readLossParts(parts);
      for (const key of lossParts) assertClose([found[key]], [expected[key] as number], tolerance, key);
      const {
        identification = 0,
        regulariser = 0,
        classification = 0,
        adversarial = 0,
        discriminator = 0,
      } = expected;
      const { lambda_reg, lambda_cls, lambda_adv } = options;
      assertClose(
        [total.item()],
        [
          identification +
            lambda_reg * regulariser +
            lambda_cls * classification +
            lambda_adv * adversarial +
            discriminator, // trains C only
        ],
        tolerance,
        'total',
      );
      total.dispose();
      parts.dispose();
      assert.is(device.statistics().live, before);
    });

test('gradients: L without L_C reaches network, prototypes and confidences; L_C reaches the discriminator', () => {
  const { loss, batch } = setUp(full, new Initialiser(3, { dtype: 'float64' }), 'float64');
  const tape = new Tape();
  tape.backward(tape.record(() => loss.forward(batch).total));
  const value = (network: boolean) =>
    scope(() => {
      const p = readLossParts(loss.forward(batch).parts);
      if (!network) return p.discriminator;
      return p.identification + 0.01 * p.regulariser + 0.3 * p.classification + 0.4 * p.adversarial;
    });
  const trained: [string, Tensor, boolean][] = [
    ['embedding', batch.embedding, true],
    ['features', batch.features, true],
    ...[...loss.mainParameters()].map(([name, t]): [string, Tensor, boolean] => [name, t, true]),
    ...[...loss.discriminatorParameters()].map(([name, t]): [string, Tensor, boolean] => [name, t, false]),
  ];
  assert.equal(
    trained.map(([name]) => name),
    [
      'embedding',
      'features',
      'prototypes',
      'confidence.weight',
      'confidence.bias',
      'discriminator.weight',
      'discriminator.bias',
    ],
  );
  for (const [name, t, network] of trained) {
    const values = t.toArray() as Float64Array;
    const differences = values.map((original, i) => {
      const [above, below] = [1e-5, -1e-5].map((step) => {
        values[i] = original + step;
        t.set(values);
        return value(network);
      }) as [number, number];
      values[i] = original;
      t.set(values);
      return (above - below) / 2e-5;
    });
    assertClose(t.grad?.toArray() ?? [], differences, 1e-7, name);
  }
});

test('the confidences scale each group, and their gradient is right', () => {
  checkGradients((f, s) => scaleByConfidence(f, s), [leaf([3, 8], 1), leaf([3, 4], 2)]);
});

test('an untrained branch gives its initial value to every image, and never falls below its minimum', () => {
  for (const activation of ['softplus', 'exp'] as const)
    for (const initial of [0.01, 1, 64]) {
      const head = new ConfidenceHead(new Initialiser(1), 6, 3, { activation, initial });
      const s = head.forward(randomTensor([2, 6])).toArray();
      // The bias is rounded to float32 (relative 6e-8), which exp multiplies by at most log(64) = 4.
      assertClose(
        Array.from(s, (x) => x / initial),
        new Array<number>(6).fill(1),
        2e-6,
        activation,
      );
      head.bias.set(new Float32Array(3).fill(-1000));
      assertClose(head.forward(randomTensor([2, 6])).toArray(), new Array<number>(6).fill(1e-4), 1e-9);
    }
  assert.throws(
    () => new ConfidenceHead(new Initialiser(1), 6, 3, { activation: 'exp', initial: 1, minimum: 2 }),
    /expected an initial value above 2, got 1/,
  );
});

for (const device of complete)
  test(`bfloat16 on ${device.name}: only g is rounded, by 2^-8`, () => {
    const init = new Initialiser(3, { dtype: 'float32', device });
    const { loss, batch } = setUp(full, init, 'float32');
    const rounded = new UniversalLoss(
      new Initialiser(3, { dtype: 'float32', device }),
      sizes,
      full,
      'bfloat16',
    );
    for (const [name, t] of loss.state()) rounded.state().get(name)?.set(t.toArray());
    const [exact, found] = [loss, rounded].map((l) => readLossParts(l.forward(batch).parts));
    assert.ok(exact && found);
    const difference = Math.abs(found.identification - exact.identification);
    // A logit, at most the largest mean confidence, moves by 2^-8 of that, and the loss by no more than two logits together.
    const confidences = loss.confidence?.forward(batch.features);
    const largest = Math.max(...(confidences ? rowsOf(confidences).map(average) : []));
    assert.ok(difference > 0 && difference < 2 * 2 ** -8 * largest, String(difference));
    for (const key of lossParts) if (key !== 'identification') assert.is(found[key], exact[key], key);
  });

test('the margin grows over its warm-up', () => {
  const { loss, batch } = setUp({ ...full, margin_warmup_steps: 4 }, new Initialiser(3), 'float32');
  const at = (step: number) => {
    loss.step = step;
    return readLossParts(loss.forward(batch).parts).identification;
  };
  const plain = setUp({ ...full, margin: 0 }, new Initialiser(3), 'float32').loss;
  assertClose([at(0)], [readLossParts(plain.forward(batch).parts).identification], 1e-6);
  assert.ok(at(0) < at(2) && at(2) < at(4));
  assert.is(at(4), at(100));
});

test('the state has prototypes, branch, discriminator and masks; missing labels of variations are an error', () => {
  const { loss, batch } = setUp(full, new Initialiser(3), 'float32');
  assert.equal(
    [...loss.state().keys()],
    [
      'prototypes',
      'confidence.weight',
      'confidence.bias',
      'discriminator.weight',
      'discriminator.bias',
      'discriminator.masks',
    ],
  );
  // The prototypes' squared length is 1 at first: the mean of 84 squares, within three standard deviations.
  const squares = rowsOf(loss.prototypes).map((row) => dot(row, row));
  assert.ok(Math.abs(average(squares) - 1) < 3 * Math.sqrt(2 / 84), String(squares));
  const { embedding, features, labels: y } = batch;
  assert.throws(
    () => loss.forward({ embedding, features, labels: y }),
    /expected the labels of the variations/,
  );
  assert.throws(
    () => new UniversalLoss(new Initialiser(1), { ...sizes, embeddingSize: 10 }, full),
    /expected groups that divide the embedding of 10, got 4/,
  );
});

test('a slowed confidence is the same, with a share of its gradient', () =>
  scope(() => {
    const s = parameter(randomTensor([3, 2], 5));
    const tape = new Tape();
    const y = tape.record(() => sum(square(slowed(s, 0.25))));
    tape.backward(y);
    const values = s.toArray();
    assertClose([y.item()], [Array.from(values).reduce((a, v) => a + v * v, 0)], 1e-6, 'value');
    assertClose(
      s.grad?.toArray() ?? [],
      Array.from(values, (v) => 0.25 * 2 * v),
      1e-6,
      'gradient',
    );
    assert.is(slowed(s, 1), s);
  }));

test.run();
