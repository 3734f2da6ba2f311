import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { assertClose, devices, randomTensor, randomValues } from '../testing.js';
import { parameter, tensor, zeros, type Tensor } from '../tensor/tensor.js';
import { Initialiser } from './initialise.js';
import { Linear } from './layers.js';
import { Module } from './module.js';
import { Optimizer, type OptimizerOptions } from './optimizer.js';
import { rateFactor, type Schedule } from './schedule.js';

const test = suite('optimizer');

interface Reference {
  p: number[];
  a: number[];
  b: number[];
}

/** The update rules written out plainly in doubles. */
function update(
  { p, a, b }: Reference,
  g: Float64Array,
  o: OptimizerOptions,
  lr: number,
  step: number,
  decay: number,
): void {
  g.forEach((gi, i) => {
    const [pi, ai, bi] = [p[i] as number, a[i] as number, b[i] as number];
    if (o.name === 'sgd') {
      a[i] = (o.momentum ?? 0.9) * ai + gi + decay * pi;
      p[i] = pi - lr * a[i];
    } else {
      a[i] = 0.9 * ai + 0.1 * gi;
      b[i] = 0.999 * bi + 0.001 * gi * gi;
      const m = a[i] / (1 - 0.9 ** step);
      const v = b[i] / (1 - 0.999 ** step);
      p[i] = pi - lr * (m / (Math.sqrt(v) + 1e-8) + decay * pi);
    }
  });
}

for (const device of devices)
  for (const options of [
    { name: 'sgd', weightDecay: 0.1 },
    { name: 'adamw', weightDecay: 0.1 },
  ] satisfies OptimizerOptions[])
    test(`${options.name} on ${device.name}: three steps equal the formula, decay on matrices only`, () => {
      // 40001 elements: several chunks and a rest. Float32 rounding of values of size 1 over three steps: 1e-6.
      const tensors = new Map<string, Tensor>([
        ['weight', parameter(randomTensor([3, device.name === 'cpu' ? 40001 : 2003], 1, { device }))],
        ['bias', parameter(randomTensor([7], 2, { device }))],
        // More than one launch takes at a time on CUDA.
        ...Array.from({ length: 60 }, (_, i): [string, Tensor] => [
          `small ${i}`,
          parameter(randomTensor(i % 2 ? [i + 1] : [1, i + 1], 3 + i, { device })),
        ]),
      ]);
      const optimizer = new Optimizer(tensors, options);
      const references = [...tensors.values()].map((t) => ({
        p: Array.from(t.toArray()),
        a: new Array<number>(t.size).fill(0),
        b: new Array<number>(t.size).fill(0),
      }));
      for (let step = 1; step <= 3; step++) {
        [...tensors.values()].forEach((t, i) => {
          const g = randomValues(t.size, step * 10 + i).map(Math.fround);
          t.grad = tensor(g, t.shape, { device, dtype: 'float32' });
          update(references[i] as Reference, g, options, 0.05, step, t.rank === 2 ? 0.1 : 0);
        });
        optimizer.step(0.05);
        assert.is(tensors.get('bias')?.grad, undefined);
      }
      [...tensors.values()].forEach((t, i) => {
        assertClose(t.toArray(), references[i]?.p ?? [], 1e-6);
      });
      optimizer.dispose();
    });

for (const device of devices)
  test(`gradient norm and clipping on ${device.name}`, () => {
    const p = parameter(tensor([0, 0], [2], { device }));
    const q = parameter(tensor([0], [1], { device }));
    const optimizer = new Optimizer(
      new Map([
        ['p', p],
        ['q', q],
      ]),
      { name: 'sgd', momentum: 0 },
    );
    p.grad = tensor([2, 1], [2], { device });
    q.grad = tensor([2], [1], { device });
    optimizer.measureGradients();
    assert.is(optimizer.gradientNorm(), 3);
    optimizer.clip(1.5);
    optimizer.step(1);
    assertClose(p.toArray(), [-1, -0.5], 1e-7); // half of the gradient, exact but for sqrt
    p.grad = tensor([1, NaN], [2], { device });
    optimizer.measureGradients();
    assert.throws(() => optimizer.gradientNorm(), /the gradient of p is not finite/);
  });

