// One update beside plain loops in double precision: IResNet written out, the losses as double-precision modules (their own tests hold them
// against the equations), gradients by differences, then the optimiser's rule. So which loss reaches which parameter, with which sign and
// weight, what is averaged over what, rates, decay, clipping and running statistics are those of the equations (src/method/README.md) and of the optimiser.
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { configFrom, softLabelCount, type Config } from '../config/index.js';
import { AttributeLoss } from '../method/attributes.js';
import { groupNormalize } from '../autograd/ops/group-normalize.js';
import { mean } from '../autograd/ops/reduce.js';
import { uncertaintyLoss } from '../method/uncertainty.js';
import { readLossParts, UniversalLoss } from '../method/universal-loss.js';
import { activeVariations, variationTargets } from '../method/variations.js';
import { AttributeExperiment } from '../mine/attribute-experiment.js';
import { Initialiser } from '../nn/initialise.js';
import type { Module } from '../nn/module.js';
import { device } from '../tensor/device.js';
import { scope } from '../tensor/scope.js';
import { tensor, type Tensor } from '../tensor/tensor.js';
import { assertClose, randomValues } from '../testing.js';
import { Experiment } from './experiment.js';
import type { Learner, Losses, TrainingBatch } from './learner.js';
import { augmentedPixels } from './network-input.js';
import { drawnBatch, identities, side, tinyNetwork } from './testing.js';

const test = suite('update');
type Values = Map<string, Float64Array>;
const at = (a: ArrayLike<number> | undefined, i: number) => a?.[i] as number;

/** Channels of B square maps, or rows of a matrix (side 1). */
interface Maps {
  data: Float64Array;
  side: number;
  channels: number;
}

function convolve({ data, side, channels }: Maps, weight: Float64Array, size: number, stride: number): Maps {
  const [outputs, pad] = [weight.length / (size * size * channels), (size - 1) / 2];
  const [images, to] = [data.length / (side * side * channels), Math.ceil(side / stride)];
  const y = new Float64Array(images * to * to * outputs);
  let p = 0;
  for (let image = 0; image < images; image++)
    for (let i = 0; i < to; i++)
      for (let j = 0; j < to; j++)
        for (let o = 0; o < outputs; o++) {
          let sum = 0;
          for (let u = 0; u < size; u++)
            for (let v = 0; v < size; v++) {
              const row = i * stride + u - pad;
              const column = j * stride + v - pad;
              if (row < 0 || row >= side || column < 0 || column >= side) continue;
              const x = ((image * side + row) * side + column) * channels;
              const w = ((o * size + u) * size + v) * channels;
              for (let c = 0; c < channels; c++) sum += at(data, x + c) * at(weight, w + c);
            }
          y[p++] = sum;
        }
  return { data: y, side: to, channels: outputs };
}

