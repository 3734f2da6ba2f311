import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { checkGradients } from '../autograd/gradient-check.js';
import { Tape } from '../autograd/tape.js';
import { Initialiser } from '../nn/initialise.js';
import { scope } from '../tensor/scope.js';
import { tensor } from '../tensor/tensor.js';
import { assertClose, devices, leaf, randomTensor, randomValues } from '../testing.js';
import { attributeCrossEntropy, AttributeLoss, crossEntropy, uniformCrossEntropy } from './attributes.js';

const test = suite('attributes');

/** log p(y = c | x) of each row and class, from logits [B, N]. */
function logProbabilities(logits: ArrayLike<number>, classes: number): number[][] {
  return Array.from({ length: logits.length / classes }, (_, i) => {
    const row = Array.from({ length: classes }, (_, c) => logits[i * classes + c] as number);
    const total = row.reduce((sum, z) => sum + Math.exp(z), 0);
    return row.map((z) => z - Math.log(total));
  });
}

const [B, D, N, T] = [3, 4, 5, 2];
const labels = [4, 0, 2];
/** Known, soft and unknown ones. */
const targets = Float32Array.of(1, 0, 0.25, NaN, -1, 0.5);

test('Eq. 15: both losses of the identity against the plain formulas', () => {
  scope(() => {
    const [x, weight, bias] = [leaf([B, D], 1), leaf([N, D], 2), leaf([N], 3)];
    const logits = Array.from({ length: B * N }, (_, i) => {
      const [row, c] = [Math.floor(i / N), i % N];
      const products = Array.from(
        { length: D },
        (_, d) => (x.toArray()[row * D + d] ?? 0) * (weight.toArray()[c * D + d] ?? 0),
      );
      return products.reduce((a, b) => a + b, bias.toArray()[c] ?? 0);
    });
    const p = logProbabilities(logits, N);
    const y = tensor(Int32Array.from(labels), [B]);
    assertClose(
      crossEntropy(x, { weight, bias }, y).toArray(),
      p.map((row, i) => -(row[labels[i] ?? 0] ?? NaN)),
      1e-12,
    );
    assertClose(
      uniformCrossEntropy(x, { weight, bias }).toArray(),
      p.map((row) => -row.reduce((a, b) => a + b) / N),
      1e-12,
    );
    checkGradients((a, w, b) => crossEntropy(a, { weight: w, bias: b }, y), [x, weight, bias]);
    checkGradients((a, w, b) => uniformCrossEntropy(a, { weight: w, bias: b }), [x, weight, bias]);
  });
});

test('attributes: soft labels, and unknown ones that count for nothing', () => {
  scope(() => {
    const logits = leaf([B, T], 5);
    const values = logits.toArray();
    const expected = Array.from({ length: B }, (_, i) => {
      let loss = 0;
      for (let t = 0; t < T; t++) {
        const u = targets[i * T + t] ?? NaN;
        const one = 1 / (1 + Math.exp(-(values[i * T + t] ?? 0)));
        if (u >= 0) loss -= u * Math.log(one) + (1 - u) * Math.log(1 - one);
      }
      return loss;
    });
    assertClose(attributeCrossEntropy(logits, targets).toArray(), expected, 1e-12);
    checkGradients((x) => attributeCrossEntropy(x, targets), [logits]);
  });
});

test('each gradient goes where it belongs: the adversary plays against the model', () => {
  scope(() => {
    const build = (lambda: number) => {
      const init = new Initialiser(7, { dtype: 'float64' });
      const loss = new AttributeLoss(init, { identities: N, embeddingSize: D, attributes: T }, lambda);
      const embedding = leaf([B, D], 8);
      const y = tensor(Int32Array.from(labels), [B]);
      const tape = new Tape();
      const { total, parts } = tape.record(() => loss.forward(embedding, y, targets));
      tape.backward(total);
      const gradient = (t: typeof embedding) => [...(t.grad?.toArray() ?? [])];
      return {
        parts: parts.toArray(),
        embedding: gradient(embedding),
        attributes: gradient(loss.attributes.weight),
        adversary: gradient(loss.adversary.weight),
        feature: loss.feature(embedding).toArray(),
        weight: loss.adversary.weight.toArray(),
        total: total.item(),
      };
    };
    const [without, once, twice] = [build(0), build(1), build(2)];
    assert.equal(without.adversary, once.adversary);
    assert.equal(without.attributes, twice.attributes);
    // The embedding's gradient is that of the attributes plus λ that of the uniform loss, nothing of D_A's own.
    const slope = once.embedding.map((g, i) => g - (without.embedding[i] ?? 0));
    assert.ok(Math.max(...slope.map(Math.abs)) > 1e-3);
    assertClose(
      twice.embedding,
      without.embedding.map((g, i) => g + 2 * (slope[i] ?? 0)),
      1e-12,
    );
    // D_A's gradient, written out: (p − onehot)ᵀ f / B.
    const logits = Array.from({ length: B * N }, (_, i) => {
      const [row, c] = [Math.floor(i / N), i % N];
      return Array.from(
        { length: D },
        (_, d) => (once.feature[row * D + d] ?? 0) * (once.weight[c * D + d] ?? 0),
      ).reduce((a, b) => a + b);
    });
    const p = logProbabilities(logits, N);
    const expected = Array.from({ length: N * D }, (_, i) => {
      const [c, d] = [Math.floor(i / D), i % D];
      return p.reduce(
        (sum, row, b) =>
          sum + ((Math.exp(row[c] ?? 0) - Number(labels[b] === c)) * (once.feature[b * D + d] ?? 0)) / B,
        0,
      );
    });
    assertClose(once.adversary, expected, 1e-12);
    const [attributes, discriminator, adversarial] = once.parts;
    assertClose([once.total], [(attributes ?? 0) + (discriminator ?? 0) + (adversarial ?? 0)], 1e-12);
    for (let row = 0; row < B; row++) {
      const f = Array.from({ length: D }, (_, d) => once.feature[row * D + d] ?? NaN);
      // As near as what keeps the division by a length of zero away lets it be.
      assertClose([f.reduce((sum, v) => sum + v * v, 0)], [D], 1e-6);
    }
  });
});

for (const device of devices)
  test(`${device.name}: the same in float32`, () => {
    scope(() => {
      const x = randomTensor([B, D], 1, { device });
      const [weight, bias] = [randomTensor([N, D], 2, { device }), randomTensor([N], 3, { device })];
      const y = tensor(Int32Array.from(labels), [B], { device });
      const [a, b, c] = [leaf([B, D], 1), leaf([N, D], 2), leaf([N], 3)];
      const exact = { weight: b, bias: c };
      const found = { weight, bias };
      assertClose(
        crossEntropy(x, found, y).toArray(),
        crossEntropy(a, exact, tensor(Int32Array.from(labels), [B])).toArray(),
        1e-5,
      );
      assertClose(uniformCrossEntropy(x, found).toArray(), uniformCrossEntropy(a, exact).toArray(), 1e-5);
      const values = randomValues(B * T, 5);
      const logits = (on?: typeof device) =>
        tensor(values, [B, T], on ? { device: on, dtype: 'float32' } : { dtype: 'float64' });
      assertClose(
        attributeCrossEntropy(logits(device), targets).toArray(),
        attributeCrossEntropy(logits(), targets).toArray(),
        1e-5,
      );
    });
  });

test.run();