for (const device of devices)
  test(`${device.name}: the norm of the gradients of many parameters, some without one`, () => {
    // More than the threads of a block on CUDA, one near the end of more blocks than that.
    const parameters = Array.from({ length: 400 }, (_, i) =>
      parameter(randomTensor([i === 398 ? 1_060_001 : i + 1], 1 + i, { device })),
    );
    const optimizer = new Optimizer(new Map(parameters.map((p, i) => [`p${i}`, p])), { name: 'sgd' });
    let total = 0;
    for (const round of [0, 1]) {
      total = 0;
      parameters.forEach((p, i) => {
        p.grad = i % 3 === round ? undefined : randomTensor(p.shape, 500 + i, { device });
        for (const g of p.grad?.toArray() ?? []) total += g * g;
      });
      // Each square sum is rounded to float32 once.
      optimizer.measureGradients();
      assertClose([optimizer.gradientNorm()], [Math.sqrt(total)], 1e-7);
    }
    // The scale of clipping is of the last gradients, not of those before: v = scale g after one step.
    optimizer.clip(1);
    const before = parameters[0]?.toArray() ?? [];
    const g = parameters[0]?.grad?.toArray() ?? [];
    optimizer.step(1);
    assertClose(parameters[0]?.toArray() ?? [], [(before[0] ?? 0) - (g[0] ?? 0) / Math.sqrt(total)], 1e-6);
    optimizer.dispose();
  });

test('a gradient of another shape or type than its parameter is refused', () => {
  const p = parameter(zeros([1000]));
  const optimizer = new Optimizer(new Map([['p', p]]), { name: 'sgd' });
  for (const [grad, found] of [
    [zeros([2]), /optimizer: expected a gradient of p like float32 \[1000\], got float32 \[2\]/],
    [zeros([1000], { dtype: 'float64' }), /like float32 \[1000\], got float64 \[1000\]/],
  ] as const) {
    p.grad = grad;
    assert.throws(() => optimizer.step(1), found);
    assert.throws(() => optimizer.measureGradients(), found);
    grad.dispose();
  }
  p.grad = undefined;
  optimizer.dispose();
});

test('a parameter that two modules share has one name and is updated once', () => {
  class Tied extends Module {
    readonly first = new Linear(new Initialiser(1), 1, 1, { bias: false });
    readonly second = this.first;
  }
  const tied = new Tied();
  assert.equal([...tied.parameters().keys()], ['first.weight']);
  assert.equal([...tied.state().keys()], ['first.weight', 'second.weight']);
  const again = () => new Optimizer(tied.state(), { name: 'sgd' });
  assert.throws(
    again,
    /an optimiser expects each parameter once, found one as first.weight and as second.weight/,
  );
});

test('schedules', () => {
  const base: Schedule = {
    name: 'step',
    warmupSteps: 0,
    milestones: [0.5, 0.75],
    gamma: 0.1,
    power: 2,
    final: 0,
  };
  assertClose(
    [0, 49, 50, 75, 99].map((s) => rateFactor(base, s, 100)),
    [1, 1, 0.1, 0.01, 0.01],
    1e-12,
  );
  // Milestones are shares of the whole training, the warm-up's steps among them.
  const warmed = { ...base, warmupSteps: 40 };
  assertClose(
    [39, 49, 50].map((s) => rateFactor(warmed, s, 100)),
    [1, 1, 0.1],
    1e-12,
  );
  const polynomial: Schedule = { ...base, name: 'polynomial', warmupSteps: 10, final: 0.2 };
  assertClose(
    [0, 9, 10, 55, 100].map((s) => rateFactor(polynomial, s, 100)),
    [0.1, 1, 1, 0.4, 0.2],
    1e-12,
  );
  assertClose(
    [0, 50, 100].map((s) => rateFactor({ ...base, name: 'cosine', final: 0.2 }, s, 100)),
    [1, 0.6, 0.2],
    1e-12,
  );
  for (const name of ['step', 'polynomial', 'cosine'] as const) {
    const schedule: Schedule = { ...base, name, power: 0.9, final: 0.01 };
    assert.is(rateFactor(schedule, 130, 100), rateFactor(schedule, 100, 100)); // beyond the end
  }
});

test.run();