/** The embedding and features of images [B, side, side, 3]. In training, `seen` is given the batch's mean and unbiased variance. */
function network(values: Values, pixels: ArrayLike<number>, training: boolean, seen?: Values) {
  const of = (name: string) => values.get(`network.${name}`);
  const weight = (name: string) => of(`${name}.weight`) as Float64Array;
  const normalise = ({ data, side, channels }: Maps, name: string): Maps => {
    const [y, rows] = [new Float64Array(data.length), data.length / channels];
    const [means, variances] = [new Float64Array(channels), new Float64Array(channels)];
    for (let c = 0; c < channels; c++) {
      for (let i = c; i < data.length; i += channels) means[c] = at(means, c) + at(data, i) / rows;
      for (let i = c; i < data.length; i += channels)
        variances[c] = at(variances, c) + (at(data, i) - at(means, c)) ** 2 / rows;
    }
    seen?.set(`network.${name}.mean`, means);
    seen?.set(`network.${name}.variance`, variances.map((v) => (v * rows) / (rows - 1))); // prettier-ignore
    const [m, v] = training ? [means, variances] : [of(`${name}.mean`), of(`${name}.variance`)];
    const [gamma, beta] = [of(`${name}.gamma`), of(`${name}.beta`)];
    for (let i = 0, c = 0; i < data.length; i++, c = i % channels)
      y[i] = (at(gamma, c) * (at(data, i) - at(m, c))) / Math.sqrt(at(v, c) + 1e-5) + at(beta, c);
    return { data: y, side, channels };
  };
  const activate = (x: Maps, name: string): Maps => {
    const y = normalise(x, `${name}.normalise`);
    const slope = of(`${name}.slope`);
    return { ...y, data: y.data.map((z, i) => (z > 0 ? z : z * at(slope, i % y.channels))) };
  };
  let x: Maps = { data: Float64Array.from(pixels), side, channels: 3 };
  x = activate(convolve(x, weight('body.0.layers.0'), 3, 1), 'body.0.layers.1');
  let block = 1;
  for (; of(`body.${block}.residual.layers.1.weight`); block++) {
    const [residual, shortcut] = [`body.${block}.residual.layers`, `body.${block}.shortcut.layers`];
    const halves = of(`${shortcut}.0.weight`) ? 2 : 1;
    let y = convolve(normalise(x, `${residual}.0`), weight(`${residual}.1`), 3, 1);
    y = convolve(activate(y, `${residual}.2`), weight(`${residual}.3`), 3, halves);
    y = normalise(y, `body.${block}.normalise`);
    if (halves === 2) x = normalise(convolve(x, weight(`${shortcut}.0`), 1, 2), `${shortcut}.1`);
    x = { ...y, data: y.data.map((z, i) => z + at(x.data, i)) };
  }
  x = normalise(x, `body.${block}`);
  const length = x.side * x.side * x.channels;
  const flat = { data: x.data, side: 1, channels: length };
  const embedded = convolve(flat, weight('embed'), 1, 1);
  const bias = of('embed.bias');
  embedded.data = embedded.data.map((z, i) => z + at(bias, i % embedded.channels));
  const matrix = ({ data, channels }: Maps) => tensor(data, [data.length / channels, channels]);
  return { embedding: matrix(normalise(embedded, 'normalise')), features: matrix(flat) };
}

/** What a stage is held against: its loss in double precision, and its parts of one batch. */
interface Reference {
  module: Module;
  training: boolean;
  parts: (outputs: ReturnType<typeof network>, batch: TrainingBatch) => Losses;
  /** What the parameters of each optimiser descend. */
  main: (parts: Losses) => number;
  other: (parts: Losses) => number;
}

const double = { dtype: 'float64' } as const;
const value = (x: number | undefined) => x ?? NaN;

function identification(config: Config): Reference {
  const { loss, model } = config;
  const active = activeVariations(config.augment);
  const variations = active.length + softLabelCount(config);
  const sizes = { identities, embeddingSize: model.embedding_size, featureSize: 8, variations };
  const module = new UniversalLoss(new Initialiser(1, double), sizes, loss);
  return {
    module,
    training: true,
    parts: (outputs, batch) => {
      const labels = tensor(batch.labels, [batch.labels.length]);
      const known = variationTargets(batch.variations, active, batch.soft);
      const targets = tensor(Float64Array.from(known), [batch.labels.length, variations]);
      return readLossParts(module.forward({ ...outputs, labels, targets }).parts);
    },
    main: (p) =>
      value(p.identification) +
      loss.lambda_reg * value(p.regulariser) +
      loss.lambda_cls * value(p.classification) +
      loss.lambda_adv * value(p.adversarial),
    other: (p) => value(p.discriminator),
  };
}

function uncertainty(config: Config): Reference {
  const { module } = identification(config);
  const { confidence } = module as UniversalLoss;
  return {
    module,
    training: false,
    parts: ({ embedding, features }, { labels }) => {
      const s = confidence?.forward(features) as Tensor;
      const f = groupNormalize(embedding, config.loss.groups);
      return { uncertainty: uncertaintyLoss(f, s, labels).item(), confidence: mean(s).item() };
    },
    main: (p) => value(p.uncertainty),
    other: () => 0,
  };
}

function attributes({ loss, model, mined }: Config): Reference {
  const sizes = { identities, embeddingSize: model.embedding_size, attributes: mined.variations.length };
  const module = new AttributeLoss(new Initialiser(1, double), sizes, loss.lambda_adv);
  return {
    module,
    training: true,
    parts: ({ embedding }, { labels, soft = new Float32Array() }) => {
      const { parts } = module.forward(embedding, tensor(labels, [labels.length]), soft);
      const [told, discriminator, adversarial] = parts.toArray();
      return {
        attributes: value(told),
        discriminator: value(discriminator),
        adversarial: value(adversarial),
      };
    },
    main: (p) => value(p.attributes) + loss.lambda_adv * value(p.adversarial),
    other: (p) => value(p.discriminator),
  };
}

/** Random numbers everywhere, so that nothing wrong can hide behind ones and zeros. */
function scatter(learner: Learner): Values {
  const values: Values = new Map();
  [...learner.state()].forEach(([name, t], seed) => {
    if (t.dtype === 'float32' && !name.includes('optimizer.')) {
      const by = name.endsWith('confidence.weight') ? 0.3 : t.rank === 1 ? 0.2 : 0.05;
      const random = randomValues(t.size, seed + 1);
      t.set(Float32Array.from(t.toArray(), (x, i) => x + by * at(random, i)));
    }
    values.set(name, Float64Array.from(t.toArray()));
  });
  return values;
}

/**
 * One update, of 10, from `batches` against the reference: losses, parameters, running statistics. At `step` the schedule's factor is
 * `factor`. Of the network the first and the last layer are compared, with `whole` all.
 */
function holds(
  { config, make, whole = false }: { config: Config; make: (config: Config) => Reference; whole?: boolean },
  batches: readonly TrainingBatch[],
  step: number,
  factor: number,
) {
  const reference = make(config);
  const learner =
    config.stage === 'attributes'
      ? new AttributeExperiment(config, identities)
      : new Experiment(config, identities);
  const values = scatter(learner);
  const doubles = reference.module.state();
  for (const [name, t] of doubles) {
    const known = values.get(`loss.${name}`) as Float64Array;
    t.set(t.dtype === 'uint8' ? Uint8Array.from(known) : known);
  }
  if (reference.module instanceof UniversalLoss) reference.module.step = step;
  const pixels = batches.map((batch) => augmentedPixels(config, device('cpu'), batch));
  const seen: Values = new Map();
  const outputs = () => pixels.map((images) => network(values, images, reference.training, seen));
  const parts = (of: ReturnType<typeof outputs>): Losses => {
    const each = of.map((one, i) => reference.parts(one, batches[i] as TrainingBatch));
    return Object.fromEntries(
      Object.keys(each[0] ?? {}).map((key) => [
        key,
        each.reduce((sum, one) => sum + value(one[key as keyof Losses]), 0) / each.length,
      ]),
    );
  };
  const plain = outputs();
  const expected = parts(plain);
  const report = learner.update(batches, step, 10);
  // Sums of some ten numbers of size 10, behind a network of a dozen layers: a hundred roundings of 6e-8.
  for (const key of Object.keys(report.losses) as (keyof Losses)[])
    assertClose([value(report.losses[key])], [value(expected[key])], 1e-5, key);

  const clip = Math.min(1, (config.train.clip_norm ?? Infinity) / report.gradientNorm);
  const trainers = [
    { of: learner.optimizer, by: config.optimizer, clip, descends: reference.main },
    {
      of: learner.discriminatorOptimizer,
      by: config.discriminator.optimizer,
      clip: 1,
      descends: reference.other,
    },
  ];
  for (const [name, t] of learner.state()) {
    if (name.includes('optimizer.')) continue;
    const [before, after] = [values.get(name) as Float64Array, t.toArray()];
    const trainer = trainers.find(({ of }) => of?.parameters.has(name));
    if (!trainer) {
      const batch = reference.training ? seen.get(name) : undefined;
      if (!batch) assert.equal(Array.from(after), Array.from(before), name);
      else if (batches.length === 1) assertClose(after, before.map((x, i) => 0.9 * x + 0.1 * at(batch, i)), 1e-5, name); // prettier-ignore
      continue;
    }
    if (!whole && name.startsWith('network.body') && !name.startsWith('network.body.0')) continue;
    // What the first step of SGD, without momentum yet, took for the gradient.
    const { lr, weight_decay } = trainer.by;
    const decay = t.rank > 1 ? weight_decay : 0;
    const gradient = before.map((x, i) => ((x - at(after, i)) / (lr * factor) - decay * x) / trainer.clip);
    const largest = gradient.reduce((most, g) => Math.max(most, Math.abs(g)), 0.01);
    const i = Math.floor(t.size / 2);
    const original = at(before, i);
    const [above = NaN, below = NaN] = [1e-6, -1e-6].map((h) => {
      before[i] = original + h;
      return scope(() => {
        doubles.get(name.slice('loss.'.length))?.set(before);
        return { loss: trainer.descends(parts(name.startsWith('network.') ? outputs() : plain)) };
      }).loss;
    });
    before[i] = original;
    doubles.get(name.slice('loss.'.length))?.set(before);
    // Differences of losses of 100 in doubles err by 1e-8. In float32 a gradient passes the network twice, and each batch normalisation of
    // eight values multiplies its error: 3e-5 of the largest one was seen, a wrong factor or sign is far beyond 2e-4.
    assertClose([at(gradient, i) / largest], [(above - below) / 2e-6 / largest], 2e-4, name);
  }
  learner.dispose();
  reference.module.dispose();
}

const base = {
  model: { ...tinyNetwork, blocks: [1, 2, 1, 1] },
  data: { source: 'synthetic', identities, image_size: side },
  augment: { occlusion: { blocks: 3 } },
  loss: { groups: 4, margin: 2, margin_warmup_steps: 4, confidence: { initial: 4 } },
  optimizer: { lr: 0.5, weight_decay: 0.1 },
  discriminator: { optimizer: { lr: 0.25, weight_decay: 0.2 } },
  schedule: { name: 'cosine', warmup_steps: 4 },
  train: { batch_size: 8 },
};
const drawn = (count: number, soft?: (i: number) => number) =>
  Array.from({ length: count }, (_, b) => ({
    ...drawnBatch(b),
    soft: soft && Float32Array.from({ length: 8 * 3 }, (_, i) => soft(i)),
  }));
const cosFace = { type: 'cosface', groups: 1, scale: 16, cosine_margin: 0.3, lambda_cls: 0, lambda_adv: 0 };

test('identification: every parameter, half of both warm-ups', () => {
  holds({ config: configFrom(base), make: identification, whole: true }, drawn(1), 1, 0.5);
});

for (const [name, options, batches, step, factor] of [
  ['no warm-up any more', {}, drawn(1), 4, 1],
  ['three batches, clipped', { train: { batch_size: 8, accumulate: 3, clip_norm: 0.5 } }, drawn(3), 0, 0.25],
  ['CosFace', { loss: cosFace }, drawn(1), 2, 0.75],
  [
    'one variation',
    { augment: { occlusion: { probability: 0 }, pose: { probability: 0 } } },
    drawn(1),
    1,
    0.5,
  ],
  ['one identity alone', {}, drawn(1).map((b) => ({ ...b, labels: b.labels.fill(3) })), 1, 0.5],
  [
    'mined variations, soft and unknown',
    { mined: { labels: 'x.csv' } },
    drawn(1, (i) => (i < 4 || i % 5 === 0 ? NaN : (i % 7) / 6)),
    1,
    0.5,
  ],
] as const)
  test(`identification: ${name}`, () => {
    holds({ config: configFrom({ ...base, ...options }), make: identification }, batches, step, factor);
  });

test('uncertainty: the confidence branch moves, nothing else; two batches, each with pairs of its own', () => {
  const data = { ...base.data, sampling: { identities: 4, images: 2 } };
  const train = { batch_size: 8, accumulate: 2 };
  const config = configFrom({ ...base, stage: 'uncertainty', from: 'x', data, train });
  const batches = drawn(2).map((b, i) => ({ ...b, labels: Int32Array.of(1, 1, 2, 2, 3, 3, 3, 3 + i) }));
  holds({ config, make: uncertainty }, batches, 1, 0.5);
});

test('attributes: the model against its adversary, some of them unknown', () => {
  const data = { path: 'x', image_size: side };
  const config = configFrom({ ...base, stage: 'attributes', data, loss: { lambda_adv: 3 } });
  holds(
    { config, make: attributes, whole: true },
    drawn(1, (i) => (i % 5 === 0 ? NaN : i % 2)),
    1,
    0.5,
  );
});

test.run();
